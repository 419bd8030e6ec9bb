"""Measurements and the raw files they come from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field
from sqlmodel import select
from starlette.datastructures import UploadFile

from api.dependencies import Act, ActWithFile, CurrentActor, Served
from api.routers.blobs import LARGEST_BYTES, require_size
from api.views import Body, Serial, Text, View, streamed
from traceability import attachments, measurements
from traceability.attachments import Attachment
from traceability.errors import InvalidInput, NotFound
from traceability.items import find_item

router = APIRouter(tags=["measurements"])

_PIECE = 1 << 20
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "item": {"type": "string", "maxLength": 40},
                    },
                }
            }
        },
    }
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in, and the serial of what it is about."""

    file: UploadFile
    item: str | None


class NewMeasurement(Body):
    """A measured value of an item."""

    item: Serial
    quantity_name: Text = Field(examples=["film_thickness_nm"])
    value: float = Field(allow_inf_nan=False)
    unit: str = Field(max_length=20, examples=["nm"])
    uncertainty: float | None = Field(None, ge=0, allow_inf_nan=False, description="Standard uncertainty, same unit.")
    instrument: Text = Field(examples=["Regulus-8230"])
    method: Text = Field(examples=["EDX cross-section"])
    measured_at: AwareDatetime
    attachment_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="Raw file, stored before.")
    layer: int | None = Field(None, ge=1)


class Correction(Body):
    """A better value; the old one stays on the record."""

    value: float = Field(allow_inf_nan=False)
    uncertainty: float | None = Field(None, ge=0, allow_inf_nan=False)
    reason: str = Field(min_length=3, max_length=1000)
    attachment_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class MeasurementView(View):
    """A measurement."""

    serial: str
    quantity_name: str
    value: float
    unit: str
    uncertainty: float | None
    layer: int | None
    instrument: str
    method: str
    operator: str
    measured_at: datetime
    recorded_at: datetime
    attachment_sha256: str | None
    simulated: bool
    reason: str


class AttachmentView(View):
    """A raw file, kept whole under its hash."""

    sha256: str
    size: int
    file_name: str
    media_type: str
    person: str
    attached_at: datetime


@router.post("/measurements", status_code=201, response_model=MeasurementView)
def record_measurement(body: NewMeasurement, act: Act) -> Response:
    """Record a measurement."""
    with act.write() as record:
        made = measurements.record_measurement(
            record,
            item_serial=body.item,
            quantity_name=body.quantity_name,
            value=body.value,
            unit=body.unit,
            uncertainty=body.uncertainty,
            instrument=body.instrument,
            method=body.method,
            measured_at=body.measured_at,
            attachment_sha256=body.attachment_sha256,
            layer=body.layer,
        )
        return act.answer(MeasurementView.of(made), status=201, location=f"/api/v1/measurements/{made.serial}")


@router.get("/measurements/{serial}")
def show_measurement(serial: str, service: Served, actor: CurrentActor) -> MeasurementView:
    """One measurement."""
    with service.database.read() as record:
        return MeasurementView.of(measurements.find_measurement(record, serial))


@router.post("/measurements/{serial}:correct", status_code=201, response_model=MeasurementView)
def correct_measurement(serial: str, body: Correction, act: Act) -> Response:
    """Replace a value by a better one; nothing is overwritten."""
    with act.write() as record:
        made = measurements.correct_measurement(
            record,
            serial,
            value=body.value,
            reason=body.reason,
            uncertainty=body.uncertainty,
            attachment_sha256=body.attachment_sha256,
        )
        return act.answer(MeasurementView.of(made), status=201, location=f"/api/v1/measurements/{made.serial}")


@router.get("/items/{serial}/measurements")
def measurements_of_item(
    serial: str, service: Served, actor: CurrentActor, replaced: bool = False
) -> list[MeasurementView]:
    """Measurements of an item; `replaced` shows the corrected ones too."""
    with service.database.read() as record:
        item = find_item(record, serial)
        found = measurements.measurements_of(record, [item.key], replaced=replaced)
        return [MeasurementView.of(measurement) for measurement in found]


async def uploaded(request: Request, service: Served, actor: CurrentActor) -> AsyncIterator[Upload]:
    """The form with the file, read only once it is known who sends it.

    Raises:
        InvalidInput: There is no file in it.
        HTTPException: It is larger than `max_upload_mb`.
    """
    require_size(request, service.settings.max_upload_mb << 20)
    async with request.form(max_files=1, max_fields=4) as form:
        file, item = form.get("file"), form.get("item")
        if not isinstance(file, UploadFile):
            raise InvalidInput("There is no file in the request; send it as the field `file` of a multipart form.")
        yield Upload(file, item if isinstance(item, str) and item else None)


Uploaded = Annotated[Upload, Depends(uploaded)]


@router.post(
    "/attachments",
    status_code=201,
    response_model=AttachmentView,
    max_body_size=LARGEST_BYTES,
    openapi_extra=_FORM,
)
def store_attachment(upload: Uploaded, act: ActWithFile, service: Served) -> Response:
    """Store a file whole, under its hash, and attach it to an item."""
    file, item = upload.file, upload.item
    file_name, media_type = file.filename or "unnamed", file.content_type or "application/octet-stream"
    stored = service.attachments.put(file.file)
    act.covers(stored.sha256, file_name, media_type, item or "")
    with act.write() as record:
        row = attachments.attach(record, stored, item_serial=item, file_name=file_name, media_type=media_type)
        return act.answer(AttachmentView.of(row), status=201, location=f"/api/v1/attachments/{row.sha256}")


@router.get("/items/{serial}/attachments")
def attachments_of_item(serial: str, service: Served, actor: CurrentActor) -> list[AttachmentView]:
    """The files attached to an item."""
    with service.database.read() as record:
        return [AttachmentView.of(row) for row in attachments.attachments_of(record, serial)]


@router.get("/attachments/{sha256}", response_class=StreamingResponse, responses=streamed("application/octet-stream"))
def read_attachment(sha256: str, service: Served, actor: CurrentActor) -> StreamingResponse:
    """A file as it was stored."""
    with service.database.read() as record:
        row = record.exec(select(Attachment).where(Attachment.sha256 == sha256)).first()
    if row is None:
        raise NotFound(f"No attachment has the hash {sha256}.")

    content = service.attachments.open(sha256)

    def pieces() -> Iterator[bytes]:
        with content:
            while piece := content.read(_PIECE):
                yield piece

    # Always a download under a fixed type: what somebody uploaded is never run as a page of ours.
    headers = {"Content-Disposition": "attachment", "Content-Length": str(row.size)}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)
