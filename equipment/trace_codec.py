"""The bytes of a trace chunk: many columns over one list of times, each column on its own, without loss.

A chunk is a header (one fixed-size entry a column, with count, minimum, maximum and mean) and a payload. In the
payload stand the times, then each column's zstd frame, so that one column can be read without the others. A value
comes back bit for bit as the tool sent it: a column's width is that of its tag's OPC UA type. Databases, runs and
clocks are not known here.

A column's values are written in whichever of these forms is smallest:

    constant   one value
    plain      bytes shuffled: all first bytes, then all second bytes …
    change     difference (of the bit patterns) to the value before, shuffled
    steps      whole multiples of the resolution, as differences, in the narrowest integer, shuffled;
               only where every value is exactly such a multiple
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from equipment.tags import Tag, TagType

Times: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[Any]
Status: TypeAlias = NDArray[np.uint32]

_DTYPES: Mapping[TagType, np.dtype[Any]] = {
    TagType.BOOLEAN: np.dtype("u1"),
    TagType.INT32: np.dtype("<i4"),
    TagType.UINT32: np.dtype("<u4"),
    TagType.INT64: np.dtype("<i8"),
    TagType.FLOAT: np.dtype("<f4"),
    TagType.DOUBLE: np.dtype("<f8"),
}

# A step is at most a tenth of the resolution: tools often send one digit more than means something.
_FINER = (1, 10)
_EXACT_INTEGERS = 2.0**53


class Form(IntEnum):
    """How a column's values are written."""

    CONSTANT = 0
    PLAIN = 1
    CHANGE = 2
    STEPS = 3


_ENTRY = np.dtype(
    [
        ("column", "<u2"), ("form", "u1"), ("width", "u1"), ("everywhere", "u1"), ("divisor", "<u4"),
        ("count", "<u4"), ("doubtful", "<u4"), ("offset", "<u4"), ("length", "<u4"),
        ("low", "<f8"), ("high", "<f8"), ("mean", "<f8"),
    ]
)  # fmt: skip
_LEAD = np.dtype([("times", "<u4"), ("length", "<u4"), ("first_us", "<i8")])


@dataclass(frozen=True, slots=True)
class TraceColumn:
    """What a column of a trace is: enough to read it without the tag table it came from.

    Attributes:
        resolution: Smallest step that means something, or None.
    """

    name: str
    type: TagType
    unit: str = ""
    resolution: float | None = None

    @classmethod
    def of(cls, tag: Tag) -> TraceColumn:
        """The column for a tag.

        Raises:
            ValueError: The tag is text, which a trace can't hold.
        """
        if tag.type not in _DTYPES:
            raise ValueError(f"{tag.name} is {tag.type}; a trace holds numbers only")
        return cls(tag.name, tag.type, tag.unit, tag.resolution)

    @property
    def dtype(self) -> np.dtype[Any]:
        """How values are held in memory."""
        return _DTYPES[self.type]


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one column, in order of time; equal lengths.

    Attributes:
        times_us: Microseconds since 1970, UTC.
        values: In the column's own type; NaN or 0 where the tool had none.
        status: OPC UA status codes; 0 is good.
    """

    times_us: Times
    values: Values
    status: Status

    def __len__(self) -> int:
        return len(self.times_us)

    def between(self, start_us: int, end_us: int) -> Series:
        """The part with `start_us <= time < end_us`."""
        first, last = np.searchsorted(self.times_us, [start_us, end_us])
        return Series(self.times_us[first:last], self.values[first:last], self.status[first:last])


@dataclass(frozen=True, slots=True)
class Extent:
    """A column's values in one chunk at a glance; NaN where no value was good."""

    count: int
    low: float
    high: float
    mean: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """An encoded chunk.

    Attributes:
        start_us, end_us: First and last time in it.
        samples: Values of all columns together.
    """

    start_us: int
    end_us: int
    samples: int
    header: bytes
    payload: bytes


def join(parts: Sequence[Series], dtype: np.dtype[Any]) -> Series:
    """Several series as one in order of time; equal times keep the order in which they came."""
    if not parts:
        return Series(np.empty(0, np.int64), np.empty(0, dtype), np.empty(0, np.uint32))
    times = np.concatenate([part.times_us for part in parts])
    values = np.concatenate([part.values for part in parts])
    status = np.concatenate([part.status for part in parts])
    if len(times) > 1 and np.any(times[1:] < times[:-1]):
        order = np.argsort(times, kind="stable")
        times, values, status = times[order], values[order], status[order]
    return Series(times, values, status)


def encode(columns: Sequence[TraceColumn], series: Mapping[int, Series], level: int = 3) -> Chunk | None:
    """Write series, by the number of their column, as one chunk; None where there is nothing to write.

    Args:
        columns: All columns of the trace.
        series: In order of time; columns without values may be left out.
        level: Of zstd, 1 to 22.
    """
    filled = {number: part for number, part in series.items() if len(part)}
    if not filled:
        return None
    compressor = zstandard.ZstdCompressor(level=level)
    times = _all_times(list(filled.values()))
    frames = [compressor.compress(_shuffle(np.diff(times, prepend=times[:1])))]
    lead = np.array([(len(times), len(frames[0]), times[0])], _LEAD)
    entries = np.zeros(len(filled), _ENTRY)
    offset = len(frames[0])
    for entry, (number, part) in zip(entries, sorted(filled.items()), strict=True):
        frame = _encode_column(compressor, columns[number], part, times, entry)
        entry["column"], entry["offset"], entry["length"] = number, offset, len(frame)
        frames.append(frame)
        offset += len(frame)
    return Chunk(
        start_us=int(times[0]),
        end_us=int(times[-1]),
        samples=int(entries["count"].sum()),
        header=compressor.compress(lead.tobytes() + entries.tobytes()),
        payload=b"".join(frames),
    )


def decode(
    columns: Sequence[TraceColumn], header: bytes, payload: bytes, wanted: frozenset[int] | None = None
) -> dict[int, Series]:
    """Read columns of a chunk by number; all where `wanted` is None.

    Raises:
        zstandard.ZstdError: The bytes are not those of a chunk.
    """
    decompressor = zstandard.ZstdDecompressor()
    lead, entries = _read_header(decompressor, header)
    count = int(lead["times"])
    steps = _unshuffle(decompressor.decompress(payload[: int(lead["length"])]), np.dtype("<i8"), count)
    times = np.cumsum(steps) + lead["first_us"]
    found: dict[int, Series] = {}
    for place, number in enumerate(entries["column"].tolist()):
        if wanted is None or number in wanted:
            entry = entries[place]
            begin = int(entry["offset"])
            frame = decompressor.decompress(payload[begin : begin + int(entry["length"])])
            found[number] = _decode_column(columns[number], frame, times, entry)
    return found


def extents(header: bytes) -> Iterator[tuple[int, Extent]]:
    """Each column's number with its values at a glance, without the payload."""
    _, entries = _read_header(zstandard.ZstdDecompressor(), header)
    for e in entries:
        yield int(e["column"]), Extent(int(e["count"]), float(e["low"]), float(e["high"]), float(e["mean"]))


def _read_header(decompressor: zstandard.ZstdDecompressor, header: bytes) -> tuple[Any, NDArray[Any]]:
    plain = decompressor.decompress(header)
    return np.frombuffer(plain, _LEAD, 1)[0], np.frombuffer(plain, _ENTRY, offset=_LEAD.itemsize)


def _all_times(parts: Sequence[Series]) -> Times:
    """Every time that stands in any part, as often as in the part that has it most often."""
    first = parts[0].times_us
    if all(len(part) == len(first) and np.array_equal(part.times_us, first) for part in parts[1:]):
        return first
    counted = [np.unique(part.times_us, return_counts=True) for part in parts]
    times = np.unique(np.concatenate([unique for unique, _ in counted]))
    most = np.zeros(len(times), np.int64)
    for unique, counts in counted:
        places = np.searchsorted(times, unique)
        most[places] = np.maximum(most[places], counts)
    return np.repeat(times, most)


def _places(part: Times, times: Times) -> NDArray[np.int64]:
    """Where the times of a part stand among all times; the k-th of equal times at the k-th place."""
    repeat = np.arange(len(part)) - np.searchsorted(part, part)
    return np.searchsorted(times, part) + repeat


def _encode_column(
    compressor: zstandard.ZstdCompressor, column: TraceColumn, part: Series, times: Times, entry: Any
) -> bytes:
    values = np.ascontiguousarray(part.values, column.dtype)
    lead = b""
    entry["everywhere"] = len(part) == len(times)
    if not entry["everywhere"]:
        present = np.zeros(len(times), np.bool_)
        present[_places(part.times_us, times)] = True
        lead = np.packbits(present).tobytes()
    doubtful = np.flatnonzero(part.status).astype("<u4")
    lead += doubtful.tobytes() + part.status[doubtful].astype("<u4").tobytes()
    entry["count"], entry["doubtful"] = len(part), len(doubtful)
    entry["low"], entry["high"], entry["mean"] = _summary(values, part.status)
    candidates = [
        (compressor.compress(lead + body), form, width, divisor)
        for body, form, width, divisor in _forms(values, column.resolution)
    ]
    frame, entry["form"], entry["width"], entry["divisor"] = min(candidates, key=lambda candidate: len(candidate[0]))
    return frame


def _forms(values: Values, resolution: float | None) -> Iterator[tuple[bytes, Form, int, int]]:
    """The ways to write the values: bytes, form, width of an integer, divisor of the steps."""
    bits = values.view(f"<u{values.itemsize}")
    if np.all(bits == bits[0]):
        yield values[:1].tobytes(), Form.CONSTANT, values.itemsize, 0
        return
    yield _shuffle(values), Form.PLAIN, values.itemsize, 0
    yield _shuffle(np.diff(bits, prepend=bits[:1] * 0)), Form.CHANGE, values.itemsize, 0
    if values.dtype.kind == "f" and resolution:
        for finer in _FINER:
            divisor = max(1, round(finer / resolution))
            steps = _steps(values, divisor)
            if steps is not None:
                changes = _zigzag(np.diff(steps, prepend=steps[:1] * 0))
                width = next(w for w in (1, 2, 4, 8) if int(changes.max()) < 256**w)
                yield _shuffle(changes.astype(f"<u{width}")), Form.STEPS, width, divisor
                return


def _steps(values: Values, divisor: int) -> NDArray[np.int64] | None:
    """The values as whole numbers of 1/divisor; None where one of them is not exactly that."""
    wide = values.astype(np.float64)
    # Signalling NaNs and overflows are looked for in the next line.
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(wide * divisor)
        if not np.all(np.abs(scaled) < _EXACT_INTEGERS):
            return None
    # Compared as it will be read: through whole numbers a negative zero has lost its sign.
    steps = scaled.astype(np.int64)
    with np.errstate(over="ignore"):
        back = (steps / divisor).astype(values.dtype)
    return steps if back.tobytes() == values.tobytes() else None


def _decode_column(column: TraceColumn, frame: bytes, times: Times, entry: Any) -> Series:
    count, width = int(entry["count"]), int(entry["width"])
    at = 0
    if not entry["everywhere"]:
        at = (len(times) + 7) // 8
        times = times[np.unpackbits(np.frombuffer(frame, np.uint8, at), count=len(times)).astype(np.bool_)]
    status = np.zeros(count, np.uint32)
    doubtful = int(entry["doubtful"])
    if doubtful:
        where = np.frombuffer(frame, "<u4", doubtful, at)
        status[where] = np.frombuffer(frame, "<u4", doubtful, at + 4 * doubtful)
        at += 8 * doubtful
    return Series(times, _read_values(column.dtype, frame[at:], entry, count, width), status)


def _read_values(dtype: np.dtype[Any], body: bytes, entry: Any, count: int, width: int) -> Values:
    form = Form(int(entry["form"]))
    if form is Form.CONSTANT:
        return np.repeat(np.frombuffer(body, dtype, 1), count)
    if form is Form.PLAIN:
        return _unshuffle(body, dtype, count)
    changes = _unshuffle(body, np.dtype(f"<u{width}"), count)
    if form is Form.CHANGE:
        return np.cumsum(changes, dtype=changes.dtype).view(dtype)
    steps = np.cumsum(_unzigzag(changes.astype(np.uint64)))
    return (steps / int(entry["divisor"])).astype(dtype)


def _summary(values: Values, status: Status) -> tuple[float, float, float]:
    good = values[status == 0].astype(np.float64)
    good = good[np.isfinite(good)]
    if not len(good):
        return (np.nan, np.nan, np.nan)
    # Divided before they are added, so that the largest doubles have a mean as well.
    low, high, mean = float(good.min()), float(good.max()), float(np.sum(good / len(good)))
    return (low, high, min(max(mean, low), high))


def _zigzag(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    return ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)


def _unzigzag(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    half = (numbers >> np.uint64(1)).view(np.int64)
    return half ^ -(numbers & np.uint64(1)).view(np.int64)


def _shuffle(values: Values) -> bytes:
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1).T.tobytes()


def _unshuffle(body: bytes, dtype: np.dtype[Any], count: int) -> Values:
    return np.ascontiguousarray(np.frombuffer(body, np.uint8).reshape(dtype.itemsize, count).T).view(dtype)[:, 0]
