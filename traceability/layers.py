"""The films on a unit, in the order in which they were deposited.

Each layer names its run, target and place on the carrier. A thing keeps the films of what it was transformed from:
a disc that was coated twice has two layers though it changed its serial. How thick a film really is follows from
measurements (`film_thickness`).
"""

from __future__ import annotations

import math

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel, col, select

from traceability.activities import ActivityRow
from traceability.append_only import make_append_only
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, Refused
from traceability.genealogy import matter_edges
from traceability.items import Item, ItemKind, find_item
from traceability.materials import find_material

_COATABLE = frozenset({ItemKind.DISC, ItemKind.COATED_DISC, ItemKind.WITNESS})


class Layer(SQLModel, table=True):
    """One film on one unit. The row never changes.

    Attributes:
        item_id: The unit that carried it away from the run.
        number: 1 for the film next to the substrate.
        position: Place on the carrier.
        nominal_thickness_nm: What the control recipe asked for.
        measured_thickness_nm: What the tool itself measured in the run (crystal monitor); None if it did not.
    """

    __tablename__ = "layers"
    __table_args__ = (UniqueConstraint("item_id", "number"),)

    id: int | None = Field(default=None, primary_key=True)
    item_id: int = Field(foreign_key="items.id")
    number: int
    activity_id: int = Field(foreign_key="activities.id", index=True)
    material_code: str = Field(foreign_key="materials.code")
    target_id: int = Field(foreign_key="items.id")
    position: int
    nominal_thickness_nm: float
    measured_thickness_nm: float | None = None


make_append_only(SQLModel.metadata.tables["layers"])


def add_layer(
    record: RecordSession,
    disc_serial: str,
    *,
    activity: ActivityRow,
    material_code: str,
    target_serial: str,
    position: int,
    nominal_thickness_nm: float,
    measured_thickness_nm: float | None = None,
) -> Layer:
    """Put a film on a disc or witness coupon.

    Args:
        record: Open write session.
        disc_serial: The coated disc or coupon.
        activity: The run.
        material_code: What the film is of.
        target_serial: What it was sputtered from.
        position: Place on the carrier.
        nominal_thickness_nm: What the control recipe asked for.
        measured_thickness_nm: What the tool itself measured.

    Raises:
        InvalidInput: A serial is none or a thickness is not above zero.
        NotFound: A serial or the material is unknown.
        Refused: The thing can't be coated, or the target is none.
    """
    with record.act("unit.layer_added", disc_serial, activity.serial):
        item, target = find_item(record, disc_serial), find_item(record, target_serial)
        find_material(record, material_code)
        for thickness in (nominal_thickness_nm, measured_thickness_nm):
            if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
                raise InvalidInput(f"A film is thicker than zero; {thickness} nm is no thickness.")
        findings = []
        if item.kind not in _COATABLE:
            message = f"{item.serial} is a {item.kind}; it carries no films of its own."
            findings.append(Finding("wrong_kind", message, "Give a disc or a witness coupon.", item.serial))
        if target.kind is not ItemKind.TARGET:
            message = f"{target.serial} is a {target.kind}, not a target."
            findings.append(Finding("wrong_kind", message, "Give the target's serial.", target.serial))
        if findings:
            raise Refused(f"{item.serial} can't get the film.", findings)
        layer = Layer(
            item_id=item.key,
            number=len(_layers(record, item)) + 1,
            activity_id=activity.key,
            material_code=material_code,
            target_id=target.key,
            position=position,
            nominal_thickness_nm=nominal_thickness_nm,
            measured_thickness_nm=measured_thickness_nm,
        )
        record.add(layer)
        record.flush()
    return layer


def layers(record: RecordSession, serial: str) -> list[Layer]:
    """The films of a unit, substrate side first, with those that it brought from what it was transformed from.

    Raises:
        InvalidInput: The serial is none.
        NotFound: Nothing has it.
    """
    return _layers(record, find_item(record, serial))


def _layers(record: RecordSession, item: Item) -> list[Layer]:
    ids = {item.key, *(edge.src for edge in matter_edges(record, item.key))}
    return list(record.exec(select(Layer).where(col(Layer.item_id).in_(ids)).order_by(col(Layer.number))))
