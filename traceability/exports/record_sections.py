"""What the record itself knows about a thing, in sections of its history record.

A section gets ids and gives JSON; the packages above write theirs in the same form. Which things and activities
belong to a history is known to `history_record`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import orjson
from sqlalchemy import or_
from sqlmodel import SQLModel, col, select

from traceability.activities import ActivityRow
from traceability.attachments import Attachment
from traceability.audit import AuditEvent, AuditEventItem
from traceability.canonical import JsonValue, canonical_value
from traceability.database import RecordSession
from traceability.exposure import exposure_of
from traceability.film_thickness import FilmThickness, film_thicknesses
from traceability.holds import Hold
from traceability.items import Item, ItemKind
from traceability.layers import Layer
from traceability.materials import Lot, Material
from traceability.measurements import measurements_of
from traceability.nonconformance import NonConformance
from traceability.signatures import Signature
from traceability.users import User

_CHUNK = 10_000
# Of a lot, which thousands of things may be made of, only these events concern each of them.
_LOT_EVENTS = ("lot.received", "lot.released", "lot.scrapped", "hold.", "nonconformance.", "measurement.")

Row = TypeVar("Row", bound=SQLModel)


class RecordSection(Protocol):
    """One section of a history record.

    Attributes:
        name: Its key in the document.
    """

    @property
    def name(self) -> str:
        """Key of the section in the document."""

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """What is to be said.

        Args:
            record: Open session.
            item_ids: The thing itself first, then everything that is in it, nearest first.
            activity_ids: Everything that was done to make it what it is, oldest first.
        """


class ActivitiesSection:
    """What was done, when, by whom, with which recipe, and how it ended."""

    name = "activities"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """In the order in which it began."""
        rows = sorted(rows_in(record, ActivityRow, "id", activity_ids), key=lambda row: (row.started_at, row.key))
        return [fields(row, leave_out=("id",)) for row in rows]


class PeopleSection:
    """Who took part, by full name."""

    name = "people"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """By user name; parts of the system are left out."""
        names = {row.person for row in rows_in(record, ActivityRow, "id", activity_ids)}
        users = rows_in(record, User, "name", sorted(names))
        return {user.name: user.full_name for user in users}


class MaterialsSection:
    """The lots that went in, with supplier and the supplier's lot."""

    name = "materials"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """Nearest first."""
        lots = rows_in(record, Lot, "item_id", item_ids)
        materials = {row.code: row for row in rows_in(record, Material, "code", [lot.material_code for lot in lots])}
        return [
            {
                **fields(lot, leave_out=("item_id", "version", "quantity", "status", "location")),
                "material_name": materials[lot.material_code].name,
            }
            for lot in lots
        ]


class LayersSection:
    """The films on the discs, each with its run, target and place, and how thick it is on what grounds."""

    name = "layers"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """By disc, substrate side first."""
        layers = rows_in(record, Layer, "item_id", item_ids)
        serials = serials_of(record, [key for layer in layers for key in (layer.item_id, layer.target_id)])
        runs = {
            row.key: row.serial for row in rows_in(record, ActivityRow, "id", [row.activity_id for row in layers])
        }
        thicknesses = {
            (serial, film.layer.number): film
            for serial in dict.fromkeys(serials[layer.item_id] for layer in layers)
            for film in film_thicknesses(record, serial)
        }
        return [
            {
                **fields(layer, leave_out=("id", "item_id", "activity_id", "target_id")),
                "item": serials[layer.item_id],
                "activity": runs[layer.activity_id],
                "target": serials[layer.target_id],
                "thickness": _thickness(thicknesses.get((serials[layer.item_id], layer.number))),
            }
            for layer in layers
        ]


class MeasurementsSection:
    """Every measured number on the thing and on what is in it, with those that were corrected, and the raw files."""

    name = "measurements"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """In the order in which they were measured."""
        rows = measurements_of(record, list(item_ids), replaced=True)
        replaced = {row.replaces_id for row in rows}
        serials = serials_of(record, item_ids)
        return [
            {
                **fields(row, leave_out=("id", "item_id", "activity_id", "replaces_id")),
                "item": serials[row.item_id],
                "corrected": row.id in replaced,
            }
            for row in rows
        ]


class AttachmentsSection:
    """Files about the thing and what is in it, by hash."""

    name = "attachments"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """In the order in which they were attached."""
        serials = serials_of(record, item_ids)
        rows = rows_in(record, Attachment, "item_id", item_ids)
        return [
            {**fields(row, leave_out=("id", "item_id")), "item": serials[row.item_id]}
            for row in sorted(rows, key=lambda row: row.id or 0)
            if row.item_id is not None
        ]


class ExposureSection:
    """What the air did to the thing and to each unit in it."""

    name = "exposure"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """By serial; lots are left out."""
        told: dict[str, JsonValue] = {}
        for item in rows_in(record, Item, "id", item_ids):
            if item.kind is ItemKind.LOT:
                continue
            exposure = exposure_of(record, item.serial)
            told[item.serial] = canonical_value(
                {
                    "water_pa_s": exposure.water_pa_s,
                    "oxygen_pa_s": exposure.oxygen_pa_s,
                    "seconds_in": {place.value: seconds for place, seconds in exposure.seconds_in.items()},
                    "since": exposure.since,
                    "until": exposure.until,
                }
            )
        return told


class HoldsSection:
    """Holds and non-conformances on the thing and on anything in it, standing or released."""

    name = "holds"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """Nearest thing first."""
        serials = serials_of(record, item_ids)
        dropped = ("id", "item_id", "hold_id", "signature_id", "version")
        return {
            "holds": [
                {**fields(row, leave_out=dropped), "item": serials[row.item_id]}
                for row in rows_in(record, Hold, "item_id", item_ids)
            ],
            "nonconformances": [
                {**fields(row, leave_out=dropped), "item": serials[row.item_id]}
                for row in rows_in(record, NonConformance, "item_id", item_ids)
            ],
        }


class SignaturesSection:
    """Signatures under decisions about the thing and what is in it: printed name, time and meaning."""

    name = "signatures"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """In the order in which they were given."""
        given = {row.signature_id for row in rows_in(record, Hold, "item_id", item_ids)}
        given |= {row.signature_id for row in rows_in(record, NonConformance, "item_id", item_ids)}
        subjects = list(serials_of(record, item_ids).values())
        rows = {
            row.id: row for row in rows_in(record, Signature, "id", sorted(key for key in given if key is not None))
        }
        rows |= {row.id: row for row in rows_in(record, Signature, "subject", subjects)}
        dropped = ("id", "user_id")
        return [fields(rows[key], leave_out=dropped) for key in sorted(key for key in rows if key is not None)]


class AuditSection:
    """The events that concern the thing, what is in it, and what was done."""

    name = "audit_events"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """In the order of the chain, each with its hash; row changes stay in the trail itself."""
        items = rows_in(record, Item, "id", item_ids)
        lots = [item.serial for item in items if item.kind is ItemKind.LOT]
        serials = [item.serial for item in items if item.kind is not ItemKind.LOT]
        serials += [row.serial for row in rows_in(record, ActivityRow, "id", activity_ids)]
        serials += [row.serial for row in rows_in(record, Hold, "item_id", item_ids)]
        serials += [row.serial for row in rows_in(record, NonConformance, "item_id", item_ids)]
        events = {event.seq: event for event in _events(record, serials)}
        of_lots = or_(*(col(AuditEvent.kind).startswith(kind, autoescape=True) for kind in _LOT_EVENTS))
        events |= {event.seq: event for event in _events(record, lots, of_lots)}
        return [_told(events[seq]) for seq in sorted(events)]


RECORD_SECTIONS: tuple[RecordSection, ...] = (
    ActivitiesSection(),
    PeopleSection(),
    MaterialsSection(),
    LayersSection(),
    MeasurementsSection(),
    AttachmentsSection(),
    ExposureSection(),
    HoldsSection(),
    SignaturesSection(),
    AuditSection(),
)


def fields(row: SQLModel, *, leave_out: Iterable[str] = ()) -> dict[str, JsonValue]:
    """A row's columns in their canonical form, but for those to be left out."""
    kept = row.model_dump(exclude=set(leave_out))
    return {name: canonical_value(value) for name, value in kept.items()}


def rows_in(record: RecordSession, model: type[Row], attribute: str, values: Sequence[Any]) -> list[Row]:
    """The rows whose attribute is one of the values, in the order of the values."""
    found: dict[Any, list[Row]] = {}
    for chunk in _chunks(dict.fromkeys(values)):
        for row in record.exec(select(model).where(col(getattr(model, attribute)).in_(chunk))):
            found.setdefault(getattr(row, attribute), []).append(row)
    return [row for value in dict.fromkeys(values) for row in found.get(value, ())]


def serials_of(record: RecordSession, item_ids: Sequence[int]) -> dict[int, str]:
    """The serials of things, by id."""
    return {item.key: item.serial for item in rows_in(record, Item, "id", item_ids)}


def _thickness(film: FilmThickness | None) -> JsonValue:
    if film is None:
        return None
    return canonical_value(
        {
            "thickness_nm": film.thickness_nm,
            "uncertainty_nm": film.uncertainty_nm,
            "basis": film.basis,
            "measurements": film.measurements,
        }
    )


def _events(record: RecordSession, serials: Sequence[str], *conditions: Any) -> Iterator[AuditEvent]:
    for chunk in _chunks(dict.fromkeys(serials)):
        concerned = select(AuditEventItem.seq).where(col(AuditEventItem.item).in_(chunk))
        yield from record.exec(select(AuditEvent).where(col(AuditEvent.seq).in_(concerned), *conditions))


def _told(event: AuditEvent) -> JsonValue:
    body = orjson.loads(event.body)
    parts = ("seq", "at", "actor", "full_name", "kind", "items", "reason", "detail")
    return {**{part: body[part] for part in parts}, "hash": event.hash}


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
