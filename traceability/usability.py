"""Whether things may be used for a step: every reason against it at once, before anything is done.

The same rules are applied again, under locks, when the things are used; this is the question that dispatch and
the tablet ask beforehand. What a step needs is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from traceability.database import RecordSession
from traceability.errors import Finding
from traceability.exposure import DEFAULT_LIMITS, ExposureLimits, exposure_findings
from traceability.holds import holds_on
from traceability.items import ItemKind, look_up
from traceability.materials import Lot, lot_findings
from traceability.quantities import Quantity
from traceability.units import Unit, unit_findings


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that a step is to use.

    Attributes:
        serial: As scanned or typed.
        kinds: What it may be; any if empty.
        material_code: What the lot must be of; any if empty.
        quantity: How much of a lot; None for any.
    """

    serial: str
    kinds: frozenset[ItemKind] = frozenset()
    material_code: str = ""
    quantity: Quantity | None = None


def use_findings(
    record: RecordSession,
    wanted: Sequence[Wanted],
    limits: Mapping[ItemKind, ExposureLimits] = DEFAULT_LIMITS,
) -> list[Finding]:
    """Every reason why the things can't be used now: unknown, wrong, held, expired, used, exposed, too little.

    Args:
        record: Open session.
        wanted: The things.
        limits: Exposure limits by kind.
    """
    items, findings = look_up(record, [want.serial for want in wanted])
    ids = {item.key for item in items.values()}
    lots = {lot.item_id: lot for lot in record.exec(select(Lot).where(col(Lot.item_id).in_(ids)))}
    units = {unit.item_id: unit for unit in record.exec(select(Unit).where(col(Unit.item_id).in_(ids)))}
    seen: set[int] = set()
    for want in wanted:
        item = items.get(want.serial)
        if item is None:
            continue
        if item.key in seen:
            findings.append(Finding("listed_twice", f"{item.serial} stands twice.", "List it once.", item.serial))
            continue
        seen.add(item.key)
        if want.kinds and item.kind not in want.kinds:
            asked = " or ".join(sorted(want.kinds)).replace("_", " ")
            message = f"{item.serial} is a {item.kind.replace('_', ' ')}, not a {asked}."
            findings.append(Finding("wrong_kind", message, f"Scan a {asked}.", item.serial))
        if item.key in lots:
            lot = lots[item.key]
            findings += lot_findings(lot, record.clock.now(), want.quantity)
            if want.material_code and lot.material_code != want.material_code:
                message = f"{item.serial} is {lot.material_code}, not {want.material_code}."
                findings.append(
                    Finding("other_material", message, f"Scan a lot of {want.material_code}.", item.serial)
                )
        else:
            findings += unit_findings(units[item.key])
            findings += exposure_findings(record, item.serial, limits)
    return findings + [hold.finding for hold in holds_on(record, [item.serial for item in items.values()])]
