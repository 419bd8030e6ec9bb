"""Is the record what the trail says it is, and is the trail what it was?

`verify` walks the chain once, compares it with checkpoints kept elsewhere, replays its changes against every row
of every audited table, and re-hashes content that events sealed. It runs beside writers on one snapshot, in
bounded memory. It repairs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from traceability.attachments import AttachmentStore
from traceability.audit import GENESIS
from traceability.checkpoints import Checkpoint
from traceability.database import Database
from traceability.errors import NotFound
from traceability.replay import Discrepancy, Replay, audited_tables, stream

KEPT = 200

_AFTER_ALL = 2**63

Progress = Callable[[int, int], None]


class SealedContent(Protocol):
    """Content too large for events, whose SHA-256 an event states: attachments, traces.

    Attributes:
        name: What it is, for messages: `attachment`, `trace`.
    """

    @property
    def name(self) -> str:
        """What it is, for messages: `attachment`, `trace`."""

    def seals(self, event: Mapping[str, Any]) -> Iterable[tuple[str, str | None]]:
        """What an event states: a key and its SHA-256, or None for content that the event let go."""

    def rehash(self, connection: Connection, key: str) -> str | None:
        """SHA-256 of what is stored under the key now, or None if it is gone."""


class AttachmentSeals:
    """Attached files as sealed content: an event states each one's SHA-256."""

    name = "attachment"

    def __init__(self, store: AttachmentStore) -> None:
        self._store = store

    def seals(self, event: Mapping[str, Any]) -> Iterable[tuple[str, str | None]]:
        """The files that an event attaches."""
        for change in event["changes"]:
            if change["table"] == "attachments" and change["new"] is not None:
                yield change["new"]["sha256"], change["new"]["sha256"]

    def rehash(self, connection: Connection, key: str) -> str | None:
        """SHA-256 of the file of that name."""
        try:
            with self._store.open(key) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except NotFound:
            return None


@dataclass(slots=True)
class VerificationReport:
    """What a verification saw.

    Attributes:
        events: Events walked.
        head_hash: Hash of the last one.
        tables: Audited tables compared.
        sealed: Pieces of sealed content re-hashed.
        checkpoints: Checkpoints compared.
        left_out: What could not be checked, in sentences.
        discrepancies: The first 200, events first in their order, then rows by the event that last wrote them.
        count: How many there were.
    """

    events: int = 0
    head_hash: str = GENESIS
    tables: int = 0
    sealed: int = 0
    checkpoints: int = 0
    left_out: list[str] = field(default_factory=list)
    discrepancies: list[Discrepancy] = field(default_factory=list)
    count: int = 0

    @property
    def intact(self) -> bool:
        """Whether all of it is as the trail says."""
        return self.count == 0

    @property
    def first(self) -> Discrepancy | None:
        """The first bad one."""
        return self.discrepancies[0] if self.discrepancies else None

    def add(self, discrepancy: Discrepancy) -> None:
        """Take one more; beyond the first 200 they are only counted."""
        self.count += 1
        if len(self.discrepancies) < KEPT:
            self.discrepancies.append(discrepancy)

    def merge(self, rows: VerificationReport) -> None:
        """Take what was found in rows, by the event that last wrote each; rows that no event made come last."""
        for discrepancy in sorted(rows.discrepancies, key=lambda found: found.seq or _AFTER_ALL):
            self.add(discrepancy)
        self.count += rows.count - len(rows.discrepancies)


def verify(
    database: Database,
    *,
    checkpoints: Iterable[Checkpoint] = (),
    public_key: Ed25519PublicKey | None = None,
    sealed: Sequence[SealedContent] = (),
    records: bool = True,
    progress: Progress | None = None,
) -> VerificationReport:
    """Verify the trail and everything it speaks of.

    Args:
        database: What to verify.
        checkpoints: Those that were kept elsewhere.
        public_key: QA's key, from where the service can't change it.
        sealed: Owners of sealed content.
        records: Also compare every row; without, the chain alone is walked.
        progress: Told events done and events in all, now and then.
    """
    report = VerificationReport()
    tables = audited_tables(database.engine.dialect.name)
    with _snapshot(database) as connection, Replay(tables, report.add) as replay:
        walk = _Walk(connection, report, replay, records, sealed, progress)
        walk.chain(_heads_to_expect(checkpoints, public_key, report))
        if records:
            rows = VerificationReport()
            replay.compare(connection, rows.add)
            report.tables = len(tables)
            report.merge(rows)
        _rehash(connection, replay, sealed, report)
    return report


class _Walk:
    """One pass over the events, in order."""

    def __init__(
        self,
        connection: Connection,
        report: VerificationReport,
        replay: Replay,
        replay_rows: bool,
        sealed: Sequence[SealedContent],
        progress: Progress | None,
    ) -> None:
        self._connection = connection
        self._report = report
        self._replay = replay
        self._replay_rows = replay_rows
        self._sealed = sealed
        self._progress = progress
        self._transaction = 0
        self._changes: list[tuple[int, int, Mapping[str, Any]]] = []

    def chain(self, heads: Mapping[int, Sequence[str]]) -> None:
        """Check every event against its row, its hash, the one before it, its items and the heads to expect."""
        (total,) = self._connection.exec_driver_sql("SELECT count(*) FROM audit_events").one()
        events = closing(stream(self._connection, _events_sql(self._connection)))
        listed = closing(stream(self._connection, "SELECT seq, item FROM audit_event_items ORDER BY seq"))
        with events as rows, listed as item_rows:
            items = _ItemReader(item_rows)
            last, last_hash = self._events(rows, items, heads, total)
            self._replay_transaction()
        self._tail(last, last_hash, heads)
        if items.beyond is not None:
            self._bad("event_items_changed", f"Items are listed for event {items.beyond}; it is gone.", items.beyond)
        self._report.head_hash = last_hash
        if self._progress is not None:
            self._progress(total, total)

    def _events(
        self, rows: Iterator[Sequence[Any]], items: _ItemReader, heads: Mapping[int, Sequence[str]], total: int
    ) -> tuple[int, str]:
        """Check event after event; the last one's number and hash."""
        report = self._report
        previous, last = GENESIS, 0
        for seq, at, wall_at, actor, kind, body, stored in rows:
            if seq != last + 1:
                message = f"After event {last} comes event {seq}; what was between is gone."
                self._bad("event_missing", message, last + 1)
            encoded = str(body).encode()
            if hashlib.sha256(encoded).hexdigest() != stored:
                self._bad("event_changed", f"Event {seq} does not have the hash it was sealed with.", seq)
            try:
                event = orjson.loads(encoded)
                if event["prev"] != previous:
                    self._bad("chain_broken", f"Event {seq} does not follow from the event before it.", seq)
                beside = (event["seq"], event["actor"], event["kind"], event["at"], event["wall_at"])
                if beside != (seq, actor, kind, _moment(at), _moment(wall_at)):
                    self._bad("event_columns_changed", f"The columns beside event {seq} differ from its body.", seq)
                listed = items.of(seq)
                if listed != event["items"] and sorted(listed) != sorted(event["items"]):
                    self._bad("event_items_changed", f"The items listed for event {seq} differ from its body.", seq)
                self._follow(seq, event)
            except (ValueError, TypeError, LookupError, AttributeError):
                # What was made of the body by hand may be anything.
                self._bad("event_unreadable", f"Event {seq} is no event any more.", seq)
            if seq in heads:
                report.checkpoints += len(heads[seq])
                if set(heads[seq]) != {stored}:
                    message = f"Event {seq} is not the one that a checkpoint was signed over."
                    self._bad("chain_rewritten", message, seq)
            previous, last = stored, seq
            report.events += 1
            if self._progress is not None and report.events % 1000 == 0:
                self._progress(report.events, total)
        return last, previous

    def _follow(self, seq: int, event: Mapping[str, Any]) -> None:
        """Keep in mind what the event says of rows and of sealed content."""
        if self._replay_rows:
            if event["transaction"] != self._transaction:
                self._replay_transaction()
                self._transaction = event["transaction"]
            self._changes += [_step(seq, change) for change in event["changes"]]
        for content in self._sealed:
            for key, sha256 in content.seals(event):
                document = None if sha256 is None else {"sha256": sha256}
                self._replay.put(seq, _sealed_name(content), key, document)

    def _replay_transaction(self) -> None:
        """Replay the changes of a transaction in the order of its steps: an act's may follow those of acts in it."""
        for _, seq, change in sorted(self._changes, key=itemgetter(0)):
            self._replay.apply(seq, change)
        self._changes.clear()

    def _tail(self, last: int, last_hash: str, heads: Mapping[int, Sequence[str]]) -> None:
        head = self._connection.exec_driver_sql("SELECT seq, hash FROM audit_head").first()
        if head is None or tuple(head) != (last, last_hash):
            said = "is gone" if head is None else f"says event {head[0]}"
            self._bad("head_differs", f"The trail ends at event {last}, but its head {said}.", last)
        beyond = [seq for seq in heads if seq > last]
        self._report.checkpoints += sum(len(heads[seq]) for seq in beyond)
        if beyond:
            self._bad(
                "tail_missing",
                f"The trail ends at event {last}, but a checkpoint was signed over event {max(beyond)}.",
                last + 1,
            )

    def _bad(self, kind: str, message: str, seq: int) -> None:
        self._report.add(Discrepancy(kind, message, seq))


class _ItemReader:
    """The items listed for each event, read in step with the events."""

    def __init__(self, rows: Iterator[Sequence[Any]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, seq: int) -> list[str]:
        """The items of an event; those of events that are gone are passed over."""
        items = []
        following = self._next
        while following is not None and following[0] <= seq:
            if following[0] == seq:
                items.append(following[1])
            following = next(self._rows, None)
        self._next = following
        return items

    @property
    def beyond(self) -> int | None:
        """The event of the first item that was not read yet."""
        return None if self._next is None else int(self._next[0])


def _heads_to_expect(
    checkpoints: Iterable[Checkpoint], key: Ed25519PublicKey | None, report: VerificationReport
) -> dict[int, list[str]]:
    heads: dict[int, list[str]] = {}
    for checkpoint in checkpoints:
        if key is not None and not checkpoint.signed_by(key):
            message = f"The checkpoint over event {checkpoint.seq} is not signed with this key."
            report.add(Discrepancy("checkpoint_forged", message, checkpoint.seq))
            continue
        heads.setdefault(checkpoint.seq, []).append(checkpoint.hash)
    if not heads:
        report.left_out.append("No checkpoint was given: a chain that was rewritten whole would not show.")
    elif key is None:
        report.left_out.append("No public key was given: the checkpoints' signatures were not checked.")
    return heads


def _rehash(
    connection: Connection, replay: Replay, sealed: Sequence[SealedContent], report: VerificationReport
) -> None:
    for content in sealed:
        for key, seq, document in replay.expected(_sealed_name(content)):
            report.sealed += 1
            found = content.rehash(connection, key)
            if found == document["sha256"]:
                continue
            how = "is gone" if found is None else "was changed"
            message = f"The {content.name} {key}, sealed by event {seq}, {how}."
            kind = "content_missing" if found is None else "content_changed"
            report.add(Discrepancy(kind, message, seq, content.name, key, "sha256", document["sha256"], found))


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    """One unchanging view of the database, beside writers."""
    with database.connect() as connection:
        if database.engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def _events_sql(connection: Connection) -> str:
    def moment(column: str) -> str:
        if connection.dialect.name == "sqlite":
            return column
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"

    return f"SELECT seq, {moment('at')}, {moment('wall_at')}, actor, kind, body, hash FROM audit_events ORDER BY seq"  # nosec B608  # one of two expressions of the code


def _step(seq: int, change: Mapping[str, Any]) -> tuple[int, int, Mapping[str, Any]]:
    """A change with its step in the transaction.

    Raises:
        TypeError, LookupError: It is none.
    """
    step, old, new = change["step"], change["old"], change["new"]
    if not (
        isinstance(step, int)
        and isinstance(change["table"], str)
        and isinstance(change["key"], list)
        and isinstance(old, dict | None)
        and isinstance(new, dict | None)
    ):
        raise TypeError(f"event {seq} holds something else than changes")
    return step, seq, change


def _moment(column: object) -> str:
    text = str(column)
    return f"{text[:10]}T{text[11:]}Z"


def _sealed_name(content: SealedContent) -> str:
    return f"sealed:{content.name}"
