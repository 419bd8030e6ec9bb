"""The nodes of the genealogy: every lot and every serialised unit is an item with one id and one serial.

Known here is that a thing exists, of what kind and since when. What it is made of stands in `genealogy`, what it
is like in `materials` (lots) and `units`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from traceability.activities import next_serial
from traceability.append_only import make_append_only
from traceability.columns import Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, StaleVersion
from traceability.identifiers import parse_identifier


class ItemKind(StrEnum):
    """What a thing is."""

    LOT = "lot"
    TARGET = "target"
    DISC = "disc"
    COATED_DISC = "coated_disc"
    WITNESS = "witness"
    PELLET = "pellet"
    CATHODE_BATCH = "cathode_batch"
    HALF_STACK = "half_stack"
    CELL = "cell"

    @property
    def prefix(self) -> str:
        """Prefix of its serials."""
        return _PREFIXES[self]


_PREFIXES = {
    ItemKind.LOT: "LOT",
    ItemKind.TARGET: "TGT",
    ItemKind.DISC: "DSC",
    ItemKind.COATED_DISC: "CDS",
    ItemKind.WITNESS: "WIT",
    ItemKind.PELLET: "PEL",
    ItemKind.CATHODE_BATCH: "CAT",
    ItemKind.HALF_STACK: "HST",
    ItemKind.CELL: "CEL",
}


class Item(SQLModel, table=True):
    """A thing that exists or existed. Its row never changes."""

    __tablename__ = "items"

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    kind: ItemKind = Field(sa_column=Column(Choice(ItemKind), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the item is not stored yet")
        return self.id


make_append_only(SQLModel.metadata.tables["items"])


def reserve_serial(record: RecordSession, kind: ItemKind) -> str:
    """A serial for a thing that does not exist yet, because a tool must be told it before."""
    return next_serial(record, kind.prefix)


def create_items(record: RecordSession, kind: ItemKind, count: int = 1, *, serial: str = "") -> list[Item]:
    """Bring things into being; call within the act that makes them. One thing may have a reserved `serial`."""
    now = record.clock.now()
    serials = [serial] if serial else [next_serial(record, kind.prefix) for _ in range(count)]
    items = [Item(serial=serial, kind=kind, created_at=now) for serial in serials]
    record.add_all(items)
    record.flush()
    return items


def find_item(record: RecordSession, serial: str) -> Item:
    """The thing with that serial.

    Raises:
        InvalidInput: It is no identifier, or its check character is wrong.
        NotFound: Nothing has it.
    """
    identifier = parse_identifier(serial)
    item = record.exec(select(Item).where(Item.serial == identifier)).one_or_none()
    if item is None:
        raise NotFound(f"Nothing in the record is called {identifier}.")
    return item


def look_up(record: RecordSession, serials: Iterable[str]) -> tuple[dict[str, Item], list[Finding]]:
    """Find many things at once.

    Args:
        record: Open session.
        serials: As scanned or typed.

    Returns:
        The things by the text they were asked for, and a finding for each that is none.
    """
    findings: list[Finding] = []
    identifiers: dict[str, str] = {}
    for serial in dict.fromkeys(serials):
        try:
            identifiers[serial] = parse_identifier(serial)
        except InvalidInput as error:
            findings.append(Finding("bad_serial", error.message, "Scan or type it again.", serial))
    rows = record.exec(select(Item).where(col(Item.serial).in_(set(identifiers.values()))))
    items = {item.serial: item for item in rows}
    found: dict[str, Item] = {}
    for serial, identifier in identifiers.items():
        if identifier in items:
            found[serial] = items[identifier]
        else:
            message = f"Nothing in the record is called {identifier}."
            findings.append(Finding("unknown_serial", message, "Receive or make it first, or scan again.", serial))
    return found, findings


def require_version(serial: str, version: int, expected: int | None) -> None:
    """Check that a row is still the one that the caller read.

    Raises:
        StaleVersion: It was changed since.
    """
    if expected is not None and expected != version:
        raise StaleVersion(
            f"{serial} was changed since you read it (version {version}, not {expected}); read it again."
        )
