"""A limit on how often somebody may knock: a token bucket for each address, in real time."""

from __future__ import annotations

import threading
import time

from traceability.errors import RecordError

_MOST_ADDRESSES = 10_000


class TooManyAttempts(RecordError):
    """More attempts in a minute than the service allows from one address."""

    recorded = False


class RateLimit:
    """Allows `per_minute` attempts a minute from each address, with bursts up to that number."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, address: str) -> None:
        """Count one attempt.

        Raises:
            TooManyAttempts: The address has used up its attempts for now.
        """
        now = time.monotonic()
        with self._lock:
            if len(self._buckets) > _MOST_ADDRESSES:
                self._buckets = {a: b for a, b in self._buckets.items() if now - b[1] < 60}
            level, at = self._buckets.get(address, (float(self._per_minute), now))
            level = min(self._per_minute, level + (now - at) * self._per_minute / 60)
            if level < 1:
                raise TooManyAttempts("Too many attempts from this address; wait a minute and try again.")
            self._buckets[address] = (level - 1, now)
