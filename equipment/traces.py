"""Traces: what a tool measured during a run, kept in chunks and sealed at its end.

While a run goes on, chunks of about two seconds of real time are written, so that a kill loses no more than that.
At the end they are put in order, rewritten as chunks of ten minutes of domain time, and a hash over all of them goes
onto the audit trail. Chunks are written with plain SQL beside the record's own acts: what protects them is the seal.
How a chunk looks inside is `trace_codec`'s, how a trace is read `trace_reading`'s.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import orjson
from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, TextClause, text
from sqlmodel import Field, SQLModel

from equipment.profiles.driver import TagSample
from equipment.run_records import Run
from equipment.tags import TagTable, TagType, TagValue
from equipment.trace_codec import Chunk, Series, TraceColumn, decode, encode, join
from traceability.acts import system_actor
from traceability.append_only import make_append_only
from traceability.audit import BigKey
from traceability.canonical import canonical_bytes, sha256_hex
from traceability.columns import UtcDateTime
from traceability.database import Database, RecordSession
from traceability.errors import Conflict, NotFound

FLUSH_AFTER_S = 1.5
"""Real seconds between two chunks of a running trace; the rest of the two seconds is for queue and disk."""

SEALED_CHUNK_S = 600
"""Domain seconds in a sealed chunk."""
_PLAIN_SPAN = 12
"""Windows that a chunk may span before it is looked into for those that it really touches."""

_SEALING_LEVEL = 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class TraceRow(SQLModel, table=True):
    """The trace of one run: what its columns are."""

    __tablename__ = "traces"
    __unaudited__: ClassVar[str] = "telemetry; its seal stands on the audit trail"

    run_id: int = Field(primary_key=True, foreign_key="runs.id", sa_column_kwargs={"autoincrement": False})
    columns: str


class TraceChunk(SQLModel, table=True):
    """Some values of some columns. `start_us` and `end_us` are its first and last time in µs since 1970, UTC."""

    __tablename__ = "trace_chunks"
    __unaudited__: ClassVar[str] = "telemetry; its seal stands on the audit trail"
    __table_args__ = (Index("ix_trace_chunks_run_start", "run_id", "start_us"),)

    id: int | None = Field(default=None, sa_column=Column(BigKey, primary_key=True))
    run_id: int = Field(foreign_key="traces.run_id")
    sealed: bool = False
    start_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    end_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    samples: int
    header: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class TraceGap(SQLModel, table=True):
    """A time of which the trace knows that it is missing something."""

    __tablename__ = "trace_gaps"
    __unaudited__: ClassVar[str] = "telemetry; its seal stands on the audit trail"

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="traces.run_id", index=True)
    start_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    end_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    reason: str


class TraceSeal(SQLModel, table=True):
    """That a trace is complete, and the hash by which a later change of it shows."""

    __tablename__ = "trace_seals"

    run_id: int = Field(primary_key=True, foreign_key="runs.id", sa_column_kwargs={"autoincrement": False})
    hash: str = Field(max_length=64)
    chunks: int
    samples: int
    gaps: int
    stored_bytes: int
    sealed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


make_append_only(SQLModel.metadata.tables["trace_seals"])

_INSERT_CHUNK = text(
    """
    INSERT INTO trace_chunks (run_id, sealed, start_us, end_us, samples, header, payload)
    VALUES (:run_id, :sealed, :start_us, :end_us, :samples, :header, :payload)"""
)
_INSERT_CHUNK_UNLESS_SEALED = text(
    """
    INSERT INTO trace_chunks (run_id, sealed, start_us, end_us, samples, header, payload)
    SELECT :run_id, :sealed, :start_us, :end_us, :samples, :header, :payload
    WHERE NOT EXISTS (SELECT 1 FROM trace_seals WHERE run_id = :run_id)"""
)
_INSERT_GAP_UNLESS_SEALED = text(
    """
    INSERT INTO trace_gaps (run_id, start_us, end_us, reason)
    SELECT :run_id, :start_us, :end_us, :reason
    WHERE NOT EXISTS (SELECT 1 FROM trace_seals WHERE run_id = :run_id)"""
)
_OPEN_CHUNKS = text("SELECT id, start_us, end_us FROM trace_chunks WHERE run_id = :run_id AND NOT sealed ORDER BY id")
_CHUNK_BODY = text("SELECT header, payload FROM trace_chunks WHERE id = :id")
_CHUNKS = text(
    """
    SELECT start_us, end_us, samples, header, payload FROM trace_chunks
    WHERE run_id = :run_id ORDER BY start_us, id"""
)
_GAPS = text("SELECT start_us, end_us, reason FROM trace_gaps WHERE run_id = :run_id ORDER BY start_us, end_us, id")


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds_utc: int) -> datetime:
    """The time of so many microseconds since 1970, UTC."""
    return _EPOCH + microseconds_utc * _MICROSECOND


class TraceWriter:
    """Writes the trace of one run. Confined to one thread.

    Taking up the trace of a run that another process wrote before is the same as beginning it. What comes after the
    seal is counted in `dropped` and not kept: the record of the run is closed.

    Args:
        database: Where the trace is kept.
        run_id: Row of the run.
        tags: Of its tool; those marked `traced` are kept.
        monotonic: Real time in seconds, for the time between two chunks.

    Raises:
        Conflict: The trace was begun with other columns.
    """

    def __init__(
        self, database: Database, run_id: int, tags: TagTable, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._run_id = run_id
        self._columns = tuple(TraceColumn.of(tag) for tag in tags.traced)
        self._numbers = {column.name: number for number, column in enumerate(self._columns)}
        self._monotonic = monotonic
        self._flushed_at = monotonic()
        self.dropped = 0
        self._times: dict[int, list[int]] = defaultdict(list)
        self._values: dict[int, list[TagValue]] = defaultdict(list)
        self._status: dict[int, list[int]] = defaultdict(list)
        self._begin()

    def append(self, samples: Sequence[TagSample]) -> None:
        """Take samples; those of tags that are not traced are passed over."""
        for sample in samples:
            number = self._numbers.get(sample.name)
            if number is None:
                continue
            status, value = sample.status, sample.value
            if value is None or isinstance(value, str):
                # Without a value a sample is at best uncertain (OPC UA: BadNoData), whatever its status says.
                status, value = status or 0x809B0000, _nothing(self._columns[number])
            self._times[number].append((sample.source_time - _EPOCH) // _MICROSECOND)
            self._values[number].append(value)
            self._status[number].append(status)

    def gap(self, start: datetime, end: datetime, reason: str) -> None:
        """Mark a time of which something is missing; stored at once, unless the trace is sealed."""
        values = {"start_us": microseconds(start), "end_us": microseconds(end), "reason": reason}
        self._store(_INSERT_GAP_UNLESS_SEALED, values)

    def flush(self, force: bool = False) -> bool:
        """Store what was taken as a chunk, if it is time or `force` is given; True when it was time.

        Raises:
            StorageFailed: The database does not take it; what was taken is kept for the next flush.
        """
        now = self._monotonic()
        if not self._times or not (force or now - self._flushed_at >= FLUSH_AFTER_S):
            return False
        series = {number: self._series(number) for number in self._times}
        chunk = encode(self._columns, series)
        if chunk is not None and not self._store(_INSERT_CHUNK_UNLESS_SEALED, {"sealed": False, **_row(chunk)}):
            self.dropped += chunk.samples
        for kept in (self._times, self._values, self._status):
            kept.clear()
        self._flushed_at = now
        return True

    def seal(self) -> str:
        """Store the rest, put the chunks in order and seal them; sealing again changes nothing.

        Returns:
            The hash over the whole trace.
        """
        with self._database.read() as record:
            sealed = record.get(TraceSeal, self._run_id)
        if sealed is not None:
            return sealed.hash
        self.flush(force=True)
        with self._database.write(system_actor("traces")) as record:
            return seal_trace(record, self._run_id).hash

    def _begin(self) -> None:
        columns = orjson.dumps([[c.name, c.type.value, c.unit, c.resolution] for c in self._columns]).decode()
        with self._database.connect() as connection:
            insert = text("INSERT INTO traces (run_id, columns) VALUES (:run_id, :columns) ON CONFLICT DO NOTHING")
            connection.execute(insert, {"run_id": self._run_id, "columns": columns})
            connection.commit()
            known = columns_of(connection, self._run_id)
        if known != self._columns:
            raise Conflict("The trace of this run was begun with another tag table; end the run, then plan another.")

    def _store(self, statement: TextClause, values: dict[str, Any]) -> bool:
        with self._database.connect() as connection:
            stored = connection.execute(statement, {"run_id": self._run_id, **values}).rowcount
            connection.commit()
        return stored == 1

    def _series(self, number: int) -> Series:
        times = np.array(self._times[number], np.int64)
        values = np.array(self._values[number], self._columns[number].dtype)
        return join([Series(times, values, np.array(self._status[number], np.uint32))], values.dtype)


def seal_trace(record: RecordSession, run_id: int) -> TraceSeal:
    """Put a trace's chunks in order, rewrite them for keeping, and seal them; one that is sealed is left as it is.

    Raises:
        NotFound: The run has no trace.
    """
    sealed = record.get(TraceSeal, run_id)
    if sealed is not None:
        return sealed
    run = record.get_one(Run, run_id)
    with record.act("trace.sealed", run.serial) as act:
        connection = record.connection()
        columns = columns_of(connection, run_id)
        open_chunks = connection.execute(_OPEN_CHUNKS, {"run_id": run_id}).all()
        for start_us, end_us in _windows(connection, columns, open_chunks):
            overlapping = [row.id for row in open_chunks if row.start_us < end_us and row.end_us >= start_us]
            chunk = _rewritten(connection, columns, overlapping, start_us, end_us)
            if chunk is not None:
                connection.execute(_INSERT_CHUNK, {"run_id": run_id, "sealed": True, **_row(chunk)})
        connection.execute(text("DELETE FROM trace_chunks WHERE run_id = :run_id AND NOT sealed"), {"run_id": run_id})
        manifest = trace_manifest(connection, run_id)
        counts = connection.execute(
            text(
                """
                SELECT COUNT(*), COALESCE(SUM(samples), 0), COALESCE(SUM(LENGTH(header) + LENGTH(payload)), 0)
                FROM trace_chunks WHERE run_id = :run_id"""
            ),
            {"run_id": run_id},
        ).one()
        seal = TraceSeal(
            run_id=run_id,
            hash=sha256_hex(manifest),
            chunks=int(counts[0]),
            samples=int(counts[1]),
            gaps=len(connection.execute(_GAPS, {"run_id": run_id}).all()),
            stored_bytes=int(counts[2]),
            sealed_at=record.clock.now(),
        )
        record.add(seal)
        act.detail.update(hash=seal.hash, chunks=seal.chunks, samples=seal.samples, gaps=seal.gaps)
    return seal


def columns_of(connection: Connection, run_id: int) -> tuple[TraceColumn, ...]:
    """What the columns of a run's trace are.

    Raises:
        NotFound: The run has no trace.
    """
    found = connection.execute(text("SELECT columns FROM traces WHERE run_id = :id"), {"id": run_id}).scalar()
    if found is None:
        raise NotFound("This run has no trace.")
    return _parsed_columns(str(found))


@lru_cache(maxsize=32)
def _parsed_columns(stored: str) -> tuple[TraceColumn, ...]:
    """Read once: the traces of one class of tool all have the same columns."""
    return tuple(
        TraceColumn(name, TagType(kind), unit, resolution) for name, kind, unit, resolution in orjson.loads(stored)
    )


def trace_manifest(connection: Connection, run_id: int) -> bytes:
    """What the seal's hash is over: the columns, every chunk by the hash of its bytes, every gap."""
    chunks = [
        [row.start_us, row.end_us, row.samples, sha256_hex(row.header + row.payload)]
        for row in connection.execute(_CHUNKS, {"run_id": run_id})
    ]
    gaps = [list(row) for row in connection.execute(_GAPS, {"run_id": run_id})]
    columns = connection.execute(text("SELECT columns FROM traces WHERE run_id = :id"), {"id": run_id}).scalar()
    return canonical_bytes({"columns": columns or "", "chunks": chunks, "gaps": gaps})


@dataclass(frozen=True, slots=True)
class SealedTraces:
    """Every sealed trace by the serial of its run, for the verification of the record."""

    name: str = "trace"

    def seals(self, event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The run and the hash, if the event is the sealing of a trace."""
        if event["kind"] == "trace.sealed" and "hash" in event["detail"]:
            yield event["items"][0], event["detail"]["hash"]

    def rehash(self, connection: Connection, key: str) -> str | None:
        """The hash over the trace as it is stored now; None where it is gone."""
        run_id = connection.execute(
            text("SELECT traces.run_id FROM traces JOIN runs ON runs.id = traces.run_id WHERE runs.serial = :serial"),
            {"serial": key},
        ).scalar()
        return None if run_id is None else sha256_hex(trace_manifest(connection, run_id))


def _nothing(column: TraceColumn) -> TagValue:
    return float("nan") if column.dtype.kind == "f" else 0


def _row(chunk: Chunk) -> dict[str, Any]:
    return {
        "start_us": chunk.start_us,
        "end_us": chunk.end_us,
        "samples": chunk.samples,
        "header": chunk.header,
        "payload": chunk.payload,
    }


def _windows(
    connection: Connection, columns: Sequence[TraceColumn], chunks: Sequence[Any]
) -> Iterator[tuple[int, int]]:
    """Ten-minute windows, aligned to the trace's first time, that have something in them."""
    if not chunks:
        return
    width = SEALED_CHUNK_S * 1_000_000
    first = min(row.start_us for row in chunks)
    touched: set[int] = set()
    for row in chunks:
        span = range((row.start_us - first) // width, (row.end_us - first) // width + 1)
        if len(span) <= _PLAIN_SPAN:
            touched.update(span)
            continue
        # One sample with a stamp of another year must not make a window for every ten minutes between.
        header, payload = connection.execute(_CHUNK_BODY, {"id": row.id}).one()
        for series in decode(columns, header, payload).values():
            touched.update(np.unique((series.times_us - first) // width).tolist())
    for number in sorted(touched):
        yield first + number * width, first + (number + 1) * width


def _rewritten(
    connection: Connection, columns: Sequence[TraceColumn], chunk_ids: Sequence[int], start_us: int, end_us: int
) -> Chunk | None:
    """All values of a window in order of time, as one chunk."""
    parts: dict[int, list[Series]] = defaultdict(list)
    for chunk_id in chunk_ids:
        header, payload = connection.execute(_CHUNK_BODY, {"id": chunk_id}).one()
        for number, series in decode(columns, header, payload).items():
            parts[number].append(series.between(start_us, end_us))
    whole = {number: join(found, columns[number].dtype) for number, found in parts.items()}
    return encode(columns, whole, _SEALING_LEVEL)
