"""The audit trail: one event for each act, chained by hash, written in the act's own transaction.

This module knows how an event looks, how its hash follows from the one before, and how the acts of a transaction
are sealed. It does not know what the acts mean, nor how the trail is verified (`verification`) or exported.

The chain: `body` is the canonical JSON of the event, which holds the hash of the event before as `prev`; `hash` is
the SHA-256 of `body`. Its `transaction` is the number of the first event of the same transaction. The row
`audit_head` is locked last before commit, so writers queue only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, Integer, Text, text
from sqlmodel import Field, Session, SQLModel

from traceability.acts import Actor
from traceability.append_only import make_append_only
from traceability.canonical import canonical_bytes, sha256_hex
from traceability.columns import UtcDateTime

GENESIS = "0" * 64

# SQLite counts rows itself only in a column of the exact type INTEGER.
BigKey = BigInteger().with_variant(Integer(), "sqlite")


class AuditEvent(SQLModel, table=True):
    """One act on the record. The columns beside `body` repeat it for filters and are checked against it."""

    __tablename__ = "audit_events"
    __unaudited__: ClassVar[str] = "is the audit trail"

    seq: int = Field(sa_column=Column(BigKey, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    wall_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    actor: str = Field(index=True)
    kind: str = Field(index=True)
    body: str = Field(sa_column=Column(Text, nullable=False))
    hash: str = Field(max_length=64)


class AuditEventItem(SQLModel, table=True):
    """Which items (by serial) an event concerns."""

    __tablename__ = "audit_event_items"
    __unaudited__: ClassVar[str] = "repeats the event's own body"

    item: str = Field(primary_key=True)
    seq: int = Field(sa_column=Column(BigKey, primary_key=True))


class AuditHead(SQLModel, table=True):
    """The last event's number and hash; one row, locked by whoever appends."""

    __tablename__ = "audit_head"
    __unaudited__: ClassVar[str] = "repeats the last event"

    id: int = Field(default=1, primary_key=True)
    seq: int = Field(default=0, sa_column=Column(BigKey, nullable=False))
    hash: str = Field(default=GENESIS, max_length=64)


for _table in ("audit_events", "audit_event_items"):
    make_append_only(SQLModel.metadata.tables[_table])

# Every write ends with these: they are prebuilt. On SQLite the transaction itself is the lock.
_READ_HEAD = {
    "sqlite": text("SELECT seq, hash FROM audit_head"),
    "postgresql": text("SELECT seq, hash FROM audit_head FOR UPDATE"),
}
_MOVE_HEAD = text("UPDATE audit_head SET seq = :seq, hash = :hash")
_ADD_EVENTS = SQLModel.metadata.tables["audit_events"].insert()
_ADD_ITEMS = SQLModel.metadata.tables["audit_event_items"].insert()


@dataclass(slots=True)
class PendingAct:
    """An act of the running transaction, before it has a number.

    Attributes:
        kind: Kind of act.
        items: Serials of the things concerned.
        reason: Why, in the actor's words.
        detail: More, JSON-able; may be filled while the act runs.
        changes: Row changes flushed while it was the innermost act; `step` counts them through the transaction,
            since an act that holds others goes on changing rows after them.
    """

    kind: str
    items: list[str]
    reason: str
    detail: dict[str, Any]
    changes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SealedEvent:
    """An event as committed, for those who watch.

    Attributes:
        seq: Number in the chain; the id of live events.
        at: Domain time.
    """

    seq: int
    at: datetime
    actor: str
    kind: str
    items: tuple[str, ...]
    detail: dict[str, Any]


def seal(
    session: Session, acts: Sequence[PendingAct], actor: Actor, at: datetime, wall_at: datetime
) -> list[SealedEvent]:
    """Append the acts of this transaction to the chain. Called once, last before commit.

    Returns:
        The events with their numbers, in order.
    """
    if not acts:
        return []
    connection = session.connection()
    seq, previous = connection.execute(_READ_HEAD[connection.dialect.name]).one()
    transaction = seq + 1
    rows: list[dict[str, Any]] = []
    item_rows: list[dict[str, Any]] = []
    sealed: list[SealedEvent] = []
    for act in acts:
        seq += 1
        items = list(dict.fromkeys(act.items))
        body = canonical_bytes(
            {
                "seq": seq,
                "at": at,
                "wall_at": wall_at,
                "actor": actor.name,
                "user_id": actor.user_id,
                "full_name": actor.full_name,
                "terminal": actor.terminal,
                "kind": act.kind,
                "items": items,
                "reason": act.reason,
                "detail": act.detail,
                "changes": act.changes,
                "transaction": transaction,
                "prev": previous,
            }
        )
        previous = sha256_hex(body)
        rows.append(
            {
                "seq": seq,
                "at": at,
                "wall_at": wall_at,
                "actor": actor.name,
                "kind": act.kind,
                "body": body.decode(),
                "hash": previous,
            }
        )
        item_rows.extend({"item": item, "seq": seq} for item in items)
        sealed.append(SealedEvent(seq, at, actor.name, act.kind, tuple(items), act.detail))
    connection.execute(_ADD_EVENTS, rows)
    if item_rows:
        connection.execute(_ADD_ITEMS, item_rows)
    connection.execute(_MOVE_HEAD, {"seq": seq, "hash": previous})
    return sealed
