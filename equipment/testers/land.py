"""Reads the text exports of LAND cyclers: finds the profile that fits, and hands out records in bounded memory.

The layouts themselves are data (`profiles/*.yaml`); this module knows none of them. It reads, and neither
analyses nor stores. The binary `.cex` and `.ccs` files of the tester are not read: they are kept as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from equipment.testers.file_errors import (
    BinaryTesterFile,
    FileTooLarge,
    ForeignFile,
    MissingColumns,
    ResultFileError,
    TruncatedFile,
    WrongEncoding,
)
from equipment.testers.land_profile import FileProfile, Header, load_profiles
from equipment.testers.land_rows import RowReader, decoded, whole_lines
from equipment.testers.records import Records

PARSER = "argonaut-land"
PARSER_VERSION = "1"
MAX_BYTES = 2 << 30
HEAD_BYTES = 64 << 10
BINARY_SUFFIXES = (".cex", ".ccs")
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

Source = Path | BinaryIO


@dataclass(frozen=True)
class ResultFile:
    """An export whose layout is understood; its rows are read each time that `batches` is called.

    Attributes:
        file: Its name.
        profile: The profile that fits.
        encoding: How its bytes are read.
        header: Its columns: placed, set aside, and without a place.
        preamble: What the lines above the header say, by the profile's keys.
    """

    file: str
    profile: FileProfile
    encoding: str
    header: Header
    preamble: Mapping[str, str]
    _source: Source = field(repr=False)
    _rows_offset: int = field(repr=False)
    _max_bytes: int = field(repr=False)

    def batches(self) -> Iterator[Records]:
        """The records in order, some ten thousand at a time.

        Raises:
            TruncatedFile, BadValue: See `file_errors`; the batches before the fault were good.
            WrongEncoding, FileTooLarge: Found further down than the header.
        """
        reader = RowReader(self.file, self.profile, self.header)
        count = 0
        with _opened(self._source) as stream:
            stream.seek(self._rows_offset)
            blocks = whole_lines(stream, self.file, self.header.line + 1, self._max_bytes)
            for line, text in decoded(blocks, self.encoding, self.file):
                records = reader.records(text, line)
                count += len(records)
                yield records
        if count == 0:
            raise TruncatedFile(self.file, "stops before its first record; export or copy the file again")

    def read(self) -> Records:
        """All records at once: for files that fit into memory."""
        return Records.concatenate(self.batches())


@dataclass(frozen=True)
class TryReport:
    """What `try_file` found out about a file.

    Attributes:
        file: Its name.
        profile: Name of the profile that fits, or None.
        columns: Heading → our column, for those that have a place.
        set_aside: Heading → why it is known and not taken.
        unplaced: Headings without a place.
        rejected: Profile → why it does not fit.
        n_records: Records that could be read.
        problem: Why the file can't be used, or None where all of it was read.
    """

    file: str
    profile: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    set_aside: Mapping[str, str] = field(default_factory=dict)
    unplaced: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    n_records: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Match:
    profile: FileProfile
    encoding: str
    header: Header
    preamble: Mapping[str, str]


def read_land(
    source: Source, profiles: Sequence[FileProfile] | None = None, *, max_bytes: int = MAX_BYTES
) -> ResultFile:
    """Understand the layout of a text export; its rows are read later, by `ResultFile.batches`.

    Args:
        source: A path, or a seekable binary stream that stays open while batches are read.
        profiles: Those to try; None for the published ones.
        max_bytes: A longer file is refused.

    Raises:
        BinaryTesterFile: A `.cex` or `.ccs` file.
        WrongEncoding: Not text.
        FileTooLarge: Longer than `max_bytes`.
        TruncatedFile: Empty.
        MissingColumns: One profile nearly fits.
        ForeignFile: No profile fits, or two fit equally well.
    """
    profiles = load_profiles() if profiles is None else profiles
    file, head = _head(source, max_bytes)
    matches, rejected = _match(head, profiles)
    return _choose(source, file, head, matches, rejected, max_bytes)


def try_file(
    source: Source, profiles: Sequence[FileProfile] | None = None, *, max_bytes: int = MAX_BYTES
) -> TryReport:
    """Read a file for a person who wants to know what would become of it; nothing is raised or stored.

    Raises:
        ProfileInvalid: A published profile is broken; that is no fault of the file.
        OSError: The file can't be opened.
    """
    profiles = load_profiles() if profiles is None else profiles
    file = _name(source)
    rejected: dict[str, str] = {}
    try:
        file, head = _head(source, max_bytes)
        matches, rejected = _match(head, profiles)
        found = _choose(source, file, head, matches, rejected, max_bytes)
    except ResultFileError as error:
        return TryReport(file, rejected=rejected, problem=str(error))
    rejected |= {m.profile.name: "another profile places more columns" for m in matches if m.profile != found.profile}
    n_records, problem = 0, None
    try:
        for records in found.batches():
            n_records += len(records)
    except ResultFileError as error:
        problem = str(error)
    return TryReport(
        file,
        found.profile.name,
        {placed.heading: placed.column for placed in found.header.placed},
        found.header.set_aside,
        found.header.unplaced,
        rejected,
        n_records,
        problem,
    )


def _opened(source: Source) -> AbstractContextManager[BinaryIO]:
    return source.open("rb") if isinstance(source, Path) else nullcontext(source)


def _name(source: Source) -> str:
    if isinstance(source, Path):
        return source.name
    name = getattr(source, "name", "")
    return Path(name).name if isinstance(name, str) and name else "file"


def _head(source: Source, max_bytes: int) -> tuple[str, bytes]:
    """Name and first lines of a file that can be text."""
    file = _name(source)
    if file.lower().endswith(BINARY_SUFFIXES):
        raise BinaryTesterFile(
            file, "is the tester's own binary format, which is kept and not read; export it as csv or text"
        )
    with _opened(source) as stream:
        size = stream.seek(0, os.SEEK_END)
        if size > max_bytes:
            raise FileTooLarge(file, f"has {size} bytes; at most {max_bytes} are read")
        stream.seek(0)
        head = stream.read(HEAD_BYTES)
    if not head:
        raise TruncatedFile(file, "is empty; export or copy it again")
    if head.startswith(_UTF16_MARKS):
        raise WrongEncoding(file, "is UTF-16 text; save it as UTF-8")
    if b"\0" in head:
        raise WrongEncoding(file, "holds NUL bytes, so it is no text export; export it as csv or text")
    return file, head if size <= len(head) else head[: head.rfind(b"\n") + 1]


def _match(head: bytes, profiles: Sequence[FileProfile]) -> tuple[list[_Match], dict[str, str]]:
    """Profiles that find a header in the first lines, complete or not; and why the others find none."""
    matches: list[_Match] = []
    rejected: dict[str, str] = {}
    for profile in profiles:
        encoding = next((e for e in profile.encodings if _decodes(head, e)), None)
        if encoding is None:
            rejected[profile.name] = f"the file is not text in {' or '.join(profile.encodings)}"
            continue
        lines = head.removeprefix(_UTF8_MARK).decode(encoding).split("\n")
        header = profile.header_in(lines)
        if header is None:
            rejected[profile.name] = f"no header in its first {profile.search_lines} lines"
            continue
        if header.missing:
            rejected[profile.name] = f"line {header.line} has no column for {', '.join(header.missing)}"
        matches.append(_Match(profile, encoding, header, profile.read_preamble(lines[: header.line - 1])))
    return matches, rejected


def _decodes(head: bytes, encoding: str) -> bool:
    try:
        head.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _choose(
    source: Source, file: str, head: bytes, matches: list[_Match], rejected: Mapping[str, str], max_bytes: int
) -> ResultFile:
    ranked = sorted(matches, key=lambda match: (not match.header.missing, len(match.header.placed)), reverse=True)
    if not ranked:
        reasons = "; ".join(f"{name}: {why}" for name, why in rejected.items())
        raise ForeignFile(file, f"no profile knows this file ({reasons or 'there are no profiles'})")
    best = ranked[0]
    if best.header.missing:
        raise MissingColumns(file, best.profile.name, best.header.missing, best.header.line)
    if len(ranked) > 1 and not ranked[1].header.missing:
        second = ranked[1]
        if len(second.header.placed) == len(best.header.placed):
            raise ForeignFile(
                file, f"the profiles {best.profile.name} and {second.profile.name} fit equally well; name one"
            )
    offset = sum(len(line) + 1 for line in head.split(b"\n")[: best.header.line])
    return ResultFile(
        file, best.profile, best.encoding, best.header, best.preamble, source, min(offset, len(head)), max_bytes
    )
