"""Holds: what may not be used until QA says so.

A hold is placed on one thing and covers everything that was, or ever will be, made of it: whether a thing is held
is asked of the genealogy each time and copied nowhere. Why something is held is for people; what a held thing may
not do is for the callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Index, bindparam, text
from sqlmodel import Field, SQLModel, select

from traceability.activities import next_serial
from traceability.canonical import content_hash
from traceability.columns import UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, Refused
from traceability.genealogy import TraceNode, trace_forward
from traceability.identifiers import parse_identifier
from traceability.items import Item, find_item
from traceability.signatures import Meaning, SigningSession, sign


class Hold(SQLModel, table=True):
    """A hold on one thing.

    Attributes:
        item_id: The thing it was placed on.
        released_at: None as long as it stands.
        signature_id: The signature that released it.
    """

    __tablename__ = "holds"
    __table_args__ = (Index("ix_holds_item", "item_id"),)

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    item_id: int = Field(foreign_key="items.id")
    reason: str
    placed_by: str
    placed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    released_by: str = ""
    released_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    release_reason: str = ""
    signature_id: int | None = Field(default=None, foreign_key="signatures.id")
    version: int = 1


@dataclass(frozen=True, slots=True)
class HoldOn:
    """A standing hold as it meets one thing.

    Attributes:
        serial: The thing that was asked about.
        hold_id, hold_serial: The hold.
        origin: The thing the hold was placed on; the same as `serial`, or something that is in it.
        reason: Why it was placed.
    """

    serial: str
    hold_id: int
    hold_serial: str
    origin: str
    reason: str

    @property
    def inherited(self) -> bool:
        """The hold lies on something that the thing is made of."""
        return self.serial != self.origin

    @property
    def finding(self) -> Finding:
        """The hold as a reason against using the thing."""
        through = f" through {self.origin}" if self.inherited else ""
        return Finding(
            "held",
            f"{self.serial} is held{through} ({self.hold_serial}: {self.reason}).",
            "Use another, or ask QA to release the hold.",
            self.serial,
        )


# CROSS JOIN keeps the few things reached outside and the indexes inside, see `genealogy`. Released holds are left
# out by the caller: a condition on `holds` alone would make SQLite build a Bloom filter over the table.
HOLDS_ON = text(
    """
    WITH RECURSIVE reached (start, item_id) AS (
        SELECT id, id FROM items WHERE serial IN :serials
        UNION
        SELECT reached.start, edge.src
        FROM reached CROSS JOIN genealogy_edges AS edge WHERE edge.dst = reached.item_id
    )
    SELECT asked.serial, holds.id, holds.serial, origin.serial, holds.reason, holds.released_at
    FROM reached CROSS JOIN holds CROSS JOIN items AS asked CROSS JOIN items AS origin
    WHERE holds.item_id = reached.item_id AND asked.id = reached.start AND origin.id = holds.item_id
    ORDER BY asked.id, holds.id"""
).bindparams(bindparam("serials", expanding=True))


def holds_on(record: RecordSession, serials: Sequence[str]) -> list[HoldOn]:
    """All standing holds on the given things or on anything that is in them, in one query.

    Args:
        record: Open session.
        serials: Canonical serials; one that names nothing has no holds.
    """
    if not serials:
        return []
    record.flush()
    rows = record.connection().execute(HOLDS_ON, {"serials": list(dict.fromkeys(serials))})
    return [HoldOn(*hold) for *hold, released_at in rows if released_at is None]


def place_hold(record: RecordSession, serial: str, *, reason: str) -> Hold:
    """Hold a thing and all that is made of it.

    Raises:
        InvalidInput: There is no reason, or the serial is none.
        NotFound: Nothing has that serial.
    """
    with record.act("hold.placed", serial, reason=reason.strip()) as act:
        if not reason.strip():
            raise InvalidInput("A hold needs a reason.")
        item = find_item(record, serial)
        hold = Hold(
            serial=next_serial(record, "HLD"),
            item_id=item.key,
            reason=reason.strip(),
            placed_by=record.actor.name,
            placed_at=record.clock.now(),
        )
        record.add(hold)
        record.flush()
        act.items.append(hold.serial)
    return hold


def find_hold(record: RecordSession, serial: str) -> Hold:
    """The hold with that serial.

    Raises:
        InvalidInput: It is no identifier.
        NotFound: There is none.
    """
    identifier = parse_identifier(serial)
    hold = record.exec(select(Hold).where(Hold.serial == identifier)).one_or_none()
    if hold is None:
        raise NotFound(f"There is no hold {identifier}.")
    return hold


def covered_by(record: RecordSession, hold: Hold) -> list[TraceNode]:
    """Everything that a hold covers now, nearest first."""
    return trace_forward(record, hold.item_id)


def release_content(record: RecordSession, hold: Hold, reason: str) -> str:
    """What the signature that releases a hold is bound to, as SHA-256."""
    return content_hash(
        {
            "decision": "release hold",
            "hold": hold.serial,
            "item": record.get_one(Item, hold.item_id).serial,
            "held_because": hold.reason,
            "placed_by": hold.placed_by,
            "placed_at": hold.placed_at,
            "released_because": reason,
        }
    )


def release_hold(record: RecordSession, hold_id: int, *, reason: str, signing: SigningSession) -> Hold:
    """Lift a hold, by signature.

    Raises:
        NotFound: There is no such hold.
        InvalidInput: There is no reason.
        Refused: It is released already.
        SignatureRefused: The signature can't be given.
    """
    hold = record.get(Hold, hold_id, with_for_update=True, populate_existing=True)
    if hold is None:
        raise NotFound(f"There is no hold number {hold_id}.")
    item = record.get_one(Item, hold.item_id)
    with record.act("hold.released", item.serial, hold.serial, reason=reason.strip()):
        if not reason.strip():
            raise InvalidInput("Releasing a hold needs a reason.")
        if hold.released_at is not None:
            raise Refused(
                f"{hold.serial} is released already.",
                [
                    Finding(
                        "hold_released",
                        f"{hold.released_by} released {hold.serial}.",
                        "Nothing is left to do.",
                        hold.serial,
                    )
                ],
            )
        content = release_content(record, hold, reason.strip())
        signature = sign(record, signing, meaning=Meaning.RELEASED, subject=hold.serial, content=content)
        record.flush()
        hold.released_by = record.actor.name
        hold.released_at = record.clock.now()
        hold.release_reason = reason.strip()
        hold.signature_id = signature.id
        hold.version += 1
        record.add(hold)
    return hold
