"""Traces: how fast telemetry is stored, at what cost of a core, in how many bytes, and how fast a plot is read.

The values are those of the simulated sputter plant in a real run. The raw limits are what one would write without a
format of one's own: a narrow row for each value in sqlite3, and for the plot one blob without any compression.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import text
from tsdownsample import M4Downsampler

from equipment.profiles.driver import TagSample
from equipment.sputter import SPUTTER as SPUTTER_TABLE
from equipment.trace_reading import read_trace
from equipment.traces import FLUSH_AFTER_S, TraceSeal, TraceWriter, microseconds
from equipment.writer import Writer
from tests.benchmarks.figures import Figure, Measure, Scale, medians, seconds_of
from tests.benchmarks.recording import PRESSURE, open_record, plan_runs, record_trace, telemetry
from traceability.acts import system_actor
from traceability.database import Database

RATE_GOAL = 10_000.0
"""Changes a second of the busiest line that this is made for."""
LOAD_RATE = 2_000
LOAD_GOAL = 0.25
"""Of a core, at `LOAD_RATE` changes a second."""
SIZE_GOAL = 1 / 24
"""A byte where a narrow row has 24."""
PLOT_GOAL = 5.0
"""Finding, unpacking and joining the chunks of two hours may cost five times reading one blob."""
PLOT_POINTS = 1_000
_TICK_S = 0.1
_STORED = text("SELECT SUM(samples) FROM trace_chunks WHERE run_id = :run_id")


def measure(scale: Scale) -> Iterator[Figure]:
    """Bytes, plot, throughput, load."""
    database = open_record(scale.folder / "traces.db")
    sealed, whole, live = plan_runs(database, 3)
    length_s = scale.size(7_200, 300)
    changes = telemetry(database, sealed, length_s)
    yield _size(scale, database, whole.id, telemetry(database, whole, length_s, every_reading=True), "every reading")
    yield _size(scale, database, sealed.id, changes, "changes alone")
    yield _plot(scale, database, sealed.id, changes)
    narrow = _NarrowRows(scale.folder / "received.db")
    writer = Writer(database, system_actor("bench"))
    writer.start()
    try:
        ours = _Ours(writer, live.id)
        yield _throughput(scale, ours, narrow, changes)
        yield _load(scale, ours, narrow, changes)
        ours.check()
    finally:
        writer.stop()
        narrow.close()
        database.close()


def _size(scale: Scale, database: Database, run_id: int, samples: Sequence[TagSample], what: str) -> Figure:
    record_trace(database, run_id, samples)
    with database.read() as record:
        seal = record.get_one(TraceSeal, run_id)
    narrow = _NarrowRows(scale.folder / f"{run_id}.db")
    narrow.append(samples)
    narrow.commit()
    figure = Figure(
        f"stored size of a trace value, {what}",
        seal.stored_bytes / seal.samples,
        "B/value",
        narrow.stored_bytes() / len(samples),
        goal=SIZE_GOAL,
        against="sqlite3: a narrow row for each value",
    )
    narrow.close()
    return figure


def _plot(scale: Scale, database: Database, run_id: int, changes: Sequence[TagSample]) -> Figure:
    values = [sample for sample in changes if sample.name == PRESSURE]
    blob = _Blob(scale.folder / "blob.db", values)
    with database.connect() as connection:
        ours_s, limit_s = medians(
            scale.size(100, 5),
            seconds_of(lambda: read_trace(connection, run_id, tags=[PRESSURE], points=PLOT_POINTS)),
            seconds_of(lambda: blob.plot(PLOT_POINTS)),
        )
    blob.close()
    return Figure(
        f"read a plot, {PLOT_POINTS} of {len(values)} points",
        ours_s * 1e3,
        "ms",
        limit_s * 1e3,
        goal=PLOT_GOAL,
        against="sqlite3: an uncompressed blob, thinned in the same way",
    )


def _throughput(scale: Scale, ours: _Ours, narrow: _NarrowRows, changes: Sequence[TagSample]) -> Figure:
    """As fast as it goes: from the first change handed over to the last one on disk."""

    def stored_per_s(store: Callable[[Sequence[Sequence[TagSample]]], Awaitable[None]]) -> Measure:
        batches = list(_batches(changes, int(RATE_GOAL * _TICK_S)))

        async def run() -> float:
            start = time.perf_counter()
            await store(batches)
            return len(changes) / (time.perf_counter() - start)

        return lambda: asyncio.run(run())

    value, limit = medians(scale.size(5, 1), stored_per_s(ours.store), stored_per_s(narrow.store))
    return Figure(
        "telemetry received → stored",
        value,
        "changes/s",
        limit,
        goal=RATE_GOAL / limit,
        against=f"sqlite3: narrow rows; the goal is {RATE_GOAL:.0f} changes/s",
        higher_is_better=True,
    )


def _load(scale: Scale, ours: _Ours, narrow: _NarrowRows, changes: Sequence[TagSample]) -> Figure:
    """At the pace of a busy line: how much of a core it takes."""
    seconds = scale.seconds(4.0)
    endless = _batches(itertools.cycle(changes), int(LOAD_RATE * _TICK_S))
    batches = list(itertools.islice(endless, max(2, round(seconds / _TICK_S))))

    def core(store: Callable[[Sequence[Sequence[TagSample]], float], Awaitable[None]]) -> Measure:
        async def run() -> float:
            start, start_cpu = time.perf_counter(), time.process_time()
            await store(batches, _TICK_S)
            return (time.process_time() - start_cpu) / (time.perf_counter() - start)

        return lambda: asyncio.run(run())

    value, limit = medians(scale.size(3, 1), core(ours.store), core(narrow.store))
    return Figure(
        f"storing {LOAD_RATE} changes/s",
        value * 100,
        "% of a core",
        limit * 100,
        goal=LOAD_GOAL / limit,
        against=f"sqlite3: narrow rows; the goal is {LOAD_GOAL:.0%} of a core",
    )


class _Ours:
    """The line controller's writer with the trace of a run that goes on."""

    def __init__(self, writer: Writer, run_id: int) -> None:
        self._writer = writer
        self._run_id = run_id
        self._offered = 0

    async def store(self, batches: Sequence[Sequence[TagSample]], every_s: float = 0.0) -> None:
        """Hand batches over, so often; done when all of it is on disk."""
        writer = self._writer
        trace = await writer.open(lambda: TraceWriter(writer.database, self._run_id, SPUTTER_TABLE))
        async for batch in _paced(batches, every_s):
            writer.offer(trace, batch)
            self._offered += len(batch)
        await writer.close(trace)

    def check(self) -> None:
        """See that every change is in the database.

        Raises:
            RuntimeError: One is not.
        """
        with self._writer.database.connect() as connection:
            stored = connection.execute(_STORED, {"run_id": self._run_id}).scalar_one()
        if stored != self._offered:
            raise RuntimeError(f"{stored} of {self._offered} changes were stored")


class _NarrowRows:
    """What one writes first: a row for each value, committed as often as our chunks."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE samples (run INTEGER, tag INTEGER, time_us INTEGER, value REAL, "
            "PRIMARY KEY (run, tag, time_us)) WITHOUT ROWID"
        )
        self._numbers = {tag.name: number for number, tag in enumerate(SPUTTER_TABLE.traced)}
        self._run = 0

    async def store(self, batches: Sequence[Sequence[TagSample]], every_s: float = 0.0) -> None:
        """Insert batches, so often; done when all of it is on disk."""
        self._run += 1
        committed_at = time.perf_counter()
        async for batch in _paced(batches, every_s):
            self.append(batch)
            if time.perf_counter() - committed_at >= FLUSH_AFTER_S:
                self.commit()
                committed_at = time.perf_counter()
        self.commit()

    def append(self, samples: Sequence[TagSample]) -> None:
        """Insert values."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        run, numbers = self._run, self._numbers
        self._connection.executemany(
            "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)",
            [(run, numbers[s.name], microseconds(s.source_time), s.value) for s in samples],
        )

    def commit(self) -> None:
        """Put it on disk."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def stored_bytes(self) -> int:
        """Size of the table."""
        pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
        return int(pages * self._connection.execute("PRAGMA page_size").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class _Blob:
    """One signal as it lies in memory, in one row."""

    def __init__(self, path: Path, samples: Sequence[TagSample]) -> None:
        self._connection = sqlite3.connect(path)
        self._connection.execute("CREATE TABLE signal (id INTEGER PRIMARY KEY, times BLOB, vals BLOB)")
        times = np.array([microseconds(sample.source_time) for sample in samples], np.int64)
        values = np.array([sample.value for sample in samples], np.float32)
        self._connection.execute("INSERT INTO signal VALUES (1, ?, ?)", (times.tobytes(), values.tobytes()))
        self._connection.commit()

    def plot(self, points: int) -> object:
        """Read and thin it."""
        times, values = self._connection.execute("SELECT times, vals FROM signal WHERE id = 1").fetchone()
        x, y = np.frombuffer(times, np.int64), np.frombuffer(values, np.float32)
        kept = np.unique(M4Downsampler().downsample(x, y, n_out=points))
        return x[kept], y[kept]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _batches(samples: Iterable[TagSample], size: int) -> Iterator[Sequence[TagSample]]:
    samples = iter(samples)
    while batch := list(itertools.islice(samples, size)):
        yield batch


async def _paced(batches: Iterable[Sequence[TagSample]], every_s: float) -> AsyncIterator[Sequence[TagSample]]:
    start = time.perf_counter()
    for number, batch in enumerate(batches, 1):
        yield batch
        await asyncio.sleep(max(0.0, start + number * every_s - time.perf_counter()))
