"""The link to a tool is cut, goes silent, half-opens; the tool restarts: each is noticed, told and made good."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from equipment.commands import CommandVerb, IntentState, find_intent
from equipment.jobs import JobState
from equipment.line_controller import LineController
from equipment.states import RunState
from equipment.tool_link import LinkState
from tests.conftest import START
from tests.system.press_line import TOOL, Press, Record, controlled, fast_clock, online, running_press, until


class Proxy:
    """A wire between controller and tool that can be cut, or go dead without anybody being told."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._answers = asyncio.Event()
        self.accepting = True
        self.refused = 0
        self._flowing.set()
        self._answers.set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut every connection now; both ends are told."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing through any more; nobody is told."""
        self._flowing.clear()

    def hold_answers(self) -> None:
        """Let requests through and no answers."""
        self._answers.clear()

    def heal(self) -> None:
        self.accepting = True
        self._flowing.set()
        self._answers.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepting:
            self.refused += 1
            writer.transport.abort()
            return
        there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, onward}
        for task in (
            asyncio.create_task(self._pump(reader, onward, self._flowing, self._flowing)),
            asyncio.create_task(self._pump(there, writer, self._flowing, self._answers)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *gates: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(65536):
                for gate in gates:
                    await gate.wait()
                writer.write(content)
        writer.transport.abort()


@contextlib.asynccontextmanager
async def linked(record: Record, press: Press) -> AsyncIterator[tuple[Proxy, LineController]]:
    async with Proxy(press.port) as proxy, controlled(record.database, proxy.port) as controller:
        await online(controller)
        yield proxy, controller
        proxy.heal()


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(f"sqlite:///{tmp_path / 'argonaut.db'}", fast_clock(tmp_path, START, 20))
    yield record
    record.database.close()


async def started(record: Record) -> str:
    run = record.plan()
    record.ask(CommandVerb.START, run)
    await until(lambda: record.run(run).state is RunState.RUNNING, 10, "running")
    return run


async def ended(record: Record, press: Press, run: str) -> RunState:
    record.database.clock.run(200)
    await until(lambda: record.run(run).state.ended, 60, "the run's end")
    return record.run(run).state


@pytest.mark.anyio
async def test_a_cut_is_noticed_within_half_a_second_and_made_good_without_a_hole(record: Record) -> None:
    clock = record.database.clock
    async with running_press(clock) as press, linked(record, press) as (proxy, controller):
        run = await started(record)
        proxy.accepting = False
        proxy.cut()
        noticed_s = await until(lambda: controller.links[TOOL].state is not LinkState.ONLINE, 3, "noticing")
        refused = proxy.refused
        await until(lambda: proxy.refused >= refused + 2, 10, "two vain attempts")
        assert controller.links[TOOL].state is not LinkState.ONLINE
        assert controller.links[TOOL].why
        proxy.heal()
        back_s = await online(controller)
        fresh_s = back_s + await until(lambda: (controller.links[TOOL].sample_age_s or 9) < 0.5, 3, "fresh data")
        assert await ended(record, press, run) is RunState.COMPLETED
        longest_s, gaps = record.holes(run)
        assert noticed_s <= 0.5
        assert fresh_s <= 3.0
        assert gaps == []
        assert longest_s / 20 < 2
        assert await record.missing(run, press.port) == 0
        assert press.starts == 1


@pytest.mark.anyio
async def test_a_link_that_goes_dead_without_a_word_is_noticed_within_three_seconds(record: Record) -> None:
    async with running_press(record.database.clock) as press, linked(record, press) as (proxy, controller):
        run = await started(record)
        proxy.freeze()
        noticed_s = await until(lambda: controller.links[TOOL].state is not LinkState.ONLINE, 6, "noticing")
        proxy.cut()
        proxy.heal()
        await online(controller)
        assert await ended(record, press, run) is RunState.COMPLETED
        assert noticed_s <= 3.0
        assert record.holes(run)[1] == []


@pytest.mark.anyio
async def test_a_tool_whose_heartbeat_stands_still_is_not_believed(record: Record) -> None:
    async with running_press(record.database.clock) as press, linked(record, press) as (_, controller):
        press.server.maintenance.inject("freeze_heartbeat", True, {})
        silent_s = await until(lambda: controller.links[TOOL].state is not LinkState.ONLINE, 6, "noticing")
        assert silent_s <= 3.5
        press.server.maintenance.inject("freeze_heartbeat", False, {})
        await online(controller)
        await until(lambda: (controller.links[TOOL].sample_age_s or 9) < 0.5, 3, "fresh data")


@pytest.mark.anyio
async def test_a_start_whose_answer_was_cut_off_is_not_sent_twice(record: Record, tmp_path: Path) -> None:
    clock = record.database.clock
    async with running_press(clock) as press, Proxy(press.port) as proxy:

        def lose_the_answer(step: str) -> None:
            if step == "before_start" and press.starts == 0:
                proxy.hold_answers()

        async with controlled(record.database, proxy.port, hook=lose_the_answer) as controller:
            await online(controller)
            run = record.plan()
            command = record.ask(CommandVerb.START, run)
            await until(lambda: press.starts == 1, 10, "the start")
            with record.database.read() as session:
                assert find_intent(session, command).state is IntentState.VERIFIED
            proxy.cut()
            proxy.heal()
            assert await ended(record, press, run) is RunState.COMPLETED
            with record.database.read() as session:
                intent = find_intent(session, command)
            assert intent.state is IntentState.DONE
            assert intent.attempts == 2
        assert press.starts == 1
        assert [verb for verb, *_ in press.asked].count("Start") == 1


@pytest.mark.anyio
async def test_a_tool_that_restarts_with_its_memory_tells_that_the_job_was_aborted(tmp_path: Path) -> None:
    clock = fast_clock(tmp_path, START, 20)
    record = Record(f"sqlite:///{tmp_path / 'argonaut.db'}", clock)
    async with (
        running_press(clock, tmp_path / "tool.json") as press,
        controlled(record.database, press.port) as controller,
    ):
        await online(controller)
        run = await started(record)
        await press.restart()
        await until(lambda: record.run(run).state.ended, 60, "the run's end")
        assert record.run(run).state is RunState.ABORTED
        await online(controller)
        again = await started(record)
        assert press.server.receiver.jobs[again].state is JobState.RUNNING
    record.database.close()


@pytest.mark.anyio
async def test_a_tool_that_restarts_without_its_memory_leaves_the_run_to_a_person(record: Record) -> None:
    async with running_press(record.database.clock) as press, controlled(record.database, press.port) as controller:
        await online(controller)
        run = await started(record)
        await press.restart()
        await until(lambda: record.run(run).state is RunState.UNKNOWN, 60, "UNKNOWN")
        assert "restarted" in record.run(run).why
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            assert press.starts == 0
            await asyncio.sleep(0.1)


@pytest.mark.anyio
async def test_a_line_controller_of_which_nobody_listens_any_more_gives_its_lease_back(record: Record) -> None:
    async with running_press(record.database.clock) as press:
        async with controlled(record.database, press.port, "one") as controller:
            await online(controller)
        began = time.monotonic()
        async with controlled(record.database, press.port, "other", lease_ttl_s=30.0) as controller:
            await online(controller)
            assert controller.links[TOOL].lease_epoch == 2
        assert time.monotonic() - began < 5
