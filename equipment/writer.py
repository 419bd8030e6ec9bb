"""The line controller's one thread for the database: transactions first, samples in the time between.

The event loop never waits for a disk: it hands work over and goes on. Samples pass through a bounded queue; what does
not fit is dropped as it arrives and noted in its trace as a gap, with its time span, as soon as there is room: never
silently lost. What the work does is not known here.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from equipment.profiles.driver import TagSample
from traceability.acts import Actor
from traceability.database import Database, RecordSession
from traceability.errors import StorageFailed

_log = structlog.get_logger(__name__)

CAPACITY_SAMPLES = 200_000
"""How many samples may wait: 20 s of the fastest telemetry that the line is made for."""

_FLUSH_EVERY_S = 0.5
_BATCH_LIMIT = 4_096

Answer = TypeVar("Answer")


class Trace(Protocol):
    """Where the samples of a run go. Used in the writer's thread alone."""

    def append(self, samples: Sequence[TagSample]) -> None:
        """Take samples, oldest first."""

    def gap(self, start: datetime, end: datetime, reason: str) -> None:
        """Note that samples between two times (domain, UTC) are missing, and why."""

    def flush(self, force: bool = False) -> bool:
        """Store what is due; True when anything was.

        Raises:
            StorageFailed: The database does not take it; what was taken is kept for the next try.
        """

    def seal(self) -> str:
        """Store all that is left and end the trace; answers with its hash."""


@dataclass(slots=True)
class _Batch:
    trace: Trace
    samples: Sequence[TagSample]


@dataclass(slots=True)
class _Gap:
    start: datetime
    end: datetime
    lost: int


class Writer:
    """One thread that does all database work of a line controller.

    Args:
        database: The record's database.
        actor: Under whose name the line controller writes.
        capacity_samples: How many samples may wait.

    Attributes:
        stored, dropped: Samples so far.
        failure: Fails with the error of the code that ended the thread; nothing is written any more then.
    """

    def __init__(self, database: Database, actor: Actor, capacity_samples: int = CAPACITY_SAMPLES) -> None:
        self.database = database
        self.actor = actor
        self.stored = 0
        self.dropped = 0
        self._capacity = capacity_samples
        self._wake = threading.Condition()
        self._urgent: deque[Callable[[], None]] = deque()
        self._batches: deque[_Batch] = deque()
        self._waiting = 0
        self._gaps: dict[Trace, _Gap] = {}
        self._open: list[Trace] = []
        self._stopping = False
        self._refused = False
        self.failure: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="line-writer")

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Do what is waiting, store every open trace as far as it got, and end. Blocks until then."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Samples that wait for the database."""
        return self._waiting

    def run(self, work: Callable[[RecordSession], Answer]) -> Awaitable[Answer]:
        """Run `work` in one write transaction, before all samples that wait.

        Raises:
            StorageFailed: The database does not take it.
            Exception: Whatever `work` raises; nothing of it is kept.
        """

        def transaction() -> Answer:
            with self.database.write(self.actor) as record:
                return work(record)

        return self.call(transaction)

    def read(self, work: Callable[[RecordSession], Answer]) -> Awaitable[Answer]:
        """Run `work` in one transaction that only reads."""

        def transaction() -> Answer:
            with self.database.read() as record:
                return work(record)

        return self.call(transaction)

    def call(self, work: Callable[[], Answer]) -> Awaitable[Answer]:
        """Run anything in the writer's thread, before all samples that wait."""
        future: Future[Answer] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller, not to this thread
                future.set_exception(error)

        with self._wake:
            if self._stopping:
                raise RuntimeError("the writer has been stopped")
            self._urgent.append(run)
            self._wake.notify()
        return asyncio.wrap_future(future)

    def offer(self, trace: Trace, samples: Sequence[TagSample]) -> None:
        """Hand samples of a run over, oldest first. Never blocks; what does not fit becomes a gap."""
        if not samples:
            return
        with self._wake:
            if self._waiting + len(samples) > self._capacity:
                self._drop(trace, samples)
                return
            self._batches.append(_Batch(trace, samples))
            self._waiting += len(samples)
            self._wake.notify()

    def note_gap(self, trace: Trace, start: datetime, end: datetime, reason: str) -> Awaitable[None]:
        """Note that samples between two times are missing, in their place among those handed over."""
        return self._after_samples(lambda: trace.gap(start, end, reason))

    def seal(self, trace: Trace) -> Awaitable[str]:
        """Store all samples handed over so far, end the trace and answer with its hash."""

        def seal() -> str:
            digest = trace.seal()
            if trace in self._open:
                self._open.remove(trace)
            return digest

        return self._after_samples(seal)

    def open(self, make: Callable[[], Trace]) -> Awaitable[Trace]:
        """Make a trace in the writer's thread, where it will be used."""

        def made() -> Trace:
            trace = make()
            self._open.append(trace)
            return trace

        return self.call(made)

    def close(self, trace: Trace) -> Awaitable[None]:
        """Store what a trace has and let go of it without ending it: somebody else goes on with it."""

        def close() -> None:
            trace.flush(force=True)
            if trace in self._open:
                self._open.remove(trace)

        return self._after_samples(close)

    def _after_samples(self, work: Callable[[], Answer]) -> Awaitable[Answer]:
        def drained() -> Answer:
            self._take_all()
            return work()

        return self.call(drained)

    def _drop(self, trace: Trace, samples: Sequence[TagSample]) -> None:
        self.dropped += len(samples)
        first, last = samples[0].source_time, samples[-1].source_time
        gap = self._gaps.get(trace)
        if gap is None:
            _log.warning("samples_dropped", waiting=self._waiting, capacity=self._capacity)
            self._gaps[trace] = _Gap(first, last, len(samples))
        else:
            gap.start, gap.end, gap.lost = min(gap.start, first), max(gap.end, last), gap.lost + len(samples)

    # -- the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # noqa: BLE001 - the thread ends here; whoever waits for it must hear why
            _log.exception("writer_failed")
            self.failure.set_exception(error)
        with self._wake:
            self._stopping = True
            left, self._urgent = self._urgent, deque()
        for work in left:
            work()

    def _turn(self) -> bool:
        """One round of what waits; False when all is done and no more will come."""
        with self._wake:
            if not (self._urgent or self._stopping or (self._batches and not self._refused)):
                self._wake.wait(_FLUSH_EVERY_S)
            urgent = list(self._urgent)
            self._urgent.clear()
            ended = self._stopping and not urgent and (self._refused or not self._batches)
        for work in urgent:
            work()
        if not self._refused:
            self._take_some()
        self._flush(force=ended)
        return not ended

    def _take_all(self) -> None:
        while self._batches:
            self._take_some()

    def _take_some(self) -> None:
        """Move up to a limit of samples into their traces, so that a transaction never waits long."""
        taken = 0
        while taken < _BATCH_LIMIT:
            with self._wake:
                if not self._batches:
                    break
                batch = self._batches.popleft()
                self._waiting -= len(batch.samples)
            batch.trace.append(batch.samples)
            taken += len(batch.samples)
        self.stored += taken

    def _flush(self, force: bool) -> None:
        # While the database refuses, samples wait in the bounded queue and not in the traces.
        self._refused = False
        for trace in self._open:
            try:
                trace.flush(force)
            except StorageFailed as error:
                self._refused = True
                _log.warning("trace_not_stored", cause=error.message)
        if not self._refused:
            self._store_gaps()

    def _store_gaps(self) -> None:
        while self._gaps:
            with self._wake:
                trace, gap = self._gaps.popitem()
            try:
                trace.gap(gap.start, gap.end, f"{gap.lost} changes dropped: the database was too slow")
            except StorageFailed as error:
                _log.warning("gap_not_stored", cause=error.message)
                with self._wake:
                    self._gaps.setdefault(trace, gap)
                return
