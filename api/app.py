"""The application: every router, error and middleware put together around one service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import PROBLEM_MEDIA_TYPE, PROBLEM_RESPONSES, LargeBodies, add_error_handlers
from api.idempotency import add_replay_handler
from api.metrics import add_metrics
from api.routers import (
    alarms,
    audit,
    blobs,
    cells,
    commands,
    events,
    handoffs,
    health,
    items,
    materials,
    measurements,
    orders,
    quality,
    recipes,
    results,
    run_to_run,
    runs,
    sessions,
    tools,
    traces,
    users,
)
from api.service import Service

PREFIX = "/api/v1"
ROUTERS: tuple[APIRouter, ...] = (
    sessions.router,
    users.router,
    materials.router,
    items.router,
    quality.router,
    measurements.router,
    recipes.router,
    tools.router,
    orders.router,
    runs.router,
    run_to_run.router,
    commands.router,
    traces.router,
    alarms.router,
    cells.router,
    handoffs.router,
    blobs.router,
    results.router,
    audit.router,
    events.router,
)

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
)


class Application(FastAPI):
    """FastAPI with our middleware around it and a document that says how requests sign in and what problems are."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            document["security"] = [{"bearer": []}]
            document["components"]["securitySchemes"] = {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Token of a session (`POST /api/v1/sessions`) or of a machine.",
                }
            }
            for operations in document["paths"].values():
                for operation in operations.values():
                    for response in operation["responses"].values():
                        content = response.get("content", {})
                        if PROBLEM_MEDIA_TYPE in content:
                            # FastAPI files every model of a route under the media type of its success.
                            (schema,) = (form["schema"] for form in content.values() if "schema" in form)
                            response["content"] = {PROBLEM_MEDIA_TYPE: {"schema": schema}}
        return super().openapi()

    def build_middleware_stack(self) -> ASGIApp:
        """Ours stand around the framework's own, which refuse large bodies and answer for mistakes of the code."""
        service: Service = self.state.service
        return SecurityHeaders(LargeBodies(super().build_middleware_stack(), service.settings.max_body_kb))


class SecurityHeaders:
    """ASGI middleware: headers that keep a browser from doing more than it should."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add the headers to the answer."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)


def create_app(service: Service) -> FastAPI:
    """The application that serves `service`; it runs the service's background parts while it is up."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = Application(
        title="Argonaut",
        summary="Manufacturing execution system for thin-film and solid-state-battery lines",
        version=version("argonaut-mes"),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        max_body_size=service.settings.max_body_kb * 1024,
        generate_unique_id_function=_operation_id,
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX, responses=PROBLEM_RESPONSES)
    app.include_router(health.router)
    add_error_handlers(app)
    add_replay_handler(app)
    add_metrics(app, service.gauges)
    return app


def _operation_id(route: APIRoute) -> str:
    """The name of the route's function: what a generated client calls its method."""
    return route.name
