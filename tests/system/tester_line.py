"""The service and a tester endpoint, each in a process of its own that can be killed, on one accelerated clock.

Processes are forked from a server that has everything imported already, so that one more costs little.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml

from api.app import create_app
from api.endpoints.tester import EndpointSettings, serve_endpoint
from api.service import Service
from api.settings import Settings
from equipment.line_config import TesterConfig
from equipment.testers.handoff import tester_scopes
from equipment.testers.handoff_records import Handoff, find_handoff
from equipment.testers.outbox import Outbox
from tests.conftest import ALL_ACTS
from tests.equipment.testers.cells import SYSTEM, Cells
from traceability.acts import Role
from traceability.clock import PiecewiseClock, wall_now
from traceability.database import Database
from traceability.tokens import issue_token

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.system.tester_line"])
PATIENCE_S = 40.0
ENDPOINT_TOKEN = "tester-side-secret"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, f"waited {patience_s:g} s in vain until {what}"
        time.sleep(0.05)


@dataclass
class TesterLine:
    """A service and an endpoint that know each other, neither of them started yet."""

    __test__ = False

    cells: Cells
    clock: PiecewiseClock
    clock_file: Path
    folder: Path
    settings: dict[str, Any]
    endpoint_settings: EndpointSettings
    tester: TesterConfig
    mes: BaseProcess | None = None
    endpoint: BaseProcess | None = None

    @property
    def database(self) -> Database:
        return self.cells.database

    @property
    def callback(self) -> str:
        return f"{self.endpoint_settings.mes_url}/api/v1"

    @property
    def endpoint_client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.tester.url, headers={"authorization": f"Bearer {ENDPOINT_TOKEN}"}, trust_env=False
        )

    def start_mes(self) -> None:
        self.mes = _CONTEXT.Process(target=_serve_mes, args=(self.settings,), daemon=True)
        self.mes.start()

    def start_endpoint(self) -> None:
        self.endpoint = _CONTEXT.Process(target=_serve_endpoint, args=(self.endpoint_settings,), daemon=True)
        self.endpoint.start()

    def wait_for_endpoint(self) -> None:
        def answers() -> bool:
            with self.endpoint_client as client:
                try:
                    return client.get("/v1").status_code == 200
                except httpx.TransportError:
                    return False

        wait_for("the endpoint answers", answers)

    def kill_mes(self) -> None:
        _kill(self.mes)

    def kill_endpoint(self) -> None:
        _kill(self.endpoint)

    def offer(self, *, truth: bool = True) -> str:
        """A bare cell offered to the tester; with a truth its pellet is known to the simulated press."""
        cell = self.cells.cell()
        uuid = self.cells.offer(cell, tester=self.tester, callback=self.callback)
        if truth:
            pellet = next(p.serial for p in self.find(uuid).body.traveller.parts if p.kind == "pellet")
            known = {pellet: {"relative_density": 0.867}}
            path = self.endpoint_settings.truth_folder / f"{pellet}.json"
            path.with_suffix(".part").write_text(json.dumps({"plant": {"truth": known}}))
            path.with_suffix(".part").replace(path)
        return uuid

    def find(self, uuid: str) -> Handoff:
        with self.database.read() as record:
            return find_handoff(record, uuid)

    def wait_until(self, uuid: str, *states: str) -> None:
        wait_for(f"{uuid} is {' or '.join(states)}", lambda: self.find(uuid).state in states)

    def jump(self, hours: float) -> None:
        self.clock.jump(self.clock.now() + timedelta(hours=hours))


def make_line(url: str, folder: Path, *, polls: bool = False) -> TesterLine:
    """A database with cells to be made, and free ports for both sides."""
    folder.mkdir(parents=True, exist_ok=True)
    clock_file = folder / "clock.json"
    clock = PiecewiseClock.create(clock_file, wall_now())
    database = Database(url, clock, ALL_ACTS)
    database.create_schema()
    cells = Cells(database, folder / "var")
    mes_port, port = free_port(), free_port()
    (folder / "token").write_text(ENDPOINT_TOKEN)
    tester = {
        "name": "LAND1",
        "kind": "land",
        "url": f"http://127.0.0.1:{port}",
        "token_file": str(folder / "token"),
        "channels": 4,
        "capabilities": ["cycling"],
        "polls": polls,
    }
    (folder / "line.yaml").write_text(yaml.safe_dump({"site": "test", "testers": [tester]}))
    with database.write(SYSTEM) as record:
        _, secret = issue_token(
            record,
            name="land1",
            roles=[Role.OPERATOR],
            scopes=tester_scopes("LAND1"),
            expires_at=wall_now() + timedelta(days=1),
        )
    (folder / "truth").mkdir()
    endpoint = EndpointSettings(
        name="LAND1",
        serial="CT2001A-SIM",
        data_folder=folder / "endpoint",
        truth_folder=folder / "truth",
        mes_url=f"http://127.0.0.1:{mes_port}",
        mes_token=secret,
        token=ENDPOINT_TOKEN,
        port=port,
        channels=4,
        capabilities=("cycling",),
        clock_file=clock_file,
        fetches=polls,
        snapshot_every_s=0.2,
    )
    settings = {
        "data_folder": str(folder / "var"),
        "database_url": url,
        "line_file": str(folder / "line.yaml"),
        "port": mes_port,
        "clock_file": str(clock_file),
        "drive_tools": False,
        "run_jobs": False,
    }
    return TesterLine(cells, clock, clock_file, folder, settings, endpoint, TesterConfig.model_validate(tester))


def _serve_mes(settings: dict[str, Any]) -> None:
    async def serve() -> None:
        service = Service(Settings.model_validate(settings))
        outbox = asyncio.create_task(Outbox(service.database, service.line.testers, first_retry_s=0.1).run())
        config = uvicorn.Config(create_app(service), host="127.0.0.1", port=service.settings.port, log_config=None)
        await uvicorn.Server(config).serve()
        outbox.cancel()

    asyncio.run(serve())


def _serve_endpoint(settings: EndpointSettings) -> None:
    asyncio.run(serve_endpoint(settings))


def _kill(process: BaseProcess | None) -> None:
    """kill -9, whatever it is doing."""
    if process is not None:
        process.kill()
        process.join(10)
