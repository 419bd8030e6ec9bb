"""How thick the films of a unit are, by the best that is known of each.

Best is a measurement of the film itself; then one of the witness coupon that was in the same run, which stands for
its sibling discs; then what the tool measured while it grew; and last what the recipe asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlmodel import col, select

from traceability.database import RecordSession
from traceability.items import Item, ItemKind
from traceability.layers import Layer, layers
from traceability.measurements import Measurement, measurements_of

FILM_THICKNESS = "film_thickness_nm"


class Basis(StrEnum):
    """What a thickness rests on, best first."""

    MEASURED = "measured"
    WITNESS = "witness"
    IN_SITU = "in_situ"
    NOMINAL = "nominal"


@dataclass(frozen=True, slots=True)
class FilmThickness:
    """The thickness of one film.

    Attributes:
        layer: The film.
        thickness_nm: Mean of the measurements it rests on, nm.
        uncertainty_nm: Standard uncertainty (k = 1), the largest of theirs; None if unknown.
        basis: What it rests on.
        measurements: Serials of the measurements.
    """

    layer: Layer
    thickness_nm: float
    uncertainty_nm: float | None
    basis: Basis
    measurements: tuple[str, ...] = ()


def film_thicknesses(record: RecordSession, serial: str) -> list[FilmThickness]:
    """The thickness of each film of a unit, substrate side first.

    Raises:
        InvalidInput: The serial is none.
        NotFound: Nothing has it.
    """
    return [_thickness(record, layer) for layer in layers(record, serial)]


def witness_thickness(record: RecordSession, activity_id: int) -> list[Measurement]:
    """The thickness measurements of the witness coupons of a run, oldest first."""
    query = (
        select(Layer)
        .join(Item, col(Item.id) == col(Layer.item_id))
        .where(Layer.activity_id == activity_id)
        .where(Item.kind == ItemKind.WITNESS)
    )
    return [measurement for layer in record.exec(query) for measurement in _measured(record, layer)]


def _measured(record: RecordSession, layer: Layer) -> list[Measurement]:
    """Measurements that are about one film: they name its number, or the thing has no other."""
    rows = measurements_of(record, [layer.item_id], FILM_THICKNESS)
    films = record.exec(select(Layer.number).where(Layer.item_id == layer.item_id)).all()
    alone = len(films) == 1 and layer.number == 1
    return [row for row in rows if row.layer == layer.number or (row.layer is None and alone)]


def _thickness(record: RecordSession, layer: Layer) -> FilmThickness:
    if own := _measured(record, layer):
        return _mean(layer, own, Basis.MEASURED)
    if siblings := witness_thickness(record, layer.activity_id):
        return _mean(layer, siblings, Basis.WITNESS)
    if layer.measured_thickness_nm is not None:
        return FilmThickness(layer, layer.measured_thickness_nm, None, Basis.IN_SITU)
    return FilmThickness(layer, layer.nominal_thickness_nm, None, Basis.NOMINAL)


def _mean(layer: Layer, rows: list[Measurement], basis: Basis) -> FilmThickness:
    uncertainties = [row.uncertainty for row in rows if row.uncertainty is not None]
    return FilmThickness(
        layer=layer,
        thickness_nm=sum(row.value for row in rows) / len(rows),
        uncertainty_nm=max(uncertainties, default=None),
        basis=basis,
        measurements=tuple(row.serial for row in rows),
    )
