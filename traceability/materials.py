"""Materials and their lots: what was bought or made in bulk, how much of it is left, and whether it may be used.

Amounts are exact decimals in the lot's own unit and never go below zero. Held and expired are no states of a lot:
they follow from the holds on it and what it is made of, and from the clock (`lot_findings`). What a lot was used
for is known to the genealogy.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from traceability.canonical import timestamp
from traceability.columns import CanonicalJson, Choice, ExactDecimal, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Conflict, Finding, InvalidInput, NotFound, Refused
from traceability.identifiers import parse_identifier
from traceability.items import ItemKind, create_items, require_version
from traceability.quantities import Quantity
from traceability.transitions import TransitionTable


class MaterialKind(StrEnum):
    """What a material is to the line."""

    METAL_DISC = "metal_disc"
    TARGET = "target"
    ELECTROLYTE_POWDER = "electrolyte_powder"
    ACTIVE_POWDER = "active_powder"
    WITNESS = "witness"
    GAS = "gas"
    COLLECTOR = "collector"
    HARDWARE = "hardware"


class LotStatus(StrEnum):
    """Where a lot stands in its life."""

    QUARANTINE = "quarantine"
    RELEASED = "released"
    CONSUMED = "consumed"
    SCRAPPED = "scrapped"


class LotEvent(StrEnum):
    """What moves a lot on."""

    RELEASE = "release"
    QUARANTINE = "quarantine"
    USE_UP = "use_up"
    SCRAP = "scrap"


LOT_STATES: TransitionTable[LotStatus, LotEvent] = TransitionTable(
    "lot",
    [
        (LotStatus.QUARANTINE, LotEvent.RELEASE, LotStatus.RELEASED),
        (LotStatus.RELEASED, LotEvent.QUARANTINE, LotStatus.QUARANTINE),
        # A lot in quarantine is used up when it is split or merged to the last of it.
        (LotStatus.QUARANTINE, LotEvent.USE_UP, LotStatus.CONSUMED),
        (LotStatus.RELEASED, LotEvent.USE_UP, LotStatus.CONSUMED),
        (LotStatus.QUARANTINE, LotEvent.SCRAP, LotStatus.SCRAPPED),
        (LotStatus.RELEASED, LotEvent.SCRAP, LotStatus.SCRAPPED),
    ],
)


class Material(SQLModel, table=True):
    """The definition of a material.

    Attributes:
        code: Short and unique, e.g. `LGPS`.
        unit: The unit its lots are kept in.
        properties: What is true of every lot, e.g. `{"density_g_cm3": "2.04"}`.
    """

    __tablename__ = "materials"

    id: int | None = Field(default=None, primary_key=True)
    code: str = Field(unique=True)
    name: str
    kind: MaterialKind = Field(sa_column=Column(Choice(MaterialKind), nullable=False))
    unit: str
    properties: dict[str, Any] = Field(default_factory=dict, sa_column=Column(CanonicalJson, nullable=False))


class Lot(SQLModel, table=True):
    """An amount of one material with one history.

    Attributes:
        quantity: What is left, in `unit`.
        certificate: Number or address of the supplier's certificate.
    """

    __tablename__ = "lots"

    item_id: int = Field(primary_key=True, foreign_key="items.id", sa_column_kwargs={"autoincrement": False})
    serial: str = Field(unique=True)
    material_code: str = Field(foreign_key="materials.code", index=True)
    quantity: Decimal = Field(sa_column=Column(ExactDecimal, nullable=False))
    unit: str
    status: LotStatus = Field(sa_column=Column(Choice(LotStatus), nullable=False, index=True))
    expires_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    location: str = ""
    supplier: str = ""
    supplier_lot: str = ""
    certificate: str = ""
    version: int = 1

    @property
    def left(self) -> Quantity:
        """What is left."""
        return Quantity(self.quantity, self.unit)


def define_material(
    record: RecordSession,
    code: str,
    name: str,
    kind: MaterialKind,
    unit: str,
    properties: dict[str, Any] | None = None,
) -> Material:
    """Make a material known.

    Raises:
        Conflict: The code is taken.
        InvalidInput: The unit is unknown, or the code is empty.
    """
    if not code.strip():
        raise InvalidInput("A material needs a code.")
    Quantity(Decimal(0), unit)
    with record.act("material.defined", f"material:{code}"):
        if record.exec(select(Material).where(Material.code == code)).first():
            raise Conflict(f"There is a material {code} already.")
        material = Material(code=code, name=name, kind=kind, unit=unit, properties=properties or {})
        record.add(material)
    return material


def find_material(record: RecordSession, code: str) -> Material:
    """The material of that code.

    Raises:
        NotFound: There is none.
    """
    material = record.exec(select(Material).where(Material.code == code)).one_or_none()
    if material is None:
        raise NotFound(f"There is no material {code!r}; define it first.")
    return material


def receive_lot(
    record: RecordSession,
    *,
    material_code: str,
    quantity: Quantity,
    supplier: str = "",
    supplier_lot: str = "",
    certificate: str = "",
    expires_at: datetime | None = None,
    location: str = "",
    released: bool = False,
) -> Lot:
    """Take a lot into stock. It stays in quarantine until it is released.

    Args:
        record: Open write session.
        material_code: A defined material.
        quantity: How much; kept in the material's unit.
        supplier: Who made or sold it.
        supplier_lot: Their number for it.
        certificate: Number or address of their certificate.
        expires_at: From then on it can't be used.
        location: Where it is put.
        released: Release it at once; the actor needs the right to release.

    Raises:
        NotFound: There is no such material.
        InvalidInput: The quantity is not above zero or in another kind of unit.
        NotPermitted: The actor may not release.
    """
    with record.act("lot.received") as act:
        material = find_material(record, material_code)
        amount = quantity.to(material.unit)
        if amount.value <= 0:
            raise InvalidInput(f"A lot needs a quantity above zero, not {quantity}.")
        lot = new_lot(
            record,
            material_code=material.code,
            quantity=amount,
            status=LotStatus.QUARANTINE,
            expires_at=expires_at,
            location=location,
            supplier=supplier,
            supplier_lot=supplier_lot,
            certificate=certificate,
        )
        act.items.append(lot.serial)
        act.detail["quantity"] = str(amount)
    return release_lot(record, lot.serial, reason="released on receipt") if released else lot


def new_lot(
    record: RecordSession,
    *,
    material_code: str,
    quantity: Quantity,
    status: LotStatus,
    expires_at: datetime | None,
    location: str,
    supplier: str,
    supplier_lot: str,
    certificate: str,
) -> Lot:
    """Add the row of a lot, within the act that makes it."""
    (item,) = create_items(record, ItemKind.LOT)
    lot = Lot(
        item_id=item.key,
        serial=item.serial,
        material_code=material_code,
        quantity=quantity.value,
        unit=quantity.unit,
        status=status,
        expires_at=expires_at,
        location=location,
        supplier=supplier,
        supplier_lot=supplier_lot,
        certificate=certificate,
    )
    record.add(lot)
    record.flush()
    return lot


def find_lot(record: RecordSession, serial: str, *, lock: bool = False) -> Lot:
    """The lot with that serial.

    Args:
        record: Open session.
        serial: As scanned or typed.
        lock: Read it anew and keep others from changing it until this transaction ends.

    Raises:
        InvalidInput: It is no identifier.
        NotFound: There is no such lot.
    """
    identifier = parse_identifier(serial)
    query = select(Lot).where(Lot.serial == identifier)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    lot = record.exec(query).one_or_none()
    if lot is None:
        raise NotFound(f"There is no lot {identifier}.")
    return lot


def lock_lots(record: RecordSession, item_ids: Iterable[int]) -> dict[int, Lot]:
    """The lots among some items, read anew and locked, by item id. Always in one order, so that nobody deadlocks."""
    query = select(Lot).where(col(Lot.item_id).in_(set(item_ids))).order_by(col(Lot.item_id))
    rows = record.exec(query.with_for_update().execution_options(populate_existing=True))
    return {lot.item_id: lot for lot in rows}


def lot_findings(lot: Lot, now: datetime, wanted: Quantity | None = None) -> list[Finding]:
    """Why a lot, or so much of it, can't be used now; holds apart.

    Args:
        lot: The lot.
        now: Domain time.
        wanted: How much; None for any.
    """
    findings: list[Finding] = []
    if lot.status is LotStatus.QUARANTINE:
        message = f"{lot.serial} is in quarantine."
        findings.append(
            Finding("lot_in_quarantine", message, "Ask QA to release it, or use another lot.", lot.serial)
        )
    elif lot.status is not LotStatus.RELEASED:
        message = f"{lot.serial} is {lot.status}."
        findings.append(Finding(f"lot_{lot.status}", message, "Use another lot.", lot.serial))
    if lot.expires_at is not None and lot.expires_at <= now:
        message = f"{lot.serial} expired at {timestamp(lot.expires_at)}."
        findings.append(Finding("lot_expired", message, "Use another lot.", lot.serial))
    if wanted is not None:
        findings += amount_findings(lot, wanted)
    return findings


def amount_findings(lot: Lot, wanted: Quantity) -> list[Finding]:
    """Why that amount can't be taken from a lot: not above zero, another kind of unit, or too much."""
    try:
        amount = wanted.to(lot.unit)
    except InvalidInput as error:
        message = f"{lot.serial} is kept in {lot.unit}: {error.message}"
        return [Finding("wrong_unit", message, f"Give the quantity in {lot.unit}.", lot.serial)]
    if amount.value <= 0:
        message = f"{wanted} of {lot.serial} is no amount."
        return [Finding("quantity_not_positive", message, "Give a quantity above zero.", lot.serial)]
    if lot.status not in (LotStatus.CONSUMED, LotStatus.SCRAPPED) and amount.value > lot.quantity:
        message = f"{lot.serial} has {lot.left} left, not {amount}."
        return [Finding("lot_insufficient", message, "Take less, or add another lot.", lot.serial)]
    return []


def take(record: RecordSession, lot: Lot, amount: Quantity) -> None:
    """Lower a locked lot by an amount that it has, within the act that uses it."""
    left = lot.left - amount
    if left.value < 0:
        raise Refused(f"{lot.serial} can't give {amount}.", amount_findings(lot, amount))
    lot.quantity = left.value
    if left.value == 0:
        lot.status = LOT_STATES.next(lot.status, LotEvent.USE_UP, lot.serial)
    lot.version += 1
    record.add(lot)


def release_lot(record: RecordSession, serial: str, *, reason: str, expected_version: int | None = None) -> Lot:
    """Let a lot out of quarantine.

    Raises:
        Refused: It is not in quarantine.
        StaleVersion: It was changed since it was read.
    """
    return _move_on(record, serial, LotEvent.RELEASE, "lot.released", reason, expected_version)


def quarantine_lot(record: RecordSession, serial: str, *, reason: str, expected_version: int | None = None) -> Lot:
    """Take a released lot back into quarantine.

    Raises:
        Refused: It is not released.
        StaleVersion: It was changed since it was read.
    """
    return _move_on(record, serial, LotEvent.QUARANTINE, "lot.quarantined", reason, expected_version)


def scrap_lot(record: RecordSession, serial: str, *, reason: str, expected_version: int | None = None) -> Lot:
    """Give up what is left of a lot; the quantity stays on the record.

    Raises:
        Refused: It is used up or scrapped already.
        StaleVersion: It was changed since it was read.
    """
    return _move_on(record, serial, LotEvent.SCRAP, "lot.scrapped", reason, expected_version)


def _move_on(
    record: RecordSession, serial: str, event: LotEvent, act: str, reason: str, expected_version: int | None
) -> Lot:
    with record.act(act, serial, reason=reason.strip()):
        if not reason.strip():
            raise InvalidInput("This needs a reason.")
        lot = find_lot(record, serial, lock=True)
        require_version(lot.serial, lot.version, expected_version)
        lot.status = LOT_STATES.next(lot.status, event, lot.serial)
        lot.version += 1
        record.add(lot)
    return lot
