"""Run-to-run corrections of runs: what measured witnesses teach, and the move that the next run is frozen with.

Lessons are pulled from stored measurements whenever a correction is asked for: by every run that completed without
interruption, whose witness has been measured, and that was not learned from yet. A measurement corrected later
teaches nothing again. The law is `recipes.run_to_run`'s, how a run is planned is `run_requests`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean

from sqlmodel import col, select

from equipment.maintenance import Target
from equipment.run_records import Run
from equipment.states import RunState
from equipment.utilisation import find_tool
from recipes.control import ControlRecipe
from recipes.errors import CorrectionRefused
from recipes.master import MasterRecipe
from recipes.run_to_run import Context, Move, State
from recipes.run_to_run_rows import RunToRunContext, RunToRunLesson, RunToRunMove
from recipes.run_to_run_store import (
    approve_move,
    context_of,
    decide_time,
    find_context,
    foresee,
    known_state,
    learn_from,
    move_of,
    release_context,
    taught,
)
from recipes.store import find_version, read_master_version
from traceability.database import RecordSession
from traceability.errors import Finding, NotFound, Severity, StaleVersion
from traceability.film_thickness import FILM_THICKNESS, witness_thickness
from traceability.items import Item, ItemKind, find_item
from traceability.layers import Layer
from traceability.measurements import Measurement


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A run that a context can learn from.

    Attributes:
        move: What it was frozen with.
        thickness_nm: Mean over the measurements of its witnesses.
        time_s: Shutter time that it had.
        evidence: The run and the measurements.
    """

    move: RunToRunMove
    thickness_nm: float
    time_s: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Correction:
    """What run-to-run control has to say to one wanted run; nothing of it is stored yet.

    Attributes:
        context: Whose runs it rests on.
        target_energy_kwh: RF energy that the target has seen.
        move: To freeze the recipe with; None where a person has to decide first.
        approval: The stored move, where a person has let one go beyond its clamp.
        findings: What stands against the run, and warnings.
    """

    context: Context
    target_energy_kwh: float
    move: Move | None
    approval: RunToRunMove | None
    findings: tuple[Finding, ...]


def unlearned_runs(record: RecordSession, context: Context) -> list[MeasuredRun]:
    """The runs of a context that were measured and not learned from yet, in the order in which they ended."""
    row = find_context(record, context)
    if row is None:
        return []
    measured = (
        select(Layer.id)
        .join(Item, col(Item.id) == col(Layer.item_id))
        .join(Measurement, col(Measurement.item_id) == col(Layer.item_id))
        .where(
            col(Layer.activity_id) == col(Run.activity_id),
            Item.kind == ItemKind.WITNESS,
            Measurement.quantity_name == FILM_THICKNESS,
        )
    )
    query = (
        select(Run, RunToRunMove)
        .join(RunToRunMove, col(RunToRunMove.id) == col(Run.move_id))
        .join(RunToRunLesson, col(RunToRunLesson.move_id) == col(RunToRunMove.id), isouter=True)
        .where(
            RunToRunMove.context_id == row.id,
            Run.state == RunState.COMPLETED,
            col(Run.interrupted).is_(False),
            col(RunToRunLesson.id).is_(None),
            measured.exists(),
        )
        .order_by(col(Run.ended_at), col(Run.id))
    )
    found = (_measured(record, run, move) for run, move in record.exec(query))
    return [run for run in found if run is not None]


def state_of(record: RecordSession, context: Context) -> State:
    """What a context knows, with all that there is to learn; nothing is stored."""
    state = known_state(record, context)
    for run in unlearned_runs(record, context):
        state = taught(state, run.move, thickness_nm=run.thickness_nm, time_s=run.time_s).after
    return state


def correction_for(
    record: RecordSession, master: MasterRecipe, *, tool: str, target_serial: str, experiment: bool
) -> Correction:
    """How the deposition time of a wanted run would be corrected if it were planned now; nothing is stored.

    Args:
        record: Open session.
        master: A sputter recipe.
        tool: Name of the tool.
        target_serial: The target in it.
        experiment: The run makes nothing for product.
    """
    context = context_of(master, tool, target_serial)
    energy_kwh = _energy_kwh(record, target_serial)
    state = state_of(record, context)
    try:
        move = foresee(state, master, energy_kwh)
    except CorrectionRefused as error:
        return Correction(context, energy_kwh, None, None, error.findings)
    if not move.clamped:
        warnings = [_unproved(context)] if state.needs_seasoning and not experiment else []
        return Correction(context, energy_kwh, move, None, tuple(warnings))
    approval = _approval(record, context, master, move)
    if approval is None:
        return Correction(context, energy_kwh, None, None, (_beyond(context, move),))
    return Correction(context, energy_kwh, move_of(approval, state), approval, ())


def keep_correction(record: RecordSession, master: MasterRecipe, correction: Correction) -> int:
    """Store what was learned and the move; its number, for the run that is frozen with it.

    Args:
        record: Open write session, inside the act of planning and with the tool locked since `correction_for`.
        master: The recipe.
        correction: With a move.
    """
    _learn(record, correction.context)
    stored = correction.approval
    if stored is None:
        stored, _ = decide_time(
            record,
            master,
            tool=correction.context.tool,
            target_serial=correction.context.target_serial,
            target_energy_kwh=correction.target_energy_kwh,
        )
    if stored.id is None:
        raise RuntimeError("the move is not stored")
    return stored.id


def approve_correction(
    record: RecordSession, *, tool: str, recipe_id: str, number: int, target_serial: str, reason: str
) -> RunToRunMove:
    """Let the next run of a recipe go beyond the clamp; good for one run, while the law asks for that time.

    Args:
        record: Open write session.
        tool: Name of the tool.
        recipe_id: The recipe that is to be run.
        number: Its version.
        target_serial: The target in the tool.
        reason: Why the correction is believed.

    Raises:
        NotFound: There is no such tool, recipe or target.
        CorrectionRefused: The context is held, or no clamp cuts the correction.
        InvalidInput: No reason is given, or the recipe deposits no film.
    """
    with record.act("correction.reviewed", tool, target_serial, reason=reason):
        find_tool(record, tool, lock=True)
        master = read_master_version(record, find_version(record, recipe_id, number))
        context = context_of(master, tool, find_item(record, target_serial).serial)
        _learn(record, context)
        stored, move = decide_time(
            record,
            master,
            tool=tool,
            target_serial=context.target_serial,
            target_energy_kwh=_energy_kwh(record, context.target_serial),
        )
        if stored.id is None or not move.clamped:
            raise CorrectionRefused(
                f"The correction of {recipe_id} with {context.target_serial} needs no approval.",
                [
                    Finding(
                        "not_clamped",
                        f"{move.correction:+.1%} of the model's time is within the clamps.",
                        "Plan the run.",
                        context.target_serial,
                    )
                ],
            )
        approved, _ = approve_move(record, stored.id, reason=reason)
    return approved


def release_correction(
    record: RecordSession, context_id: int, *, reason: str, expected_version: int | None = None
) -> RunToRunContext:
    """Let a held context run again, after somebody has looked at the target.

    Raises:
        NotFound: There is no such context.
        StaleVersion: It was changed since it was read.
        CorrectionRefused: It is not held.
        InvalidInput: No reason is given.
    """
    with record.act("correction.reviewed", reason=reason) as act:
        row = find_correction_context(record, context_id)
        act.items += [row.tool, row.target_serial]
        if expected_version is not None and row.version != expected_version:
            raise StaleVersion(f"Context {context_id} is at version {row.version}, not {expected_version}.")
        find_tool(record, row.tool, lock=True)
        _learn(record, row.state.context)
        return release_context(record, row.state.context, reason=reason)


def find_correction_context(record: RecordSession, context_id: int) -> RunToRunContext:
    """The context with that number.

    Raises:
        NotFound: There is none.
    """
    row = record.get(RunToRunContext, context_id)
    if row is None:
        raise NotFound(f"There is no run-to-run context {context_id}.")
    return row


def last_moves(
    record: RecordSession, context: RunToRunContext, limit: int
) -> Sequence[tuple[RunToRunMove, Run | None, RunToRunLesson | None]]:
    """The last moves of a context, newest first, each with the run that used it and what that run taught."""
    query = (
        select(RunToRunMove, Run, RunToRunLesson)
        .join(Run, col(Run.move_id) == col(RunToRunMove.id), isouter=True)
        .join(RunToRunLesson, col(RunToRunLesson.move_id) == col(RunToRunMove.id), isouter=True)
        .where(RunToRunMove.context_id == context.id)
        .order_by(col(RunToRunMove.id).desc())
        .limit(limit)
    )
    return [(move, run, lesson) for move, run, lesson in record.exec(query)]


def _learn(record: RecordSession, context: Context) -> None:
    for run in unlearned_runs(record, context):
        if run.move.id is not None:
            learn_from(record, run.move.id, thickness_nm=run.thickness_nm, time_s=run.time_s, evidence=run.evidence)


def _measured(record: RecordSession, run: Run, move: RunToRunMove) -> MeasuredRun | None:
    """What a run taught, or None where its witness or its tool tells nothing that is above zero."""
    rows = [] if run.activity_id is None else witness_thickness(record, run.activity_id)
    thickness_nm = fmean(row.value for row in rows) if rows else 0.0
    time_s = run.actual("deposit_time_s")
    if time_s is None:
        time_s = float(ControlRecipe.from_canonical(run.control_recipe).value("deposit_time_s"))
    if thickness_nm <= 0 or time_s <= 0:
        return None
    return MeasuredRun(move, thickness_nm, time_s, f"{run.serial}: {', '.join(row.serial for row in rows)}")


def _approval(record: RecordSession, context: Context, master: MasterRecipe, move: Move) -> RunToRunMove | None:
    """The approved move that no run has used yet, if the law still asks for its time to within the dead-band."""
    row = find_context(record, context)
    approval = record.exec(
        select(RunToRunMove)
        .join(Run, col(Run.move_id) == col(RunToRunMove.id), isouter=True)
        .where(
            RunToRunMove.context_id == (None if row is None else row.id),
            RunToRunMove.work_master == master.work_master,
            col(RunToRunMove.approves).is_not(None),
            col(Run.id).is_(None),
        )
        .order_by(col(RunToRunMove.id).desc())
    ).first()
    if approval is None:
        return None
    off = math.log(move.wanted_time_s / move.model_time_s) - math.log(approval.time_s / approval.model_time_s)
    return approval if abs(off) < move.settings.dead_band else None


def _energy_kwh(record: RecordSession, target_serial: str) -> float:
    target = record.exec(select(Target).where(Target.serial == target_serial)).first()
    return float(Decimal(0) if target is None else target.energy_kwh)


def _unproved(context: Context) -> Finding:
    return Finding(
        "target_unproved",
        f"No film from {context.target_serial} on {context.tool} has been measured yet.",
        "Season it, make a run with a witness and measure that, before product.",
        context.target_serial,
        Severity.WARNING,
    )


def _beyond(context: Context, move: Move) -> Finding:
    wanted = move.wanted_time_s / move.model_time_s - 1
    return Finding(
        "correction_beyond_clamp",
        f"{context.target_serial} asks for {wanted:+.1%} of the model's time; {move.correction:+.1%} is what may be"
        f" decided without a person ({move.reason}).",
        "Let an engineer or QA approve this correction, or change the target.",
        context.target_serial,
    )
