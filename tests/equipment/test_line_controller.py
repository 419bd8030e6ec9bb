"""From a command on the record to a tool that did it: refused where it must be, stopped whatever happens."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from equipment.commands import CommandIntent, CommandVerb, IntentState, find_intent, intents_of_run
from equipment.jobs import JobState
from equipment.journal import CommandJournal
from equipment.states import RunState
from tests.conftest import START
from tests.system.press_line import TOOL, Record, controlled, fast_clock, online, running_press, until
from traceability.acts import Actor


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(f"sqlite:///{tmp_path / 'argonaut.db'}", fast_clock(tmp_path, START, 20))
    yield record
    record.database.close()


def command(record: Record, serial: str) -> CommandIntent:
    with record.database.read() as session:
        return find_intent(session, serial)


async def done(record: Record, verb: CommandVerb, run: str) -> CommandIntent:
    serial = record.ask(verb, run)
    await until(lambda: command(record, serial).finished, 10, f"the end of {verb}")
    return command(record, serial)


@pytest.mark.anyio
async def test_a_tool_that_clamps_a_parameter_is_not_started_and_keeps_no_order(record: Record) -> None:
    async with running_press(record.database.clock) as press, controlled(record.database, press.port) as controller:
        await online(controller)
        press.server.maintenance.inject("clamp_parameter", True, {"parameter": "pressure_mpa", "limit": 100.0})
        run = record.plan()
        intent = await done(record, CommandVerb.START, run)
        assert intent.state is IntentState.REFUSED
        assert [finding["path"] for finding in intent.findings] == ["pressure_mpa"]
        assert intent.findings[0]["message"] == "pressure_mpa: sent 360.0 MPa, the tool holds 100.0 MPa."
        assert record.run(run).state is RunState.FAILED
        assert press.starts == 0
        assert press.server.receiver.jobs == {}


@pytest.mark.anyio
async def test_a_run_is_paused_resumed_and_aborted_and_each_is_done_once(record: Record) -> None:
    async with running_press(record.database.clock) as press, controlled(record.database, press.port) as controller:
        await online(controller)
        run = record.plan()
        assert (await done(record, CommandVerb.START, run)).state is IntentState.DONE
        await until(lambda: controller.values(TOOL)["phase_name"].value == "DWELL", 10, "the dwell")
        assert (await done(record, CommandVerb.PAUSE, run)).state is IntentState.DONE
        await until(lambda: record.run(run).state is RunState.PAUSED, 5, "paused")
        assert (await done(record, CommandVerb.PAUSE, run)).state is IntentState.DONE
        assert (await done(record, CommandVerb.RESUME, run)).state is IntentState.DONE
        await until(lambda: record.run(run).state is RunState.RUNNING, 5, "running again")
        assert (await done(record, CommandVerb.ABORT, run)).state is IntentState.DONE
        await until(lambda: record.run(run).state is RunState.ABORTED, 5, "aborted")
        assert (await done(record, CommandVerb.RESUME, run)).state is IntentState.REFUSED
        verbs = [verb for verb, *_ in press.asked]
        assert (verbs.count("Pause"), verbs.count("Start"), verbs.count("Abort")) == (1, 1, 1)


@pytest.mark.anyio
async def test_a_run_that_is_aborted_before_anybody_drives_the_tool_never_starts(record: Record) -> None:
    async with running_press(record.database.clock) as press:
        run = record.plan()
        start, abort = record.ask(CommandVerb.START, run), record.ask(CommandVerb.ABORT, run)
        async with controlled(record.database, press.port) as controller:
            await online(controller)
            await until(lambda: command(record, start).finished, 10, "the end of the start")
        assert command(record, abort).state is IntentState.DONE
        assert command(record, start).state is IntentState.REFUSED
        assert record.run(run).state is RunState.FAILED
        assert press.asked == []


@pytest.mark.anyio
async def test_a_stop_goes_out_while_the_database_refuses_and_is_entered_when_it_takes_it_again(
    record: Record, tmp_path: Path, operator: Actor
) -> None:
    # A short wait for the lock makes the refusal quick; the refusal itself is SQLite's own.
    engine = record.database.engine
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 50"))
    engine.dispose()
    journal = CommandJournal(tmp_path / "commands.journal")
    async with (
        running_press(record.database.clock) as press,
        controlled(record.database, press.port, journal=journal) as controller,
    ):
        await online(controller)
        run = record.plan()
        await done(record, CommandVerb.START, run)
        await until(lambda: record.run(run).state is RunState.RUNNING, 5, "running")
        with closing(sqlite3.connect(tmp_path / "argonaut.db", isolation_level=None)) as hog:
            hog.execute("BEGIN IMMEDIATE")
            await until(lambda: controller.links[TOOL].fenced, 5, "the fence")
            journal.append(
                tool=TOOL,
                verb=CommandVerb.ABORT,
                run_serial=run,
                requested_by=operator.name,
                reason="smoke",
                requested_at=record.database.clock.now(),
            )
            job = press.server.receiver.jobs[run]
            await until(lambda: job.state is JobState.ABORTED, 5, "the abort at the tool")
            hog.execute("ROLLBACK")
        await until(lambda: record.run(run).state is RunState.ABORTED, 10, "the abort on the record")
        await until(lambda: journal.to_reconcile(TOOL) == [], 5, "the entry of the command")
    with record.database.read() as session:
        entered = intents_of_run(session, run)[-1]
    assert (entered.verb, entered.state, entered.requested_by) == (CommandVerb.ABORT, IntentState.DONE, "olga")


@pytest.mark.anyio
async def test_an_alarm_is_acknowledged_at_the_tool(record: Record) -> None:
    async with running_press(record.database.clock) as press, controlled(record.database, press.port) as controller:
        await online(controller)
        name = "guard_open"
        press.server.maintenance.inject(name, True, {})
        supervisor = controller.alarms(TOOL)
        await until(lambda: name in supervisor and supervisor[name].active, 5, "the alarm")
        serial = record.ask(CommandVerb.ACKNOWLEDGE_ALARM, alarm=name, comment="seen")
        await until(lambda: supervisor[name].acknowledged, 5, "the acknowledgement")
        await until(lambda: command(record, serial).state is IntentState.DONE, 5, "the command's end")
