"""Non-conformances: something is not as it should be, and QA decides what becomes of it.

Opening one places a hold; the decision lifts that hold or scraps the thing, in the same transaction and under the
same signature. Other holds on the thing stay.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, select

from traceability.activities import next_serial
from traceability.canonical import content_hash
from traceability.columns import Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, Refused
from traceability.holds import Hold, place_hold
from traceability.identifiers import parse_identifier
from traceability.items import Item, ItemKind, find_item
from traceability.materials import scrap_lot
from traceability.signatures import Meaning, SigningSession, sign
from traceability.units import UnitEvent, advance_unit


class Disposition(StrEnum):
    """What becomes of a thing that does not conform."""

    USE_AS_IS = "use_as_is"
    REWORK = "rework"
    SCRAP = "scrap"


class NonConformance(SQLModel, table=True):
    """A thing that does not conform.

    Attributes:
        hold_id: The hold that was placed with it.
        disposition: None until QA has decided.
        signature_id: The signature under the decision.
    """

    __tablename__ = "nonconformances"

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    item_id: int = Field(foreign_key="items.id", index=True)
    hold_id: int = Field(foreign_key="holds.id")
    title: str
    description: str = ""
    opened_by: str
    opened_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    disposition: Disposition | None = Field(default=None, sa_column=Column(Choice(Disposition)))
    decided_by: str = ""
    decided_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    reason: str = ""
    signature_id: int | None = Field(default=None, foreign_key="signatures.id")
    version: int = 1


def open_nonconformance(record: RecordSession, serial: str, *, title: str, description: str = "") -> NonConformance:
    """Report that a thing does not conform, and hold it.

    Raises:
        InvalidInput: There is no title, or the serial is none.
        NotFound: Nothing has the serial.
    """
    with record.act("nonconformance.opened", serial) as act:
        if not title.strip():
            raise InvalidInput("A non-conformance needs a title.")
        item = find_item(record, serial)
        number = next_serial(record, "NCR")
        hold = place_hold(record, item.serial, reason=f"{number}: {title.strip()}")
        row = NonConformance(
            serial=number,
            item_id=item.key,
            hold_id=_key(hold),
            title=title.strip(),
            description=description,
            opened_by=record.actor.name,
            opened_at=record.clock.now(),
        )
        record.add(row)
        record.flush()
        act.items.append(number)
    return row


def find_nonconformance(record: RecordSession, serial: str, *, lock: bool = False) -> NonConformance:
    """The non-conformance with that serial, with `lock` read anew and kept from others until the transaction ends.

    Raises:
        InvalidInput: It is no identifier.
        NotFound: There is none.
    """
    identifier = parse_identifier(serial)
    query = select(NonConformance).where(NonConformance.serial == identifier)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = record.exec(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no non-conformance {identifier}.")
    return row


def dispose(
    record: RecordSession, serial: str, disposition: Disposition, *, reason: str, signing: SigningSession
) -> NonConformance:
    """Decide what becomes of a thing that does not conform, by signature.

    Use as is and rework lift the hold that came with the report; scrap ends the thing and leaves it held, so that
    what was made of it before stays held too.

    Raises:
        InvalidInput: There is no reason, or the serial is none.
        NotFound: There is no such non-conformance.
        Refused: It is decided already, or the thing can't be scrapped any more.
        SignatureRefused: The signature can't be given.
    """
    with record.act("nonconformance.disposed", serial, reason=reason.strip(), detail={"as": disposition}) as act:
        if not reason.strip():
            raise InvalidInput("A disposition needs a reason.")
        row = find_nonconformance(record, serial, lock=True)
        if row.disposition is not None:
            message = f"{row.decided_by} decided {row.serial} already: {row.disposition}."
            finding = Finding("already_decided", message.replace("_", " "), "Open another if need be.", row.serial)
            raise Refused(f"{row.serial} is decided.", [finding])
        item = record.get_one(Item, row.item_id)
        act.items.append(item.serial)
        content = content_hash(
            {
                "decision": disposition,
                "nonconformance": row.serial,
                "item": item.serial,
                "title": row.title,
                "description": row.description,
                "opened_by": row.opened_by,
                "opened_at": row.opened_at,
                "reason": reason.strip(),
            }
        )
        signature = sign(record, signing, meaning=Meaning.DISPOSED, subject=row.serial, content=content)
        record.flush()
        row.disposition = disposition
        row.decided_by = record.actor.name
        row.decided_at = record.clock.now()
        row.reason = reason.strip()
        row.signature_id = signature.id
        row.version += 1
        record.add(row)
        if disposition is not Disposition.SCRAP:
            _lift(record, row, item)
        elif item.kind is ItemKind.LOT:
            scrap_lot(record, item.serial, reason=f"{row.serial}: {row.reason}")
        else:
            advance_unit(record, item.serial, UnitEvent.SCRAP, reason=f"{row.serial}: {row.reason}")
    return row


def _lift(record: RecordSession, row: NonConformance, item: Item) -> None:
    """Lift the report's own hold under the signature of the decision, unless it was lifted before."""
    hold = record.get_one(Hold, row.hold_id, with_for_update=True, populate_existing=True)
    if hold.released_at is not None:
        return
    with record.act("hold.released", item.serial, hold.serial, reason=row.reason):
        hold.released_by = row.decided_by
        hold.released_at = row.decided_at
        hold.release_reason = f"{row.serial}: {row.reason}"
        hold.signature_id = row.signature_id
        hold.version += 1
        record.add(hold)


def _key(hold: Hold) -> int:
    if hold.id is None:
        raise RuntimeError("the hold is not stored yet")
    return hold.id
