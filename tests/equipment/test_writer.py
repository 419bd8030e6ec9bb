"""The writer keeps pace with ten thousand changes a second, and tells of every change that it could not keep."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pytest

from equipment.press import PRESS
from equipment.profiles.driver import TagSample
from equipment.traces import TraceWriter
from equipment.writer import Writer
from tests.conftest import START
from tests.system.press_line import PERSON, Record
from traceability.clock import ManualClock
from traceability.errors import NotFound, StorageFailed

RATE_PER_S = 10_000


@pytest.fixture
def record(database_url: str) -> Iterator[Record]:
    record = Record(database_url, ManualClock(START))
    yield record
    record.database.close()


def samples(count: int, start: datetime = START) -> list[TagSample]:
    return [TagSample("force_kn", float(n), start + timedelta(microseconds=100 * n)) for n in range(count)]


class SlowTrace:
    """A trace of a database that refuses until it is released."""

    def __init__(self) -> None:
        self.refuses = True
        self.kept: list[TagSample] = []
        self.gaps: list[tuple[datetime, datetime, str]] = []

    def append(self, samples: Sequence[TagSample]) -> None:
        self.kept.extend(samples)

    def gap(self, start: datetime, end: datetime, reason: str) -> None:
        self.gaps.append((start, end, reason))

    def flush(self, force: bool = False) -> bool:
        if self.refuses:
            raise StorageFailed("The disk is full.")
        return True

    def seal(self) -> str:
        return "sealed"


@pytest.mark.anyio
async def test_twice_the_rate_of_the_line_is_stored_and_nothing_is_lost(record: Record) -> None:
    run = record.run(record.plan())
    writer = Writer(record.database, PERSON)
    writer.start()
    trace = await writer.open(lambda: TraceWriter(record.database, run.key, PRESS))
    batch = 500
    began = time.monotonic()
    for number in range(4 * RATE_PER_S // batch):
        writer.offer(trace, samples(batch, START + timedelta(milliseconds=50 * number)))
    await writer.close(trace)
    took_s = time.monotonic() - began
    writer.stop()
    assert (writer.stored, writer.dropped) == (4 * RATE_PER_S, 0)
    assert took_s < 2.0


@pytest.mark.anyio
async def test_what_does_not_fit_is_a_gap_and_never_silently_lost(record: Record) -> None:
    writer = Writer(record.database, PERSON, capacity_samples=1000)
    writer.start()
    trace = SlowTrace()
    await writer.open(lambda: trace)
    refused = threading.Event()
    offered = samples(5000)
    for start in range(0, 5000, 100):
        writer.offer(trace, offered[start : start + 100])
        if not refused.is_set():
            await writer.call(refused.set)  # a turn of the thread, in which the database refuses
    trace.refuses = False
    await writer.call(lambda: None)
    writer.stop()
    assert len(trace.kept) + writer.dropped == 5000
    assert writer.dropped > 0
    (gap,) = trace.gaps
    lost = offered[-writer.dropped :]
    assert gap[:2] == (lost[0].source_time, lost[-1].source_time)
    assert str(writer.dropped) in gap[2]


@pytest.mark.anyio
async def test_a_transaction_goes_before_the_samples_that_wait_and_its_error_comes_back(record: Record) -> None:
    writer = Writer(record.database, PERSON)
    writer.start()
    with pytest.raises(NotFound):
        await writer.run(lambda session: record_missing())
    assert await writer.read(lambda session: session.dialect) in ("sqlite", "postgresql")
    writer.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        writer.call(lambda: None)


def record_missing() -> None:
    raise NotFound("nothing")
