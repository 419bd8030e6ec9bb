"""Steps done by hand with evidence: a cell is closed from its stack, and screened before it goes to a tester.

The route says what goes in and what is logged; here the parts are judged, the values checked, and the cell comes
into being with its genealogy. A cell that fails its screening exists and is held. How a stack is pressed, and what
a tester does, is not known here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlmodel import col, select

from equipment.ready import wait_findings
from equipment.tool_classes import GLOVEBOX
from recipes.routes import BomLine, LoggedValue, Route, RouteStep, log_findings
from traceability.activities import ActivityKind, Outcome, begin_activity, end_activity
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, Severity, refuse_for
from traceability.exposure import Atmosphere, move
from traceability.genealogy import GenealogyEdge, trace_back
from traceability.holds import Hold, place_hold
from traceability.items import ItemKind, look_up
from traceability.layers import layers
from traceability.materials import Lot
from traceability.measurements import Measurement, record_measurement
from traceability.quantities import Quantity, plain
from traceability.units import Source, Unit, create_unit, find_unit, lock_units

_ELECTRODES = (ItemKind.DISC, ItemKind.COATED_DISC)
_LIMITS = frozenset({"log_out_of_limits"})

LoggedValues = Mapping[str, Sequence[Decimal]]


@dataclass(frozen=True, slots=True)
class Part:
    """Something that goes into a cell.

    Attributes:
        use: What it is to the step, as the route names it.
        serial: Of a unit or a lot.
        quantity: How much of a lot; None for a unit.
    """

    use: str
    serial: str
    quantity: Quantity | None = None


@dataclass(frozen=True, slots=True)
class Screening:
    """What a screening found.

    Attributes:
        findings: Values outside their limits; empty when the cell passed.
        hold: Placed on a cell that failed.
    """

    cell: Unit
    measurements: tuple[Measurement, ...]
    findings: tuple[Finding, ...]
    hold: Hold | None

    @property
    def passed(self) -> bool:
        """Every value was inside its limits."""
        return not self.findings


def assemble_cell(
    record: RecordSession, *, route: Route, step: str, parts: Sequence[Part], logs: LoggedValues
) -> Unit:
    """Close a cell.

    Args:
        record: Open write session.
        route: By which the cell is made.
        step: Name of its assembling step.
        parts: Stack, collectors, screws.
        logs: Logged values by name, in the route's units.

    Raises:
        NotFound: The route has no such step, or nothing has one of the serials.
        Refused: Parts or values are not as the route wants them; all findings.
    """
    with record.act("cell.assembled", *(part.serial for part in parts)) as act:
        wanted = _step(route, step)
        findings = [
            *_part_findings(record, wanted, parts),
            *_electrode_findings(record, route, wanted, parts),
            *log_findings(wanted, logs),
        ]
        stacks = [part.serial for part in parts if part.quantity is None]
        findings += wait_findings(record, route, wanted, _known(record, stacks))
        refuse_for("The cell can't be closed.", findings)
        activity = begin_activity(
            record,
            ActivityKind.ASSEMBLY,
            work_master=f"{route.document_id}/{route.version}/{route.content_hash()}",
            detail={"step": step, "logs": _plain(logs)},
        )
        cell = create_unit(
            record,
            ItemKind.CELL,
            activity=activity,
            product=route.product.material,
            properties={
                "route": f"{route.document_id}/{route.version}",
                "configuration": configuration_of(record, stacks),
                **_geometry(record, stacks),
                **_plain(logs),
            },
            sources=[Source(part.serial, quantity=part.quantity) for part in parts],
        )
        move(record, cell.serial, Atmosphere.SEALED, GLOVEBOX)
        end_activity(record, activity, Outcome.COMPLETED)
        act.items.append(cell.serial)
        act.detail["product"] = cell.product
    return cell


def screen_cell(
    record: RecordSession, serial: str, *, route: Route, step: str, logs: LoggedValues, instrument: str
) -> Screening:
    """Record what a cell showed before its test; one that is out of limits is held.

    Args:
        record: Open write session.
        serial: The cell.
        route: By which it was made.
        step: Name of the route's screening step.
        logs: Measured values by name, in the route's units.
        instrument: With what.

    Raises:
        NotFound: The route has no such step, or there is no such cell.
        InvalidInput: It is no cell.
        Refused: A value is missing or not asked for; all findings.
    """
    with record.act("cell.screened", serial) as act:
        wanted = _step(route, step)
        cell = lock_units(record, [find_unit(record, serial).item_id]).popitem()[1]
        if cell.kind is not ItemKind.CELL:
            raise InvalidInput(f"{cell.serial} is a {cell.kind}, not a cell.".replace("_", " "))
        found = log_findings(wanted, logs)
        refuse_for(f"The screening of {cell.serial} is not complete.", [f for f in found if f.code not in _LIMITS])
        units = {log.name: log for log in wanted.logs}
        measured = tuple(
            _measure(record, cell, units[name], value, wanted, instrument)
            for name, values in logs.items()
            for value in values
        )
        cell.properties = {**cell.properties, "screening": "failed" if found else "passed"}
        cell.version += 1
        record.add(cell)
        reason = " ".join(finding.message for finding in found)
        hold = place_hold(record, cell.serial, reason=f"Screening failed: {reason}") if found else None
        act.detail.update(passed=not found, values=_plain(logs))
    return Screening(cell, measured, tuple(found), hold)


def configuration_of(record: RecordSession, serials: Sequence[str]) -> str:
    """What stands in the stack in the field's own short form, e.g. `Li@LiAlO2 | LGPS | Li@LiAlO2`.

    A film is written by the code of its material, an electrolyte by that of its powder.
    """
    names: list[str] = []
    separators: list[str] = []
    for unit in _contents(record, serials):
        if unit.kind in _ELECTRODES:
            films = "+".join(dict.fromkeys(layer.material_code for layer in layers(record, unit.serial)))
            names.append(f"Li@{films}" if films else "Li")
        elif unit.kind is ItemKind.PELLET:
            separators.append(" + ".join(_powders(record, unit)))
    return " | ".join([*names[:1], *separators, *names[1:]])


def _step(route: Route, name: str) -> RouteStep:
    try:
        return route.step(name)
    except LookupError as error:
        raise NotFound(f"{error}.") from error


def _known(record: RecordSession, serials: Sequence[str]) -> list[str]:
    items, _ = look_up(record, serials)
    return [item.serial for item in items.values() if item.kind is not ItemKind.LOT]


def _part_findings(record: RecordSession, step: RouteStep, parts: Sequence[Part]) -> Iterator[Finding]:
    lines = {line.use: line for line in step.materials}
    items, unknown = look_up(record, [part.serial for part in parts])
    yield from unknown
    amounts: Counter[str] = Counter()
    for part in parts:
        item, line = items.get(part.serial), lines.get(part.use)
        if line is None:
            message = f"{step.step} takes no {part.use}."
            yield Finding("part_not_wanted", message, f"It takes: {', '.join(lines)}.", part.serial)
        elif item is not None:
            amounts[part.use] += int(part.quantity.value) if part.quantity is not None else 1
            code = _code(record, item.key)
            if code not in _codes(line):
                message = f"{item.serial} is {code}; as {part.use} the route takes {' or '.join(_codes(line))}."
                yield Finding("wrong_material", message, "Take another.", item.serial)
    for line in lines.values():
        if amounts[line.use] != line.quantity:
            message = f"{amounts[line.use]} of {plain(line.quantity)} {line.use} are given."
            yield Finding("wrong_amount", message, "Give exactly so many.", f"parts.{line.use}")


def _electrode_findings(
    record: RecordSession, route: Route, step: RouteStep, parts: Sequence[Part]
) -> Iterator[Finding]:
    """The electrodes in the stack are those that the route's earlier steps put there."""
    wanted = {
        code
        for earlier in route.steps[: route.steps.index(step)]
        for line in earlier.materials
        if line.use == "disc"
        for code in _codes(line)
    }
    if not wanted:
        return
    discs = [unit for unit in _contents(record, [p.serial for p in parts]) if unit.kind in _ELECTRODES]
    for disc in discs:
        if disc.product not in wanted:
            message = (
                f"The stack holds {disc.serial} ({disc.product}); this cell takes {' or '.join(sorted(wanted))}."
            )
            yield Finding(
                "wrong_electrode", message, "Use the route of the cell that this stack is for.", disc.serial
            )
    origins = {str(disc.properties.get("run", "")) for disc in discs}
    if len(origins) > 1:
        message = f"The electrodes come from different runs ({', '.join(sorted(origins))})."
        yield Finding("mixed_runs", message, "Pair discs of one run.", "", Severity.WARNING)


def _measure(
    record: RecordSession, cell: Unit, log: LoggedValue, value: Decimal, step: RouteStep, instrument: str
) -> Measurement:
    return record_measurement(
        record,
        item_serial=cell.serial,
        quantity_name=log.name,
        value=float(value),
        unit=log.unit,
        uncertainty=None,
        instrument=instrument,
        method=step.title,
        measured_at=record.clock.now(),
    )


def _contents(record: RecordSession, serials: Sequence[str]) -> list[Unit]:
    """The units that went directly into some stacks, in the order in which they went in."""
    items, _ = look_up(record, serials)
    stacks = [item.key for item in items.values() if item.kind is ItemKind.HALF_STACK]
    edges = record.exec(
        select(GenealogyEdge).where(col(GenealogyEdge.dst).in_(stacks)).order_by(col(GenealogyEdge.id))
    )
    return [unit for edge in edges if (unit := record.get(Unit, edge.src)) is not None]


def _powders(record: RecordSession, pellet: Unit) -> list[str]:
    lots = (record.get(Lot, node.item_id) for node in trace_back(record, pellet.item_id))
    return list(dict.fromkeys(lot.material_code for lot in lots if lot is not None))


def _code(record: RecordSession, item_id: int) -> str:
    lot = record.get(Lot, item_id)
    return record.get_one(Unit, item_id).product if lot is None else lot.material_code


def _codes(line: BomLine) -> list[str]:
    return [line.material, *line.alternatives]


def _geometry(record: RecordSession, serials: Sequence[str]) -> dict[str, Any]:
    """Area of the electrodes, and what is in the cell beside them, from what was pressed."""
    for serial in serials:
        stack = find_unit(record, serial)
        diameter = stack.properties.get("die_diameter_mm")
        if diameter is not None:
            area_cm2 = math.pi * float(diameter) ** 2 / 400.0
            return {
                "area_cm2": Decimal(repr(area_cm2)).quantize(Decimal("0.0001")),
                "electrolyte_mass_mg": stack.properties.get("powder_mass_mg"),
            }
    return {}


def _plain(logs: LoggedValues) -> dict[str, list[Decimal]]:
    return {name: list(values) for name, values in logs.items()}
