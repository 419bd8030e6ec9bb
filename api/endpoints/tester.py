"""The simulated tester endpoint: the endpoint's half of the hand-off contract over HTTP, in a process of its own.

The MES calls it, and it calls the MES back. It keeps its own state and needs nothing of the MES but its address and a
token. The contract is in `equipment.testers.contract`; anybody may write another endpoint from the published OpenAPI
document.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import structlog
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi import Path as PathParameter
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.auth import NotSignedIn
from api.endpoints.bench import Bench
from api.endpoints.delivery import MesLink
from api.endpoints.store import EndpointStore
from api.endpoints.truth import PlantTruth
from api.errors import PROBLEM_RESPONSES, FindingView, add_error_handlers
from equipment.testers.contract import ChannelRequest, EndpointView, Offer, ReasonGiven
from equipment.testers.handoff_states import HandoffEvent, HandoffState
from traceability.clock import Clock, PiecewiseClock, SystemClock
from traceability.errors import ArgonautError, Finding, InvalidInput

_log = structlog.get_logger(__name__)

TICK_S = 0.1
LOOK_S = 2.0
_MAX_BODY = 1 << 20

Uuid = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What an endpoint needs to know.

    Attributes:
        name: Of the tester, as in the line's configuration.
        serial: Of the instrument.
        data_folder: For its state and its files.
        truth_folder: State files of the simulated tools (`*.json`).
        mes_url: Address of the MES without `/api/v1`.
        mes_token: Token by which it speaks to the MES, issued with `tester_scopes(name)`.
        token: What the MES shows; None lets everybody in, on loopback only.
        host, port: Where it listens.
        channels: How many cells it takes.
        capabilities: What it can do.
        clock_file: The shared clock; None for real time.
        ca_file: Certificates that the MES is checked against beside the system's.
        fetches: It fetches its hand-offs from the MES, which may not call it.
        snapshot_h, snapshot_every_s: See `Bench`.
    """

    name: str
    serial: str
    data_folder: Path
    truth_folder: Path
    mes_url: str
    mes_token: str
    token: str | None = None
    host: str = "127.0.0.1"
    port: int = 8351
    channels: int = 8
    capabilities: tuple[str, ...] = ("cycling", "lifetime")
    clock_file: Path | None = None
    ca_file: str | None = None
    fetches: bool = False
    snapshot_h: float = 100.0
    snapshot_every_s: float = 2.0


class Judgement(BaseModel):
    """What the tester would say to an offer."""

    findings: list[FindingView]


class EndpointInfo(BaseModel):
    """Who this is."""

    name: str
    serial: str
    kind: str
    simulated: bool
    channels: int
    capabilities: tuple[str, ...]


def create_endpoint(settings: EndpointSettings) -> FastAPI:
    """The endpoint's application; while it is up, its bench works and its messages go out.

    Raises:
        InvalidInput: It would listen beyond this machine without a token.
    """
    if settings.token is None and not _is_loopback(settings.host):
        raise InvalidInput(f"{settings.host} is not this machine: the endpoint needs a token.")
    clock: Clock = PiecewiseClock(settings.clock_file) if settings.clock_file else SystemClock()
    store = EndpointStore(settings.data_folder / "endpoint.db")
    bench = Bench(
        store,
        PlantTruth(settings.truth_folder),
        clock,
        settings.name,
        settings.serial,
        settings.channels,
        settings.capabilities,
        settings.data_folder / "export",
        settings.snapshot_h,
        settings.snapshot_every_s,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tls = ssl.create_default_context()
        if settings.ca_file is not None:
            tls.load_verify_locations(settings.ca_file)
        headers = {"authorization": f"Bearer {settings.mes_token}"}
        with httpx.Client(headers=headers, verify=tls, timeout=20.0, trust_env=False) as client:
            link = MesLink(settings.mes_url, settings.name, client, store, clock, settings.fetches)
            tasks = [
                asyncio.create_task(_repeat(bench.step, TICK_S), name="bench"),
                asyncio.create_task(_repeat(link.deliver, TICK_S), name="delivery"),
                asyncio.create_task(_repeat(link.look, LOOK_S), name="look"),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="Argonaut tester endpoint",
        summary="The tester's half of the hand-off contract, version 1",
        version="1",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        max_body_size=_MAX_BODY,
        generate_unique_id_function=_operation_id,
        dependencies=[Depends(_guard(settings.token))],
        responses=PROBLEM_RESPONSES,
    )
    _add_routes(app, settings, store, bench, clock)
    add_error_handlers(app)
    return app


async def serve_endpoint(settings: EndpointSettings) -> None:
    """Serve an endpoint until cancelled or told to stop.

    Raises:
        InvalidInput: It would listen beyond this machine without a token.
    """
    config = uvicorn.Config(
        create_endpoint(settings), host=settings.host, port=settings.port, log_config=None, lifespan="on"
    )
    await uvicorn.Server(config).serve()


def _add_routes(app: FastAPI, settings: EndpointSettings, store: EndpointStore, bench: Bench, clock: Clock) -> None:
    @app.get("/v1")
    def show_endpoint() -> EndpointInfo:
        """Who this is and what it can do."""
        return EndpointInfo(
            name=settings.name,
            serial=settings.serial,
            kind="land",
            simulated=True,
            channels=settings.channels,
            capabilities=settings.capabilities,
        )

    @app.get("/v1/handoffs")
    def list_handoffs(state: HandoffState | None = None) -> list[EndpointView]:
        """All hand-offs, oldest first."""
        return [store.view(held.uuid) for held in store.all() if state in (None, held.state)]

    @app.get("/v1/handoffs/{uuid}")
    def show_handoff(uuid: Uuid) -> EndpointView:
        """One hand-off."""
        return store.view(uuid)

    @app.put("/v1/handoffs/{uuid}", responses={201: {"model": EndpointView}})
    def put_handoff(uuid: Uuid, body: Offer, response: Response) -> EndpointView:
        """Offer a cell. The same body again changes nothing; another one under the same uuid is a conflict."""
        _require_own(settings, uuid, body)
        response.status_code = 201 if store.put(body) else 200
        return store.view(uuid)

    @app.post("/v1/handoffs/{uuid}:validate")
    def validate_handoff(uuid: Uuid, body: Offer) -> Judgement:
        """Say what the tester would say to an offer; nothing is kept."""
        _require_own(settings, uuid, body)
        found = [
            FindingView(code=f.code, message=f.message, action=f.action, path=f.path, severity=f.severity)
            for f in bench.problems(body)
        ]
        return Judgement(findings=found)

    @app.post("/v1/handoffs/{uuid}:accept")
    def accept_handoff(uuid: Uuid) -> EndpointView:
        """Take a cell; the simulated operator does so by itself."""
        said: dict[str, Any] = {"tester_serial": settings.serial, "simulated": True}
        store.advance(uuid, HandoffEvent.ACCEPT, clock.now(), **said)
        return store.view(uuid)

    @app.post("/v1/handoffs/{uuid}:reject")
    def reject_handoff(uuid: Uuid, body: ReasonGiven) -> EndpointView:
        """Refuse a cell."""
        store.advance(uuid, HandoffEvent.REJECT, clock.now(), reason=body.reason)
        return store.view(uuid)

    @app.post("/v1/handoffs/{uuid}:cancel")
    def cancel_handoff(uuid: Uuid, body: ReasonGiven) -> EndpointView:
        """Give a cell back before its test runs. A repeated request changes nothing."""
        if store.get(uuid).state is not HandoffState.CANCELLED:
            store.advance(uuid, HandoffEvent.CANCEL, clock.now(), reason=body.reason)
        return store.view(uuid)

    @app.post("/v1/handoffs/{uuid}:abort")
    def abort_handoff(uuid: Uuid, body: ReasonGiven) -> EndpointView:
        """End a running test; what was measured is its result."""
        bench.abort(uuid, body.reason)
        return store.view(uuid)

    @app.put("/v1/handoffs/{uuid}/channel")
    def load_handoff(uuid: Uuid, body: ChannelRequest) -> EndpointView:
        """Put a cell on a channel: one cell a channel and one channel a cell."""
        store.load(uuid, body, clock.now())
        return store.view(uuid)


def _require_own(settings: EndpointSettings, uuid: str, offer: Offer) -> None:
    findings = []
    if offer.uuid != uuid:
        message = f"The body is of {offer.uuid}, the address of {uuid}."
        findings.append(Finding("other_uuid", message, "Send the body to its own address.", "body.uuid"))
    if offer.tester != settings.name:
        message = f"This is {settings.name}, not {offer.tester}."
        findings.append(Finding("other_tester", message, "Send it to the right tester.", "body.tester"))
    if offer.callback != f"{settings.mes_url.rstrip('/')}/api/v1":
        message = f"This endpoint speaks to {settings.mes_url} alone, not to {offer.callback}."
        findings.append(Finding("other_mes", message, "Correct the address on one side.", "body.callback"))
    if findings:
        raise InvalidInput("The offer is not for this endpoint.", findings)


def _guard(token: str | None) -> Callable[[Request], None]:
    def guard(request: Request) -> None:
        if token is None:
            return
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(shown.encode(), token.encode()):
            raise NotSignedIn("The tester endpoint needs its bearer token.")

    return guard


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _repeat(work: Callable[[], object], every_s: float) -> None:
    """Do something again and again in a thread; a full disk, or a cell that can't be done, is no end."""
    while True:
        try:
            await asyncio.to_thread(work)
        except (OSError, ValueError, sqlite3.Error, ArgonautError) as error:
            _log.error("endpoint_hindered", problem=str(error))
        await asyncio.sleep(every_s)


def openapi_document() -> dict[str, Any]:
    """The published description of the endpoint's half of the contract."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        nobody = EndpointSettings("TESTER", "", place, place, mes_url="http://127.0.0.1", mes_token="")
        return create_endpoint(nobody).openapi()


__all__: Sequence[str] = ("EndpointSettings", "create_endpoint", "openapi_document", "serve_endpoint")
