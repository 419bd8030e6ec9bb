"""One driver a tool: a process that was stopped past its lease finds itself overtaken, by the tool if not before."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from equipment.commands import CommandVerb, IntentState, find_intent
from equipment.lease import lease_of
from equipment.states import RunState
from tests.conftest import START
from tests.system.controller_process import STOP, freeze, kill, start_controller, stop
from tests.system.press_line import TOOL, Press, Record, fast_clock, running_press, until


def _holder(record: Record) -> str:
    with record.database.read() as session:
        lease = lease_of(session, TOOL)
        return lease.holder if lease else ""


def _refused_for_its_age(press: Press, verb: str, epoch: int) -> bool:
    return any(
        asked == verb and sent == epoch and not answer.status.accepted and "older" in answer.why
        for asked, _, sent, answer in press.asked
    )


@pytest.mark.anyio
async def test_a_command_sent_by_a_process_that_slept_past_its_lease_is_refused_by_the_tool(
    database_url: str, tmp_path: Path
) -> None:
    clock = fast_clock(tmp_path, START, 100)
    record = Record(database_url, clock)
    async with running_press(clock) as press:
        run = record.plan()
        # It stops between its last look at the lease and the call: nothing but the tool can refuse what it sends.
        sleeper = start_controller(
            database_url, tmp_path / "clock.json", press.port, "sleeper", at_step="before_start", then=STOP
        )
        command = record.ask(CommandVerb.START, run)
        await until(lambda: any(verb == "Store" for verb, *_ in press.asked), 10, "the download")
        heir = start_controller(database_url, tmp_path / "clock.json", press.port, "heir")
        try:
            await until(lambda: _holder(record) == "heir", 10, "the takeover")
            await until(lambda: press.starts == 1, 10, "the start by the heir")
            os.kill(sleeper.pid or 0, signal.SIGCONT)
            await until(lambda: _refused_for_its_age(press, "Start", 1), 10, f"the refusal, asked: {press.asked}")
            await until(lambda: record.run(run).state.ended, 60, "the run's end")
            assert _holder(record) == "heir"
        finally:
            await kill(sleeper)
            await stop(heir)
        assert record.run(run).state is RunState.COMPLETED
        assert press.starts == 1
        with record.database.read() as session:
            intent = find_intent(session, command)
        assert intent.state is IntentState.DONE
        assert (intent.holder, intent.epoch) == ("heir", 2)
    record.database.close()


@pytest.mark.anyio
async def test_a_stopped_holder_lets_another_take_over_and_waits_when_it_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    clock = fast_clock(tmp_path, START, 100)
    record = Record(database_url, clock)
    async with running_press(clock) as press:
        first = start_controller(database_url, tmp_path / "clock.json", press.port, "first")
        await until(lambda: press.server.receiver.epoch == 1, 10, "the first on the tool")
        second = start_controller(database_url, tmp_path / "clock.json", press.port, "second")
        try:
            await freeze(first, database_url)
            await until(lambda: press.server.receiver.epoch == 2, 60, "the second on the tool")
            os.kill(first.pid or 0, signal.SIGCONT)
            run = record.plan()
            record.ask(CommandVerb.START, run)
            await until(lambda: record.run(run).state.ended, 60, "the run's end")
            assert press.starts == 1
            assert {epoch for _, _, epoch, answer in press.asked if answer.status.accepted} == {2}
            # The one that was overtaken is ready to take over in turn.
            await kill(second)
            await until(lambda: press.server.receiver.epoch == 3, 10, "the first back on the tool")
            assert _holder(record) == "first"
        finally:
            await kill(second)
            await stop(first)
    record.database.close()
