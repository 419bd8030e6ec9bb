"""Serialised units: discs, witness coupons, pellets, cells and what lies between; each has its own serial.

A unit is made of other items in one transaction: the sources are judged, used up or drawn from, and the genealogy
is written with it. Its films stand in `layers`; what tools and testers did to it is known above.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from traceability.activities import ActivityRow
from traceability.columns import CanonicalJson, Choice
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, refuse_for
from traceability.genealogy import EdgeKind, link_new
from traceability.holds import holds_on
from traceability.identifiers import parse_identifier
from traceability.items import Item, ItemKind, create_items, look_up, require_version
from traceability.materials import Lot, find_lot, lock_lots, lot_findings, take
from traceability.quantities import Quantity
from traceability.stock import logistics_activity
from traceability.transitions import TransitionTable


class UnitStatus(StrEnum):
    """Where a unit stands in its life."""

    AVAILABLE = "available"
    IN_PROCESS = "in_process"
    ON_TEST = "on_test"
    TESTED = "tested"
    CONSUMED = "consumed"
    SCRAPPED = "scrapped"


class UnitEvent(StrEnum):
    """What moves a unit on."""

    LOAD = "load"
    UNLOAD = "unload"
    HAND_OVER = "hand_over"
    GIVE_BACK = "give_back"
    FINISH_TEST = "finish_test"
    USE_UP = "use_up"
    SCRAP = "scrap"


UNIT_STATES: TransitionTable[UnitStatus, UnitEvent] = TransitionTable(
    "unit",
    [
        (UnitStatus.AVAILABLE, UnitEvent.LOAD, UnitStatus.IN_PROCESS),
        (UnitStatus.IN_PROCESS, UnitEvent.UNLOAD, UnitStatus.AVAILABLE),
        (UnitStatus.AVAILABLE, UnitEvent.HAND_OVER, UnitStatus.ON_TEST),
        (UnitStatus.TESTED, UnitEvent.HAND_OVER, UnitStatus.ON_TEST),
        (UnitStatus.ON_TEST, UnitEvent.GIVE_BACK, UnitStatus.AVAILABLE),
        (UnitStatus.ON_TEST, UnitEvent.FINISH_TEST, UnitStatus.TESTED),
        (UnitStatus.AVAILABLE, UnitEvent.USE_UP, UnitStatus.CONSUMED),
        (UnitStatus.IN_PROCESS, UnitEvent.USE_UP, UnitStatus.CONSUMED),
        (UnitStatus.TESTED, UnitEvent.USE_UP, UnitStatus.CONSUMED),
        (UnitStatus.AVAILABLE, UnitEvent.SCRAP, UnitStatus.SCRAPPED),
        (UnitStatus.IN_PROCESS, UnitEvent.SCRAP, UnitStatus.SCRAPPED),
        (UnitStatus.ON_TEST, UnitEvent.SCRAP, UnitStatus.SCRAPPED),
        (UnitStatus.TESTED, UnitEvent.SCRAP, UnitStatus.SCRAPPED),
    ],
)

_EVENT_ACTS = {UnitEvent.SCRAP: "unit.scrapped"}

_K = ItemKind

# What a unit of each kind may be made of.
MADE_OF: Mapping[ItemKind, frozenset[ItemKind]] = {
    _K.TARGET: frozenset({_K.LOT}),
    _K.DISC: frozenset({_K.LOT}),
    _K.WITNESS: frozenset({_K.LOT, _K.WITNESS, _K.TARGET}),
    _K.COATED_DISC: frozenset({_K.LOT, _K.DISC, _K.COATED_DISC, _K.TARGET, _K.CELL}),
    _K.PELLET: frozenset({_K.LOT, _K.PELLET, _K.CELL}),
    _K.CATHODE_BATCH: frozenset({_K.LOT}),
    _K.HALF_STACK: frozenset({_K.LOT, _K.PELLET, _K.CATHODE_BATCH, _K.DISC, _K.COATED_DISC}),
    _K.CELL: frozenset({_K.LOT, _K.PELLET, _K.HALF_STACK, _K.CATHODE_BATCH, _K.DISC, _K.COATED_DISC}),
}

# What comes out of a lot by taking a piece of it.
_PIECES = frozenset({_K.TARGET, _K.DISC, _K.WITNESS})

# Edges after which the source is no longer there to be used again.
_USES_UP = frozenset({EdgeKind.TRANSFORMED, EdgeKind.INCORPORATED, EdgeKind.REWORKED, EdgeKind.DESTROYED})
# Kinds that give something of themselves many times over.
_LASTING = frozenset({ItemKind.TARGET})
_TAKEN_APART = frozenset({EdgeKind.RECOVERED, EdgeKind.REWORKED, EdgeKind.DESTROYED})
# Findings against using a source that come too late once a tool has used it.
_TOO_LATE = frozenset({"held", "lot_in_quarantine", "lot_expired"})


class Unit(SQLModel, table=True):
    """A serialised thing.

    Attributes:
        product: What it is to the customer or the recipe, e.g. `Li@LiAlO2 symmetric cell`.
        properties: Facts about this one, JSON-able; decimals as strings, units in the keys.
        simulated: The equipment that made it, or something in it, declared itself a simulator.
    """

    __tablename__ = "units"

    item_id: int = Field(primary_key=True, foreign_key="items.id", sa_column_kwargs={"autoincrement": False})
    serial: str = Field(unique=True)
    kind: ItemKind = Field(sa_column=Column(Choice(ItemKind), nullable=False, index=True))
    product: str = ""
    status: UnitStatus = Field(sa_column=Column(Choice(UnitStatus), nullable=False, index=True))
    location: str = ""
    properties: dict[str, Any] = Field(default_factory=dict, sa_column=Column(CanonicalJson, nullable=False))
    simulated: bool = False
    version: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """Something that goes into a unit.

    Attributes:
        serial: Of a lot or a unit.
        edge_kind: How it goes in.
        quantity: How much of a lot; None for a unit.
    """

    serial: str
    edge_kind: EdgeKind = EdgeKind.INCORPORATED
    quantity: Quantity | None = None


def find_unit(record: RecordSession, serial: str) -> Unit:
    """The unit with that serial.

    Raises:
        InvalidInput: It is no identifier.
        NotFound: There is no such unit.
    """
    identifier = parse_identifier(serial)
    unit = record.exec(select(Unit).where(Unit.serial == identifier)).one_or_none()
    if unit is None:
        raise NotFound(f"There is no unit {identifier}.")
    return unit


def lock_units(record: RecordSession, item_ids: Iterable[int]) -> dict[int, Unit]:
    """The units among some items, read anew and locked, by item id. Always in one order, so that nobody deadlocks."""
    query = select(Unit).where(col(Unit.item_id).in_(set(item_ids))).order_by(col(Unit.item_id))
    rows = record.exec(query.with_for_update().execution_options(populate_existing=True))
    return {unit.item_id: unit for unit in rows}


def advance_unit(
    record: RecordSession,
    serial: str,
    event: UnitEvent,
    *,
    reason: str = "",
    expected_version: int | None = None,
) -> Unit:
    """Move a unit on in its life.

    Raises:
        InvalidInput: The serial is none, or a unit is to be scrapped without a reason.
        NotFound: There is no such unit.
        Refused: Its status does not allow it.
        StaleVersion: It was changed since it was read.
    """
    with record.act(_EVENT_ACTS.get(event, "unit.changed"), serial, reason=reason, detail={"event": event}):
        if event is UnitEvent.SCRAP and not reason.strip():
            raise InvalidInput("Scrapping a unit needs a reason.")
        unit = lock_units(record, [find_unit(record, serial).item_id]).popitem()[1]
        require_version(unit.serial, unit.version, expected_version)
        unit.status = UNIT_STATES.next(unit.status, event, unit.serial)
        unit.version += 1
        record.add(unit)
    return unit


def unit_findings(unit: Unit, edge_kind: EdgeKind = EdgeKind.INCORPORATED) -> list[Finding]:
    """Why a unit can't go into something now; holds apart.

    Args:
        unit: The unit.
        edge_kind: How it would go in; what was tested may still be taken apart.
    """
    if unit.status in (UnitStatus.AVAILABLE, UnitStatus.IN_PROCESS):
        return []
    if unit.status is UnitStatus.TESTED and edge_kind in _TAKEN_APART:
        return []
    if unit.status is UnitStatus.CONSUMED and edge_kind is EdgeKind.RECOVERED:
        return []
    if unit.status is UnitStatus.CONSUMED:
        message = f"{unit.serial} was used already."
        return [Finding("unit_used", message, "Trace it forward to see where it is, and scan another.", unit.serial)]
    message = f"{unit.serial} is {unit.status.replace('_', ' ')}."
    return [Finding(f"unit_{unit.status}", message, "Use another.", unit.serial)]


def create_unit(
    record: RecordSession,
    kind: ItemKind,
    *,
    activity: ActivityRow,
    product: str = "",
    properties: dict[str, Any] | None = None,
    location: str = "",
    sources: Sequence[Source] = (),
    happened: bool = False,
    serial: str = "",
) -> Unit:
    """Make a unit of its sources: they are used up or drawn from, and the genealogy says so.

    Args:
        record: Open write session.
        kind: What is made; not a lot.
        activity: What makes it.
        product: What it is to the customer or the recipe.
        properties: Facts about it, JSON-able.
        location: Where it is.
        sources: What it is made of.
        happened: A tool has made it already: that a source was held, expired or put in quarantine meanwhile does
            not undo that. A hold goes on to what was made.
        serial: Reserved before (`items.reserve_serial`); a fresh one if empty.

    Raises:
        Refused: A source is unknown, held, expired, in quarantine, used already, of a kind that does not belong in,
            or has not enough; all findings of all sources.
    """
    if kind is ItemKind.LOT:
        raise InvalidInput("A lot is received, split or merged; it is no unit.")
    with record.act("unit.created", *(source.serial for source in sources), activity.serial) as act:
        items, findings = look_up(record, [source.serial for source in sources])
        ids = [item.key for item in items.values()]
        lots, units = lock_lots(record, ids), lock_units(record, ids)
        findings += _source_findings(record, kind, sources, items, lots, units)
        if happened:
            findings = [finding for finding in findings if finding.code not in _TOO_LATE]
        refuse_for(f"The {kind} can't be made.".replace("_", " "), findings)
        (item,) = create_items(record, kind, serial=serial)
        for source in sources:
            source_id = items[source.serial].key
            if source_id in lots and source.quantity is not None:
                lot = lots[source_id]
                amount = source.quantity.to(lot.unit)
                take(record, lot, amount)
                link_new(record, source_id, item.key, source.edge_kind, activity, amount)
                continue
            link_new(record, source_id, item.key, source.edge_kind, activity)
            unit = units[source_id]
            if source.edge_kind in _USES_UP and unit.kind not in _LASTING:
                unit.status = UNIT_STATES.next(unit.status, UnitEvent.USE_UP, unit.serial)
                unit.version += 1
                record.add(unit)
        made = Unit(
            item_id=item.key,
            serial=item.serial,
            kind=kind,
            product=product,
            status=UnitStatus.AVAILABLE,
            location=location,
            properties=properties or {},
            simulated=activity.simulated or any(unit.simulated for unit in units.values()),
        )
        record.add(made)
        record.flush()
        act.items.append(made.serial)
    return made


def serialise_lot(
    record: RecordSession,
    lot_serial: str,
    count: int,
    kind: ItemKind,
    activity: ActivityRow | None = None,
    *,
    product: str = "",
    location: str = "",
) -> list[Unit]:
    """Give pieces of a lot serials of their own: discs of a tin, coupons of a box, a target out of its case.

    Args:
        record: Open write session.
        lot_serial: A released lot that is counted in pieces.
        count: How many.
        kind: What the pieces are.
        activity: What it belongs to; one is made if left out.
        product: What they are to the customer or the recipe.
        location: Where they are put; where the lot is if left out.

    Raises:
        InvalidInput: The serial is none, or the count is not above zero.
        NotFound: There is no such lot.
        Refused: The lot may not be used or has not so many, or such units don't come out of a lot; all findings.
    """
    wanted = Quantity.parse(count, "piece")
    with record.act("unit.created", lot_serial, detail={"count": count}) as act:
        lot = find_lot(record, lot_serial, lock=True)
        findings = lot_findings(lot, record.clock.now(), wanted)
        if kind not in _PIECES:
            message = f"A {kind} is not a piece of a lot.".replace("_", " ")
            action = f"Pieces are: {', '.join(sorted(_PIECES))}; anything else is made."
            findings.append(Finding("wrong_kind", message, action, lot.serial))
        findings += [hold.finding for hold in holds_on(record, [lot.serial])]
        refuse_for(f"{lot.serial} can't be serialised.", findings)
        activity = activity or logistics_activity(record, "serialise")
        items = create_items(record, kind, count)
        take(record, lot, wanted)
        units = []
        for item in items:
            link_new(record, lot.item_id, item.key, EdgeKind.SPLIT, activity, Quantity.parse(1, "piece"))
            unit = Unit(
                item_id=item.key,
                serial=item.serial,
                kind=kind,
                product=product,
                status=UnitStatus.AVAILABLE,
                location=location or lot.location,
                simulated=activity.simulated,
            )
            record.add(unit)
            units.append(unit)
        act.items += [unit.serial for unit in units]
    return units


def _kind_findings(kind: ItemKind, source_kind: ItemKind, serial: str) -> list[Finding]:
    allowed = MADE_OF.get(kind, frozenset())
    if source_kind in allowed:
        return []
    message = f"{serial} is a {source_kind}; a {kind} is not made of one.".replace("_", " ")
    action = f"It is made of: {', '.join(sorted(allowed)) or 'nothing'}."
    return [Finding("wrong_kind", message, action, serial)]


def _source_findings(
    record: RecordSession,
    kind: ItemKind,
    sources: Sequence[Source],
    items: Mapping[str, Item],
    lots: Mapping[int, Lot],
    units: Mapping[int, Unit],
) -> list[Finding]:
    findings: list[Finding] = []
    now = record.clock.now()
    for serial, times in Counter(items[s.serial].serial for s in sources if s.serial in items).items():
        if times > 1:
            findings.append(Finding("listed_twice", f"{serial} stands {times} times.", "List it once.", serial))
    for source in sources:
        item = items.get(source.serial)
        if item is None:
            continue
        findings += _kind_findings(kind, item.kind, item.serial)
        if item.key in lots:
            findings += lot_findings(lots[item.key], now, source.quantity)
            if source.quantity is None:
                message = f"How much of {item.serial} goes in is not said."
                findings.append(Finding("quantity_missing", message, "Give the quantity.", item.serial))
        else:
            findings += unit_findings(units[item.key], source.edge_kind)
            if source.quantity is not None:
                message = f"{item.serial} is one unit and has no quantity."
                findings.append(Finding("quantity_of_unit", message, "Leave the quantity out.", item.serial))
    return findings + [hold.finding for hold in holds_on(record, [item.serial for item in items.values()])]
