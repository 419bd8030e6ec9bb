"""Kill any process at any moment: no command is lost or doubled, no telemetry is missing, the run ends as planned."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from equipment.commands import CommandVerb, IntentState, find_intent
from equipment.errors import ToolRefused
from equipment.jobs import JobOrder, JobState, JobVerb, ReturnStatus
from equipment.line_controller import make_driver
from equipment.profiles.driver import ToolDriver
from equipment.run_records import Run
from equipment.runs import build_order
from equipment.states import RunState
from tests.conftest import START
from tests.system.controller_process import kill, start_controller, stop
from tests.system.press_line import TOOL, Press, Record, fast_clock, line, running_press, until

KILLS = 20
IN_TIME = 4.0
"""Domain seconds a second while it is killed: slow enough for a run to last until it has been killed so often."""

STEPS_OF_A_START = (
    "claimed",
    "before_store",
    "stored",
    "read_back",
    "downloaded",
    "verified",
    "before_start",
    "started",
    "finished",
)
STEPS_OF_A_CHANGE = ("claimed", "before_call", "called", "finished")


def _state(record: Record, command: str) -> IntentState:
    with record.database.read() as session:
        return find_intent(session, command).state


@pytest.mark.anyio
async def test_a_run_survives_twenty_kills_at_random_moments(database_url: str, tmp_path: Path) -> None:
    clock = fast_clock(tmp_path, START, IN_TIME)
    record = Record(database_url, clock)
    moments = random.Random(20)
    kills: list[datetime] = []
    async with running_press(clock) as press:
        run = record.plan()
        command = record.ask(CommandVerb.START, run)
        while sum(_within(record.run(run), at) for at in kills) < KILLS:
            assert len(kills) < 2 * KILLS, "the run was not there to be disturbed"
            process = start_controller(database_url, tmp_path / "clock.json", press.port, f"victim-{len(kills)}")
            await asyncio.sleep(moments.uniform(0.2, 1.5))
            await kill(process)
            kills.append(clock.now())
        clock.run(10 * IN_TIME)
        survivor = start_controller(database_url, tmp_path / "clock.json", press.port, "survivor")
        try:
            await until(lambda: record.run(run).state.ended, 40, "the run's end")
        finally:
            await stop(survivor)
        ended = record.run(run)
        assert ended.state is RunState.COMPLETED, ended.why
        assert sum(_within(ended, at) for at in kills) >= KILLS
        assert _state(record, command) is IntentState.DONE
        assert press.starts == 1
        longest_s, gaps = record.holes(run)
        assert gaps == []
        assert longest_s / IN_TIME < 2
        assert await record.missing(run, press.port) == 0
    record.database.close()


def _within(run: Run, at: datetime) -> bool:
    """Whether a moment lies in a run, as its tool told the ends of it."""
    return run.started_at is not None and run.started_at < at and (run.ended_at is None or at < run.ended_at)


@pytest.mark.anyio
async def test_a_start_killed_between_any_two_steps_starts_once_and_a_naive_one_does_not(
    database_url: str, tmp_path: Path
) -> None:
    clock = fast_clock(tmp_path, START, 1000)
    record = Record(database_url, clock)
    async with running_press(clock) as press:
        for number, step in enumerate(STEPS_OF_A_START, 1):
            run = record.plan()
            command = record.ask(CommandVerb.START, run)
            victim = start_controller(
                database_url, tmp_path / "clock.json", press.port, f"victim-{step}", at_step=step
            )
            await until(lambda v=victim: not v.is_alive(), 20, f"the death at {step}")
            heir = start_controller(database_url, tmp_path / "clock.json", press.port, f"heir-{step}")
            try:
                await until(lambda r=run: record.run(r).state.ended, 20, f"the run's end after {step}")
                await until(lambda c=command: _state(record, c) is IntentState.DONE, 5, f"the command's end, {step}")
            finally:
                await stop(heir)
            assert record.run(run).state is RunState.COMPLETED, (step, record.run(run).why)
            assert press.starts == number, step
        ours = press.starts - len(STEPS_OF_A_START)
        clock.run(2000)
        naive = await _starts_of_a_naive_controller(record, press) - len(STEPS_OF_A_START)
        assert ours == 0
        assert naive > 0
    record.database.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("verb", "job_verb", "outcome"),
    [
        (CommandVerb.PAUSE, JobVerb.PAUSE, RunState.PAUSED),
        (CommandVerb.STOP, JobVerb.STOP, RunState.STOPPED),
        (CommandVerb.ABORT, JobVerb.ABORT, RunState.ABORTED),
    ],
)
async def test_a_change_killed_between_any_two_steps_is_carried_out_once(
    verb: CommandVerb, job_verb: JobVerb, outcome: RunState, tmp_path: Path
) -> None:
    clock = fast_clock(tmp_path, START, 1)
    record = Record(f"sqlite:///{tmp_path / 'argonaut.db'}", clock)
    start = partial(start_controller, record.url, tmp_path / "clock.json")
    async with running_press(clock) as press:
        controller = start(press.port, "first")
        for step in STEPS_OF_A_CHANGE:
            run = record.plan()
            record.ask(CommandVerb.START, run)
            await until(lambda r=run: record.run(r).state is RunState.RUNNING, 20, f"a run to {verb}")
            await stop(controller)
            # Before a start all boundaries are passed too: this one begins with the change.
            victim = start(press.port, f"victim-{step}", at_step=step)
            command = record.ask(verb, run)
            await until(lambda v=victim: not v.is_alive(), 20, f"the death at {step}")
            controller = start(press.port, f"heir-{step}")
            await until(lambda c=command: _state(record, c) is IntentState.DONE, 20, f"the command's end, {step}")
            clock.run(20)
            await until(lambda r=run: record.run(r).state is outcome, 60, f"the run {outcome} after {step}")
            clock.run(1)
            told = [answer.status for asked, job, _, answer in press.asked if (asked, job) == (job_verb, run)]
            assert told.count(ReturnStatus.OK) == 1, step
            if not record.run(run).state.ended:
                record.ask(CommandVerb.ABORT, run)
                await until(lambda r=run: record.run(r).state.ended, 20, f"the end of the run after {step}")
        await stop(controller)
        assert press.starts == len(STEPS_OF_A_CHANGE)
    record.database.close()


class _Killed(Exception):
    """The naive controller has died."""


async def _starts_of_a_naive_controller(record: Record, press: Press) -> int:
    """How many jobs a controller begins for as many commands, when it forgets what it did and never asks the tool.

    It dies once at the same steps and is started again; each attempt sends the order under a fresh id.
    """
    run = record.plan()
    with record.database.read() as session:
        order = build_order(session, run, press.server.receiver.epoch)
    driver = make_driver(line(press.port).tools[0])
    await driver.connect()
    before = press.starts
    try:
        for step in STEPS_OF_A_START:
            try:
                await _naive_start(driver, press, order, step)
            except _Killed:
                await _naive_start(driver, press, order, "")
            await _idle(press)
    finally:
        await driver.disconnect()
    return press.starts - before


async def _naive_start(driver: ToolDriver, press: Press, order: JobOrder, dies_at: str) -> None:
    def boundary(step: str) -> None:
        if step == dies_at:
            raise _Killed

    fresh = replace(order, job_id=f"JOB-{uuid.uuid4().hex}")
    await driver.write_mes_heartbeat(uuid.uuid4().int % 1_000_000)
    for step in ("claimed", "before_store"):
        boundary(step)
    await driver.store(fresh)
    for step in ("stored", "read_back", "downloaded", "verified", "before_start"):
        boundary(step)
    while True:
        try:
            await driver.start(fresh.job_id, order.epoch)
            break
        except ToolRefused:
            await _idle(press)
    for step in ("started", "finished"):
        boundary(step)


async def _idle(press: Press) -> None:
    over: Sequence[JobState] = (JobState.RUNNING, JobState.INTERRUPTED)
    await until(lambda: all(job.state not in over for job in press.server.receiver.jobs.values()), 20, f"{TOOL} idle")
