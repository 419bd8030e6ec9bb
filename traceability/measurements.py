"""Measured numbers about things: which instrument and method, who, when, how uncertain, out of which raw file.

A row is never changed: a correction is another row that names the one it replaces and why. What a number means for
the next run or for a chart is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from traceability.activities import ActivityRow, next_serial
from traceability.append_only import make_append_only
from traceability.attachments import Attachment
from traceability.columns import UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, Refused
from traceability.identifiers import parse_identifier
from traceability.items import find_item

# How a unit ends the name of a quantity that carries it.
_SUFFIXES = {
    "nm": "nm",
    "um": "um",
    "mm": "mm",
    "mg": "mg",
    "V": "v",
    "mV": "mv",
    "Ohm": "ohm",
    "Ohm cm2": "ohm_cm2",
    "Pa": "pa",
    "MPa": "mpa",
    "GPa": "gpa",
    "eV": "ev",
    "%": "percent",
    "deg": "deg",
    "g/cm3": "g_cm3",
}


class Measurement(SQLModel, table=True):
    """One measured number. The row never changes.

    Attributes:
        quantity_name: What was measured, with its unit at the end: `film_thickness_nm`.
        uncertainty: Standard uncertainty (k = 1) in `unit`; None if unknown.
        layer: Number of the film it is about, 1 next to the substrate; None for the thing itself or its only film.
        attachment_sha256: The raw file.
        replaces_id: The measurement that this one corrects, for `reason`.
    """

    __tablename__ = "measurements"

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    item_id: int = Field(foreign_key="items.id", index=True)
    quantity_name: str = Field(index=True)
    value: float
    unit: str
    uncertainty: float | None = None
    layer: int | None = None
    instrument: str
    method: str
    operator: str
    measured_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    attachment_sha256: str | None = Field(default=None, max_length=64)
    activity_id: int | None = Field(default=None, foreign_key="activities.id", index=True)
    simulated: bool = False
    replaces_id: int | None = Field(default=None, foreign_key="measurements.id", unique=True)
    reason: str = ""


make_append_only(SQLModel.metadata.tables["measurements"])


def record_measurement(
    record: RecordSession,
    *,
    item_serial: str,
    quantity_name: str,
    value: float,
    unit: str,
    uncertainty: float | None,
    instrument: str,
    method: str,
    measured_at: datetime,
    attachment_sha256: str | None = None,
    activity: ActivityRow | None = None,
    layer: int | None = None,
    operator: str = "",
) -> Measurement:
    """Record a number.

    Args:
        record: Open write session.
        item_serial: What was measured.
        quantity_name: E.g. `film_thickness_nm`.
        value: Finite.
        unit: Must fit the name; `1` for a pure number.
        uncertainty: Standard uncertainty (k = 1) in the same unit; None if unknown.
        instrument: Which one.
        method: How, e.g. `EDX cross-section`.
        measured_at: Domain time, not in the future.
        attachment_sha256: Raw file, attached before.
        activity: What it was measured in; its `simulated` is copied.
        layer: Number of the film it is about, where the thing has several.
        operator: Who measured, if it was not who records it.

    Raises:
        InvalidInput: Something of it can't be: all that is wrong is in the findings.
        NotFound: Nothing has that serial.
    """
    with record.act("measurement.recorded", item_serial) as act:
        item = find_item(record, item_serial)
        row = Measurement(
            serial="",
            item_id=item.key,
            quantity_name=quantity_name,
            value=value,
            unit=unit,
            uncertainty=uncertainty,
            layer=layer,
            instrument=instrument.strip(),
            method=method.strip(),
            operator=operator or record.actor.name,
            measured_at=measured_at,
            recorded_at=record.clock.now(),
            attachment_sha256=attachment_sha256,
            activity_id=activity.key if activity else None,
            simulated=activity.simulated if activity else False,
        )
        _store(record, row)
        act.items.append(row.serial)
    return row


def correct_measurement(
    record: RecordSession,
    serial: str,
    *,
    value: float,
    reason: str,
    uncertainty: float | None = None,
    attachment_sha256: str | None = None,
) -> Measurement:
    """Replace a measured value by another; the wrong one stays on the record beside it.

    Args:
        record: Open write session.
        serial: The measurement to correct; the latest if it was corrected before.
        value: The right value in the same unit.
        reason: Why.
        uncertainty: Of the right value; that of the wrong one if left out.
        attachment_sha256: Raw file; that of the wrong one if left out.

    Raises:
        InvalidInput: There is no reason, or the value can't be.
        NotFound: There is no such measurement.
        Refused: It was corrected already.
    """
    with record.act("measurement.corrected", serial, reason=reason.strip()) as act:
        wrong = find_measurement(record, serial)
        if not reason.strip():
            raise InvalidInput("A correction needs a reason.")
        later = record.exec(select(Measurement).where(Measurement.replaces_id == wrong.id)).first()
        if later is not None:
            message = f"{later.serial} replaced {wrong.serial} already."
            finding = Finding("measurement_replaced", message, f"Correct {later.serial}.", wrong.serial)
            raise Refused(f"{wrong.serial} can't be corrected again.", [finding])
        facts = wrong.model_dump(exclude={"id", "serial"}) | {
            "value": value,
            "uncertainty": wrong.uncertainty if uncertainty is None else uncertainty,
            "attachment_sha256": attachment_sha256 or wrong.attachment_sha256,
            "recorded_at": record.clock.now(),
            "replaces_id": wrong.id,
            "reason": reason.strip(),
        }
        row = Measurement(serial="", **facts)
        _store(record, row)
        act.items.append(row.serial)
    return row


def find_measurement(record: RecordSession, serial: str) -> Measurement:
    """The measurement with that serial.

    Raises:
        InvalidInput: It is no identifier.
        NotFound: There is none.
    """
    identifier = parse_identifier(serial)
    row = record.exec(select(Measurement).where(Measurement.serial == identifier)).one_or_none()
    if row is None:
        raise NotFound(f"There is no measurement {identifier}.")
    return row


def measurements_of(
    record: RecordSession, item_ids: Sequence[int], quantity_name: str = "", *, replaced: bool = False
) -> list[Measurement]:
    """The measurements of some things, in the order in which they were measured.

    Args:
        record: Open session.
        item_ids: Of which things.
        quantity_name: Only this quantity; all if empty.
        replaced: Give those too that a correction replaced.
    """
    query = select(Measurement).where(col(Measurement.item_id).in_(set(item_ids)))
    if quantity_name:
        query = query.where(Measurement.quantity_name == quantity_name)
    rows = list(record.exec(query.order_by(col(Measurement.measured_at), col(Measurement.id))))
    if replaced:
        return rows
    gone = {row.replaces_id for row in rows}
    return [row for row in rows if row.id not in gone]


def _store(record: RecordSession, row: Measurement) -> None:
    findings = list(_findings(record, row))
    if findings:
        raise InvalidInput("The measurement can't be recorded so.", findings)
    row.serial = next_serial(record, "MEA")
    record.add(row)
    record.flush()


def _findings(record: RecordSession, row: Measurement) -> list[Finding]:
    findings: list[Finding] = []
    suffix = _SUFFIXES.get(row.unit)
    carried = [s for s in _SUFFIXES.values() if row.quantity_name.endswith(f"_{s}")]
    if (suffix and suffix not in carried) or (carried and suffix not in carried):
        message = f"{row.quantity_name} is not given in {row.unit or 'no unit'}."
        findings.append(Finding("wrong_unit", message, "Convert it, or name the quantity with this unit.", "unit"))
    if not row.quantity_name or not row.unit:
        message = "A measurement needs the name of its quantity and a unit."
        findings.append(Finding("name_missing", message, "Use 1 as the unit of a pure number.", "quantity_name"))
    if not math.isfinite(row.value):
        findings.append(Finding("not_finite", f"{row.value} is no measured value.", "Give a number.", "value"))
    if row.uncertainty is not None and not (math.isfinite(row.uncertainty) and row.uncertainty >= 0):
        message = f"{row.uncertainty} is no uncertainty."
        findings.append(Finding("bad_uncertainty", message, "Give a number not below zero.", "uncertainty"))
    for name in ("instrument", "method"):
        if not getattr(row, name):
            findings.append(Finding(f"{name}_missing", f"The {name} is not said.", f"Name the {name}.", name))
    if row.measured_at > row.recorded_at:
        message = "It was measured in the future."
        findings.append(Finding("in_the_future", message, "Check the instrument's clock.", "measured_at"))
    if (
        row.attachment_sha256 is not None
        and not record.exec(select(Attachment).where(Attachment.sha256 == row.attachment_sha256).limit(1)).first()
    ):
        message = f"No file with the SHA-256 {row.attachment_sha256} is attached."
        findings.append(Finding("raw_file_missing", message, "Attach the raw file first.", "attachment_sha256"))
    return findings
