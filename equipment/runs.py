"""Runs: planning them, and following what the tool tells of them.

A run is one frozen control recipe on one tool with the things that lie in it. Here it is planned against all
blockers, made into the job order that the tool gets, and moved from state to state by what is decided and what is
observed. Every function may be called again with the same news. How the tool is spoken to is the supervisor's, what
an ended run brings about is `run_completion`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from equipment.commands import CommandIntent, CommandVerb, request_command
from equipment.dispatch import blockers
from equipment.jobs import JobOrder, JobResponse, MaterialRequirement, Parameter
from equipment.orders import find_order
from equipment.run_completion import complete, makes_pellet, release_unused
from equipment.run_records import (
    DeviationGrade,
    DeviationKind,
    Run,
    RunPosition,
    Use,
    find_run,
    note_deviation,
    open_runs,
    positions_of,
)
from equipment.states import RUN_TRANSITIONS, RunEvent, RunState, ToolMove, seen
from equipment.tool_classes import ACTIVITY_KINDS, ATMOSPHERES, tag_table
from equipment.traces import TraceRow, seal_trace
from equipment.utilisation import find_tool, follow_run
from recipes.control import ControlRecipe
from traceability.activities import Outcome, begin_activity, end_activity, find_activity, next_serial
from traceability.audit import PendingAct
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, refuse_for
from traceability.exposure import move
from traceability.items import ItemKind, look_up, reserve_serial
from traceability.quantities import plain
from traceability.units import UnitEvent, UnitStatus, advance_unit, find_unit

__all__ = [
    "Run",
    "RunPosition",
    "RunState",
    "build_order",
    "enter_run",
    "find_run",
    "give_up",
    "mark_unknown",
    "observe_job",
    "open_runs",
    "plan_run",
    "run_starting",
    "start_refused",
    "start_run",
    "withdraw_run",
]


def plan_run(record: RecordSession, *, tool: str, control_recipe: ControlRecipe, order: str | None = None) -> Run:
    """Plan a run: its things are taken for it and for nothing else until it has ended.

    Args:
        record: Open write session.
        tool: Name of the tool.
        control_recipe: Frozen, with all that lies in the tool bound to it.
        order: Serial of the work order that it belongs to.

    Raises:
        NotFound: The line has no such tool, or there is no such order.
        Refused: Something forbids it; all findings of material, tool, person and recipe.
    """
    with record.act("run.planned", *(bound.serial for bound in control_recipe.materials)) as act:
        return enter_run(record, act, tool=tool, control_recipe=control_recipe, order=order)


def enter_run(
    record: RecordSession,
    act: PendingAct,
    *,
    tool: str,
    control_recipe: ControlRecipe,
    order: str | None = None,
    move_id: int | None = None,
) -> Run:
    """Plan a run as `plan_run` does, inside the act of a caller who has frozen its recipe there.

    `act` is told what is planned; `move_id` is the run-to-run decision that the recipe was frozen with.
    """
    act.items[:] = [bound.serial for bound in control_recipe.materials]
    found = find_tool(record, tool, lock=True)
    refuse_for(f"The run can't be planned on {tool}.", blockers(record, tool=tool, control=control_recipe))
    run = Run(
        serial=next_serial(record, "RUN"),
        tool=tool,
        equipment_class=found.equipment_class,
        state=RunState.PLANNED,
        order_id=None if order is None else find_order(record, order).key,
        work_master=control_recipe.work_master,
        control_recipe=control_recipe.canonical_json().decode(),
        control_hash=control_recipe.content_hash(),
        move_id=move_id,
        experiment=control_recipe.experiment,
        simulated=found.simulated,
        product_serial=reserve_serial(record, ItemKind.PELLET) if makes_pellet(control_recipe) else "",
        planned_by=record.actor.name,
        planned_at=record.clock.now(),
    )
    record.add(run)
    record.flush()
    items, _ = look_up(record, [b.serial for b in control_recipe.materials if b.use != Use.DIE])
    for bound in control_recipe.materials:
        item = items.get(bound.serial)
        whole = item is not None and bound.unit == "piece"
        record.add(
            RunPosition(
                run_id=run.key,
                item_id=None if item is None else item.key,
                serial=bound.serial if item is None else item.serial,
                use=Use(bound.use),
                position=bound.position,
                quantity=None if whole else bound.quantity,
                unit="" if whole else bound.unit,
            )
        )
    act.items.append(run.serial)
    act.detail.update(tool=tool, work_master=run.work_master, experiment=run.experiment)
    return run


def start_run(
    record: RecordSession, serial: str, *, reason: str = "", expected_version: int | None = None
) -> CommandIntent:
    """Ask for the start of a planned run, after looking at everything once more.

    Raises:
        NotFound: There is no such run.
        Refused: Something forbids it; all findings.
        StaleVersion: The run was changed since it was read.
    """
    run = find_run(record, serial, expected_version)
    with record.act("command.requested", serial, reason=reason, detail={"tool": run.tool, "verb": "start"}):
        if run.state is RunState.PLANNED:
            control = ControlRecipe.from_canonical(run.control_recipe)
            found = blockers(record, tool=run.tool, control=control, run=run, starting=True)
            refuse_for(f"{serial} can't be started.", found)
        elif not run.state.on_tool:
            RUN_TRANSITIONS.next(run.state, RunEvent.START, serial)
        return request_command(record, tool=run.tool, verb=CommandVerb.START, run_serial=serial, reason=reason)


def withdraw_run(record: RecordSession, serial: str, *, reason: str, expected_version: int | None = None) -> Run:
    """Take a planned run back; its things are free again.

    Raises:
        InvalidInput: There is no reason.
        Refused: It is not merely planned any more.
    """
    if not reason.strip():
        raise InvalidInput("Withdrawing a run needs a reason.")
    with record.act("run.withdrawn", serial, reason=reason):
        run = find_run(record, serial, expected_version, lock=True)
        _move(record, run, RunEvent.WITHDRAW)
        run.why, run.ended_at = reason, record.clock.now()
        record.add(run)
    return run


def build_order(record: RecordSession, run_serial: str, epoch: int) -> JobOrder:
    """The job order of a run: the frozen control recipe in the tool's own words; the job's id is the run's serial.

    The same run gives the same order each time, but for the epoch.
    """
    run = find_run(record, run_serial)
    control = ControlRecipe.from_canonical(run.control_recipe)
    known = {parameter.name: parameter for parameter in tag_table(run.equipment_class).job_parameters}
    made = [MaterialRequirement(run.product_serial, use=Use.PELLET)] if run.product_serial else []
    return JobOrder(
        job_id=run.serial,
        work_master=run.work_master,
        parameters=tuple(
            Parameter(given.name, known[given.name].type.python_type(given.value), given.unit)
            for given in control.job_parameters()
            if given.name in known
        ),
        materials=(
            *made,
            *(
                MaterialRequirement(
                    serial=position.serial,
                    use=position.use,
                    position=position.position,
                    quantity=None if position.quantity is None else plain(position.quantity),
                    unit=position.unit,
                )
                for position in positions_of(record, run)
            ),
        ),
        epoch=epoch,
        description=control.master.title,
    )


def run_starting(record: RecordSession, run_serial: str, intent_id: int) -> Run:
    """The order is about to be sent: from here on the tool may have it, and what lies in it is in process.

    A run that is beyond that is left as it is.
    """
    run = find_run(record, run_serial, lock=True)
    if run.state is not RunState.PLANNED:
        return run
    with record.act("run.starting", run.serial, detail={"intent": intent_id}):
        _move(record, run, RunEvent.START)
        tool = find_tool(record, run.tool)
        run.simulated, run.intent_id = tool.simulated, intent_id
        activity = begin_activity(
            record,
            ACTIVITY_KINDS[run.equipment_class],
            serial=run.serial,
            equipment=run.tool,
            work_master=run.work_master,
            simulated=run.simulated,
            detail={"control_recipe": run.control_hash, "experiment": run.experiment},
        )
        run.activity_id = activity.key
        record.add(run)
        for position in positions_of(record, run):
            if position.is_unit and find_unit(record, position.serial).status is UnitStatus.AVAILABLE:
                advance_unit(record, position.serial, UnitEvent.LOAD)
                move(record, position.serial, ATMOSPHERES[run.equipment_class], run.tool)
    return run


def start_refused(record: RecordSession, run_serial: str, findings: Iterable[Finding]) -> Run:
    """The run was not started and will not be: its read-back differed, or the tool said no. Its things are free."""
    run = find_run(record, run_serial, lock=True)
    if run.state.ended:
        return run
    found = tuple(findings)
    with record.act("run.start_refused", run.serial, detail={"findings": [asdict(finding) for finding in found]}):
        _move(record, run, RunEvent.REFUSE)
        run.why = " ".join(finding.message for finding in found)
        run.ended_at = record.clock.now()
        record.add(run)
        release_unused(record, run)
        _end_activity(record, run, Outcome.FAILED)
    return run


def observe_job(record: RecordSession, run_serial: str, response: JobResponse) -> RunState:
    """Take in what the tool tells of a run's job. Told again, or told of a run that has ended, nothing changes.

    When the job has ended, what it made comes into being in the same transaction.
    """
    run = find_run(record, run_serial, lock=True)
    event = seen(response.status)
    if event is None or run.state.ended:
        return run.state
    before, after = run.state, RUN_TRANSITIONS.next(run.state, event, run.serial)
    interrupted = (_number(response, "interruption_count") or 0) > 0
    if before is after and (run.interrupted or not interrupted):
        return after
    kind = "run.completed" if after.ended else "run.moved"
    with record.act(kind, run.serial, detail={"from": before, "to": after}):
        if before is not after:
            _move(record, run, event)
        if run.started_at is None and response.started_at is not None:
            run.started_at = response.started_at
            follow_run(
                record, run.tool, ToolMove.BEGIN_EXPERIMENT if run.experiment else ToolMove.BEGIN_RUN, run.serial
            )
        if interrupted:
            run.interrupted = True
        record.add(run)
        if after in (RunState.HELD, RunState.PAUSED) and before is not after:
            _note_hold(record, run, after)
        if after.ended:
            complete(record, run, response)
            follow_run(record, run.tool, ToolMove.END_RUN, run.serial)
    return after


def mark_unknown(record: RecordSession, run_serial: str, why: str) -> Run:
    """What became of the run can't be told from here: a person has to look (or the tool answers after all)."""
    run = find_run(record, run_serial, lock=True)
    if run.state.ended or run.state in (RunState.UNKNOWN, RunState.PLANNED):
        return run
    with record.act("run.moved", run.serial, reason=why, detail={"from": run.state, "to": RunState.UNKNOWN}):
        _move(record, run, RunEvent.LOSE)
        run.why = why
        record.add(run)
        message = f"For a time it was not known what the tool did: {why}"
        note_deviation(record, run, DeviationKind.DOUBTFUL, DeviationGrade.MAJOR, message, source="unknown")
    return run


def give_up(record: RecordSession, run_serial: str, *, reason: str, expected_version: int | None = None) -> Run:
    """Close a run whose end nobody will ever know, by a person's decision; what lay in it is held for QA.

    Raises:
        InvalidInput: There is no reason.
        Refused: The run is not unknown.
    """
    if not reason.strip():
        raise InvalidInput("Giving a run up needs a reason.")
    with record.act("run.given_up", run_serial, reason=reason):
        run = find_run(record, run_serial, expected_version, lock=True)
        if run.state is not RunState.UNKNOWN:
            RUN_TRANSITIONS.next(run.state, RunEvent.GIVE_UP, run_serial)
        _move(record, run, RunEvent.GIVE_UP)
        run.why, run.ended_at = reason, record.clock.now()
        record.add(run)
        release_unused(record, run, hold=f"{run.serial} was given up: {reason}")
        if record.get(TraceRow, run.key) is not None:
            seal_trace(record, run.key)
        _end_activity(record, run, Outcome.UNKNOWN)
        follow_run(record, run.tool, ToolMove.END_RUN, run.serial)
    return run


def _move(record: RecordSession, run: Run, event: RunEvent) -> None:
    run.state = RUN_TRANSITIONS.next(run.state, event, run.serial)
    run.version += 1
    record.add(run)


def _end_activity(record: RecordSession, run: Run, outcome: Outcome) -> None:
    if run.activity_id is not None:
        end_activity(record, find_activity(record, run.activity_id), outcome, ended_at=run.ended_at)


def _note_hold(record: RecordSession, run: Run, state: RunState) -> None:
    now = record.clock.now()
    by_tool = state is RunState.HELD
    note_deviation(
        record,
        run,
        DeviationKind.HOLD,
        DeviationGrade.MAJOR if by_tool else DeviationGrade.MINOR,
        "The tool held its job." if by_tool else "The job was paused by request.",
        source=f"{state} {run.version}",
        at=now,
    )


def _number(response: JobResponse, name: str) -> float | None:
    found = response.actuals.get(name)
    return None if found is None or isinstance(found.value, str) else float(found.value)
