"""Live events: who wants to know what was just committed.

Events observe and never control: they are published after commit, and a subscriber that fails or is slow harms
nobody. Their numbers are those of the audit trail, so that a stream that was cut can be replayed from it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

from traceability.audit import SealedEvent

Subscriber = Callable[[Sequence[SealedEvent]], None]

_log = structlog.get_logger(__name__)


class Publisher:
    """Hands committed events to subscribers, in the committing thread. Subscribers must return at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the answer removes it again."""
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def publish(self, events: Sequence[SealedEvent]) -> None:
        """Hand the events to every subscriber; one that raises is logged and the others still hear."""
        with self._lock:
            subscribers = tuple(self._subscribers)
        for subscriber in subscribers:
            try:
                subscriber(events)
            except Exception:  # noqa: BLE001 - the commit stands whatever an observer does
                _log.exception("event_subscriber_failed")
