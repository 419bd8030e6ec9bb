"""The life of a hand-off, as one table that the MES and the tester endpoints share.

A tester moves a hand-off by what it reports, a person by what is decided. Where nobody knows what became of a cell
the state is UNKNOWN, and only evidence from the tester or a person leads out of it. What follows from a move is not
known here.
"""

from __future__ import annotations

from enum import StrEnum

from traceability.transitions import TransitionTable


class HandoffState(StrEnum):
    """Where a hand-off stands."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    LOADED = "loaded"
    ARMED = "armed"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"
    INGESTED = "ingested"
    RELEASED = "released"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def over(self) -> bool:
        """The test has ended; its result may be in or not."""
        return self in (self.COMPLETED, self.ABORTED, self.FAILED, self.INGESTED, self.RELEASED)

    @property
    def open(self) -> bool:
        """The tester has the cell, or is to get it, and its last result is not in."""
        return self not in (self.REJECTED, self.CANCELLED, self.INGESTED, self.RELEASED)


class HandoffEvent(StrEnum):
    """What moves a hand-off on."""

    ACCEPT = "accept"
    REJECT = "reject"
    LOAD = "load"
    ARM = "arm"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    COMPLETE = "complete"
    ABORT = "abort"
    FAIL = "fail"
    INGEST = "ingest"
    RELEASE = "release"
    CANCEL = "cancel"
    LOSE = "lose"


_S, _E = HandoffState, HandoffEvent
_BEFORE_RUNNING = (_S.OFFERED, _S.ACCEPTED, _S.LOADED, _S.ARMED)
_UNDER_WAY = (_S.RUNNING, _S.PAUSED)
_ENDS = (_S.COMPLETED, _S.ABORTED, _S.FAILED)

HANDOFF_STATES: TransitionTable[HandoffState, HandoffEvent] = TransitionTable(
    "hand-off",
    [
        (_S.OFFERED, _E.ACCEPT, _S.ACCEPTED),
        (_S.OFFERED, _E.REJECT, _S.REJECTED),
        (_S.ACCEPTED, _E.REJECT, _S.REJECTED),
        (_S.ACCEPTED, _E.LOAD, _S.LOADED),
        (_S.LOADED, _E.ARM, _S.ARMED),
        (_S.LOADED, _E.FAIL, _S.FAILED),
        (_S.ARMED, _E.START, _S.RUNNING),
        (_S.ARMED, _E.FAIL, _S.FAILED),
        (_S.RUNNING, _E.PAUSE, _S.PAUSED),
        (_S.PAUSED, _E.RESUME, _S.RUNNING),
        (_S.RUNNING, _E.COMPLETE, _S.COMPLETED),
        *((state, _E.ABORT, _S.ABORTED) for state in _UNDER_WAY),
        *((state, _E.FAIL, _S.FAILED) for state in _UNDER_WAY),
        *((state, _E.CANCEL, _S.CANCELLED) for state in _BEFORE_RUNNING),
        *((state, _E.INGEST, _S.INGESTED) for state in _ENDS),
        (_S.ABORTED, _E.RELEASE, _S.RELEASED),
        (_S.FAILED, _E.RELEASE, _S.RELEASED),
        (_S.INGESTED, _E.RELEASE, _S.RELEASED),
        *((state, _E.LOSE, _S.UNKNOWN) for state in (*_BEFORE_RUNNING, *_UNDER_WAY)),
        (_S.UNKNOWN, _E.ACCEPT, _S.ACCEPTED),
        (_S.UNKNOWN, _E.REJECT, _S.REJECTED),
        (_S.UNKNOWN, _E.LOAD, _S.LOADED),
        (_S.UNKNOWN, _E.ARM, _S.ARMED),
        (_S.UNKNOWN, _E.START, _S.RUNNING),
        (_S.UNKNOWN, _E.RESUME, _S.RUNNING),
        (_S.UNKNOWN, _E.PAUSE, _S.PAUSED),
        (_S.UNKNOWN, _E.COMPLETE, _S.COMPLETED),
        (_S.UNKNOWN, _E.ABORT, _S.ABORTED),
        (_S.UNKNOWN, _E.FAIL, _S.FAILED),
        (_S.UNKNOWN, _E.CANCEL, _S.CANCELLED),
    ],
)
"""A failed or aborted test that wrote no file may be released without a result; a completed one may not."""

REPORTED = frozenset(HandoffEvent) - {_E.INGEST, _E.LOSE}
"""What a tester endpoint may report."""

ON_CHANNEL = tuple(state for state in HandoffState if state in (_S.LOADED, _S.ARMED, *_UNDER_WAY, *_ENDS, _S.UNKNOWN))
"""States in which a cell that has a channel occupies it."""
