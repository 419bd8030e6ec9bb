"""Things with a serial: what they are, what they came from, what became of them, what they were exposed to."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.views import Body, Reason, Serial, Text, View
from traceability import exposure, units
from traceability.database import RecordSession
from traceability.exposure import Atmosphere
from traceability.film_thickness import Basis, film_thicknesses
from traceability.genealogy import EdgeKind, TraceNode, edges_among, recall, trace_back, trace_forward
from traceability.holds import holds_on
from traceability.items import ItemKind, find_item
from traceability.units import Unit, UnitEvent, UnitStatus

router = APIRouter(tags=["items"])


class HoldOnView(View):
    """A hold that covers an item: its own, or one on something it was made of."""

    hold_serial: str
    origin: str = Field(description="Serial of the item that the hold was placed on.")
    reason: str
    inherited: bool


class FilmView(View):
    """One film of a coated disc, with the best that is known of its thickness."""

    number: int
    run_activity_id: int
    material_code: str
    position: int
    nominal_thickness_nm: float
    thickness_nm: float
    uncertainty_nm: float | None
    basis: Basis = Field(description="What the thickness rests on.")


class UnitView(View):
    """A serialised thing."""

    serial: str
    kind: ItemKind
    product: str
    status: UnitStatus
    location: str
    properties: dict[str, Any]
    simulated: bool
    version: int


class UnitDetail(UnitView):
    """A serialised thing with its films and holds."""

    films: list[FilmView]
    holds: list[HoldOnView]


class Serialisation(Body):
    """Pieces to take out of a lot, each with a serial of its own."""

    lot: Serial
    count: int = Field(ge=1, le=500)
    kind: ItemKind = Field(examples=[ItemKind.DISC])
    product: Text = ""
    location: Text = ""


class UnitList(View):
    """Several units."""

    units: list[UnitView]


class NodeView(View):
    """An item in a trace; depth counts edges from where the trace began."""

    serial: str
    kind: ItemKind
    depth: int


class EdgeView(View):
    """How one item went into another."""

    source: str
    result: str
    kind: EdgeKind
    quantity: Decimal | None
    unit: str
    at: datetime
    activity_id: int


class TraceView(View):
    """A trace through the genealogy, nearest first."""

    start: str
    nodes: list[NodeView]
    edges: list[EdgeView]


class RecallView(View):
    """Everything that a thing went into, and the cells among it."""

    start: str
    nodes: list[NodeView]
    cells: list[str]


class NewMove(Body):
    """A move of an item into another atmosphere or place."""

    atmosphere: Atmosphere
    location: Text = ""
    at: AwareDatetime | None = Field(None, description="Now, if left out.")


class MoveView(View):
    """A move."""

    atmosphere: Atmosphere
    location: str
    at: datetime
    person: str


class ExposureView(View):
    """What an item and all it was made of have been exposed to."""

    water_pa_s: float = Field(description="Water partial pressure × time, Pa·s.")
    oxygen_pa_s: float = Field(description="Oxygen partial pressure × time, Pa·s.")
    seconds_in: dict[Atmosphere, float]
    since: datetime
    until: datetime


@router.get("/units")
def list_units(
    service: Served,
    actor: CurrentActor,
    kind: ItemKind | None = None,
    status: UnitStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[UnitView]:
    """Serialised things, newest first."""
    query = select(Unit)
    if kind is not None:
        query = query.where(Unit.kind == kind)
    if status is not None:
        query = query.where(Unit.status == status)
    with service.database.read() as record:
        return page_of(record, query, col(Unit.item_id), UnitView.of, cursor=cursor, limit=limit)


@router.post("/units", status_code=201, response_model=UnitList)
def serialise_lot(body: Serialisation, act: Act) -> Response:
    """Take pieces out of a lot and give each a serial."""
    with act.write() as record:
        made = units.serialise_lot(
            record, body.lot, body.count, body.kind, product=body.product, location=body.location
        )
        return act.answer(UnitList(units=[UnitView.of(unit) for unit in made]), status=201)


@router.get("/units/{serial}")
def show_unit(serial: str, service: Served, actor: CurrentActor, response: Response) -> UnitDetail:
    """One serialised thing with its films and holds."""
    with service.database.read() as record:
        unit = units.find_unit(record, serial)
        films = [
            FilmView(
                number=film.layer.number,
                run_activity_id=film.layer.activity_id,
                material_code=film.layer.material_code,
                position=film.layer.position,
                nominal_thickness_nm=film.layer.nominal_thickness_nm,
                thickness_nm=film.thickness_nm,
                uncertainty_nm=film.uncertainty_nm,
                basis=film.basis,
            )
            for film in film_thicknesses(record, unit.serial)
        ]
        holds = [HoldOnView.of(hold) for hold in holds_on(record, [unit.serial])]
    response.headers["ETag"] = etag_of(unit.version)
    return UnitDetail(**UnitView.of(unit).model_dump(), films=films, holds=holds)


@router.post("/units/{serial}:scrap", response_model=UnitView)
def scrap_unit(serial: str, body: Reason, act: Act) -> Response:
    """Scrap a unit for good."""
    with act.write() as record:
        unit = units.advance_unit(record, serial, UnitEvent.SCRAP, reason=body.reason, expected_version=act.if_match)
        return act.answer(UnitView.of(unit), version=unit.version)


@router.get("/items/{serial}/ancestors")
def ancestors(serial: str, service: Served, actor: CurrentActor) -> TraceView:
    """Everything that went into an item."""
    with service.database.read() as record:
        item = find_item(record, serial)
        return _trace(record, item.serial, trace_back(record, item.key))


@router.get("/items/{serial}/descendants")
def descendants(serial: str, service: Served, actor: CurrentActor) -> TraceView:
    """Everything that an item went into."""
    with service.database.read() as record:
        item = find_item(record, serial)
        return _trace(record, item.serial, trace_forward(record, item.key))


@router.get("/items/{serial}/recall")
def recall_list(serial: str, service: Served, actor: CurrentActor) -> RecallView:
    """What to fetch back if this item turns out bad, wherever it now is."""
    with service.database.read() as record:
        found = recall(record, serial)
    return RecallView(
        start=found.start.serial,
        nodes=[NodeView.of(node) for node in found.nodes],
        cells=[node.serial for node in found.cells],
    )


@router.get("/items/{serial}/holds")
def holds_on_item(serial: str, service: Served, actor: CurrentActor) -> list[HoldOnView]:
    """Every hold that covers an item, its own and inherited."""
    with service.database.read() as record:
        return [HoldOnView.of(hold) for hold in holds_on(record, [find_item(record, serial).serial])]


@router.get("/items/{serial}/exposure")
def exposure_of_item(serial: str, service: Served, actor: CurrentActor) -> ExposureView:
    """Dose of water and oxygen, and the time in each atmosphere."""
    with service.database.read() as record:
        return ExposureView.of(exposure.exposure_of(record, serial))


@router.post("/items/{serial}/moves", status_code=201, response_model=MoveView)
def move_item(serial: str, body: NewMove, act: Act) -> Response:
    """Record that an item was moved."""
    with act.write() as record:
        moved = exposure.move(record, serial, body.atmosphere, body.location, body.at)
        return act.answer(MoveView.of(moved), status=201)


def _trace(record: RecordSession, start: str, nodes: list[TraceNode]) -> TraceView:
    serials = {node.item_id: node.serial for node in nodes}
    edges = [
        EdgeView(
            source=serials[edge.src],
            result=serials[edge.dst],
            kind=edge.kind,
            quantity=edge.quantity,
            unit=edge.unit,
            at=edge.at,
            activity_id=edge.activity_id,
        )
        for edge in edges_among(record, list(serials))
    ]
    return TraceView(start=start, nodes=[NodeView.of(node) for node in nodes], edges=edges)
