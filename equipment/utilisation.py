"""The tools of the line: what each is, whether it can be spoken to, and how its time is divided (SEMI E10).

Every change of a tool's state closes one period and opens the next, so that the periods of a tool cover its time
without gap or overlap. That a run began or ended is told by `runs`; how a tool is driven is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from equipment.states import TOOL_TRANSITIONS, ToolMove, ToolState
from equipment.tool_classes import tag_table
from traceability.columns import Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Conflict, Finding, InvalidInput, NotFound, Refused, StaleVersion


class Tool(SQLModel, table=True):
    """A tool of the line.

    Attributes:
        simulated: As the tool declares of itself.
        linked: It could be spoken to when last heard of.
        link_note: Why it can't be spoken to.
        sub_state, reason: Of the state: what exactly, and why.
    """

    __tablename__ = "tools"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    equipment_class: str
    simulated: bool = False
    linked: bool = False
    link_note: str = ""
    boot_id: str = ""
    state: ToolState = Field(sa_column=Column(Choice(ToolState), nullable=False))
    sub_state: str = ""
    reason: str = ""
    since: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    version: int = 1

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the tool is not stored yet")
        return self.id


class ToolPeriod(SQLModel, table=True):
    """A stretch of a tool's time in one state; `ended_at` is None for the present one."""

    __tablename__ = "tool_periods"

    id: int | None = Field(default=None, primary_key=True)
    tool_id: int = Field(foreign_key="tools.id", index=True)
    state: ToolState = Field(sa_column=Column(Choice(ToolState), nullable=False))
    sub_state: str = ""
    reason: str = ""
    run_serial: str = ""
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


@dataclass(frozen=True, slots=True)
class Utilisation:
    """How a tool's time was divided.

    Attributes:
        seconds: Domain seconds by state; they add up to the time looked at.
        total_s: All of them (E10 total time).
    """

    seconds: Mapping[ToolState, float]
    total_s: float

    @property
    def operations_s(self) -> float:
        """Operations time: total time less non-scheduled time."""
        return self.total_s - self.seconds[ToolState.NON_SCHEDULED]

    @property
    def uptime_s(self) -> float:
        """Equipment uptime: productive, standby and engineering time."""
        return sum(self.seconds[state] for state in (ToolState.PRODUCTIVE, ToolState.STANDBY, ToolState.ENGINEERING))

    @property
    def operational_uptime(self) -> float | None:
        """Uptime over operations time, 0 to 1; None where there was no operations time."""
        return self.uptime_s / self.operations_s if self.operations_s > 0 else None

    @property
    def operational_utilisation(self) -> float | None:
        """Productive time over operations time, 0 to 1; None where there was no operations time."""
        return self.seconds[ToolState.PRODUCTIVE] / self.operations_s if self.operations_s > 0 else None


def register_tool(record: RecordSession, name: str, equipment_class: str) -> Tool:
    """Enter a tool of the line; one that is there is left as it is.

    Raises:
        NotFound: The MES drives no such class.
        Conflict: The name belongs to a tool of another class.
    """
    tag_table(equipment_class)
    known = record.exec(select(Tool).where(Tool.name == name)).first()
    if known is not None:
        if known.equipment_class != equipment_class:
            raise Conflict(f"{name} is a {known.equipment_class}; give the {equipment_class} another name.")
        return known
    with record.act("tool.registered", name):
        now = record.clock.now()
        tool = Tool(name=name, equipment_class=equipment_class, state=ToolState.STANDBY, since=now)
        record.add(tool)
        record.flush()
        record.add(ToolPeriod(tool_id=tool.key, state=tool.state, started_at=now))
    return tool


def find_tool(record: RecordSession, name: str, *, lock: bool = False) -> Tool:
    """The tool of that name.

    Raises:
        NotFound: The line has none.
    """
    query = select(Tool).where(Tool.name == name)
    tool = record.exec(query.with_for_update() if lock else query).first()
    if tool is None:
        raise NotFound(f"The line has no tool called {name!r}.")
    return tool


def tools(record: RecordSession) -> list[Tool]:
    """Every tool of the line by name."""
    return list(record.exec(select(Tool).order_by(col(Tool.name))))


def note_link(
    record: RecordSession,
    name: str,
    linked: bool,
    *,
    note: str = "",
    simulated: bool | None = None,
    boot_id: str | None = None,
) -> Tool:
    """Store that a tool can, or can't, be spoken to; nothing is written where nothing changed.

    Args:
        record: Open write session.
        name: The tool.
        linked: It can be spoken to.
        note: Why it can't.
        simulated: What the tool declares of itself; None where it wasn't asked.
        boot_id: The tool's own, which changes when it is started anew.
    """
    tool = find_tool(record, name, lock=True)
    wanted = {
        "linked": linked,
        "link_note": "" if linked else note,
        "simulated": tool.simulated if simulated is None else simulated,
        "boot_id": tool.boot_id if boot_id is None else boot_id,
    }
    if all(getattr(tool, key) == value for key, value in wanted.items()):
        return tool
    with record.act("tool.linked", name, reason=note, detail={"linked": linked}):
        for key, value in wanted.items():
            setattr(tool, key, value)
        tool.version += 1
        record.add(tool)
    return tool


_BY_HAND: Mapping[ToolState, ToolMove] = {
    ToolState.STANDBY: ToolMove.RETURN_TO_SERVICE,
    ToolState.ENGINEERING: ToolMove.BEGIN_EXPERIMENT,
    ToolState.SCHEDULED_DOWN: ToolMove.BEGIN_MAINTENANCE,
    ToolState.UNSCHEDULED_DOWN: ToolMove.FAIL,
    ToolState.NON_SCHEDULED: ToolMove.LEAVE_SCHEDULE,
}


def set_tool_state(
    record: RecordSession,
    name: str,
    state: ToolState,
    *,
    reason: str,
    sub_state: str = "",
    expected_version: int | None = None,
) -> Tool:
    """Set a tool's state by hand; productive is never set by hand, it follows from runs.

    Raises:
        InvalidInput: There is no reason.
        Refused: That state can't follow the present one, or the state is not set by hand.
        StaleVersion: The tool was changed since it was read.
    """
    if not reason.strip():
        raise InvalidInput("A change of a tool's state needs a reason.")
    tool = find_tool(record, name, lock=True)
    if expected_version is not None and tool.version != expected_version:
        raise StaleVersion(f"{name} is at version {tool.version}, not {expected_version}; read it again.")
    with record.act("tool.state_changed", name, reason=reason, detail={"state": state}):
        if state not in _BY_HAND:
            message = "A tool is productive because a run is on it."
            raise Refused(message, [Finding("not_by_hand", message, "Start a run.", name)])
        move = _BY_HAND[state]
        if state is ToolState.STANDBY and tool.state is ToolState.ENGINEERING:
            move = ToolMove.END_RUN
        _move(record, tool, move, sub_state=sub_state, reason=reason)
    return tool


def follow_run(record: RecordSession, name: str, move: ToolMove, run_serial: str) -> None:
    """Let a tool's state follow a run that began or ended, within the act that moves the run.

    A tool that was taken down while its run was ending stays down.
    """
    tool = find_tool(record, name, lock=True)
    if move not in TOOL_TRANSITIONS.events_from(tool.state):
        return
    _move(record, tool, move, reason="", run_serial=run_serial)


def utilisation(record: RecordSession, name: str, start: datetime, end: datetime) -> Utilisation:
    """How the time of a tool from `start` to `end` was divided; time before it was entered is non-scheduled.

    Raises:
        InvalidInput: `end` is not after `start`.
    """
    if end <= start:
        raise InvalidInput("The time to look at has to end after its start.")
    tool = find_tool(record, name)
    seconds = dict.fromkeys(ToolState, 0.0)
    for period in record.exec(select(ToolPeriod).where(ToolPeriod.tool_id == tool.key)):
        overlap = min(period.ended_at or end, end) - max(period.started_at, start)
        seconds[period.state] += max(overlap.total_seconds(), 0.0)
    total = (end - start).total_seconds()
    seconds[ToolState.NON_SCHEDULED] += max(total - sum(seconds.values()), 0.0)
    return Utilisation(seconds, total)


def _move(
    record: RecordSession, tool: Tool, move: ToolMove, *, reason: str, sub_state: str = "", run_serial: str = ""
) -> None:
    state = TOOL_TRANSITIONS.next(tool.state, move, tool.name)
    now = record.clock.now()
    present = record.exec(
        select(ToolPeriod).where(ToolPeriod.tool_id == tool.key, col(ToolPeriod.ended_at).is_(None))
    ).one()
    present.ended_at = now
    record.add(present)
    tool.state, tool.sub_state, tool.reason, tool.since = state, sub_state, reason, now
    tool.version += 1
    record.add(tool)
    record.add(
        ToolPeriod(
            tool_id=tool.key,
            state=state,
            sub_state=sub_state,
            reason=reason,
            run_serial=run_serial,
            started_at=now,
        )
    )
