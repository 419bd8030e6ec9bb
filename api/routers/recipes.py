"""Recipes, routes and test protocols: written, checked, predicted, compared, reviewed, approved, made effective.

All three kinds of document share one life and these routes. A document comes in and goes out as JSON or YAML.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field

from api.dependencies import Act, CurrentActor, Served
from api.errors import FindingView
from api.idempotency import etag_of
from api.routers.quality import signing
from api.views import Body, Reason, SignatureComponents, View
from recipes import authoring, importing, kinds, store
from recipes.diff import diff
from recipes.importing import ImportAction, ImportLine
from recipes.kinds import DocumentKind
from recipes.lifecycle import Status
from recipes.master import MasterRecipe
from recipes.prediction import predict
from recipes.store import RecipeVersion
from traceability.errors import Finding, InvalidInput, Severity

router = APIRouter(tags=["recipes"])

YAML = "application/yaml"

_DOCUMENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object", "additionalProperties": True}},
            YAML: {"schema": {"type": "string"}},
        },
    }
}


async def document_text(request: Request) -> bytes:
    """The document in the request's body; YAML is read as well as JSON, which is part of it."""
    return await request.body()


DocumentText = Annotated[bytes, Depends(document_text)]


class VersionView(View):
    """A version of a recipe, route or protocol, without its content."""

    kind: DocumentKind
    document_id: str = Field(examples=["lialo2-200nm"])
    number: int
    title: str
    status: Status
    content_sha256: str
    authors: list[str]
    reason: str
    created_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    effective_at: datetime | None
    ended_at: datetime | None
    version: int


class Approval(Body):
    """A signature over the content's hash. The approver is none of the authors."""

    signature: SignatureComponents


class ValidationView(View):
    """Everything that a dry run found."""

    valid: bool
    findings: list[FindingView]


class SeriesView(View):
    """The course of one setpoint, as corner points `(seconds, value)`."""

    signal: str
    unit: str
    points: list[tuple[float, float]]


class PhaseTimeView(View):
    """How long a phase is expected to take."""

    phase: str
    duration_s: float


class PredictionView(View):
    """What a recipe is expected to do, with the assumptions made."""

    duration_s: float
    energy_kwh: float
    thickness_nm: float | None
    thickness_mm: float | None
    rate_nm_per_min: float | None
    deposit_time_s: float | None
    max_deposit_time_s: float | None
    force_kn: float | None
    phases: list[PhaseTimeView]
    profile: list[SeriesView]
    assumptions: list[str]


class DiffView(View):
    """What differs between two versions, in words."""

    old: str
    new: str
    differences: list[str]


class UseView(View):
    """A place where a document is used."""

    kind: str = Field(description="route, child or activity")
    name: str
    status: str


class ImportLineView(View):
    """What an import does with one document."""

    kind: DocumentKind
    reference: str
    title: str
    action: ImportAction
    words: list[str]


class ImportView(View):
    """What the import of the founding library changes, or did change."""

    lines: list[ImportLineView]


@router.get("/recipes")
def list_recipes(
    service: Served,
    actor: CurrentActor,
    kind: DocumentKind | None = None,
    status: Status | None = None,
    document_id: Annotated[str | None, Query(max_length=80)] = None,
) -> list[VersionView]:
    """All versions of all documents, or those of one kind, status or id."""
    with service.database.read() as record:
        if document_id is not None:
            found = [
                row
                for row in store.versions_of(record, document_id)
                if kind in (None, row.kind) and status in (None, row.status)
            ]
        else:
            found = list(store.list_versions(record, kind=kind, status=status))
        return [VersionView.of(row) for row in found]


@router.post("/recipes", status_code=201, response_model=VersionView, openapi_extra=_DOCUMENT_BODY)
def create_draft(document: DocumentText, act: Act, reason: Annotated[str, Query(max_length=1000)] = "") -> Response:
    """Store the next version of a document as a draft."""
    with act.write() as record:
        row = authoring.create_draft(record, document, reason=reason)
        return act.answer(VersionView.of(row), status=201, location=_path(row), version=row.version)


@router.put("/recipes/{document_id}/{number}", response_model=VersionView, openapi_extra=_DOCUMENT_BODY)
def revise_draft(
    document_id: str,
    number: int,
    document: DocumentText,
    act: Act,
    reason: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """Give a draft other content."""
    with act.write() as record:
        row = authoring.revise(record, document, reason=reason, expected_version=act.if_match)
        if (row.document_id, row.number) != (document_id, number):
            raise InvalidInput(
                f"The document is {row.reference}, not {document_id}/{number}; send it to its own address."
            )
        return act.answer(VersionView.of(row), version=row.version)


@router.post("/recipes:validate", openapi_extra=_DOCUMENT_BODY)
def validate_document(document: DocumentText, actor: CurrentActor) -> ValidationView:
    """Check a document of any kind; all findings at once, nothing is stored."""
    report = kinds.validate(document)
    return ValidationView(
        valid=not any(finding.severity is Severity.ERROR for finding in report.findings),
        findings=[_finding(finding) for finding in report.findings],
    )


@router.post("/recipes:predict", openapi_extra=_DOCUMENT_BODY)
def predict_document(document: DocumentText, actor: CurrentActor) -> PredictionView:
    """What a master recipe is expected to do; nothing is stored."""
    read = kinds.read_document(document)
    if not isinstance(read, MasterRecipe):
        raise InvalidInput("Only master recipes can be predicted; this is a route or a protocol.")
    return PredictionView.of(predict(read))


@router.get("/recipes/schemas/{kind}")
def show_schema(kind: DocumentKind, actor: CurrentActor) -> dict[str, Any]:
    """The JSON schema of a kind of document with limits, units and help, from which a form can be drawn."""
    return kinds.schema(kind)


@router.get("/recipes/{document_id}/{number}")
def show_version(
    document_id: str, number: int, service: Served, actor: CurrentActor, response: Response
) -> VersionView:
    """One version, without its content."""
    with service.database.read() as record:
        row = store.find_version(record, document_id, number)
    response.headers["ETag"] = etag_of(row.version)
    return VersionView.of(row)


@router.get("/recipes/{document_id}/{number}/content", response_model=dict[str, Any])
def show_content(
    document_id: str,
    number: int,
    service: Served,
    actor: CurrentActor,
    accept: Annotated[str, Header()] = "application/json",
) -> Response:
    """The content of a version: canonical JSON, or YAML if the request accepts that."""
    with service.database.read() as record:
        document = store.read_content(record, store.find_version(record, document_id, number))
    if YAML in accept:
        return Response(document.to_yaml(), media_type=YAML)
    return Response(document.canonical_json(), media_type="application/json")


@router.get("/recipes/{document_id}/{number}/diff/{other}")
def compare_versions(document_id: str, number: int, other: int, service: Served, actor: CurrentActor) -> DiffView:
    """What changed from version `number` to version `other`, in words."""
    with service.database.read() as record:
        old, new = (store.find_version(record, document_id, n) for n in (number, other))
        words = diff(store.read_content(record, old), store.read_content(record, new))
    return DiffView(old=old.reference, new=new.reference, differences=words)


@router.get("/recipes/{document_id}/uses")
def where_used(document_id: str, service: Served, actor: CurrentActor) -> list[UseView]:
    """Routes, refined recipes and runs that use a document."""
    with service.database.read() as record:
        return [UseView.of(use) for use in store.where_used(record, document_id)]


@router.post("/recipes/{document_id}/{number}:submit", response_model=VersionView)
def submit_version(document_id: str, number: int, act: Act) -> Response:
    """Submit a draft for review."""
    with act.write() as record:
        return _moved(act, authoring.submit(record, document_id, number, expected_version=act.if_match))


@router.post("/recipes/{document_id}/{number}:return", response_model=VersionView)
def return_version(document_id: str, number: int, body: Reason, act: Act) -> Response:
    """Send a version in review back to its authors."""
    with act.write() as record:
        row = authoring.send_back(record, document_id, number, reason=body.reason, expected_version=act.if_match)
        return _moved(act, row)


@router.post("/recipes/{document_id}/{number}:approve", response_model=VersionView)
def approve_version(document_id: str, number: int, body: Approval, act: Act) -> Response:
    """Approve a version in review: a second person signs the hash of its content."""
    signer = signing(act, body.signature)
    with act.write() as record:
        row = authoring.approve(record, document_id, number, signer, expected_version=act.if_match)
        return _moved(act, row)


@router.post("/recipes/{document_id}/{number}:make-effective", response_model=VersionView)
def make_version_effective(document_id: str, number: int, act: Act) -> Response:
    """Make an approved version the one that product runs use."""
    with act.write() as record:
        return _moved(act, authoring.make_effective(record, document_id, number, expected_version=act.if_match))


@router.post("/recipes/{document_id}/{number}:withdraw", response_model=VersionView)
def withdraw_version(document_id: str, number: int, body: Reason, act: Act) -> Response:
    """Withdraw a version for good."""
    with act.write() as record:
        row = authoring.withdraw(record, document_id, number, reason=body.reason, expected_version=act.if_match)
        return _moved(act, row)


@router.get("/library")
def preview_library(service: Served, actor: CurrentActor) -> ImportView:
    """What importing the founding library would change; changes nothing."""
    with service.database.read() as record:
        return _import_view(importing.plan_import(record, kinds.founding_library()))


@router.post("/library:import", response_model=ImportView)
def import_library(act: Act) -> Response:
    """Import the founding recipes, routes and protocols as drafts."""
    with act.write() as record:
        return act.answer(_import_view(importing.import_library(record, kinds.founding_library())))


def _import_view(lines: list[ImportLine]) -> ImportView:
    return ImportView(lines=[ImportLineView.of(line) for line in lines])


def _finding(finding: Finding) -> FindingView:
    return FindingView(**asdict(finding))


def _path(row: RecipeVersion) -> str:
    return f"/api/v1/recipes/{row.document_id}/{row.number}"


def _moved(act: Act, row: RecipeVersion) -> Response:
    return act.answer(VersionView.of(row), version=row.version)
