"""What a cell is, read out of its own genealogy: parts, area, masses, films. Nothing here was typed for the test.

It puts together what goes with the cell to a tester and finds what is missing for it. Whether the cell may be
handed over is decided in `handoff`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from sqlmodel import col, select

from equipment.testers.contract import Films, Part, Traveller
from equipment.testers.records import CellKind
from traceability.activities import ActivityRow
from traceability.database import RecordSession
from traceability.errors import Finding
from traceability.exposure import exposure_of
from traceability.film_thickness import film_thicknesses
from traceability.genealogy import SAME_MATTER, TraceEdge, TraceNode, edges_among, matter_edges, trace_back
from traceability.items import ItemKind
from traceability.measurements import measurements_of
from traceability.units import Unit

_LITHIUM = (ItemKind.DISC, ItemKind.COATED_DISC)
_AREA_STEP = Decimal("0.0001")
_DOSE_STEP = Decimal("0.001")
_FILM_STEP = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What the record knows of a cell.

    Attributes:
        kind: Two lithium electrodes are a symmetric cell; one and a cathode are a full cell.
        area_cm2: Of one electrode; None where no part says the diameter of its die.
        electrolyte_mg, active_mg: Masses of that very cell; None where no part has one.
        traveller: What goes with it.
    """

    kind: CellKind | None
    area_cm2: Decimal | None
    electrolyte_mg: Decimal | None
    active_mg: Decimal | None
    traveller: Traveller

    @property
    def masses_mg(self) -> dict[str, Decimal]:
        """The masses that are known, by name."""
        masses = {"electrolyte": self.electrolyte_mg, "active": self.active_mg}
        return {name: mass for name, mass in masses.items() if mass is not None}

    def findings(self) -> list[Finding]:
        """What a test can't do without."""
        serial = self.traveller.cell_serial
        found = []
        if self.kind is None:
            message = f"{serial} has not two electrodes in its genealogy."
            found.append(Finding("electrodes_unknown", message, "Check what it was assembled of.", serial))
        if self.area_cm2 is None:
            message = f"No part of {serial} says the diameter of its die, so the area is not known."
            found.append(Finding("area_unknown", message, "Check how it was pressed.", serial))
        return found


def cell_facts(record: RecordSession, cell: Unit) -> CellFacts:
    """Read a cell's genealogy."""
    nodes = trace_back(record, cell.item_id)
    ids = [node.item_id for node in nodes]
    edges = edges_among(record, ids)
    units = {unit.item_id: unit for unit in record.exec(select(Unit).where(col(Unit.item_id).in_(ids)))}
    gone_on = {edge.src for edge in edges if edge.kind in SAME_MATTER}
    final = [node for node in nodes if node.item_id not in gone_on]
    electrodes = [node for node in final if node.kind in (*_LITHIUM, ItemKind.CATHODE_BATCH)]
    pressed = [units[n.item_id] for n in final if n.kind in (ItemKind.HALF_STACK, ItemKind.PELLET)]
    diameters = _numbers(pressed, "die_diameter_mm")
    parts = tuple(_parts(record, nodes[1:], edges, units, {n.item_id for n in electrodes}))
    films = tuple(
        Films(
            serial=node.serial,
            material=film.layer.material_code,
            thickness_nm=_exact(film.thickness_nm, _FILM_STEP),
            basis=film.basis,
        )
        for node in electrodes
        if node.kind in _LITHIUM
        for film in film_thicknesses(record, node.serial)
    )
    measured = {row.quantity_name: f"{row.value:.9g} {row.unit}" for row in measurements_of(record, [cell.item_id])}
    return CellFacts(
        kind=_kind(electrodes),
        area_cm2=_area_cm2(diameters),
        electrolyte_mg=_first(_numbers(pressed, "powder_mass_mg")),
        active_mg=_sum(_numbers([units[n.item_id] for n in final if n.item_id in units], "active_mass_mg")),
        traveller=Traveller(
            cell_serial=cell.serial, product=cell.product, parts=parts, films=films, measurements=measured
        ),
    )


def _parts(
    record: RecordSession,
    nodes: Sequence[TraceNode],
    edges: Sequence[TraceEdge],
    units: Mapping[int, Unit],
    electrodes: set[int],
) -> Iterable[Part]:
    serials = {node.item_id: node.serial for node in nodes}
    made_in = {edge.dst: edge.activity_id for edge in edges}
    rows = record.exec(select(ActivityRow).where(col(ActivityRow.id).in_(set(made_in.values()))))
    activities = {row.key: row.serial for row in rows}
    for node in nodes:
        is_electrode = node.item_id in electrodes
        was = {edge.src for edge in matter_edges(record, node.item_id)} if node.item_id in units else set()
        dose = exposure_of(record, node.serial).water_pa_s if is_electrode else 0.0
        yield Part(
            serial=node.serial,
            kind=node.kind,
            product=units[node.item_id].product if node.item_id in units else "",
            role="electrode" if is_electrode else "electrolyte" if node.kind is ItemKind.PELLET else "other",
            was=tuple(sorted(serials[item_id] for item_id in was)),
            made_in=activities.get(made_in.get(node.item_id, 0), ""),
            water_pa_s=_exact(dose, _DOSE_STEP),
        )


def _kind(electrodes: Sequence[TraceNode]) -> CellKind | None:
    lithium = sum(node.kind in _LITHIUM for node in electrodes)
    if len(electrodes) != 2 or lithium == 0:
        return None
    return CellKind.SYMMETRIC if lithium == 2 else CellKind.FULL


def _area_cm2(diameters_mm: Sequence[Decimal]) -> Decimal | None:
    if not diameters_mm or len(set(diameters_mm)) > 1:
        return None
    return _exact(math.pi / 4.0 * (float(diameters_mm[0]) / 10.0) ** 2, _AREA_STEP)


def _numbers(units: Iterable[Unit], name: str) -> list[Decimal]:
    found = []
    for unit in units:
        try:
            number = Decimal(str(unit.properties.get(name)))
        except InvalidOperation:
            continue
        if number.is_finite() and number > 0:
            found.append(number)
    return found


def _first(numbers: Sequence[Decimal]) -> Decimal | None:
    return numbers[0] if numbers else None


def _sum(numbers: Sequence[Decimal]) -> Decimal | None:
    return sum(numbers, Decimal(0)) if numbers else None


def _exact(value: float, step: Decimal) -> Decimal:
    return Decimal(repr(value)).quantize(step)
