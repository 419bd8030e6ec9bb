"""Reports of testers: from the right one, in order and once. A gap is refused, a repetition recognised.

What a report brings about is decided in `handoff`.
"""

from __future__ import annotations

from sqlmodel import select

from equipment.testers.contract import EventReport
from equipment.testers.handoff_records import Handoff, TesterEvent
from traceability.canonical import canonical_value
from traceability.database import RecordSession
from traceability.errors import Conflict, Finding, NotPermitted, Refused


class EventGap(Refused):
    """Reports before this one are missing; the tester sends them again from the one that is named."""


def require_tester(record: RecordSession, tester: str) -> None:
    """Let a token speak only for the tester that its scopes name; people may speak for any.

    Raises:
        NotPermitted: It names another, or none.
    """
    scopes = record.actor.scopes
    if scopes is not None and f"tester:{tester}" not in scopes:
        finding = Finding(
            "tester_scope_missing",
            f"The token's scopes do not name tester:{tester}.",
            "Issue a token for this tester.",
            tester,
        )
        raise NotPermitted(f"This token may not speak for {tester}.", [finding])


def require_own(handoff: Handoff, tester: str) -> None:
    """Check that a hand-off is with the tester that speaks of it.

    Raises:
        Refused: It is with another.
    """
    if handoff.tester != tester:
        message = f"{handoff.uuid} is with {handoff.tester}, not with {tester}."
        raise Refused(message, [Finding("other_tester", message, "Report it to the right tester.", tester)])


def already_taken(record: RecordSession, handoff: Handoff, news: EventReport) -> bool:
    """Whether this very report was taken before.

    Raises:
        Conflict: Another one was taken under its number.
        EventGap: The one before it was not taken yet.
    """
    kept = record.exec(
        select(TesterEvent).where(TesterEvent.handoff_id == handoff.key, TesterEvent.seq == news.seq)
    ).one_or_none()
    if kept is not None:
        if kept.detail == _detail(news):
            return True
        raise Conflict(
            f"Event {news.seq} of {handoff.uuid} was another one ({kept.event}).",
            [
                Finding(
                    "event_differs",
                    f"Number {news.seq} stands for {kept.event} at {kept.at.isoformat()}.",
                    "Look at the tester: two endpoints may report the same hand-off.",
                    handoff.uuid,
                )
            ],
        )
    if news.seq != handoff.last_seq + 1:
        message = f"Event {news.seq} came; {handoff.last_seq + 1} is the next."
        finding = Finding("event_gap", message, f"Send from {handoff.last_seq + 1} on.", str(handoff.last_seq + 1))
        raise EventGap(message, [finding])
    return False


def keep_event(record: RecordSession, handoff: Handoff, news: EventReport) -> None:
    """Store a report."""
    record.add(
        TesterEvent(
            handoff_id=handoff.key,
            seq=news.seq,
            event=news.event,
            at=news.at,
            received_at=record.clock.now(),
            detail=_detail(news),
        )
    )


def _detail(news: EventReport) -> dict[str, object]:
    detail = canonical_value(news.model_dump(mode="python"))
    if not isinstance(detail, dict):
        raise TypeError("a report is an object")
    return dict(detail)
