"""Files that testers send: taken in, shown, and decided by a person where there is a doubt."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.routers.handoffs import ResultView, tester_of
from api.service import Service
from api.views import Reason
from equipment.testers import ingest
from equipment.testers.contract import ResultReport
from equipment.testers.examination import examine
from equipment.testers.handoff_records import Handoff, ResultStatus, TesterResult, find_handoff
from traceability.attachments import Stored

router = APIRouter(tags=["results"])


@router.post("/testers/{tester}/handoffs/{uuid}/results", status_code=201, response_model=ResultView)
def report_result(tester: str, uuid: str, body: ResultReport, service: Served, act: Act) -> Response:
    """Say what an uploaded file is. What does not fit the hand-off goes into quarantine; nothing is dropped."""
    tester_of(service, tester)
    service.database.acts.require(act.actor, "result.received")
    stored = _stored(service, body.blob)
    with service.database.read() as record:
        handoff = find_handoff(record, uuid)
    # A large file takes seconds to read, and nobody else can write to the record during a transaction.
    read = examine(service.attachments.open(body.blob), body.file_name, handoff, is_final=body.is_final)
    with act.write() as record:
        row = ingest.receive(record, tester, uuid, body, stored, read)
        view = ResultView.of_result(row)
        return act.answer(view, status=201, location=f"/api/v1/results/{row.serial}", version=row.version)


@router.get("/results")
def list_results(
    service: Served,
    actor: CurrentActor,
    status: ResultStatus | None = None,
    cell: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ResultView]:
    """Results, newest first; `status=quarantined` is what waits for a person."""
    query = select(TesterResult)
    if status is not None:
        query = query.where(TesterResult.status == status)
    if cell is not None:
        query = query.join(Handoff, col(Handoff.id) == col(TesterResult.handoff_id))
        query = query.where(Handoff.cell_serial == cell)
    with service.database.read() as record:
        return page_of(record, query, col(TesterResult.id), ResultView.of_result, cursor=cursor, limit=limit)


@router.get("/results/{serial}")
def show_result(serial: str, service: Served, actor: CurrentActor, response: Response) -> ResultView:
    """One result."""
    with service.database.read() as record:
        row = ingest.find_result(record, serial)
    response.headers["ETag"] = etag_of(row.version)
    return ResultView.of_result(row)


@router.post("/results/{serial}:accept", response_model=ResultView)
def accept_result(serial: str, body: Reason, service: Served, act: Act) -> Response:
    """Accept a result that is in quarantine: it is this cell's after all."""
    with service.database.read() as record:
        stored = _stored(service, ingest.find_result(record, serial).blob_sha256)
    with act.write() as record:
        row = ingest.accept(record, serial, stored, reason=body.reason, expected_version=act.if_match)
        return act.answer(ResultView.of_result(row), version=row.version)


@router.post("/results/{serial}:reject", response_model=ResultView)
def reject_result(serial: str, body: Reason, act: Act) -> Response:
    """Reject a result that is in quarantine; its raw file stays."""
    with act.write() as record:
        row = ingest.reject(record, serial, reason=body.reason, expected_version=act.if_match)
        return act.answer(ResultView.of_result(row), version=row.version)


def _stored(service: Service, sha256: str) -> Stored:
    """A file that was uploaded before.

    Raises:
        NotFound: It was not.
    """
    with service.attachments.open(sha256) as file:
        return Stored(sha256, file.seek(0, 2))
