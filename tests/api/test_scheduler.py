"""Of all processes on one database, one runs the jobs; another goes on when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from api.scheduler import JobScheduler
from tests.conftest import ALL_ACTS
from traceability.clock import Clock
from traceability.database import Database
from traceability.jobs import Job

EVERY_S = 0.25


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        # Asked again and again: a job runs in a thread, and has nobody here to tell.
        while True:
            if is_so():
                return
            await asyncio.sleep(0.01)


async def stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.anyio
async def test_only_the_holder_of_the_lease_runs_the_jobs_and_another_goes_on_when_it_stops(
    database: Database, schema_url: str, clock: Clock
) -> None:
    ran: list[str] = []
    elsewhere = Database(schema_url, clock, ALL_ACTS)

    def scheduler(database: Database, name: str) -> JobScheduler:
        return JobScheduler(database, name, [Job("count", lambda: ran.append(name), every_s=EVERY_S)])

    first, second = scheduler(database, "first"), scheduler(elsewhere, "second")
    first_running = asyncio.create_task(first.run())
    await until(lambda: first.holds_lease)
    second_running = asyncio.create_task(second.run())
    await until(lambda: len(ran) >= 4)
    assert set(ran) == {"first"}
    assert not second.holds_lease

    await stop(first_running)
    by_first = len(ran)
    await until(lambda: len(ran) >= by_first + 2)
    assert set(ran[by_first:]) == {"second"}
    assert second.holds_lease
    assert not first.holds_lease
    await stop(second_running)
    elsewhere.close()


@pytest.mark.anyio
async def test_a_job_that_fails_is_run_again_and_keeps_no_other_from_running(database: Database) -> None:
    failed: list[str] = []
    ran: list[str] = []

    def fail() -> None:
        failed.append("fail")
        raise ValueError("the tester's clock is wrong")

    jobs = [Job("fail", fail, every_s=0.1), Job("count", lambda: ran.append("count"), every_s=0.1)]
    running = asyncio.create_task(JobScheduler(database, "only", jobs).run())
    await until(lambda: len(failed) >= 2 and len(ran) >= 2)
    await stop(running)
