"""Materials and their lots: received, released, split, merged, scrapped."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.views import Body, DecimalText, Reason, Serial, Text, Unit, View
from traceability import materials, stock
from traceability.materials import Lot, LotStatus, Material, MaterialKind
from traceability.quantities import Quantity

router = APIRouter(tags=["materials"])


class NewMaterial(Body):
    """A material to define."""

    code: str = Field(max_length=40, examples=["LI-DISC-10"])
    name: Text = Field(examples=["Lithium disc 10 mm × 0.5 mm"])
    kind: MaterialKind
    unit: Unit
    properties: dict[str, Any] = Field(default_factory=dict)


class MaterialView(View):
    """A material."""

    code: str
    name: str
    kind: MaterialKind
    unit: str
    properties: dict[str, Any]


class LotReceipt(Body):
    """A delivery. It stays in quarantine until QA releases it."""

    material_code: str = Field(examples=["LI-DISC-10"])
    quantity: DecimalText
    unit: Unit
    supplier: Text = ""
    supplier_lot: Text = ""
    certificate: Text = Field("", description="Number of the supplier's certificate.")
    expires_at: AwareDatetime | None = None
    location: Text = ""


class LotView(View):
    """A lot with what is left of it."""

    serial: str
    material_code: str
    quantity: Decimal
    unit: str
    status: LotStatus
    supplier: str
    supplier_lot: str
    certificate: str
    expires_at: datetime | None
    location: str
    version: int


class Amount(Body):
    """An exact amount."""

    quantity: DecimalText
    unit: Unit


class LotSplit(Body):
    """Parts to take off, each as a lot of its own; the rest stays where it is."""

    parts: list[Amount] = Field(min_length=1, max_length=100)
    reason: str = Field("", max_length=1000)


class LotMerge(Body):
    """Lots of one material to join."""

    serials: list[Serial] = Field(min_length=2, max_length=100)
    location: Text = ""
    reason: str = Field("", max_length=1000)


class LotList(View):
    """Several lots."""

    lots: list[LotView]


@router.get("/materials")
def list_materials(
    service: Served, actor: CurrentActor, cursor: Cursor = None, limit: Limit = 50
) -> Page[MaterialView]:
    """Everything that is bought or made."""
    with service.database.read() as record:
        return page_of(record, select(Material), col(Material.id), MaterialView.of, cursor=cursor, limit=limit)


@router.post("/materials", status_code=201, response_model=MaterialView)
def define_material(body: NewMaterial, act: Act) -> Response:
    """Define a material once, under a code of its own."""
    with act.write() as record:
        material = materials.define_material(record, body.code, body.name, body.kind, body.unit, body.properties)
        return act.answer(MaterialView.of(material), status=201, location=f"/api/v1/materials/{material.code}")


@router.get("/materials/{code}")
def show_material(code: str, service: Served, actor: CurrentActor) -> MaterialView:
    """One material."""
    with service.database.read() as record:
        return MaterialView.of(materials.find_material(record, code))


@router.get("/lots")
def list_lots(
    service: Served,
    actor: CurrentActor,
    material_code: Annotated[str | None, Query(max_length=40)] = None,
    status: LotStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[LotView]:
    """Lots, newest first."""
    query = select(Lot)
    if material_code is not None:
        query = query.where(Lot.material_code == material_code)
    if status is not None:
        query = query.where(Lot.status == status)
    with service.database.read() as record:
        return page_of(record, query, col(Lot.item_id), LotView.of, cursor=cursor, limit=limit)


@router.post("/lots", status_code=201, response_model=LotView)
def receive_lot(body: LotReceipt, act: Act) -> Response:
    """Receive a delivery into quarantine."""
    with act.write() as record:
        lot = materials.receive_lot(
            record,
            material_code=body.material_code,
            quantity=Quantity.parse(body.quantity, body.unit),
            supplier=body.supplier,
            supplier_lot=body.supplier_lot,
            certificate=body.certificate,
            expires_at=body.expires_at,
            location=body.location,
        )
        return act.answer(LotView.of(lot), status=201, location=f"/api/v1/lots/{lot.serial}", version=lot.version)


@router.get("/lots/{serial}")
def show_lot(serial: str, service: Served, actor: CurrentActor, response: Response) -> LotView:
    """One lot."""
    with service.database.read() as record:
        lot = materials.find_lot(record, serial)
    response.headers["ETag"] = etag_of(lot.version)
    return LotView.of(lot)


@router.post("/lots/{serial}:release", response_model=LotView)
def release_lot(serial: str, body: Reason, act: Act) -> Response:
    """Let a lot out of quarantine."""
    with act.write() as record:
        lot = materials.release_lot(record, serial, reason=body.reason, expected_version=act.if_match)
        return act.answer(LotView.of(lot), version=lot.version)


@router.post("/lots/{serial}:quarantine", response_model=LotView)
def quarantine_lot(serial: str, body: Reason, act: Act) -> Response:
    """Put a lot back into quarantine."""
    with act.write() as record:
        lot = materials.quarantine_lot(record, serial, reason=body.reason, expected_version=act.if_match)
        return act.answer(LotView.of(lot), version=lot.version)


@router.post("/lots/{serial}:scrap", response_model=LotView)
def scrap_lot(serial: str, body: Reason, act: Act) -> Response:
    """Scrap what is left of a lot."""
    with act.write() as record:
        lot = materials.scrap_lot(record, serial, reason=body.reason, expected_version=act.if_match)
        return act.answer(LotView.of(lot), version=lot.version)


@router.post("/lots/{serial}:split", status_code=201, response_model=LotList)
def split_lot(serial: str, body: LotSplit, act: Act) -> Response:
    """Split a lot; the quantities add up exactly."""
    with act.write() as record:
        amounts = [Quantity.parse(part.quantity, part.unit) for part in body.parts]
        parts = stock.split_lot(record, serial, amounts, reason=body.reason)
        return act.answer(LotList(lots=[LotView.of(lot) for lot in parts]), status=201)


@router.post("/lots:merge", status_code=201, response_model=LotView)
def merge_lots(body: LotMerge, act: Act) -> Response:
    """Join lots of one material into a new one."""
    with act.write() as record:
        lot = stock.merge_lots(record, body.serials, location=body.location, reason=body.reason)
        return act.answer(LotView.of(lot), status=201, location=f"/api/v1/lots/{lot.serial}", version=lot.version)
