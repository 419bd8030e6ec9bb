"""A file is kept whole under its hash, or not at all."""

from __future__ import annotations

import hashlib
import io
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.traceability.line import LINE, Thread
from traceability.attachments import AttachmentStore, attach, attachments_of
from traceability.database import Database
from traceability.errors import InvalidInput, NotFound, StorageFailed


@pytest.fixture
def store(tmp_path: Path) -> AttachmentStore:
    return AttachmentStore(tmp_path / "files", limit_bytes=64 << 20)


def _files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_a_file_is_named_by_its_content_and_kept_once(store: AttachmentStore, tmp_path: Path) -> None:
    content = b"h,k,l\n" * 1000
    first, second = store.put(io.BytesIO(content)), store.put(io.BytesIO(content))
    assert first == second
    assert first.sha256 == hashlib.sha256(content).hexdigest()
    assert first.size == len(content)
    assert [path.name for path in _files(tmp_path)] == [first.sha256]
    with store.open(first.sha256) as file:
        assert file.read() == content


class _Zeros(io.RawIOBase):
    """So many zeros, made as they are read."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return bytes(size)


def test_memory_does_not_grow_with_the_file(store: AttachmentStore) -> None:
    tracemalloc.start()
    try:
        assert store.put(_Zeros(48 << 20)).size == 48 << 20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(store: AttachmentStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="larger than"):
        store.put(_Zeros((64 << 20) + 1))
    assert _files(tmp_path) == []


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """The operating system itself refuses to let any file grow further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_fails_clearly_and_leaves_nothing(store: AttachmentStore, tmp_path: Path) -> None:
    with _room_for(3 << 20), pytest.raises(StorageFailed, match="full"):
        store.put(_Zeros(8 << 20))
    assert _files(tmp_path) == []
    assert store.put(_Zeros(8 << 20)).size == 8 << 20


def test_a_store_that_can_not_be_written_fails_clearly(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(StorageFailed, match="could not be stored"):
        AttachmentStore(tmp_path / "files").put(io.BytesIO(b"x"))


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "0" * 64, "A" * 64])
def test_only_a_hash_opens_a_file(store: AttachmentStore, sha256: str) -> None:
    with pytest.raises(NotFound):
        store.open(sha256)


def test_a_changed_or_missing_file_is_found_and_a_good_copy_heals_it(
    database: Database, store: AttachmentStore, tmp_path: Path
) -> None:
    thread = Thread(database)
    contents = [b"good", b"changed", b"missing"]
    stored = [store.put(io.BytesIO(content)) for content in contents]
    with database.write(LINE) as record:
        for number, one in enumerate(stored):
            attach(record, one, item_serial=thread.cell, file_name=f"{number}.csv", media_type="text/csv")
    paths = {path.name: path for path in _files(tmp_path)}
    paths[stored[1].sha256].chmod(0o640)
    paths[stored[1].sha256].write_bytes(b"Changed")
    paths[stored[2].sha256].unlink()
    assert [store.intact(one.sha256) for one in stored] == [True, False, False]
    with database.read() as record:
        assert [row.size for row in attachments_of(record, thread.cell)] == [4, 7, 7]
    for content in contents:
        store.put(io.BytesIO(content))
    assert all(store.intact(one.sha256) for one in stored)


def test_a_file_name_loses_its_folders_and_must_be_printable(database: Database, store: AttachmentStore) -> None:
    stored = store.put(io.BytesIO(b"x"))
    with database.write(LINE) as record:
        names = [
            attach(record, stored, item_serial=None, file_name=name, media_type="text/csv").file_name
            for name in ("../../a.csv", r"C:\data\b.csv", "截面.tif")
        ]
    assert names == ["a.csv", "b.csv", "截面.tif"]
    for name in ("", "/", "a\n.csv"):
        with pytest.raises(InvalidInput), database.write(LINE) as record:
            attach(record, stored, item_serial=None, file_name=name, media_type="text/csv")
