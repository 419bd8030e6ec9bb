"""A line whose file asks for encryption: certificates, pin and password from files, through to a pressed stack."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from asyncua import Client, ua

from equipment.commands import CommandVerb, IntentState, find_intent
from equipment.line_config import LineConfig, load_line
from equipment.line_controller import LineController
from equipment.opcua.security import CertificatePair, fingerprint, make_certificate
from equipment.press import EQUIPMENT_CLASS
from equipment.simulators.line import tool_servers
from equipment.simulators.tool_server import ToolServer
from equipment.states import RunState
from equipment.tool_link import LinkState
from tests.conftest import START
from tests.system.press_line import SITE, TOOL, TTL_S, Record, fast_clock, online, until, unused_port
from traceability.clock import wall_now

LINE = """
site: {site}
tools:
  - name: {tool}
    class: {equipment_class}
    endpoint: opc.tcp://127.0.0.1:{port}/
    namespace_uri: urn:{site}:{tool}
    security:
      mode: sign_and_encrypt
      server_certificate: pinned.pem
      client_certificate: certs/mes.pem
      client_key: certs/mes.key.pem
      user: argonaut
      password_file: password
"""


@dataclass(frozen=True)
class Files:
    """What a person puts on the disk for such a line."""

    folder: Path
    tool: CertificatePair

    @property
    def certificates(self) -> Path:
        return self.folder / "certs"

    def pin(self, certificate: Path) -> None:
        shutil.copyfile(certificate, self.folder / "pinned.pem")

    def line(self) -> LineConfig:
        return load_line(self.folder / "line.yaml")

    def server(self, record: Record) -> ToolServer:
        """The simulated press as the files describe it now, not yet started."""
        clock, state = record.database.clock, self.folder / "state"
        (server,) = tool_servers(self.line(), clock, state, certificates=self.certificates)
        return server


@pytest.fixture
def files(tmp_path: Path) -> Files:
    folder = tmp_path / "line"
    make_certificate(folder / "certs", "mes", "urn:argonaut:mes", now=wall_now())
    tool = make_certificate(folder / "certs", TOOL, f"urn:{SITE}:{TOOL}:server", now=wall_now())
    content = LINE.format(site=SITE, tool=TOOL, equipment_class=EQUIPMENT_CLASS, port=unused_port())
    (folder / "line.yaml").write_text(content, encoding="utf-8")
    (folder / "password").write_text("copper kettle seven\n", encoding="utf-8")
    files = Files(folder, tool)
    files.pin(tool.certificate)
    return files


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(f"sqlite:///{tmp_path / 'argonaut.db'}", fast_clock(tmp_path, START, 100))
    yield record
    record.database.close()


@asynccontextmanager
async def driven(record: Record, files: Files, server: ToolServer) -> AsyncIterator[LineController]:
    """The press, and a controller that goes by what the files say now."""
    async with server:
        controller = LineController(files.line(), record.database, holder="test", lease_ttl_s=TTL_S)
        running = asyncio.create_task(controller.run())
        try:
            yield controller
        finally:
            controller.stop()
            await running


@pytest.mark.anyio
async def test_a_line_that_encrypts_presses_a_stack(record: Record, files: Files) -> None:
    server = files.server(record)
    async with driven(record, files, server) as controller:
        await online(controller)
        run = record.plan()
        command = record.ask(CommandVerb.START, run)
        await until(lambda: record.run(run).state.ended, 60, "the run's end")
        assert record.run(run).state is RunState.COMPLETED, record.run(run).why
        assert server.receiver.jobs_started == 1
        with record.database.read() as session:
            assert find_intent(session, command).state is IntentState.DONE
        assert record.trace(run)
        offered = await Client(server.endpoint).connect_and_get_server_endpoints()
        assert {endpoint.SecurityMode for endpoint in offered} == {ua.MessageSecurityMode.SignAndEncrypt}


@pytest.mark.anyio
async def test_a_tool_with_another_certificate_than_the_pinned_one_is_refused_with_both_named(
    record: Record, files: Files
) -> None:
    other = make_certificate(files.folder / "other", TOOL, f"urn:{SITE}:{TOOL}:server", now=wall_now())
    server = files.server(record)
    files.pin(other.certificate)
    async with driven(record, files, server) as controller:
        await until(lambda: controller.links[TOOL].state is LinkState.REFUSED, 15, "the refusal")
        why = controller.links[TOOL].why
        assert f"shows the certificate {fingerprint(files.tool.load())}" in why
        assert f"instead of the pinned {fingerprint(other.load())}" in why
        assert server.receiver.epoch == 0
        assert server.receiver.jobs_started == 0


@pytest.mark.anyio
async def test_a_wrong_password_is_refused_with_a_reason_and_not_shown(record: Record, files: Files) -> None:
    server = files.server(record)
    (files.folder / "password").write_text("tin kettle eight\n", encoding="utf-8")
    async with driven(record, files, server) as controller:
        await until(lambda: controller.links[TOOL].state is LinkState.REFUSED, 15, "the refusal")
        why = controller.links[TOOL].why
        assert why
        assert "tin kettle" not in why
        assert server.receiver.epoch == 0
