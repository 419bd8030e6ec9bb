"""Real tool servers on free ports, one for a module where its tests can share it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from equipment.opcua.nodeset import render
from equipment.opcua.security import CertificatePair, ToolSecurity, make_certificate
from equipment.profiles.job_control import JobControlDriver
from equipment.simulators.tool_server import ToolServer
from tests.equipment.opcua.tiny import TINY, TinyPlant
from traceability.clock import wall_now


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def endpoint() -> str:
    """An address on loopback where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"opc.tcp://127.0.0.1:{listener.getsockname()[1]}/"


def tiny_server(**settings: Any) -> ToolServer:
    """A tiny tool of site `lab`, not yet started."""
    return ToolServer(
        **{"plant": TinyPlant(), "name": "tiny", "site": "lab", "endpoint": endpoint(), "now": wall_now, **settings}
    )


@asynccontextmanager
async def connected(server: ToolServer, security: ToolSecurity | None = None) -> AsyncIterator[JobControlDriver]:
    """A driver that is connected to a tiny tool."""
    driver = JobControlDriver(server.endpoint, "lab", "tiny", TINY, security or ToolSecurity())
    await driver.connect()
    try:
        yield driver
    finally:
        await driver.disconnect()


@pytest.fixture(scope="module", params=["made at start", "exported file"])
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ToolServer]:
    """A tool that makes its nodeset itself, and one with the exported file at other namespace indexes."""
    if request.param == "made at start":
        async with tiny_server() as running:
            yield running
        return
    file = tmp_path_factory.mktemp("nodeset") / "tiny.xml"
    file.write_text(render(TINY, "lab", "tiny"), encoding="utf-8")
    async with tiny_server(nodeset=file.read_text(encoding="utf-8"), namespace_padding=2) as running:
        yield running


@pytest.fixture
async def driver(server: ToolServer) -> AsyncIterator[JobControlDriver]:
    async with connected(server) as connection:
        yield connection
    for job in list(server.receiver.jobs.values()):
        server.receiver.plant.abort()
        del server.receiver.jobs[job.order.job_id]
    server.receiver.epoch = 0
    server.receiver.revision += 1


Make = Callable[..., CertificatePair]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`certificate("tool")` makes a key and a certificate; `days=-1` an expired one."""

    def make(name: str, days: int = 30) -> CertificatePair:
        folder: Path = tmp_path_factory.mktemp("certs")
        uri = "urn:argonaut:mes" if name.startswith("mes") else "urn:lab:tiny:server"
        return make_certificate(folder, name, uri, now=wall_now(), days=days)

    return make


Connected = Callable[..., AbstractAsyncContextManager[JobControlDriver]]
