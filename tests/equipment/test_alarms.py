"""Alarms go through the states of ISA-18.2, whatever was missed, and the same news twice counts once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select

from equipment.alarms import (
    Alarm,
    Priority,
    acknowledge_alarm,
    alarms_of_run,
    record_alarm,
    standing_alarms,
    tools_in_flood,
)
from equipment.commands import CommandVerb, unfinished_intents
from equipment.profiles.driver import AlarmEvent
from equipment.run_records import DeviationGrade, DeviationKind, deviations_of, find_run
from equipment.states import ALARM_TRANSITIONS, AlarmState
from tests.conftest import START
from tests.equipment.line import LINE, RUNNING, SPUTTER, Line
from traceability.acts import Actor
from traceability.errors import Refused, StaleVersion

ACTIVE, RETURNED, SEEN, OVER = (True, False), (False, False), (True, True), (False, True)


def tell(
    line: Line,
    condition: tuple[bool, bool],
    at_s: float,
    *,
    name: str = "no_strike",
    severity: int = 600,
    run: str | None = None,
) -> Alarm | None:
    active, acknowledged = condition
    event = AlarmEvent(
        name=name,
        active=active,
        acknowledged=acknowledged,
        retain=active or not acknowledged,
        severity=severity,
        message="The plasma did not strike in three tries.",
        source_time=START + timedelta(seconds=at_s),
        event_id=str(at_s).encode(),
    )
    with line.database.write(LINE) as record:
        return record_alarm(record, SPUTTER, event, run)


def states(line: Line, *news: tuple[bool, bool]) -> list[AlarmState | None]:
    found = [tell(line, condition, at) for at, condition in enumerate(news)]
    return [None if alarm is None else alarm.state for alarm in found]


def test_an_alarm_is_raised_acknowledged_and_returns(line: Line) -> None:
    assert states(line, ACTIVE, SEEN, OVER) == [
        AlarmState.UNACKNOWLEDGED,
        AlarmState.ACKNOWLEDGED,
        AlarmState.NORMAL,
    ]
    with line.database.read() as record:
        assert standing_alarms(record) == []


def test_an_alarm_that_returned_still_waits_for_a_person(line: Line) -> None:
    assert states(line, ACTIVE, RETURNED, ACTIVE, RETURNED, OVER) == [
        AlarmState.UNACKNOWLEDGED,
        AlarmState.RETURNED_UNACKNOWLEDGED,
        AlarmState.UNACKNOWLEDGED,
        AlarmState.RETURNED_UNACKNOWLEDGED,
        AlarmState.NORMAL,
    ]


def test_the_next_time_is_another_occurrence(line: Line) -> None:
    first = tell(line, ACTIVE, 0)
    tell(line, OVER, 1)
    second = tell(line, ACTIVE, 2)
    assert first is not None
    assert second is not None
    assert second.key != first.key
    assert second.raised_at == START + timedelta(seconds=2)


def test_what_was_missed_while_the_link_was_down_is_made_up_for(line: Line) -> None:
    missed = tell(line, RETURNED, 5)
    assert missed is not None
    assert (missed.state, missed.raised_count) == (AlarmState.RETURNED_UNACKNOWLEDGED, 1)
    tell(line, ACTIVE, 10, name="turbo_trip", severity=900)
    tell(line, SEEN, 11, name="turbo_trip", severity=900)
    again = tell(line, ACTIVE, 20, name="turbo_trip", severity=900)
    assert again is not None
    assert (again.state, again.raised_count) == (AlarmState.UNACKNOWLEDGED, 2)


@pytest.mark.parametrize("news", [[ACTIVE], [ACTIVE, RETURNED], [ACTIVE, SEEN], [ACTIVE, OVER]])
def test_the_same_or_older_news_changes_nothing(line: Line, news: list[tuple[bool, bool]]) -> None:
    for at, condition in enumerate(news):
        tell(line, condition, at)
    with line.database.read() as record:
        (before,) = record.exec(select(Alarm)).all()
    for at, condition in enumerate(news):
        tell(line, condition, at)
    with line.database.read() as record:
        (after,) = record.exec(select(Alarm)).all()
    assert (after.state, after.version) == (before.state, before.version)


def test_an_alarm_that_was_never_raised_leaves_no_row(line: Line) -> None:
    assert tell(line, OVER, 0) is None
    with line.database.read() as record:
        assert record.exec(select(Alarm)).all() == []


def test_an_alarm_says_why_and_what_to_do_and_how_soon(line: Line) -> None:
    alarm = tell(line, ACTIVE, 0)
    assert alarm is not None
    assert alarm.priority is Priority.MEDIUM
    assert "match" in alarm.cause
    assert "holds" in alarm.consequence
    assert "strike again" in alarm.action
    assert [Priority.of(severity) for severity in (1000, 801, 800, 401, 400, 1)] == [
        "high", "high", "medium", "medium", "low", "low",
    ]  # fmt: skip


def test_an_alarm_during_a_run_is_a_deviation_of_it(line: Line) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    tell(line, ACTIVE, 3, severity=850, name="arc_rate_trip", run=serial)
    tell(line, ACTIVE, 3, severity=850, name="arc_rate_trip", run=serial)
    with line.database.read() as record:
        (deviation,) = deviations_of(record, find_run(record, serial))
        assert (deviation.kind, deviation.grade) == (DeviationKind.ALARM, DeviationGrade.CRITICAL)
        assert [alarm.name for alarm in alarms_of_run(record, serial)] == ["arc_rate_trip"]


def test_an_acknowledgement_is_asked_of_the_tool_and_stands_when_the_tool_says_so(
    line: Line, operator: Actor
) -> None:
    alarm = tell(line, ACTIVE, 0)
    assert alarm is not None
    with line.database.write(operator) as record:
        acknowledge_alarm(record, alarm.key, comment="looking into it")
    with line.database.read() as record:
        (intent,) = unfinished_intents(record, SPUTTER)
        assert intent.verb is CommandVerb.ACKNOWLEDGE_ALARM
        assert intent.detail == {"alarm": "no_strike", "comment": "looking into it"}
        assert record.get_one(Alarm, alarm.key).state is AlarmState.UNACKNOWLEDGED
    told = tell(line, SEEN, 9)
    assert told is not None
    assert (told.state, told.acknowledged_by, told.comment) == (AlarmState.ACKNOWLEDGED, "olga", "looking into it")
    with pytest.raises(Refused, match="acknowledge"), line.database.write(operator) as record:
        acknowledge_alarm(record, alarm.key)


def test_an_alarm_acknowledged_at_the_tool_says_so(line: Line) -> None:
    tell(line, ACTIVE, 0)
    told = tell(line, SEEN, 1)
    assert told is not None
    assert told.acknowledged_by == "at the tool"


def test_a_changed_alarm_cannot_be_acknowledged_unseen(line: Line, operator: Actor) -> None:
    alarm = tell(line, ACTIVE, 0)
    assert alarm is not None
    with pytest.raises(StaleVersion), line.database.write(operator) as record:
        acknowledge_alarm(record, alarm.key, expected_version=alarm.version + 1)


def test_the_gravest_alarm_stands_first_and_a_flood_is_shown(line: Line) -> None:
    tell(line, ACTIVE, 0, name="reflected_power_high", severity=300)
    tell(line, ACTIVE, 1, name="turbo_trip", severity=900)
    with line.database.read() as record:
        assert [alarm.name for alarm in standing_alarms(record, SPUTTER)] == ["turbo_trip", "reflected_power_high"]
        assert tools_in_flood(record.connection(), record.clock.now()) == set()
    for at in range(2, 30, 2):
        tell(line, ACTIVE, at)
        tell(line, OVER, at + 1)
    with line.database.read() as record:
        assert tools_in_flood(record.connection(), record.clock.now()) == {SPUTTER}


def test_no_alarm_is_forgotten_without_a_person_and_the_end_of_its_cause() -> None:
    ways_to_normal = {state for state in AlarmState for move in ALARM_TRANSITIONS.events_from(state)
                      if ALARM_TRANSITIONS.next(state, move) is AlarmState.NORMAL}  # fmt: skip
    assert ways_to_normal == {AlarmState.ACKNOWLEDGED, AlarmState.RETURNED_UNACKNOWLEDGED}
