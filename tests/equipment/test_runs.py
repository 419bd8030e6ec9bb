"""A run is planned against all blockers, follows what its tool tells, and hears the same news twice unharmed."""

from __future__ import annotations

import pytest
from sqlmodel import select

from equipment.commands import CommandIntent, CommandVerb
from equipment.run_records import DeviationKind, deviations_of, find_run, positions_of, runs_with
from equipment.runs import (
    build_order,
    give_up,
    mark_unknown,
    open_runs,
    plan_run,
    start_refused,
    start_run,
    withdraw_run,
)
from equipment.sputter import SPUTTER as SPUTTER_TABLE
from equipment.states import RUN_TRANSITIONS, RunEvent, RunState, ToolState
from equipment.utilisation import find_tool
from tests.equipment.line import COMPLETED, GOOD_FILM, HELD, LINE, PAUSED, RUNNING, SPUTTER, STOPPED, Line
from traceability.activities import ActivityRow
from traceability.acts import Actor
from traceability.audit import AuditEvent
from traceability.errors import Finding, NotPermitted, Refused, StaleVersion
from traceability.holds import holds_on
from traceability.units import UnitStatus, find_unit


def test_a_job_order_carries_the_frozen_recipe_in_the_tools_own_types(line: Line) -> None:
    discs = line.discs(2)
    serial = line.plan(SPUTTER, line.film(discs))
    with line.database.read() as record:
        order = build_order(record, serial, 7)
        again = build_order(record, serial, 8)
    assert order.job_id == serial
    assert order.epoch == 7
    assert order.content_hash() == again.content_hash()
    known = {parameter.name: parameter for parameter in SPUTTER_TABLE.job_parameters}
    for parameter in order.parameters:
        assert type(parameter.value) is known[parameter.name].type.python_type
        assert parameter.unit == known[parameter.name].unit
    assert {p.name for p in known.values() if p.required} <= {p.name for p in order.parameters}
    assert order.parameter("thickness_nm") == 200.0
    assert [(m.serial, m.position) for m in order.materials if m.use == "disc"] == [(discs[0], 1), (discs[1], 2)]
    assert line.run(serial).work_master == order.work_master


def test_a_press_order_names_its_die_and_the_weighed_powder(line: Line) -> None:
    serial = line.plan("press-1", line.pellet())
    with line.database.read() as record:
        order = build_order(record, serial, 1)
    assert order.parameter("die_id") == "DIE-10-1"
    assert order.parameter("operation") == "pellet"
    (powder,) = [material for material in order.materials if material.use == "powder"]
    assert (powder.serial, powder.quantity, powder.unit) == (line.lgps_lot, "150", "mg")


def test_a_run_follows_its_tool_from_start_to_end(line: Line) -> None:
    (disc,) = line.discs(1)
    serial = line.plan(SPUTTER, line.film([disc]))
    assert line.run(serial).state is RunState.PLANNED
    line.start(serial)
    with line.database.read() as record:
        assert find_unit(record, disc).status is UnitStatus.IN_PROCESS
    for state, expected in (
        (RUNNING, RunState.RUNNING),
        (PAUSED, RunState.PAUSED),
        (RUNNING, RunState.RUNNING),
        (HELD, RunState.HELD),
        (COMPLETED, RunState.COMPLETED),
    ):
        actuals = GOOD_FILM if state is COMPLETED else None
        assert line.observe(serial, state, actuals) is expected
        assert line.run(serial).state is expected
    with line.database.read() as record:
        run = find_run(record, serial)
        activity = record.get_one(ActivityRow, run.activity_id)
        assert [d.kind for d in deviations_of(record, run)] == [DeviationKind.HOLD, DeviationKind.HOLD]
    assert activity.serial == serial
    assert activity.outcome == "completed"
    assert (activity.started_at, activity.ended_at) == (run.started_at, run.ended_at)
    assert activity.simulated


def test_the_same_news_told_again_changes_nothing(line: Line) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    line.observe(serial, COMPLETED, GOOD_FILM)

    def events() -> int:
        with line.database.read() as record:
            return len(record.exec(select(AuditEvent)).all())

    before = events()
    line.start(serial)
    assert line.observe(serial, COMPLETED, GOOD_FILM) is RunState.COMPLETED
    assert line.observe(serial, RUNNING) is RunState.COMPLETED
    assert events() == before


def test_starting_twice_begins_one_activity_and_asks_for_one_start(line: Line, operator: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    for _ in range(2):
        with line.database.write(operator) as record:
            start_run(record, serial)
    line.start(serial)
    line.start(serial)
    with line.database.write(operator) as record:
        start_run(record, serial)
    with line.database.read() as record:
        intents = record.exec(select(CommandIntent)).all()
        assert [intent.verb for intent in intents] == [CommandVerb.START]
        assert len(record.exec(select(ActivityRow).where(ActivityRow.serial == serial)).all()) == 1


def test_a_refused_start_gives_the_discs_back_and_says_why(line: Line) -> None:
    discs = line.discs(2)
    serial = line.plan(SPUTTER, line.film(discs))
    line.start(serial)
    finding = Finding("read_back_differs", "rf_power_w was read back as 141, not 120.", "Check the tool.")
    for _ in range(2):
        with line.database.write(LINE) as record:
            start_refused(record, serial, [finding])
    run = line.run(serial)
    assert run.state is RunState.FAILED
    assert "read back as 141" in run.why
    with line.database.read() as record:
        assert {find_unit(record, disc).status for disc in discs} == {UnitStatus.AVAILABLE}
        assert holds_on(record, discs) == []
    line.plan(SPUTTER, line.film(discs))


def test_a_withdrawn_run_sets_its_discs_free(line: Line, operator: Actor) -> None:
    discs = line.discs(1)
    serial = line.plan(SPUTTER, line.film(discs))
    with pytest.raises(Refused) as refusal:
        line.plan(SPUTTER, line.film(discs))
    assert "unit_taken" in {finding.code for finding in refusal.value.findings}
    with line.database.write(operator) as record:
        withdraw_run(record, serial, reason="wrong discs", expected_version=1)
    line.plan(SPUTTER, line.film(discs))


def test_a_run_on_its_tool_cannot_be_withdrawn(line: Line, operator: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    with pytest.raises(Refused, match="starting"), line.database.write(operator) as record:
        withdraw_run(record, serial, reason="too late")


def test_a_stale_version_is_refused(line: Line, operator: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    with pytest.raises(StaleVersion), line.database.write(operator) as record:
        start_run(record, serial, expected_version=9)


def test_an_unknown_run_is_found_again_when_its_tool_answers(line: Line) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    with line.database.write(LINE) as record:
        mark_unknown(record, serial, "the tool was restarted")
    assert line.run(serial).state is RunState.UNKNOWN
    assert line.observe(serial, RUNNING) is RunState.RUNNING
    with line.database.read() as record:
        assert [d.kind for d in deviations_of(record, find_run(record, serial))] == [DeviationKind.DOUBTFUL]


def test_a_run_given_up_leaves_its_discs_on_hold(line: Line, engineer: Actor) -> None:
    discs = line.discs(2)
    serial = line.plan(SPUTTER, line.film(discs))
    line.start(serial)
    with line.database.write(LINE) as record:
        mark_unknown(record, serial, "the tool forgot the job")
    with line.database.write(engineer) as record:
        give_up(record, serial, reason="tool repaired, job lost")
    with line.database.read() as record:
        assert find_run(record, serial).state is RunState.FAILED
        assert {hold.serial for hold in holds_on(record, discs)} == set(discs)
        assert open_runs(record, SPUTTER) == []


def test_only_an_unknown_run_can_be_given_up(line: Line, engineer: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    with pytest.raises(Refused, match="give_up"), line.database.write(engineer) as record:
        give_up(record, serial, reason="impatience")


def test_the_tools_state_follows_its_runs(line: Line) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    with line.database.read() as record:
        assert find_tool(record, SPUTTER).state is ToolState.ENGINEERING
    line.observe(serial, STOPPED, GOOD_FILM)
    with line.database.read() as record:
        assert find_tool(record, SPUTTER).state is ToolState.STANDBY


def test_a_person_may_not_move_a_run_by_hand(line: Line, operator: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    with pytest.raises(NotPermitted, match="olga may not"), line.database.write(operator) as record:
        start_refused(record, serial, [])


def test_everything_ever_done_with_a_disc_is_found_by_its_serial(line: Line) -> None:
    (disc,) = line.discs(1)
    serial = line.finish(SPUTTER, line.film([disc]), GOOD_FILM)
    with line.database.read() as record:
        coated = positions_of(record, find_run(record, serial))[0].result_serial
        assert [run.serial for run in runs_with(record, disc)] == [serial]
        assert [run.serial for run in runs_with(record, coated)] == [serial]


@pytest.mark.parametrize("state", [state for state in RunState if state.ended])
def test_nothing_moves_a_run_that_has_ended(state: RunState) -> None:
    assert RUN_TRANSITIONS.events_from(state) == []


def test_whatever_the_tool_does_while_nobody_looks_can_be_followed() -> None:
    seen = [event for event in RunEvent if event.startswith("see_")]
    for state in RunState:
        if state.on_tool:
            assert set(seen) <= set(RUN_TRANSITIONS.events_from(state))


def test_an_unplanned_recipe_change_is_refused_by_plan(line: Line, operator: Actor) -> None:
    control = line.film(line.discs(1), experiment=False)
    with pytest.raises(Refused) as refusal, line.database.write(operator) as record:
        plan_run(record, tool=SPUTTER, control_recipe=control)
    assert [finding.code for finding in refusal.value.findings if finding.severity == "error"] == [
        "recipe_not_effective"
    ]
