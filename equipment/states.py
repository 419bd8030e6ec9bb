"""The states of runs, alarms and tools, each as a table of moves.

A run follows what its tool tells of the job (OPC 10031-4); an alarm follows ISA-18.2; a tool's time is divided by
SEMI E10. What follows from a move is written where the thing itself lives, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from equipment.jobs import JobState, JobStatus, JobSubstate
from traceability.transitions import TransitionTable


class RunState(StrEnum):
    """Where a run stands, as far as the MES knows."""

    PLANNED = "planned"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    COMPLETED = "completed"
    STOPPED = "stopped"
    ABORTED = "aborted"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Nothing more will happen to the run."""
        return self in _ENDED

    @property
    def on_tool(self) -> bool:
        """The tool has, or may have, the run's job in hand."""
        return self not in _ENDED and self is not RunState.PLANNED


_ENDED = frozenset({RunState.COMPLETED, RunState.STOPPED, RunState.ABORTED, RunState.FAILED})


class RunEvent(StrEnum):
    """What moves a run: a person's or the controller's decision, or what the tool tells."""

    START = "start"
    WITHDRAW = "withdraw"
    REFUSE = "refuse"
    LOSE = "lose"
    GIVE_UP = "give_up"
    SEE_RUNNING = "see_running"
    SEE_PAUSED = "see_paused"
    SEE_HELD = "see_held"
    SEE_COMPLETED = "see_completed"
    SEE_STOPPED = "see_stopped"
    SEE_ABORTED = "see_aborted"


_ON_TOOL = (RunState.STARTING, RunState.RUNNING, RunState.PAUSED, RunState.HELD, RunState.UNKNOWN)
_SEEN: Mapping[RunEvent, RunState] = {
    RunEvent.SEE_RUNNING: RunState.RUNNING,
    RunEvent.SEE_PAUSED: RunState.PAUSED,
    RunEvent.SEE_HELD: RunState.HELD,
    RunEvent.SEE_COMPLETED: RunState.COMPLETED,
    RunEvent.SEE_STOPPED: RunState.STOPPED,
    RunEvent.SEE_ABORTED: RunState.ABORTED,
    RunEvent.LOSE: RunState.UNKNOWN,
}

# The MES may have been away while the tool went on, so any state on the tool may be followed by any seen one.
RUN_TRANSITIONS = TransitionTable(
    "run",
    [
        (RunState.PLANNED, RunEvent.START, RunState.STARTING),
        (RunState.PLANNED, RunEvent.WITHDRAW, RunState.ABORTED),
        (RunState.PLANNED, RunEvent.REFUSE, RunState.FAILED),
        (RunState.STARTING, RunEvent.REFUSE, RunState.FAILED),
        (RunState.UNKNOWN, RunEvent.REFUSE, RunState.FAILED),
        (RunState.UNKNOWN, RunEvent.GIVE_UP, RunState.FAILED),
        *((state, event, target) for state in _ON_TOOL for event, target in _SEEN.items()),
    ],
)


def seen(status: JobStatus) -> RunEvent | None:
    """The event that a job's state amounts to; None while the tool holds the job without having begun it."""
    if status.state is JobState.RUNNING:
        return RunEvent.SEE_RUNNING
    if status.state is JobState.INTERRUPTED:
        return RunEvent.SEE_PAUSED if status.substate is JobSubstate.SUSPENDED else RunEvent.SEE_HELD
    if status.state is JobState.ENDED:
        return RunEvent.SEE_STOPPED if status.substate is JobSubstate.CLOSED else RunEvent.SEE_COMPLETED
    return RunEvent.SEE_ABORTED if status.state is JobState.ABORTED else None


class AlarmState(StrEnum):
    """ISA-18.2 states of an alarm, by the letters of its state diagram."""

    NORMAL = "normal"  # A
    UNACKNOWLEDGED = "unacknowledged"  # B
    ACKNOWLEDGED = "acknowledged"  # C
    RETURNED_UNACKNOWLEDGED = "returned_unacknowledged"  # D


class AlarmMove(StrEnum):
    """What moves an alarm."""

    RAISE = "raise"
    RETURN = "return"
    ACKNOWLEDGE = "acknowledge"


ALARM_TRANSITIONS = TransitionTable(
    "alarm",
    [
        (AlarmState.NORMAL, AlarmMove.RAISE, AlarmState.UNACKNOWLEDGED),
        (AlarmState.UNACKNOWLEDGED, AlarmMove.ACKNOWLEDGE, AlarmState.ACKNOWLEDGED),
        (AlarmState.UNACKNOWLEDGED, AlarmMove.RETURN, AlarmState.RETURNED_UNACKNOWLEDGED),
        (AlarmState.ACKNOWLEDGED, AlarmMove.RETURN, AlarmState.NORMAL),
        (AlarmState.RETURNED_UNACKNOWLEDGED, AlarmMove.RAISE, AlarmState.UNACKNOWLEDGED),
        (AlarmState.RETURNED_UNACKNOWLEDGED, AlarmMove.ACKNOWLEDGE, AlarmState.NORMAL),
    ],
)


class ToolState(StrEnum):
    """The six basic states of SEMI E10."""

    PRODUCTIVE = "PRD"
    STANDBY = "SBY"
    ENGINEERING = "ENG"
    SCHEDULED_DOWN = "SDT"
    UNSCHEDULED_DOWN = "UDT"
    NON_SCHEDULED = "NST"


class ToolMove(StrEnum):
    """What moves a tool from one basic state to another."""

    BEGIN_RUN = "begin_run"
    BEGIN_EXPERIMENT = "begin_experiment"
    END_RUN = "end_run"
    BEGIN_MAINTENANCE = "begin_maintenance"
    FAIL = "fail"
    LEAVE_SCHEDULE = "leave_schedule"
    RETURN_TO_SERVICE = "return_to_service"


_WORKING = (ToolState.PRODUCTIVE, ToolState.ENGINEERING)
_IDLE = (ToolState.STANDBY, ToolState.NON_SCHEDULED)
_DOWN = (ToolState.SCHEDULED_DOWN, ToolState.UNSCHEDULED_DOWN)

# A run that began is a fact, whatever was thought of the tool before: it is followed from every state.
TOOL_TRANSITIONS = TransitionTable(
    "tool",
    [
        *((state, ToolMove.BEGIN_RUN, ToolState.PRODUCTIVE) for state in ToolState),
        *((state, ToolMove.BEGIN_EXPERIMENT, ToolState.ENGINEERING) for state in ToolState),
        *((state, ToolMove.END_RUN, ToolState.STANDBY) for state in _WORKING),
        *((state, ToolMove.BEGIN_MAINTENANCE, ToolState.SCHEDULED_DOWN) for state in (*_IDLE, *_DOWN)),
        *((state, ToolMove.FAIL, ToolState.UNSCHEDULED_DOWN) for state in ToolState),
        (ToolState.STANDBY, ToolMove.LEAVE_SCHEDULE, ToolState.NON_SCHEDULED),
        *((state, ToolMove.RETURN_TO_SERVICE, ToolState.STANDBY) for state in (*_DOWN, ToolState.NON_SCHEDULED)),
    ],
)
