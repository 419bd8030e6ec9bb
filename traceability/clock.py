"""Domain time: what the record says happened when.

Everything that stamps the record takes a `Clock`; this module is the only one that asks the operating system.
`PiecewiseClock` lets several processes share one accelerated time: its segments stand in a small file that each
process re-reads when it changes. Time-outs, leases and heartbeats are real time and don't belong here.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import orjson

from traceability.errors import RecordError


class ClockUnreadable(RecordError):
    """The file of the shared clock is missing or says something else than a clock; nobody knows what time it is."""

    recorded = False


def wall_now() -> datetime:
    """Real time, UTC. The one place that asks the operating system for the date."""
    return datetime.fromtimestamp(time.time(), UTC)


class Clock(Protocol):
    """Tells domain time."""

    def now(self) -> datetime:
        """Domain time, UTC, never earlier than at the call before."""

    @property
    def factor(self) -> float:
        """Domain seconds that pass in a real second, now."""


class SystemClock:
    """Domain time is real time."""

    factor = 1.0

    def now(self) -> datetime:
        """Real time, UTC."""
        return wall_now()


class ManualClock:
    """A clock that stands until it is advanced; for tests and for pure replays."""

    factor = 1.0

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """The time it was last set to."""
        return self._now

    def advance(self, **duration: float) -> None:
        """Move on by a `timedelta(**duration)`."""
        self._now += timedelta(**duration)


@dataclass(frozen=True, slots=True)
class Segment:
    """From real time `wall_s` (Unix seconds) on, domain time is `domain_s + (wall - wall_s) * factor`."""

    wall_s: float
    domain_s: float
    factor: float

    def at(self, wall_s: float) -> float:
        """Domain time in Unix seconds at a real time in Unix seconds."""
        return self.domain_s + (wall_s - self.wall_s) * self.factor


class PiecewiseClock:
    """Domain time in segments of different speed, shared between processes through one file.

    The file holds `[{"wall_s", "domain_s", "factor"}, …]` in order; the last segment whose `wall_s` has come
    counts. Only the process that leads a demonstration calls `run` and `jump`; all others just read. Since the
    file keeps the segments, a restarted process tells the same time as the one before it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: tuple[int, int] = (0, 0)
        self._segments: Sequence[Segment] = ()
        self._latest = 0.0

    @classmethod
    def create(cls, path: Path, start: datetime, factor: float = 1.0) -> PiecewiseClock:
        """Write a fresh file whose first segment begins now at domain time `start`."""
        clock = cls(path)
        clock._write((Segment(time.time(), start.timestamp(), factor),))
        return clock

    def now(self) -> datetime:
        """Domain time, UTC, to the microsecond; never earlier than at the call before in this process."""
        return datetime.fromtimestamp(self._now_s(), UTC)

    @property
    def factor(self) -> float:
        """Domain seconds that pass in a real second, now."""
        return self._current().factor

    def run(self, factor: float) -> None:
        """Go on from the present domain time at another speed."""
        self._append(Segment(time.time(), self._now_s(), factor))

    def jump(self, to: datetime, factor: float = 1.0) -> None:
        """Set domain time forward to `to` at once.

        Raises:
            ValueError: `to` lies in the domain's past.
        """
        if to.timestamp() < self._now_s():
            raise ValueError(
                f"domain time is {self.now().isoformat()} already; it never goes back to {to.isoformat()}"
            )
        self._append(Segment(time.time(), to.timestamp(), factor))

    def _now_s(self) -> float:
        self._latest = max(self._latest, self._current().at(time.time()))
        return self._latest

    def _current(self) -> Segment:
        self._reload()
        wall_s = time.time()
        for segment in reversed(self._segments):
            if segment.wall_s <= wall_s:
                return segment
        return self._segments[0]

    def _reload(self) -> None:
        try:
            status = self._path.stat()
            signature = (status.st_mtime_ns, status.st_ino)
            if signature == self._signature:
                return
            segments = tuple(Segment(**segment) for segment in orjson.loads(self._path.read_bytes()))
        except OSError as error:
            raise ClockUnreadable(f"The clock {self._path} can't be read: {error.strerror}.") from error
        except (ValueError, TypeError) as error:
            raise ClockUnreadable(f"{self._path} is no clock: {error}.") from error
        if not segments:
            raise ClockUnreadable(f"{self._path} is no clock: it has no segment.")
        self._segments, self._signature = segments, signature

    def _append(self, segment: Segment) -> None:
        self._reload()
        self._write((*self._segments, segment))

    def _write(self, segments: Sequence[Segment]) -> None:
        # Replaced in one step, so that no reader ever sees half a file.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps([asdict(segment) for segment in segments]))
        Path(name).replace(self._path)
        self._reload()
