"""Reading traces: whole, thinned out for a plot, or at a glance.

The hot path: prebuilt SQL on a plain connection, only the chunks of the time asked for, only the columns asked for.
Thinning keeps the first, last, lowest and highest value of each stretch (M4: Jugel et al., VLDB 2014), so that a line
drawn from it covers the same pixels. How a trace is written is `traces`'s business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, text
from tsdownsample import M4Downsampler

from equipment.trace_codec import Extent, Series, TraceColumn, decode, extents, join
from equipment.traces import columns_of, microseconds, moment
from traceability.errors import InvalidInput

_EVER = 2**62
_M4_PER_STRETCH = 4
FEWEST_POINTS = 2 * _M4_PER_STRETCH
"""Of a thinned signal: the thinner needs two stretches of time at least."""
_THINNER: Callable[[], Any] = M4Downsampler

_CHUNKS = text(
    """
    SELECT start_us, end_us, header, payload FROM trace_chunks
    WHERE run_id = :run_id AND start_us < :end_us AND end_us >= :start_us
    ORDER BY start_us, id"""
)
_HEADERS = text("SELECT start_us, end_us, header FROM trace_chunks WHERE run_id = :run_id ORDER BY start_us, id")
_GAPS = text(
    """
    SELECT start_us, end_us, reason FROM trace_gaps
    WHERE run_id = :run_id AND start_us < :end_us AND end_us >= :start_us ORDER BY start_us, id"""
)
_LAST = text("SELECT header, payload FROM trace_chunks WHERE run_id = :run_id ORDER BY end_us DESC, id DESC LIMIT 1")


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal of a trace, over the time that was asked for.

    Attributes:
        series: Times, values and status codes, equal lengths.
        stored: How many values the trace has in that time; more than are here where it was thinned out.
    """

    column: TraceColumn
    series: Series
    stored: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A time of which the trace is missing something."""

    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A stretch in which the tool was in one phase; `end` is where the next one began or the trace ends."""

    number: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Glance:
    """A signal in one chunk: what an overview is drawn from without reading a value."""

    start: datetime
    end: datetime
    extent: Extent


def read_trace(
    connection: Connection,
    run_id: int,
    *,
    tags: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    points: int | None = None,
) -> dict[str, Signal]:
    """Read signals of a run's trace, by name.

    Args:
        connection: Plain connection.
        run_id: Row of the run.
        tags: Which signals; all that the trace has where None.
        start: Domain time from which on; from the beginning where None.
        end: Domain time before which; to the end where None.
        points: At most about so many values a signal; all where None.

    Raises:
        NotFound: The run has no trace.
        InvalidInput: The trace has no such signal, or fewer than eight points are asked for.
    """
    columns = columns_of(connection, run_id)
    wanted = _numbers(columns, tags)
    if points is not None and points < FEWEST_POINTS:
        raise InvalidInput(f"A plot needs at least {FEWEST_POINTS} points, not {points}.")
    span = _span(start, end)
    parts: dict[int, list[Series]] = defaultdict(list)
    for row in connection.execute(_CHUNKS, {"run_id": run_id, **span}):
        whole = row.start_us >= span["start_us"] and row.end_us < span["end_us"]
        for number, series in decode(columns, row.header, row.payload, wanted).items():
            parts[number].append(series if whole else series.between(span["start_us"], span["end_us"]))
    found: dict[str, Signal] = {}
    for number in sorted(wanted):
        series = join(parts[number], columns[number].dtype)
        found[columns[number].name] = Signal(columns[number], _thinned(series, points), len(series))
    return found


def read_gaps(
    connection: Connection, run_id: int, *, start: datetime | None = None, end: datetime | None = None
) -> list[Gap]:
    """What the trace knows to be missing."""
    rows = connection.execute(_GAPS, {"run_id": run_id, **_span(start, end)})
    return [Gap(moment(row.start_us), moment(row.end_us), row.reason) for row in rows]


def phases(connection: Connection, run_id: int, tag: str = "phase_number") -> list[PhaseSpan]:
    """The phases that the tool went through, in order; the same phase again is another span.

    Raises:
        NotFound: The run has no trace.
        InvalidInput: Its tool tells no phase.
    """
    series = read_trace(connection, run_id, tags=[tag])[tag].series
    if not len(series):
        return []
    begins = np.flatnonzero(np.diff(series.values, prepend=series.values[:1] - 1))
    times = [moment(int(series.times_us[at])) for at in begins]
    end = connection.execute(text("SELECT MAX(end_us) FROM trace_chunks WHERE run_id = :id"), {"id": run_id}).scalar()
    ends = [*times[1:], moment(int(end or series.times_us[-1]))]
    return [PhaseSpan(int(series.values[at]), begin, end) for at, begin, end in zip(begins, times, ends, strict=True)]


def glances(connection: Connection, run_id: int, tag: str) -> Iterator[Glance]:
    """A signal chunk by chunk with its lowest, highest and mean value, without reading the values.

    Raises:
        NotFound: The run has no trace.
        InvalidInput: The trace has no such signal.
    """
    (number,) = _numbers(columns_of(connection, run_id), [tag])
    for row in connection.execute(_HEADERS, {"run_id": run_id}):
        for found, extent in extents(row.header):
            if found == number:
                yield Glance(moment(row.start_us), moment(row.end_us), extent)


def mean_of(connection: Connection, run_id: int, tag: str) -> float | None:
    """The mean of all good values of a signal; None where it has none, or where the run has no such trace."""
    count, total = 0, 0.0
    exists = connection.execute(text("SELECT 1 FROM traces WHERE run_id = :id"), {"id": run_id}).first()
    if exists is None or tag not in {column.name for column in columns_of(connection, run_id)}:
        return None
    for glance in glances(connection, run_id, tag):
        if glance.extent.count and np.isfinite(glance.extent.mean):
            count += glance.extent.count
            total += glance.extent.count * glance.extent.mean
    return total / count if count else None


def last_values(connection: Connection, run_id: int) -> Mapping[str, tuple[datetime, float]]:
    """The last value of each signal in the newest chunk.

    Raises:
        NotFound: The run has no trace.
    """
    columns = columns_of(connection, run_id)
    row = connection.execute(_LAST, {"run_id": run_id}).first()
    if row is None:
        return {}
    return {
        columns[number].name: (moment(int(series.times_us[-1])), float(series.values[-1]))
        for number, series in decode(columns, row.header, row.payload).items()
    }


def _numbers(columns: Sequence[TraceColumn], tags: Sequence[str] | None) -> frozenset[int]:
    known = {column.name: number for number, column in enumerate(columns)}
    unknown = [tag for tag in tags or () if tag not in known]
    if unknown:
        raise InvalidInput(f"The trace has no {', '.join(unknown)}; it has {', '.join(known)}.")
    return frozenset(known.values() if tags is None else (known[tag] for tag in tags))


def _span(start: datetime | None, end: datetime | None) -> dict[str, int]:
    return {
        "start_us": -_EVER if start is None else microseconds(start),
        "end_us": _EVER if end is None else microseconds(end),
    }


def _thinned(series: Series, points: int | None) -> Series:
    if points is None or len(series) <= points:
        return series
    kept = np.unique(
        _THINNER().downsample(
            np.ascontiguousarray(series.times_us),
            np.ascontiguousarray(series.values),
            n_out=points // _M4_PER_STRETCH * _M4_PER_STRETCH,
        )
    )
    return Series(series.times_us[kept], series.values[kept], series.status[kept])
