"""Stop and Abort when the database refuses: an append-only file that is on the disk before anybody is answered.

Each line is one JSON object with a check sum; a torn last line counts as never written. The lease's holder sends what
is open here at once, and writes it into the record when the database takes it again. Knows no driver and no record.
"""

from __future__ import annotations

import os
import threading
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from equipment.commands import CommandVerb
from traceability.canonical import timestamp
from traceability.errors import InvalidInput

JOURNALED = frozenset({CommandVerb.STOP, CommandVerb.ABORT})
"""The commands that must go out whatever the database does."""

DONE = "done"
"""Outcome of a command that the tool carried out."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A command that the database could not take.

    Attributes:
        key: Unique for ever.
        requested_at: Domain time, UTC.
        requested_by: Name of the actor.
        outcome: `DONE`, or what the tool said; empty until it was sent with a known outcome.
        reconciled: The record holds it.
    """

    key: str
    tool: str
    verb: CommandVerb
    run_serial: str
    requested_by: str
    reason: str
    requested_at: datetime
    outcome: str = ""
    reconciled: bool = False


class CommandJournal:
    """The journal of one machine. Several processes may append: a line is written by one call and is never rewritten.

    Args:
        path: The file; its folder is made if need be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int], Sequence[JournalEntry]] = ((0, 0), ())

    def append(
        self, *, tool: str, verb: CommandVerb, run_serial: str, requested_by: str, reason: str, requested_at: datetime
    ) -> JournalEntry:
        """Write a command down; when this returns it survives a loss of power.

        Raises:
            InvalidInput: The verb is not one for which this way is open.
            OSError: The disk doesn't take it either.
        """
        if verb not in JOURNALED:
            raise InvalidInput(f"{verb} needs the database; only Stop and Abort go out without it.")
        entry = JournalEntry(uuid.uuid4().hex, tool, verb, run_serial, requested_by, reason, requested_at)
        self._write({"kind": "command", **asdict(entry), "requested_at": timestamp(requested_at)})
        return entry

    def answered(self, entry: JournalEntry, outcome: str) -> None:
        """Note what the tool answered."""
        self._write({"kind": "outcome", "key": entry.key, "outcome": outcome})

    def reconciled(self, entry: JournalEntry) -> None:
        """Note that the record holds the command and its outcome."""
        self._write({"kind": "reconciled", "key": entry.key})

    def to_send(self, tool: str) -> Sequence[JournalEntry]:
        """What a tool must still be asked, oldest first."""
        return [entry for entry in self._entries() if entry.tool == tool and not entry.outcome]

    def to_reconcile(self, tool: str) -> Sequence[JournalEntry]:
        """What was answered and the record does not hold, oldest first."""
        return [entry for entry in self._entries() if entry.tool == tool and entry.outcome and not entry.reconciled]

    def _entries(self) -> Sequence[JournalEntry]:
        """All entries; the file is read only when it has changed, as it is asked for many times a second."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return ()
        signature = (status.st_size, status.st_mtime_ns)
        if self._read[0] != signature:
            self._read = (signature, _parsed(self._path.read_bytes()))
        return self._read[1]

    def _write(self, body: dict[str, Any]) -> None:
        content = orjson.dumps(body)
        # It begins with a line's end too, so that what follows a torn line is not lost with it.
        line = b"\n%08x %b\n" % (zlib.crc32(content), content)
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            created = not self._path.exists()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if created:
                _sync_folder(self._path.parent)


def _parsed(content: bytes) -> Sequence[JournalEntry]:
    entries: dict[str, JournalEntry] = {}
    for line in content.splitlines():
        body = _checked(line)
        if body is None:
            continue
        kind = body.pop("kind")
        if kind == "command":
            body["requested_at"] = datetime.fromisoformat(body["requested_at"])
            entries[body["key"]] = JournalEntry(**{**body, "verb": CommandVerb(body["verb"])})
        elif body["key"] in entries:
            change: dict[str, Any] = {"outcome": body["outcome"]} if kind == "outcome" else {"reconciled": True}
            entries[body["key"]] = replace(entries[body["key"]], **change)
    return list(entries.values())


def _checked(line: bytes) -> dict[str, Any] | None:
    checksum, _, content = line.partition(b" ")
    if not content or checksum != b"%08x" % zlib.crc32(content):
        return None
    body: dict[str, Any] = orjson.loads(content)
    return body


def _sync_folder(folder: Path) -> None:
    # A file whose folder entry is not on the disk is lost with the power.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
