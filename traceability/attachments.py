"""Files on the record: kept whole, named by their SHA-256, so that one that was changed no longer fits its name.

The store writes through a temporary file that is synced before it gets its name: a file is there complete or not
at all. What a file means is for who attaches it; numbers are taken out of it elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import structlog
from sqlalchemy import BigInteger, Column
from sqlmodel import Field, SQLModel, col, select

from traceability.append_only import make_append_only
from traceability.columns import UtcDateTime
from traceability.database import RecordSession
from traceability.errors import InvalidInput, NotFound, StorageFailed
from traceability.items import find_item

_log = structlog.get_logger(__name__)

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the store: its SHA-256 as 64 lower-case hex digits and its size in bytes."""

    sha256: str
    size: int


class Attachment(SQLModel, table=True):
    """A file as attached. The row never changes; several rows may share one content.

    Attributes:
        item_id: The thing it is about; None if it is about none.
        file_name: As it was called where it came from, without folders.
    """

    __tablename__ = "attachments"

    id: int | None = Field(default=None, primary_key=True)
    sha256: str = Field(max_length=64, index=True)
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    item_id: int | None = Field(default=None, foreign_key="items.id", index=True)
    file_name: str
    media_type: str
    person: str
    attached_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


make_append_only(SQLModel.metadata.tables["attachments"])


class AttachmentStore:
    """A folder of files named by content.

    Args:
        root: The folder; made when first needed.
        limit_bytes: Size that a single file may not exceed.
    """

    def __init__(self, root: Path, limit_bytes: int = 2 << 30) -> None:
        self._root = root
        self._limit_bytes = limit_bytes

    def put(self, stream: BinaryIO) -> Stored:
        """Keep what the stream still holds; memory use does not grow with it. Content that is there intact stays.

        Raises:
            InvalidInput: It is larger than the limit.
            StorageFailed: The disk can't take it; nothing of it is kept.
        """
        with _storage():
            self._root.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._root, prefix="incoming-")
        temporary = Path(name)
        try:
            with io.FileIO(handle, "wb") as file:
                stored = self._copy(stream, file)
                with _storage():
                    os.fsync(file.fileno())
            with _storage():
                self._keep(temporary, stored)
        finally:
            temporary.unlink(missing_ok=True)
        return stored

    def open(self, sha256: str) -> io.BufferedReader:
        """The file with that content, for reading.

        Raises:
            NotFound: It is not in the store.
        """
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"No file with the SHA-256 {sha256} is in the store.") from error

    def intact(self, sha256: str) -> bool:
        """Hash a file anew: False if it is missing or no longer what its name says."""
        try:
            with self.open(sha256) as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except NotFound:
            return False

    def _copy(self, stream: BinaryIO, file: io.FileIO) -> Stored:
        digest, size = hashlib.sha256(), 0
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > self._limit_bytes:
                raise InvalidInput(f"The file is larger than {self._limit_bytes} bytes; split it or raise the limit.")
            digest.update(chunk)
            rest = memoryview(chunk)
            with _storage():
                while rest:
                    rest = rest[file.write(rest) :]
        return Stored(digest.hexdigest(), size)

    def _keep(self, temporary: Path, stored: Stored) -> None:
        path = self._path(stored.sha256)
        if not self.intact(stored.sha256):
            path.parent.mkdir(exist_ok=True)
            temporary.chmod(0o440)
            temporary.replace(path)
            # A name lasts only once its folder is synced, and the folder's own name likewise.
            for folder in (path.parent, self._root):
                _sync_folder(folder)

    def _path(self, sha256: str) -> Path:
        if not _SHA256.match(sha256):
            raise NotFound(f"{sha256!r} is no SHA-256; it has 64 lower-case hex digits.")
        return self._root / sha256[:2] / sha256


def attach(
    record: RecordSession, stored: Stored, *, item_serial: str | None, file_name: str, media_type: str
) -> Attachment:
    """Say that a stored file belongs to a thing.

    Args:
        record: Open write session.
        stored: What `AttachmentStore.put` gave.
        item_serial: The thing it is about; None if it is about none.
        file_name: As it was called where it came from; folders are cut off.
        media_type: E.g. `text/csv`.

    Raises:
        InvalidInput: The file has no name, or the serial is none.
        NotFound: Nothing has that serial.
    """
    with record.act("attachment.stored", *([item_serial] if item_serial else [])) as act:
        name = PurePosixPath(PureWindowsPath(file_name).as_posix()).name
        if not name or not name.isprintable():
            raise InvalidInput(f"{file_name!r} is no file name.")
        row = Attachment(
            sha256=stored.sha256,
            size=stored.size,
            item_id=find_item(record, item_serial).key if item_serial else None,
            file_name=name,
            media_type=media_type,
            person=record.actor.name,
            attached_at=record.clock.now(),
        )
        record.add(row)
        record.flush()
        act.detail.update(sha256=stored.sha256, file_name=name)
    return row


def attachments_of(record: RecordSession, serial: str) -> list[Attachment]:
    """The files of a thing, oldest first.

    Raises:
        InvalidInput: The serial is none.
        NotFound: Nothing has it.
    """
    item = find_item(record, serial)
    query = select(Attachment).where(Attachment.item_id == item.key).order_by(col(Attachment.id))
    return list(record.exec(query))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.exception("attachment_not_stored")
        if error.errno in _FULL:
            raise StorageFailed("The disk is full; nothing was kept. Free some room and try again.") from error
        raise StorageFailed(f"The file could not be stored ({error.strerror}); nothing was kept.") from error
