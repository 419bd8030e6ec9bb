"""A tool's time is divided by SEMI E10 without gap or overlap, and nobody makes it productive by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select

from equipment.press import EQUIPMENT_CLASS as PRESS_CLASS
from equipment.states import ToolState
from equipment.utilisation import (
    Tool,
    ToolPeriod,
    find_tool,
    note_link,
    register_tool,
    set_tool_state,
    tools,
    utilisation,
)
from tests.conftest import START
from tests.equipment.line import COMPLETED, GOOD_FILM, LINE, PRESS, RUNNING, SPUTTER, Line
from traceability.acts import Actor
from traceability.audit import AuditEvent
from traceability.clock import ManualClock
from traceability.errors import Conflict, InvalidInput, NotFound, Refused, StaleVersion


def set_state(line: Line, actor: Actor, state: ToolState, reason: str = "because") -> Tool:
    with line.database.write(actor) as record:
        return set_tool_state(record, SPUTTER, state, reason=reason)


def test_every_second_is_counted_once(line: Line, clock: ManualClock, operator: Actor) -> None:
    clock.advance(hours=1)
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    clock.advance(hours=3)
    line.observe(serial, COMPLETED, GOOD_FILM)
    set_state(line, operator, ToolState.SCHEDULED_DOWN)
    clock.advance(hours=2)
    set_state(line, operator, ToolState.STANDBY)
    set_state(line, operator, ToolState.NON_SCHEDULED)
    clock.advance(hours=4)
    with line.database.read() as record:
        found = utilisation(record, SPUTTER, START - timedelta(hours=2), clock.now())
        periods = record.exec(select(ToolPeriod).order_by(ToolPeriod.id)).all()
    hours = {state: seconds / 3600 for state, seconds in found.seconds.items()}
    assert hours == {
        ToolState.STANDBY: 1.0,
        ToolState.ENGINEERING: 3.0,
        ToolState.SCHEDULED_DOWN: 2.0,
        ToolState.UNSCHEDULED_DOWN: 0.0,
        ToolState.NON_SCHEDULED: 6.0,
        ToolState.PRODUCTIVE: 0.0,
    }
    assert sum(found.seconds.values()) == found.total_s
    assert found.operational_uptime == pytest.approx(4 / 6)
    assert found.operational_utilisation == 0.0
    assert serial in {period.run_serial for period in periods}


def test_a_tool_that_was_never_scheduled_has_no_uptime(line: Line) -> None:
    with line.database.read() as record:
        found = utilisation(record, SPUTTER, START - timedelta(days=2), START - timedelta(days=1))
        assert (found.operational_uptime, found.operational_utilisation) == (None, None)
        with pytest.raises(InvalidInput):
            utilisation(record, SPUTTER, START, START)


def test_productive_is_never_set_by_hand(line: Line, operator: Actor) -> None:
    with pytest.raises(Refused, match="because a run is on it"):
        set_state(line, operator, ToolState.PRODUCTIVE)


def test_a_tool_that_works_is_not_taken_off_the_schedule(line: Line, operator: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    with pytest.raises(Refused, match="leave_schedule"):
        set_state(line, operator, ToolState.NON_SCHEDULED)


def test_a_tool_that_failed_during_its_run_stays_down_when_the_run_ends(line: Line, operator: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    set_state(line, operator, ToolState.UNSCHEDULED_DOWN, "water leak")
    line.observe(serial, COMPLETED, GOOD_FILM)
    with line.database.read() as record:
        tool = find_tool(record, SPUTTER)
    assert (tool.state, tool.reason) == (ToolState.UNSCHEDULED_DOWN, "water leak")


def test_a_change_needs_a_reason_and_the_present_version(line: Line, operator: Actor) -> None:
    with pytest.raises(InvalidInput, match="reason"):
        set_state(line, operator, ToolState.SCHEDULED_DOWN, " ")
    with pytest.raises(StaleVersion), line.database.write(operator) as record:
        set_tool_state(record, SPUTTER, ToolState.SCHEDULED_DOWN, reason="x", expected_version=99)


def test_a_tool_is_entered_once_and_keeps_its_class(line: Line) -> None:
    with line.database.write(LINE) as record:
        register_tool(record, PRESS, PRESS_CLASS)
        assert [tool.name for tool in tools(record)] == [PRESS, SPUTTER]
        with pytest.raises(NotFound, match="No tool class"):
            register_tool(record, "x", "teleporter")
    with pytest.raises(Conflict), line.database.write(LINE) as record:
        register_tool(record, SPUTTER, PRESS_CLASS)


def test_only_a_change_of_the_link_is_written_down(line: Line) -> None:
    def events() -> int:
        with line.database.read() as record:
            return len(record.exec(select(AuditEvent).where(AuditEvent.kind == "tool.linked")).all())

    before = events()
    for linked, note in ((True, ""), (False, "cut"), (False, "cut"), (True, "")):
        with line.database.write(LINE) as record:
            tool = note_link(record, SPUTTER, linked, note=note)
        assert (tool.linked, tool.link_note) == (linked, note)
        assert tool.simulated
    assert events() == before + 2
