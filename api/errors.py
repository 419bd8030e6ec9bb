"""Errors on their way out: the one table from domain errors to RFC 9457 problem documents.

A problem has a stable `type`, says in `detail` what was wrong, and lists in `findings` every reason at once with
what to do about it. The table is walked upwards from an error's class, and a test fails on a class that ends at
the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import traceability.errors as record_errors
from api.auth import ForeignOrigin, NotSignedIn
from api.rate_limit import TooManyAttempts
from equipment import errors as equipment_errors
from recipes import errors as recipe_errors
from traceability.errors import ArgonautError, Finding

_log = structlog.get_logger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[ArgonautError], HTTPStatus] = {
    record_errors.RecordError: HTTPStatus.CONFLICT,
    record_errors.NotFound: HTTPStatus.NOT_FOUND,
    record_errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    record_errors.Refused: HTTPStatus.CONFLICT,
    record_errors.Conflict: HTTPStatus.CONFLICT,
    record_errors.StaleVersion: HTTPStatus.PRECONDITION_FAILED,
    record_errors.NotPermitted: HTTPStatus.FORBIDDEN,
    record_errors.SignatureRefused: HTTPStatus.FORBIDDEN,
    record_errors.SignInRefused: HTTPStatus.UNAUTHORIZED,
    NotSignedIn: HTTPStatus.UNAUTHORIZED,
    ForeignOrigin: HTTPStatus.FORBIDDEN,
    TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
    record_errors.StorageFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    recipe_errors.RecipeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    equipment_errors.EquipmentError: HTTPStatus.BAD_GATEWAY,
}


class FindingView(BaseModel):
    """One reason, and what to do about it."""

    code: str = Field(examples=["lot_on_hold"])
    message: str = Field(examples=["LOT-000017-5 is on hold since 2026-03-02."])
    action: str = Field(examples=["Ask QA to release the hold."])
    path: str = Field(examples=["LOT-000017-5"])
    severity: str = Field(examples=["error"])


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str = Field(examples=["urn:argonaut:problem:refused"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["The run can't start: 2 findings."])
    instance: str = Field(examples=["/api/v1/runs/RUN-000031-K:start"])
    findings: list[FindingView] = []


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "content": {PROBLEM_MEDIA_TYPE: {}}, "description": HTTPStatus(code).phrase}
    for code in (400, 401, 403, 404, 409, 412, 413, 422, 429, 503)
}


def status_of(error: type[ArgonautError]) -> HTTPStatus:
    """The status for a class of error: its own row in the table, or that of its nearest ancestor.

    Raises:
        LookupError: Neither it nor an ancestor has a row.
    """
    for ancestor in error.__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    raise LookupError(f"{error.__name__} has no status; add it to the table in api/errors.py")


def problem_response(
    request: Request, status: HTTPStatus, code: str, detail: str, findings: Sequence[Finding] = ()
) -> Response:
    """A problem document as an answer."""
    problem = Problem(
        type=f"urn:argonaut:problem:{code}",
        title=status.phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        findings=[
            FindingView(code=f.code, message=f.message, action=f.action, path=f.path, severity=f.severity)
            for f in findings
        ],
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return Response(orjson.dumps(problem.model_dump()), status, headers, PROBLEM_MEDIA_TYPE)


class LargeBodies:
    """ASGI middleware: the refusal of a body that is too large, which the framework gives in one word, explained."""

    def __init__(self, app: ASGIApp, limit_kb: int) -> None:
        self._app = app
        self._detail = (
            f"The body is larger than {limit_kb} kB, which is the limit (ARGONAUT_MAX_BODY_KB); nothing was done. "
            "Send a file by its own route."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and give the framework's own refusal out as a problem."""
        refused = False

        async def explain(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                refused = Headers(raw=message["headers"]).get("content-type", "") != PROBLEM_MEDIA_TYPE
            if not refused:
                await send(message)

        await self._app(scope, receive, explain if scope["type"] == "http" else send)
        if refused:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            problem = problem_response(Request(scope), status, "body_too_large", self._detail)
            await problem(scope, receive, send)


def add_error_handlers(app: FastAPI) -> None:
    """Let every error leave as a problem document."""

    @app.exception_handler(ArgonautError)
    def on_argonaut_error(request: Request, error: ArgonautError) -> Response:
        return problem_response(request, status_of(type(error)), error.code, error.message, error.findings)

    @app.exception_handler(RequestValidationError)
    def on_invalid_request(request: Request, error: RequestValidationError) -> Response:
        findings = [
            Finding(
                code=str(problem["type"]),
                message=str(problem["msg"]),
                action="Correct this field and send the request again.",
                path=".".join(str(part) for part in problem["loc"]),
            )
            for problem in error.errors()
        ]
        detail = f"The request has {len(findings)} mistake{'s' if len(findings) != 1 else ''}; nothing was done."
        return problem_response(request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", detail, findings)

    @app.exception_handler(HTTPException)
    def on_http_exception(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        response = problem_response(request, status, status.name.lower(), str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    def on_unexpected_error(request: Request, error: Exception) -> Response:
        _log.error("unexpected_error", path=request.url.path, exc_info=error)
        return problem_response(
            request,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal_error",
            "The service made a mistake; nothing was kept. It is in the log with this path and time.",
        )
