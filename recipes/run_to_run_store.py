"""How run-to-run control uses what is on the record: foresee, decide, approve, learn, release.

Each decision and each lesson is kept with its inputs (`recipes.run_to_run_rows`), so that any deposition time can be
explained for ever. The law itself stands in `recipes.run_to_run`; which runs there were to learn from is not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import fmean

from sqlmodel import col, select

from recipes.errors import CorrectionRefused
from recipes.limits import EquipmentClass
from recipes.master import MasterRecipe
from recipes.rate_model import SputterRateModel
from recipes.run_to_run import (
    Context,
    Move,
    Settings,
    State,
    Update,
    approve_beyond_clamp,
    begin,
    decide,
    learn,
    release,
)
from recipes.run_to_run_rows import RunToRunContext, RunToRunLesson, RunToRunMove
from traceability.database import RecordSession
from traceability.errors import Conflict, Finding, InvalidInput, NotFound


def context_of(master: MasterRecipe, tool: str, target_serial: str) -> Context:
    """The context that a sputter recipe runs in on a tool with that target.

    Raises:
        InvalidInput: The recipe is no sputter recipe.
    """
    if master.equipment_class is not EquipmentClass.SPUTTER:
        raise InvalidInput(f"{master.document_id} deposits no film; it has no time to decide.")
    material = next(material.material for material in master.materials_in if material.use == "target")
    return Context(tool, target_serial, master.family, material)


def known_state(record: RecordSession, context: Context, settings: Settings | None = None) -> State:
    """What a context has learned; a target never seen starts at the mean of new targets."""
    found = find_context(record, context)
    if found is not None:
        return found.state
    known = record.exec(
        select(RunToRunContext.first_level).where(
            RunToRunContext.tool == context.tool,
            RunToRunContext.family == context.family,
            RunToRunContext.material == context.material,
            col(RunToRunContext.first_level).is_not(None),
        )
    ).all()
    levels = [level for level in known if level is not None]
    state = begin(context, settings)
    return replace(state, level=fmean(levels)) if levels else state


def foresee(
    state: State,
    master: MasterRecipe,
    target_energy_kwh: float,
    model: SputterRateModel | None = None,
    settings: Settings | None = None,
) -> Move:
    """The move that `decide_time` would make from a state; nothing is stored.

    Raises:
        CorrectionRefused: The context is held.
    """
    rate = (model or SputterRateModel()).rate_nm_per_min(
        float(master.formula.target("rf_power_w")),
        float(master.formula.target("working_pressure_pa")),
        target_energy_kwh,
    )
    return decide(state, float(master.formula.target("thickness_nm")), rate, settings)


def decide_time(
    record: RecordSession,
    master: MasterRecipe,
    *,
    tool: str,
    target_serial: str,
    target_energy_kwh: float,
    model: SputterRateModel | None = None,
    settings: Settings | None = None,
) -> tuple[RunToRunMove, Move]:
    """Decide the deposition time of the next run and keep the move with its inputs.

    Args:
        record: Open write session.
        master: A sputter recipe.
        tool: Name of the tool.
        target_serial: The target in it; one never seen starts at the mean of new targets.
        target_energy_kwh: RF energy that the target has seen.
        model: Rate law; default constants where None.
        settings: Of the controller; defaults where None.

    Returns:
        The stored move and the move for `recipes.control.freeze`.

    Raises:
        CorrectionRefused: The context is held.
        InvalidInput: The recipe is no sputter recipe.
    """
    context = context_of(master, tool, target_serial)
    with record.act("run_to_run.moved", target_serial) as act:
        row = _context(record, context, settings)
        move = foresee(row.state, master, target_energy_kwh, model, settings)
        stored = _keep_move(record, row, move, master.work_master, target_energy_kwh)
        act.detail.update(move=stored.id, time_s=move.time_s, reason=move.reason)
    return stored, move


def approve_move(record: RecordSession, move_id: int, *, reason: str) -> tuple[RunToRunMove, Move]:
    """Let a clamped move go beyond its clamp, on the actor's word; the approval is a move of its own.

    Raises:
        NotFound: There is no such move.
        InvalidInput: No clamp has cut it, or no reason is given.
    """
    with record.act("run_to_run.approved", reason=reason) as act:
        old = _move_row(record, move_id)
        if not old.clamped or not reason.strip():
            raise InvalidInput("Only a clamped move is approved, and with a reason.")
        row = _locked_context(record, old.context_id)
        move = approve_beyond_clamp(move_of(old, row.state), record.actor.name)
        stored = _keep_move(record, row, move, old.work_master, old.target_energy_kwh, approves=old.id)
        act.items.append(row.target_serial)
        act.detail.update(move=stored.id, approves=old.id, time_s=move.time_s)
    return stored, move


def move_of(row: RunToRunMove, before: State) -> Move:
    """A stored move as the law gave it, from the state before it."""
    return Move(
        before=before,
        settings=_settings(row),
        thickness_nm=row.thickness_nm,
        model_rate_nm_per_min=row.model_rate_nm_per_min,
        model_time_s=row.model_time_s,
        wanted_time_s=row.wanted_time_s,
        time_s=row.time_s,
        clamped=row.clamped,
        reason=row.reason,
        approved_by=row.approved_by,
    )


def taught(state: State, move: RunToRunMove, *, thickness_nm: float, time_s: float, aborted: bool = False) -> Update:
    """What a measured run teaches a state; nothing is stored. Arguments as those of `learn_from`."""
    made = replace(state, last_log_time=math.log(move.time_s / move.model_time_s))
    return learn(
        state if aborted else made,
        thickness_nm,
        time_s,
        move.model_rate_nm_per_min,
        _settings(move),
        aborted=aborted,
    )


def learn_from(
    record: RecordSession,
    move_id: int,
    *,
    thickness_nm: float,
    time_s: float,
    evidence: str,
    aborted: bool = False,
) -> Update:
    """Teach a context what a run really deposited.

    Args:
        record: Open write session.
        move_id: The move that the run used.
        thickness_nm: Measured on the witness.
        time_s: Shutter time that the run really had.
        evidence: The measurement, for people.
        aborted: The run did not end by itself: kept, and not learned from.

    Raises:
        NotFound: There is no such move.
        Conflict: That run was learned from already.
        InvalidInput: Thickness or time is not positive.
    """
    if not (thickness_nm > 0 and time_s > 0 and math.isfinite(thickness_nm) and math.isfinite(time_s)):
        raise InvalidInput("Thickness and time must be positive numbers.")
    with record.act("run_to_run.learned") as act:
        move = _move_row(record, move_id)
        row = _locked_context(record, move.context_id)
        if record.exec(select(RunToRunLesson).where(RunToRunLesson.move_id == move_id)).first() is not None:
            raise Conflict(f"Run-to-run control has learned from move {move_id} already.")
        update = taught(row.state, move, thickness_nm=thickness_nm, time_s=time_s, aborted=aborted)
        record.add(
            RunToRunLesson(
                move_id=move_id,
                learned_at=record.clock.now(),
                evidence=evidence,
                thickness_nm=thickness_nm,
                time_s=time_s,
                error=update.error,
                lesson=update.lesson,
                before=asdict(update.before),
                after=asdict(update.after),
            )
        )
        row.take(update.after)
        record.add(row)
        act.items.append(row.target_serial)
        act.detail.update(move=move_id, lesson=update.lesson, error=update.error, evidence=evidence)
    return update


def release_context(record: RecordSession, context: Context, *, reason: str) -> RunToRunContext:
    """Let a held context run again, after somebody has looked at the target.

    Raises:
        NotFound: Nothing is known of the context.
        InvalidInput: No reason is given.
        CorrectionRefused: It is not held.
    """
    if not reason.strip():
        raise InvalidInput("Say what was found at the target; the reason stands in the record.")
    with record.act("run_to_run.released", context.target_serial, reason=reason):
        found = find_context(record, context)
        if found is None:
            raise NotFound(f"Nothing is known of target {context.target_serial} on {context.tool}.")
        row = _locked_context(record, found.id)
        if not row.held:
            raise CorrectionRefused(
                f"Target {context.target_serial} is not held.",
                [Finding("not_held", "The context is not held.", "Nothing is to be done.", context.target_serial)],
            )
        row.take(release(row.state))
        record.add(row)
    return row


def find_context(record: RecordSession, context: Context) -> RunToRunContext | None:
    """What is known of a context; None before its first move."""
    return record.exec(
        select(RunToRunContext).where(
            RunToRunContext.tool == context.tool,
            RunToRunContext.target_serial == context.target_serial,
            RunToRunContext.family == context.family,
            RunToRunContext.material == context.material,
        )
    ).first()


def lessons_of(record: RecordSession, context: Context) -> Sequence[RunToRunLesson]:
    """All that a context was taught, oldest first: the points of its control chart."""
    row = find_context(record, context)
    return record.exec(
        select(RunToRunLesson)
        .join(RunToRunMove, col(RunToRunLesson.move_id) == col(RunToRunMove.id))
        .where(RunToRunMove.context_id == (row.id if row else None))
        .order_by(col(RunToRunLesson.id))
    ).all()


def _settings(move: RunToRunMove) -> Settings:
    return Settings(**{name: float(value) for name, value in move.settings.items()})


def _context(record: RecordSession, context: Context, settings: Settings | None) -> RunToRunContext:
    found = find_context(record, context)
    if found is not None:
        return _locked_context(record, found.id)
    row = RunToRunContext(**asdict(context), level=known_state(record, context, settings).level)
    record.add(row)
    record.flush()
    return row


def _locked_context(record: RecordSession, context_id: int | None) -> RunToRunContext:
    row = record.get(RunToRunContext, context_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound(f"There is no run-to-run context number {context_id}.")
    return row


def _move_row(record: RecordSession, move_id: int) -> RunToRunMove:
    row = record.get(RunToRunMove, move_id)
    if row is None:
        raise NotFound(f"There is no run-to-run move number {move_id}.")
    return row


def _keep_move(
    record: RecordSession,
    row: RunToRunContext,
    move: Move,
    work_master: str,
    target_energy_kwh: float,
    approves: int | None = None,
) -> RunToRunMove:
    if row.id is None:
        raise RuntimeError("the context is not stored yet")
    stored = RunToRunMove(
        context_id=row.id,
        decided_at=record.clock.now(),
        work_master=work_master,
        before=asdict(move.before),
        settings=asdict(move.settings),
        thickness_nm=move.thickness_nm,
        model_rate_nm_per_min=move.model_rate_nm_per_min,
        target_energy_kwh=target_energy_kwh,
        model_time_s=move.model_time_s,
        wanted_time_s=move.wanted_time_s,
        time_s=move.time_s,
        clamped=move.clamped,
        reason=move.reason,
        approved_by=move.approved_by,
        approves=approves,
    )
    record.add(stored)
    record.flush()
    return stored
