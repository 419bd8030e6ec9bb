"""Alarms of the tools on the record: one row for each occurrence, by the states of ISA-18.2.

An occurrence begins when the condition is raised and ends when it has returned and somebody has acknowledged it.
The tool latches its alarms: an acknowledgement is asked of it by a command, and stands when the tool says so. How
the tool is listened to is not known here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Column, Connection, Index
from sqlmodel import Field, SQLModel, col, func, select

from equipment.commands import CommandIntent, CommandVerb, request_command
from equipment.profiles.driver import AlarmEvent
from equipment.run_records import DeviationGrade, DeviationKind, find_run, note_deviation
from equipment.states import ALARM_TRANSITIONS, AlarmMove, AlarmState
from equipment.tags import AlarmDefinition
from equipment.tool_classes import tag_table
from equipment.utilisation import find_tool
from traceability.canonical import timestamp
from traceability.columns import Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import NotFound, StaleVersion

FLOOD_COUNT = 10
FLOOD_WINDOW = timedelta(minutes=10)
"""More than ten alarms in ten minutes are a flood that no operator can follow (ISA-18.2)."""

AT_THE_TOOL = "at the tool"


class Priority(StrEnum):
    """How soon somebody has to act."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @classmethod
    def of(cls, severity: int) -> Priority:
        """From OPC UA severity, 1 to 1000: high above 800, medium above 400."""
        if severity > 800:
            return cls.HIGH
        return cls.MEDIUM if severity > 400 else cls.LOW


_GRADES = {
    Priority.HIGH: DeviationGrade.CRITICAL,
    Priority.MEDIUM: DeviationGrade.MAJOR,
    Priority.LOW: DeviationGrade.MINOR,
}


class Alarm(SQLModel, table=True):
    """One occurrence of an alarm.

    Attributes:
        message: As the tool said it when it was raised.
        cause, consequence, action: From the tool's tag table.
        run_serial: The run that was on the tool; empty for none.
        raised_at, returned_at, acknowledged_at: By the tool's stamps, domain time.
        acknowledged_by: Who asked for it, or `at the tool`.
        changed_at: The tool's stamp of the last news that was taken in.
        raised_count: How often it was raised before it was acknowledged.
    """

    __tablename__ = "alarms"
    __table_args__ = (Index("ix_alarms_tool_name", "tool", "name", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    tool: str
    name: str
    state: AlarmState = Field(sa_column=Column(Choice(AlarmState), nullable=False, index=True))
    severity: int
    priority: Priority = Field(sa_column=Column(Choice(Priority), nullable=False))
    message: str
    cause: str = ""
    consequence: str = ""
    action: str = ""
    run_serial: str = Field(default="", index=True)
    raised_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    returned_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    acknowledged_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    acknowledged_by: str = ""
    asked_by: str = ""
    comment: str = ""
    raised_count: int = 1
    changed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    version: int = 1

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the alarm is not stored yet")
        return self.id


def record_alarm(record: RecordSession, tool: str, event: AlarmEvent, run_serial: str | None) -> Alarm | None:
    """Take in what a tool says of one of its alarms. The same news, or older news, changes nothing.

    Args:
        record: Open write session.
        tool: Name of the tool.
        event: A change, or the present state after a refresh.
        run_serial: The run on the tool, if there is one.

    Returns:
        The occurrence that it belongs to; None where the alarm is, and was, normal.
    """
    last = _last(record, tool, event.name)
    if last is not None and (
        event.source_time < last.changed_at
        or (last.state is AlarmState.NORMAL and event.source_time == last.changed_at)
    ):
        return last
    is_open = last is not None and last.state is not AlarmState.NORMAL
    if not is_open and not event.active and (event.acknowledged or not event.retain):
        return last
    state = last.state if last is not None else AlarmState.NORMAL
    moves = _moves(state if is_open else AlarmState.NORMAL, event)
    if not moves:
        return last
    with record.act("alarm.changed", *([run_serial] if run_serial else []), detail={"tool": tool}) as act:
        alarm = last if last is not None and is_open else _begin(record, tool, event, run_serial)
        for move in moves:
            _apply(alarm, move, event)
        alarm.changed_at = event.source_time
        alarm.version += 1
        record.add(alarm)
        act.detail.update(alarm=event.name, state=alarm.state, severity=event.severity)
        if AlarmMove.RAISE in moves and run_serial:
            run = find_run(record, run_serial)
            source = f"{event.name} {timestamp(event.source_time)}"
            grade = _GRADES[alarm.priority]
            note_deviation(
                record, run, DeviationKind.ALARM, grade, alarm.message, source=source, at=event.source_time
            )
    return alarm


def acknowledge_alarm(
    record: RecordSession, alarm_id: int, *, comment: str = "", expected_version: int | None = None
) -> CommandIntent:
    """Ask the tool to take note that a person has seen the alarm.

    Raises:
        NotFound: There is no such alarm.
        Refused: It is acknowledged, or normal, already.
        StaleVersion: It was changed since it was read.
    """
    alarm = record.get(Alarm, alarm_id, with_for_update=True, populate_existing=True)
    if alarm is None:
        raise NotFound(f"There is no alarm number {alarm_id}.")
    if expected_version is not None and alarm.version != expected_version:
        raise StaleVersion(f"{alarm.name} is at version {alarm.version}, not {expected_version}; read it again.")
    items = [alarm.run_serial] if alarm.run_serial else []
    with record.act("alarm.acknowledged", *items, reason=comment, detail={"tool": alarm.tool, "alarm": alarm.name}):
        ALARM_TRANSITIONS.next(alarm.state, AlarmMove.ACKNOWLEDGE, alarm.name)
        alarm.asked_by, alarm.comment = record.actor.name, comment
        alarm.version += 1
        record.add(alarm)
        return request_command(
            record,
            tool=alarm.tool,
            verb=CommandVerb.ACKNOWLEDGE_ALARM,
            run_serial=alarm.run_serial or None,
            reason=comment,
            detail={"alarm": alarm.name, "comment": comment},
        )


def find_alarm(record: RecordSession, alarm_id: int) -> Alarm:
    """The alarm with that number.

    Raises:
        NotFound: There is none.
    """
    alarm = record.get(Alarm, alarm_id)
    if alarm is None:
        raise NotFound(f"There is no alarm number {alarm_id}.")
    return alarm


def standing_alarms(record: RecordSession, tool: str | None = None) -> list[Alarm]:
    """Alarms that are not normal, the gravest first, then the newest."""
    query = select(Alarm).where(Alarm.state != AlarmState.NORMAL)
    if tool is not None:
        query = query.where(Alarm.tool == tool)
    return list(record.exec(query.order_by(col(Alarm.severity).desc(), col(Alarm.raised_at).desc())))


def alarms_of_run(record: RecordSession, run_serial: str) -> list[Alarm]:
    """Every occurrence during a run, oldest first."""
    query = select(Alarm).where(Alarm.run_serial == run_serial).order_by(col(Alarm.raised_at), col(Alarm.id))
    return list(record.exec(query))


def tools_in_flood(connection: Connection, now: datetime) -> frozenset[str]:
    """The tools that raised more alarms in the time before `now` than an operator can follow."""
    recent = select(Alarm.tool).where(Alarm.raised_at > now - FLOOD_WINDOW).group_by(Alarm.tool)
    return frozenset(connection.scalars(recent.having(func.sum(Alarm.raised_count) > FLOOD_COUNT)))


def _last(record: RecordSession, tool: str, name: str) -> Alarm | None:
    query = select(Alarm).where(Alarm.tool == tool, Alarm.name == name).order_by(col(Alarm.id).desc()).limit(1)
    return record.exec(query.with_for_update().execution_options(populate_existing=True)).first()


def _begin(record: RecordSession, tool: str, event: AlarmEvent, run_serial: str | None) -> Alarm:
    known = _definition(record, tool, event.name)
    alarm = Alarm(
        tool=tool,
        name=event.name,
        state=AlarmState.NORMAL,
        severity=event.severity,
        priority=Priority.of(event.severity),
        message=event.message or (known.message if known else event.name),
        cause=known.cause if known else "",
        consequence=known.consequence if known else "",
        action=known.action if known else "",
        run_serial=run_serial or "",
        raised_at=event.source_time,
        raised_count=0,
        changed_at=event.source_time,
        version=0,
    )
    record.add(alarm)
    return alarm


def _definition(record: RecordSession, tool: str, name: str) -> AlarmDefinition | None:
    """What is known of the alarm; None for one that the tool has beyond its tag table."""
    table = tag_table(find_tool(record, tool).equipment_class)
    return next((definition for definition in table.alarms if definition.name == name), None)


def _moves(state: AlarmState, event: AlarmEvent) -> list[AlarmMove]:
    """What has happened since the alarm was in `state`; what was missed meanwhile is made up for."""
    if state is AlarmState.ACKNOWLEDGED and event.active and not event.acknowledged:
        return [AlarmMove.RETURN, AlarmMove.RAISE]
    moves: list[AlarmMove] = []
    standing = state in (AlarmState.UNACKNOWLEDGED, AlarmState.ACKNOWLEDGED)
    if state is AlarmState.NORMAL or (event.active and not standing):
        moves.append(AlarmMove.RAISE)
        state, standing = AlarmState.UNACKNOWLEDGED, True
    if event.acknowledged and state is not AlarmState.ACKNOWLEDGED:
        moves.append(AlarmMove.ACKNOWLEDGE)
    if not event.active and standing:
        moves.append(AlarmMove.RETURN)
    return moves


def _apply(alarm: Alarm, move: AlarmMove, event: AlarmEvent) -> None:
    alarm.state = ALARM_TRANSITIONS.next(alarm.state, move, alarm.name)
    if move is AlarmMove.RAISE:
        alarm.raised_count += 1
        alarm.returned_at = None
    elif move is AlarmMove.RETURN:
        alarm.returned_at = event.source_time
    else:
        alarm.acknowledged_at = event.source_time
        alarm.acknowledged_by = alarm.asked_by or AT_THE_TOOL
