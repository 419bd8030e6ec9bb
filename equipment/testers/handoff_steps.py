"""What follows from each step of a hand-off for the cell and for the record of its test.

The test is an activity from its start to its end; the cell is on test from the offer until it is given back or
tested. Which step may be taken is decided in `handoff`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from equipment.testers.handoff_records import Handoff, store
from equipment.testers.handoff_states import HandoffEvent, HandoffState
from traceability.activities import ActivityKind, Outcome, begin_activity, end_activity, find_activity
from traceability.database import RecordSession
from traceability.units import UnitEvent, UnitStatus, advance_unit, find_unit

_OUTCOMES: Mapping[HandoffEvent, Outcome] = {
    HandoffEvent.COMPLETE: Outcome.COMPLETED,
    HandoffEvent.ABORT: Outcome.ABORTED,
    HandoffEvent.FAIL: Outcome.FAILED,
}


def move(record: RecordSession, handoff: Handoff, state: HandoffState, why: str = "") -> None:
    """Put a hand-off into a state, within the act that decided it.

    Raises:
        Conflict: The database does not have it: the channel is taken.
    """
    handoff.state = state
    handoff.why = why or handoff.why
    handoff.version += 1
    store(record, handoff)


def follow(record: RecordSession, handoff: Handoff, event: HandoffEvent, at: datetime) -> None:
    """Bring about what a step means.

    Args:
        record: Open write session, within the step's act.
        handoff: In its state after the step.
        event: The step.
        at: Domain time of it.
    """
    match event:
        case HandoffEvent.START | HandoffEvent.RESUME | HandoffEvent.PAUSE:
            handoff.cancel_requested = False
            begin_test(record, handoff, at)
            store(record, handoff)
        case HandoffEvent.COMPLETE | HandoffEvent.ABORT | HandoffEvent.FAIL:
            handoff.ended_at = at
            if event is HandoffEvent.COMPLETE:
                begin_test(record, handoff, handoff.started_at or at)
            if handoff.activity_id is not None:
                activity = find_activity(record, handoff.activity_id)
                end_activity(record, activity, _OUTCOMES[event], ended_at=at, detail={"why": handoff.why})
            store(record, handoff)
        case HandoffEvent.REJECT | HandoffEvent.CANCEL:
            handoff.cancel_requested = False
            _leave(record, handoff, UnitEvent.GIVE_BACK)
            store(record, handoff)
        case HandoffEvent.INGEST:
            _leave(record, handoff, UnitEvent.FINISH_TEST)
        case HandoffEvent.RELEASE:
            tested = handoff.activity_id is not None
            _leave(record, handoff, UnitEvent.FINISH_TEST if tested else UnitEvent.GIVE_BACK)
        case _:
            pass


def begin_test(record: RecordSession, handoff: Handoff, at: datetime) -> None:
    """Put the test on record, if it is not there yet."""
    if handoff.activity_id is not None:
        return
    activity = begin_activity(
        record,
        ActivityKind.TEST,
        equipment=handoff.tester,
        work_master=handoff.work_master,
        simulated=handoff.simulated,
        started_at=at,
        detail={
            "handoff": handoff.uuid,
            "cell": handoff.cell_serial,
            "channel": handoff.channel,
            "tester_serial": handoff.tester_serial,
            "experiment": handoff.experiment,
        },
    )
    handoff.activity_id, handoff.started_at = activity.key, at
    store(record, handoff)


def _leave(record: RecordSession, handoff: Handoff, event: UnitEvent) -> None:
    if find_unit(record, handoff.cell_serial).status is UnitStatus.ON_TEST:
        advance_unit(record, handoff.cell_serial, event)
