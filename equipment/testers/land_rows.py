"""Rows of a text export into columns, block by block, in bounded memory.

This module knows how a field becomes a number, a time or a state, and refuses what can't be. It does not know
which profile fits a file, nor what the columns mean to a cell.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from equipment.testers.file_errors import BadValue, FileTooLarge, TruncatedFile, WrongEncoding
from equipment.testers.land_profile import FileProfile, Header, Kind, Placed
from equipment.testers.land_steps import StepCounter
from equipment.testers.records import Records

BLOCK_BYTES = 512 << 10
MAX_LINE_BYTES = 64 << 10
_ISO_CLOCK = "%Y-%m-%d %H:%M:%S"
_DURATION = re.compile(r"(?:(\d+)[- ])?(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)")

Floats = NDArray[np.float64]


def whole_lines(stream: BinaryIO, file: str, first_line: int, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines from where the stream stands, each with the number of its first line.

    Raises:
        FileTooLarge: More than `max_bytes` follow, or one line is longer than `MAX_LINE_BYTES`.
        TruncatedFile: The last line has no line end.
        WrongEncoding: A NUL byte.
    """
    line, total, rest = first_line, 0, b""
    while data := stream.read(BLOCK_BYTES):
        total += len(data)
        if total > max_bytes:
            raise FileTooLarge(file, f"holds more than the {max_bytes} bytes that are read at most")
        if b"\0" in data:
            raise WrongEncoding(file, "holds NUL bytes, so it is no text export", line)
        data = rest + data
        cut = data.rfind(b"\n") + 1
        block, rest = data[:cut], data[cut:]
        if len(rest) > MAX_LINE_BYTES:
            raise FileTooLarge(file, f"a line is longer than {MAX_LINE_BYTES} bytes", line + block.count(b"\n"))
        if block:
            yield line, block
            line += block.count(b"\n")
    if rest.strip():
        raise TruncatedFile(file, "stops in the middle of this row; export or copy the file again", line)


@dataclass(frozen=True, slots=True)
class Rows:
    """The fields of a block, column by column: `fields(position)` gives one string a row."""

    line_numbers: Sequence[int]
    fields: Callable[[int], list[str]]

    def __len__(self) -> int:
        return len(self.line_numbers)


def split_rows(text: str, delimiter: str, width: int, file: str, first_line: int) -> Rows:
    """Split a block of whole lines; blank lines are passed over.

    Args:
        text: Whole lines.
        delimiter: Between fields.
        width: Fields up to the last named column; further ones must be empty (a ragged trailing delimiter).
        file: For errors.
        first_line: Number of the first line.

    Raises:
        BadValue: A row with too few fields, or with content beyond the last column.
    """
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    counts = {line.count(delimiter) for line in lines}
    if len(counts) == 1 and '"' not in text and (found := counts.pop() + 1) >= width:
        flat = delimiter.join(lines).split(delimiter)
        if not any(any(flat[beyond::found]) for beyond in range(width, found)):
            return Rows(range(first_line, first_line + len(lines)), lambda position: flat[position::found])
    rows: list[list[str]] = []
    numbers: list[int] = []
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            number = first_line + reader.line_num - 1
            if not any(row):
                continue
            if len(row) < width:
                raise BadValue(file, f"the row has {len(row)} fields, the header names {width}", number)
            if any(row[width:]):
                raise BadValue(file, "the row has fields beyond the last column of the header", number)
            rows.append(row)
            numbers.append(number)
    except csv.Error as error:
        raise BadValue(file, f"the row is not well quoted: {error}", first_line + reader.line_num - 1) from error
    return Rows(numbers, lambda position: [row[position] for row in rows])


@dataclass
class RowReader:
    """Makes records out of the rows of one file, in order, and checks each block against the one before.

    Attributes:
        file: Name, for errors.
        profile: How to read it.
        header: Where its columns stand.
    """

    file: str
    profile: FileProfile
    header: Header
    _last_index: float = -np.inf
    _last_time: float = -np.inf
    _steps: StepCounter = field(default_factory=StepCounter)

    def records(self, text: str, first_line: int) -> Records:
        """The records of a block of whole lines.

        Raises:
            BadValue: A field can't be read, or contradicts its neighbours; nothing of the block is taken.
        """
        rows = split_rows(text, self.profile.delimiter, self.header.width, self.file, first_line)
        if len(rows) == 0:
            return Records.empty()
        columns = {placed.column: self._column(placed, rows) for placed in self.header.placed}
        self._check_order(columns["record_index"], columns["test_time_second"], rows)
        columns["state"] = columns["state"].astype(np.int8)
        self._settle_sign(columns, rows)
        self._steps.complete(columns)
        for name in ("record_index", "cycle_count", "step_index"):
            columns[name] = columns[name].astype(np.int64)
        blank = np.full(len(rows), np.nan)
        for name in ("unix_time_second", "step_capacity_ah", "step_energy_wh", "temperature_t1_celsius"):
            columns.setdefault(name, blank)
        return Records(**columns)

    def _column(self, placed: Placed, rows: Rows) -> NDArray[Any]:
        fields = rows.fields(placed.position)
        if placed.kind is Kind.STATE:
            return self._states(placed, rows, fields)
        if placed.kind is Kind.CLOCK:
            return self._clock(placed, rows, fields)
        if placed.unit == "d-hms":
            return self._each(placed, rows, fields, duration_s)
        if fields[0] in self.profile.missing and fields.count(fields[0]) == len(fields):
            values = np.full(len(fields), np.nan)
        else:
            values = self._numbers(placed, rows, fields) * placed.factor
        if placed.kind is Kind.COUNT or placed.column in ("test_time_second", "voltage_volt", "current_ampere"):
            wrong = ~np.isfinite(values)
            if placed.kind is Kind.COUNT:
                wrong |= values != np.floor(values)
            if wrong.any():
                row = int(np.argmax(wrong))
                raise self._bad(placed, rows, row, fields[row])
        return values

    def _numbers(self, placed: Placed, rows: Rows, fields: list[str]) -> Floats:
        try:
            values = np.fromiter(map(float, fields), np.float64, len(fields))
        except ValueError:
            return self._each(placed, rows, fields, _number)
        # float() also takes «nan», «inf» and «1_0», none of which a tester writes.
        if not np.isfinite(values).all() or any("_" in text for text in fields):
            return self._each(placed, rows, fields, _number)
        return values

    def _states(self, placed: Placed, rows: Rows, fields: list[str]) -> Floats:
        codes = self.profile.state_codes()
        try:
            return np.fromiter(map(codes.__getitem__, fields), np.float64, len(fields))
        except KeyError:
            return self._each(placed, rows, fields, lambda text: codes[text.strip()])

    def _clock(self, placed: Placed, rows: Rows, fields: list[str]) -> Floats:
        offset_s = 3600.0 * self.profile.clock_utc_offset_h
        layout = self.profile.clock_format
        if layout == _ISO_CLOCK and all(len(text) == 19 for text in fields):
            try:
                return np.array(fields, "datetime64[s]").astype(np.int64).astype(np.float64) - offset_s
            except ValueError:
                pass  # one of them is no time: the way below names it
        return (
            self._each(
                placed,
                rows,
                fields,
                lambda text: datetime.strptime(text.strip(), layout).replace(tzinfo=UTC).timestamp(),
            )
            - offset_s
        )

    def _each(self, placed: Placed, rows: Rows, fields: list[str], read: Callable[[str], float]) -> Floats:
        """Field by field: the missing ones are NaN, and the first that can't be read is named."""
        values = np.full(len(fields), np.nan)
        missing = set(self.profile.missing)
        for row, text in enumerate(fields):
            if placed.kind is not Kind.STATE and text.strip() in missing:
                continue
            try:
                values[row] = read(text)
            except (ValueError, KeyError):
                raise self._bad(placed, rows, row, text) from None
        return values

    def _bad(self, placed: Placed, rows: Rows, row: int, text: str) -> BadValue:
        expected = {
            Kind.STATE: f"one of {', '.join(self.profile.states)}",
            Kind.CLOCK: f"a time like {self.profile.clock_format}",
            Kind.COUNT: "a whole number",
        }.get(placed.kind, f"a number in {placed.unit}")
        return BadValue(self.file, f"{placed.heading} is {text[:40]!r}, not {expected}", rows.line_numbers[row])

    def _check_order(self, index: Floats, time_s: Floats, rows: Rows) -> None:
        backwards = np.diff(index, prepend=self._last_index) <= 0
        if backwards.any():
            line = rows.line_numbers[int(np.argmax(backwards))]
            raise BadValue(self.file, "the record number does not grow: rows are doubled or out of order", line)
        earlier = np.diff(time_s, prepend=self._last_time) < 0
        if earlier.any():
            raise BadValue(self.file, "the test time runs backwards", rows.line_numbers[int(np.argmax(earlier))])
        self._last_index, self._last_time = float(index[-1]), float(time_s[-1])

    def _settle_sign(self, columns: dict[str, NDArray[Any]], rows: Rows) -> None:
        state, current = columns["state"], columns["current_ampere"]
        direction = np.array([0, 1, -1])[state]
        if self.profile.current == "by_state":
            columns["current_ampere"] = np.where(direction == 0, current, np.abs(current) * direction)
            return
        flowing = (direction != 0) & (current != 0)
        against = flowing & (np.sign(current) != direction)
        # Single records at a change of step may still carry the last step's current; most never do.
        if against.sum() > 0.5 * flowing.sum():
            raise BadValue(
                self.file,
                "most currents have the sign against their state: positive must charge, "
                "or the profile must say `current: by_state`",
                rows.line_numbers[int(np.argmax(against))],
            )


def duration_s(text: str) -> float:
    """Seconds of `D-HH:MM:SS`, `D HH:MM:SS.mmm` or `HH:MM:SS`.

    Raises:
        ValueError: Something else.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    days, hours, minutes, seconds = match.groups(default="0")
    return 86_400 * int(days) + 3_600 * int(hours) + 60 * int(minutes) + float(seconds)


def decoded(blocks: Iterable[tuple[int, bytes]], encoding: str, file: str) -> Iterator[tuple[int, str]]:
    """The blocks as text.

    Raises:
        WrongEncoding: Bytes that the encoding does not know.
    """
    for line, block in blocks:
        try:
            yield line, block.decode(encoding)
        except UnicodeDecodeError as error:
            where = line + block.count(b"\n", 0, error.start)
            raise WrongEncoding(file, f"is not {encoding} text", where) from error


def _number(text: str) -> float:
    if "_" in text:
        raise ValueError(text)
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(text)
    return value
