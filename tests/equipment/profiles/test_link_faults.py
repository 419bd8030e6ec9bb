"""What a driver makes of a link that is cut, half open, or dead from the start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlparse

import pytest

from equipment.errors import LinkLost, OutcomeUnknown, ToolUnreachable
from equipment.jobs import JobState, JobStatus
from equipment.opcua.security import ToolSecurity
from equipment.opcua.session import CONNECT_TIMEOUT_S
from equipment.profiles.job_control import JobControlDriver
from equipment.simulators.tool_server import ToolServer
from tests.equipment.opcua.tiny import TINY, order

pytestmark = pytest.mark.anyio

BOUND_S = 30.0


class Wire:
    """A relay between a driver and a tool whose two directions can be stopped, or cut."""

    def __init__(self, target: str) -> None:
        self._target = urlparse(target)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.to_tool = asyncio.Event()
        self.to_mes = asyncio.Event()
        self.to_tool.set()
        self.to_mes.set()
        self.endpoint = ""

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers += [writer, far_writer]
        for source, sink, gate in ((reader, far_writer, self.to_tool), (far_reader, writer, self.to_mes)):
            task = asyncio.create_task(self._pump(source, sink, gate))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        while data := await source.read(65536):
            await gate.wait()
            sink.write(data)
        sink.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def wired(server: ToolServer) -> AsyncIterator[tuple[Wire, JobControlDriver]]:
    """A driver that is connected through a wire."""
    wire = Wire(server.endpoint)
    listener = await asyncio.start_server(wire.relay, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    driver = JobControlDriver(f"opc.tcp://127.0.0.1:{port}/", "lab", "tiny", TINY, ToolSecurity())
    await driver.connect()
    try:
        yield wire, driver
    finally:
        await driver.disconnect()
        listener.close()
        await wire.close()


async def seconds_until_lost(wire_act: object, driver: JobControlDriver) -> float:
    async with asyncio.timeout(BOUND_S), aclosing(driver.subscribe()) as changes:
        await anext(changes)
        assert callable(wire_act)
        wire_act()
        began = time.monotonic()
        with pytest.raises(LinkLost):
            async for _ in changes:
                pass
    return time.monotonic() - began


async def test_a_cut_is_noticed_within_half_a_second(server: ToolServer) -> None:
    async with wired(server) as (wire, driver):
        assert await seconds_until_lost(wire.cut, driver) < 0.5


async def test_a_half_open_link_is_noticed_within_three_seconds(server: ToolServer) -> None:
    async with wired(server) as (wire, driver):
        assert await seconds_until_lost(wire.to_mes.clear, driver) < 3.2


async def test_a_command_whose_answer_is_lost_is_unknown_although_it_was_carried_out(
    server: ToolServer, driver: JobControlDriver
) -> None:
    async with wired(server) as (wire, fragile):
        await fragile.store(order("J-1"))
        wire.to_mes.clear()
        with pytest.raises(OutcomeUnknown, match="ask the tool") as unknown:
            await fragile.start("J-1", 1)
        assert (unknown.value.command, unknown.value.job_id) == ("Start", "J-1")
    assert await driver.jobs() == [JobStatus("J-1", JobState.RUNNING)]


async def test_a_command_that_never_left_is_not_unknown(server: ToolServer) -> None:
    async with wired(server) as (wire, driver):
        await seconds_until_lost(wire.cut, driver)
        with pytest.raises(LinkLost) as lost:
            await driver.start("J-1", 1)
        assert not isinstance(lost.value, OutcomeUnknown)


async def test_a_lost_driver_is_given_up_without_an_error(server: ToolServer) -> None:
    async with wired(server) as (wire, driver):
        wire.to_mes.clear()
        wire.to_tool.clear()
        async with asyncio.timeout(BOUND_S):
            await driver.disconnect()


async def test_somebody_who_accepts_and_never_answers_is_unreachable_in_bounded_time() -> None:
    silent = asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    driver = JobControlDriver(f"opc.tcp://127.0.0.1:{port}/", "lab", "tiny", TINY, ToolSecurity())
    began = time.monotonic()
    with pytest.raises(ToolUnreachable):
        await driver.connect()
    assert time.monotonic() - began < CONNECT_TIMEOUT_S + 1.0
    silent.set()
    listener.close()
    await listener.wait_closed()


async def test_a_subscription_that_the_tool_has_silently_dropped_is_noticed(
    server: ToolServer, driver: JobControlDriver
) -> None:
    def drop_all() -> None:
        server._server.iserver.subscription_service.subscriptions.clear()

    assert await seconds_until_lost(drop_all, driver) < 3.5
    assert (await driver.read_all())["model"].value == "Tiny"
