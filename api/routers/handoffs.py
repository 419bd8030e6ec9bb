"""Cells and their testers: offered, followed, given back; and what the testers themselves report."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.service import Service
from api.views import Body, Reason, Serial, View
from equipment.line_config import TesterConfig
from equipment.testers import handoff as handoffs
from equipment.testers.completion import current_result
from equipment.testers.contract import EventReport, Offer
from equipment.testers.handoff_records import Handoff, ResultStatus, TesterResult, events_of, find_handoff, results_of
from equipment.testers.handoff_states import ON_CHANNEL, HandoffEvent, HandoffState
from equipment.testers.outbox_queue import Message, MessageState, OutboxRow, messages_of, waiting, waiting_counts
from traceability.database import RecordSession
from traceability.errors import NotFound

router = APIRouter(tags=["testers"])


class NewHandoff(Body):
    """A finished, screened cell for a tester. What it is made of, its area and its masses come from its genealogy."""

    cell: Serial = Field(examples=["CEL-000042-7"])
    tester: str = Field(max_length=40, examples=["LAND1"])
    protocol: str = Field(
        max_length=60, description="`id` for the effective version, or `id/version`.", examples=["PT-SYM-01-01"]
    )
    experiment: bool = Field(False, description="A protocol that is not effective may be used.")
    reason: str = Field("", max_length=1000)


class Resolution(Reason):
    """What a person found out about a hand-off that nobody knew about."""

    event: HandoffEvent = Field(description="What has become of it.", examples=["abort"])


class VerdictView(BaseModel):
    """What a test says about the life of a cell."""

    outcome: str = Field(description="`failed`, or `censored`: alive when the test ended.")
    time_h: float
    criterion: str | None
    criteria_version: str
    baseline_v: float | None


class ResultView(View):
    """A tester's file and what is said by it."""

    serial: str
    blob_sha256: str
    file_name: str
    parser: str
    parser_version: str
    profile: str
    tester_serial: str
    channel: str
    first_at: datetime
    last_at: datetime
    n_records: int
    is_final: bool
    received_at: datetime
    status: ResultStatus
    findings: list[dict[str, str]]
    analysis: dict[str, Any] | None
    verdict: VerdictView | None = None
    superseded: bool = False
    decided_by: str
    decision: str
    version: int

    @classmethod
    def of_result(cls, row: TesterResult) -> ResultView:
        """What is shown of a result."""
        verdict = None if row.analysis is None else row.analysis.get("verdict")
        view = cls.of(row)
        view.superseded = row.superseded_by is not None
        view.verdict = None if verdict is None else VerdictView.model_validate(verdict)
        return view


class EventView(View):
    """Something that a tester reported."""

    seq: int
    event: HandoffEvent
    at: datetime
    received_at: datetime
    detail: dict[str, Any]


class MessageView(View):
    """Something that a tester is to be told."""

    handoff: str = ""
    cell_serial: str = ""
    tester: str
    message: Message
    state: MessageState
    attempts: int
    written_at: datetime
    next_at: datetime
    answered_at: datetime | None
    problem: str


class HandoffView(View):
    """A cell handed to a tester."""

    uuid: str
    cell_serial: str
    tester: str
    protocol_ref: str
    protocol_sha256: str
    experiment: bool
    state: HandoffState
    why: str
    channel: str | None
    area_cm2: Decimal
    active_mg: Decimal | None
    tester_serial: str
    simulated: bool
    offered_by: str
    offered_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested: bool
    version: int


class HandoffDetail(HandoffView):
    """A hand-off with all that was said about it."""

    offer: dict[str, Any]
    events: list[EventView]
    messages: list[MessageView]
    results: list[ResultView]
    verdict: VerdictView | None


class OfferView(BaseModel):
    """A hand-off as a tester that polls sees it."""

    state: HandoffState
    cancel_requested: bool
    offer: Offer


class TesterView(BaseModel):
    """A tester of the line."""

    name: str
    kind: str
    capabilities: tuple[str, ...]
    channels: int
    polls: bool
    occupied: int = Field(description="Channels with a cell on them.")
    waiting: int = Field(description="Messages that the tester has not heard yet.")


@router.get("/testers")
def list_testers(service: Served, actor: CurrentActor) -> list[TesterView]:
    """The testers of the line."""
    with service.database.read() as record:
        counts = waiting_counts(record)
        on_channels = record.exec(
            select(Handoff.tester).where(col(Handoff.channel).is_not(None), col(Handoff.state).in_(ON_CHANNEL))
        ).all()
    return [
        TesterView(
            name=tester.name,
            kind=tester.kind,
            capabilities=tester.capabilities,
            channels=tester.channels,
            polls=tester.polls,
            occupied=on_channels.count(tester.name),
            waiting=counts.get(tester.name, 0),
        )
        for tester in service.line.testers
    ]


@router.get("/testers/{tester}/outbox")
def list_outbox(tester: str, service: Served, actor: CurrentActor) -> list[MessageView]:
    """What the tester has not heard yet, and why."""
    tester_of(service, tester)
    with service.database.read() as record:
        return [_message(row, handoff) for row, handoff in waiting(record, tester)]


@router.get("/handoffs")
def list_handoffs(
    service: Served,
    actor: CurrentActor,
    tester: Annotated[str | None, Query(max_length=40)] = None,
    state: HandoffState | None = None,
    cell: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[HandoffView]:
    """Hand-offs, newest first."""
    query = select(Handoff)
    if tester is not None:
        query = query.where(Handoff.tester == tester)
    if state is not None:
        query = query.where(Handoff.state == state)
    if cell is not None:
        query = query.where(Handoff.cell_serial == cell)
    with service.database.read() as record:
        return page_of(record, query, col(Handoff.id), HandoffView.of, cursor=cursor, limit=limit)


@router.post("/handoffs", status_code=201, response_model=HandoffView)
def offer_cell(body: NewHandoff, service: Served, act: Act) -> Response:
    """Offer a cell to a tester. Everything that forbids it is said at once."""
    tester = tester_of(service, body.tester)
    with act.write() as record:
        row = handoffs.offer(
            record,
            cell_serial=body.cell,
            tester=tester,
            protocol=body.protocol,
            callback=f"{service.settings.callback_url}/api/v1",
            experiment=body.experiment,
            reason=body.reason,
        )
        view = HandoffView.of(row)
        return act.answer(view, status=201, location=f"/api/v1/handoffs/{row.uuid}", version=row.version)


@router.get("/handoffs/{uuid}")
def show_handoff(uuid: str, service: Served, actor: CurrentActor, response: Response) -> HandoffDetail:
    """One hand-off: the offer, the tester's reports, its files and the verdict."""
    with service.database.read() as record:
        row = find_handoff(record, uuid)
        response.headers["ETag"] = etag_of(row.version)
        return _detail(record, row)


@router.get("/handoffs/{uuid}/results")
def list_handoff_results(uuid: str, service: Served, actor: CurrentActor) -> list[ResultView]:
    """The files of a hand-off, oldest first."""
    with service.database.read() as record:
        return [ResultView.of_result(row) for row in results_of(record, find_handoff(record, uuid))]


@router.post("/handoffs/{uuid}:cancel", response_model=HandoffView)
def cancel_handoff(uuid: str, body: Reason, act: Act) -> Response:
    """Ask the tester to give the cell back, before its test runs."""
    with act.write() as record:
        row = handoffs.cancel(record, uuid, reason=body.reason, expected_version=act.if_match)
        return act.answer(HandoffView.of(row), version=row.version)


@router.post("/handoffs/{uuid}:resolve", response_model=HandoffView)
def resolve_handoff(uuid: str, body: Resolution, act: Act) -> Response:
    """Say what became of a hand-off that nobody knows about, after having looked at the tester."""
    with act.write() as record:
        row = handoffs.resolve(record, uuid, body.event, reason=body.reason, expected_version=act.if_match)
        return act.answer(HandoffView.of(row), version=row.version)


@router.post("/handoffs/{uuid}:release", response_model=HandoffView)
def release_handoff(uuid: str, body: Reason, act: Act) -> Response:
    """Take the cell off the tester."""
    with act.write() as record:
        row = handoffs.release(record, uuid, reason=body.reason, expected_version=act.if_match)
        return act.answer(HandoffView.of(row), version=row.version)


@router.get("/testers/{tester}/handoffs")
def poll_handoffs(
    tester: str, service: Served, actor: CurrentActor, state: Annotated[HandoffState | None, Query()] = None
) -> list[OfferView]:
    """The open hand-offs of a tester that may not be called: the same bodies that others get by PUT."""
    tester_of(service, tester)
    states = [s for s in HandoffState if s.open] if state is None else [state]
    with service.database.read() as record:
        rows = record.exec(
            select(Handoff)
            .where(Handoff.tester == tester, col(Handoff.state).in_(states))
            .order_by(col(Handoff.id))
            .limit(500)
        ).all()
    return [OfferView(state=row.state, cancel_requested=row.cancel_requested, offer=row.body) for row in rows]


@router.post("/testers/{tester}/handoffs/{uuid}/events", response_model=HandoffView)
def report_event(tester: str, uuid: str, body: EventReport, service: Served, act: Act) -> Response:
    """Report what happened to a hand-off. Numbers run without a gap; a repeated report changes nothing."""
    tester_of(service, tester)
    with act.write() as record:
        row = handoffs.report(record, tester, uuid, body)
        return act.answer(HandoffView.of(row), version=row.version)


def tester_of(service: Service, name: str) -> TesterConfig:
    """The tester of that name.

    Raises:
        NotFound: The line has none.
    """
    for tester in service.line.testers:
        if tester.name == name:
            return tester
    names = ", ".join(tester.name for tester in service.line.testers) or "none"
    raise NotFound(f"The line has no tester {name!r}; it has {names}.")


def _detail(record: RecordSession, row: Handoff) -> HandoffDetail:
    result = current_result(record, row)
    return HandoffDetail(
        **HandoffView.of(row).model_dump(),
        offer=row.offer,
        events=[EventView.of(event) for event in events_of(record, row)],
        messages=[_message(message, row) for message in messages_of(record, row)],
        results=[ResultView.of_result(each) for each in results_of(record, row)],
        verdict=None if result is None else ResultView.of_result(result).verdict,
    )


def _message(row: OutboxRow, handoff: Handoff) -> MessageView:
    view = MessageView.of(row)
    view.handoff, view.cell_serial = handoff.uuid, handoff.cell_serial
    return view
