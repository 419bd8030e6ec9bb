"""A trace gives back every value bit for bit, in whatever form it is stored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from equipment.tags import Tag, TagRole, TagType, TagValue
from equipment.trace_codec import Extent, Series, TraceColumn, decode, encode, extents, join

COLUMNS = (
    TraceColumn("pressure_pa", TagType.FLOAT, "Pa", 0.001),
    TraceColumn("frequency_hz", TagType.DOUBLE, "Hz", 0.01),
    TraceColumn("count", TagType.UINT32, "1"),
    TraceColumn("balance", TagType.INT64, "1"),
    TraceColumn("open", TagType.BOOLEAN),
    TraceColumn("phase", TagType.INT32),
)
_VALUES: tuple[SearchStrategy[TagValue], ...] = (
    st.floats(width=32) | st.integers(-5000, 5000).map(lambda k: float(np.float32(k / 1000))),
    st.floats() | st.integers(-(10**9), 10**9).map(lambda k: k / 100),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
)
_TIMES = st.integers(-(2**60), 2**60) | st.integers(0, 20)
_STATUS = st.sampled_from([0, 0, 0, 0x80000000, 0x40900000])


def series_of(column: TraceColumn, samples: list[tuple[int, TagValue, int]]) -> Series:
    times, values, status = zip(*samples, strict=True) if samples else ((), (), ())
    return Series(np.array(times, np.int64), np.array(values, column.dtype), np.array(status, np.uint32))


@st.composite
def traces(draw: st.DrawFn) -> dict[int, Series]:
    found: dict[int, Series] = {}
    for number, (column, values) in enumerate(zip(COLUMNS, _VALUES, strict=True)):
        samples = draw(st.lists(st.tuples(_TIMES, values, _STATUS), max_size=12))
        found[number] = join([series_of(column, samples)], column.dtype)
    return found


@settings(max_examples=150, deadline=None)
@given(traces(), st.sampled_from([1, 12]))
def test_any_values_at_any_times_come_back_bit_for_bit(trace: dict[int, Series], level: int) -> None:
    chunk = encode(COLUMNS, trace, level)
    filled = {number: series for number, series in trace.items() if len(series)}
    if chunk is None:
        assert not filled
        return
    back = decode(COLUMNS, chunk.header, chunk.payload)
    assert back.keys() == filled.keys()
    for number, series in filled.items():
        assert back[number].times_us.tolist() == series.times_us.tolist()
        assert back[number].values.tobytes() == series.values.tobytes()
        assert back[number].status.tolist() == series.status.tolist()
    assert chunk.samples == sum(map(len, filled.values()))
    assert chunk.start_us == min(series.times_us[0] for series in filled.values())
    assert chunk.end_us == max(series.times_us[-1] for series in filled.values())


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=8), max_size=4))
def test_joined_parts_are_in_order_and_equal_times_keep_theirs(parts: list[list[tuple[int, int]]]) -> None:
    column = TraceColumn("n", TagType.INT64)
    joined = join([series_of(column, [(t, v, 0) for t, v in part]) for part in parts], column.dtype)
    expected = sorted((sample for part in parts for sample in part), key=lambda sample: sample[0])
    assert list(zip(joined.times_us.tolist(), joined.values.tolist(), strict=True)) == expected


def test_one_column_is_read_without_the_others() -> None:
    times = np.arange(100, dtype=np.int64)
    zeros = np.zeros(100, np.uint32)
    trace = {n: Series(times, np.arange(100).astype(COLUMNS[n].dtype), zeros) for n in range(4)}
    chunk = encode(COLUMNS, trace)
    assert chunk is not None
    assert list(decode(COLUMNS, chunk.header, chunk.payload, frozenset({2}))) == [2]


def test_the_header_tells_extent_and_mean_of_the_good_values() -> None:
    values = np.array([1.0, math.nan, 3.0, 999.0], np.float32)
    series = Series(np.arange(4), values, np.array([0, 0, 0, 0x80000000], np.uint32))
    chunk = encode(COLUMNS, {0: series})
    assert chunk is not None
    assert dict(extents(chunk.header)) == {0: Extent(4, 1.0, 3.0, 2.0)}


def test_readings_of_a_steady_instrument_take_about_a_byte() -> None:
    steps = np.random.default_rng(7).normal(500, 4, 6000).round()
    series = Series(
        np.arange(6000, dtype=np.int64) * 100_000, (steps / 1000).astype(np.float32), np.zeros(6000, np.uint32)
    )
    chunk = encode(COLUMNS, {0: series}, 12)
    assert chunk is not None
    assert len(chunk.header) + len(chunk.payload) < 6000


def test_text_is_no_column_of_a_trace() -> None:
    with pytest.raises(ValueError, match="numbers only"):
        TraceColumn.of(Tag("name", ("Name",), TagType.STRING, TagRole.STATE))
