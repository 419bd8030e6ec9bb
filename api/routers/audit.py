"""What QA reads and takes away: the audit trail, its verification, history records."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field
from sqlmodel import col, select

from api.dependencies import CurrentActor, Served, require_role
from api.pages import Cursor, Limit, Page, page_of
from api.views import View, streamed
from traceability.acts import Role
from traceability.audit import AuditEvent, AuditEventItem
from traceability.exports.audit_trail import AuditFilter, ExportFormat, count_events, export_audit_trail
from traceability.exports.bundle import MEDIA_TYPE, export_bundle
from traceability.exports.history_record import export_history_record

router = APIRouter(tags=["audit"])


def audit_filter(
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    actor_name: Annotated[str, Query(max_length=64)] = "",
    item: Annotated[str, Query(max_length=40)] = "",
    kind: Annotated[str, Query(max_length=64, description="A kind of act, or `lot.*`.")] = "",
) -> AuditFilter:
    """Which events are meant; what is left out lets all pass."""
    return AuditFilter(since=since, until=until, actor=actor_name, item=item, kind=kind)


Chosen = Annotated[AuditFilter, Depends(audit_filter)]


class AuditEventView(View):
    """One act on the record."""

    seq: int
    at: datetime
    wall_at: datetime
    actor: str
    full_name: str
    terminal: str
    kind: str
    items: list[str]
    reason: str
    detail: dict[str, Any]
    changes: list[dict[str, Any]]
    prev: str
    hash: str


class CountView(View):
    """How many events an export would have."""

    count: int


class DiscrepancyView(View):
    """One thing that is not as the trail says."""

    kind: str
    message: str
    seq: int | None
    table: str
    key: str
    column: str
    expected: Any
    found: Any


class VerificationView(View):
    """What a verification saw."""

    intact: bool
    events: int
    head_hash: str
    tables: int
    sealed: int
    checkpoints: int
    left_out: list[str]
    discrepancies: list[DiscrepancyView] = Field(description="The first 200, the first bad one first.")
    count: int


@router.get("/audit/events")
def list_events(
    service: Served, actor: CurrentActor, chosen: Chosen, cursor: Cursor = None, limit: Limit = 50
) -> Page[AuditEventView]:
    """The audit trail, newest first."""
    require_role(actor, Role.QA, Role.ADMIN, what="the audit trail")
    query = select(AuditEvent)
    if chosen.since:
        query = query.where(col(AuditEvent.at) >= chosen.since)
    if chosen.until:
        query = query.where(col(AuditEvent.at) < chosen.until)
    if chosen.actor:
        query = query.where(AuditEvent.actor == chosen.actor)
    if chosen.item:
        query = query.where(
            col(AuditEvent.seq).in_(select(AuditEventItem.seq).where(AuditEventItem.item == chosen.item))
        )
    if chosen.kind:
        pattern = chosen.kind.rstrip("*")
        exact = col(AuditEvent.kind) == pattern
        query = query.where(
            exact if pattern == chosen.kind else col(AuditEvent.kind).startswith(pattern, autoescape=True)
        )
    with service.database.read() as record:
        return page_of(record, query, col(AuditEvent.seq), _event_view, cursor=cursor, limit=limit)


@router.get("/audit/count")
def count_audit_events(service: Served, actor: CurrentActor, chosen: Chosen) -> CountView:
    """How many events an export with this filter would have."""
    require_role(actor, Role.QA, Role.ADMIN, what="the audit trail")
    with service.database.read() as record:
        return CountView(count=count_events(record, chosen))


@router.get(
    "/audit/export",
    response_class=StreamingResponse,
    responses=streamed(MEDIA_TYPE, *(form.media_type for form in ExportFormat)),
)
def export_trail(
    service: Served,
    actor: CurrentActor,
    chosen: Chosen,
    form: Annotated[
        str, Query(pattern="^(csv|ndjson|bundle)$", description="csv, ndjson or bundle (zip).")
    ] = "bundle",
    reason: Annotated[str, Query(max_length=1000)] = "",
) -> StreamingResponse:
    """Take the audit trail away. The bundle carries a verifier that needs no server and no network."""
    if form == "bundle":
        bundle = export_bundle(service.database, actor, chosen, reason=reason)
        return _download(bundle.chunks, MEDIA_TYPE, "argonaut-audit.zip", bundle.count)
    export_format = ExportFormat(form)
    export = export_audit_trail(service.database, actor, chosen, export_format, reason=reason)
    return _download(export.chunks, export_format.media_type, f"argonaut-audit.{form}", export.count)


@router.post("/audit:verify")
def verify_trail(service: Served, actor: CurrentActor) -> VerificationView:
    """Verify the whole chain, every row of every record, every sealed trace and file. The result is recorded."""
    service.database.acts.require(actor, "audit.verified")
    return VerificationView.of(service.verify())


@router.get("/items/{serial}/history", response_model=dict[str, Any])
def history_of_item(serial: str, service: Served, actor: CurrentActor) -> Response:
    """The device history record of a cell, unit or lot: everything that is known of it, in one document."""
    document = export_history_record(service.database, actor, serial, service.history_sections)
    return Response(orjson.dumps(document), media_type="application/json")


def _event_view(row: AuditEvent) -> AuditEventView:
    return AuditEventView.model_validate({**orjson.loads(row.body), "hash": row.hash})


def _download(chunks: Iterable[bytes], media_type: str, name: str, count: int) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Event-Count": str(count)}
    return StreamingResponse(chunks, media_type=media_type, headers=headers)
