"""Holds, non-conformances and their decisions."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.idempotency import Acting, etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.views import Body, Reason, Serial, SignatureComponents, SignedReason, Text, View
from traceability import holds, nonconformance
from traceability.database import RecordSession
from traceability.holds import Hold
from traceability.items import Item
from traceability.nonconformance import Disposition, NonConformance
from traceability.signatures import SigningSession, open_signing

router = APIRouter(tags=["quality"])


class NewHold(Reason):
    """A hold to place."""

    item: Serial


class HoldView(View):
    """A hold."""

    serial: str
    item: str
    reason: str
    placed_by: str
    placed_at: datetime
    released_by: str
    released_at: datetime | None
    release_reason: str
    version: int


class NewNonConformance(Body):
    """Something that is not as it should be."""

    item: Serial
    title: Text = Field(min_length=3)
    description: str = Field("", max_length=10_000)


class Decision(SignedReason):
    """What becomes of a non-conforming thing."""

    disposition: Disposition


class NonConformanceView(View):
    """A non-conformance."""

    serial: str
    item: str
    title: str
    description: str
    opened_by: str
    opened_at: datetime
    disposition: Disposition | None
    decided_by: str
    decided_at: datetime | None
    reason: str
    version: int


def signing(act: Acting, components: SignatureComponents) -> SigningSession:
    """The signing session for one signature, proved by both components outside the act's own transaction.

    Raises:
        SignatureRefused: The components are wrong, or somebody else's.
    """
    return open_signing(act.database, act.actor, components.name, components.password)


@router.get("/holds")
def list_holds(
    service: Served, actor: CurrentActor, open_only: bool = True, cursor: Cursor = None, limit: Limit = 50
) -> Page[HoldView]:
    """Holds, newest first."""
    query = select(Hold)
    if open_only:
        query = query.where(col(Hold.released_at).is_(None))
    with service.database.read() as record:
        return page_of(record, query, col(Hold.id), lambda h: _hold_view(record, h), cursor=cursor, limit=limit)


@router.post("/holds", status_code=201, response_model=HoldView)
def place_hold(body: NewHold, act: Act) -> Response:
    """Hold an item and everything that is or will be made of it."""
    with act.write() as record:
        hold = holds.place_hold(record, body.item, reason=body.reason)
        return act.answer(
            _hold_view(record, hold), status=201, location=f"/api/v1/holds/{hold.serial}", version=hold.version
        )


@router.get("/holds/{serial}")
def show_hold(serial: str, service: Served, actor: CurrentActor, response: Response) -> HoldView:
    """One hold."""
    with service.database.read() as record:
        hold = holds.find_hold(record, serial)
        response.headers["ETag"] = etag_of(hold.version)
        return _hold_view(record, hold)


@router.post("/holds/{serial}:release", response_model=HoldView)
def release_hold(serial: str, body: SignedReason, act: Act) -> Response:
    """Release a hold, by reason and signature."""
    signer = signing(act, body.signature)
    with act.write() as record:
        found = holds.find_hold(record, serial)
        hold = holds.release_hold(record, found.id or 0, reason=body.reason, signing=signer)
        return act.answer(_hold_view(record, hold), version=hold.version)


@router.get("/nonconformances")
def list_nonconformances(
    service: Served, actor: CurrentActor, open_only: bool = True, cursor: Cursor = None, limit: Limit = 50
) -> Page[NonConformanceView]:
    """Non-conformances, newest first."""
    query = select(NonConformance)
    if open_only:
        query = query.where(col(NonConformance.decided_at).is_(None))
    with service.database.read() as record:
        return page_of(
            record,
            query,
            col(NonConformance.id),
            lambda n: _nonconformance_view(record, n),
            cursor=cursor,
            limit=limit,
        )


@router.post("/nonconformances", status_code=201, response_model=NonConformanceView)
def open_nonconformance(body: NewNonConformance, act: Act) -> Response:
    """Say that something is not as it should be; the item is held until QA decides."""
    with act.write() as record:
        opened = nonconformance.open_nonconformance(record, body.item, title=body.title, description=body.description)
        return act.answer(
            _nonconformance_view(record, opened),
            status=201,
            location=f"/api/v1/nonconformances/{opened.serial}",
            version=opened.version,
        )


@router.post("/nonconformances/{serial}:decide", response_model=NonConformanceView)
def decide_nonconformance(serial: str, body: Decision, act: Act) -> Response:
    """Decide what becomes of the thing, by reason and signature."""
    signer = signing(act, body.signature)
    with act.write() as record:
        decided = nonconformance.dispose(record, serial, body.disposition, reason=body.reason, signing=signer)
        return act.answer(_nonconformance_view(record, decided), version=decided.version)


def _serial(record: RecordSession, item_id: int) -> str:
    return record.exec(select(Item.serial).where(Item.id == item_id)).one()


def _hold_view(record: RecordSession, hold: Hold) -> HoldView:
    return HoldView(
        **hold.model_dump(include=set(HoldView.model_fields) - {"item"}), item=_serial(record, hold.item_id)
    )


def _nonconformance_view(record: RecordSession, row: NonConformance) -> NonConformanceView:
    fields = row.model_dump(include=set(NonConformanceView.model_fields) - {"item"})
    return NonConformanceView(**fields, item=_serial(record, row.item_id))
