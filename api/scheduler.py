"""Doing by the clock what packages list as jobs: APScheduler, in the one process that holds the scheduler's lease.

The job store is memory, filled from the packages' lists whenever the lease is taken; nothing about a job outlives
the process but what it wrote to the record. Jobs only claim rows or read, so that one that runs late, or once more
after a take-over, does no harm. Tool timing never runs here: a clock set back stalls a scheduler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from api.threads import in_thread
from equipment.lease import LeaseKeeper, Work
from traceability.acts import system_actor
from traceability.database import Database
from traceability.jobs import Job

_log = structlog.get_logger(__name__)

ACTOR = system_actor("scheduler")
RESOURCE = "scheduler"
"""Name of the scheduler's lease, beside those of the tools."""

Answer = TypeVar("Answer")


class JobScheduler:
    """Runs the jobs while this process holds the lease.

    Args:
        database: Holds the lease.
        holder: Name of this process.
        jobs: All jobs of all packages.
    """

    def __init__(self, database: Database, holder: str, jobs: Sequence[Job]) -> None:
        self._database = database
        self._jobs = jobs
        self._lease = LeaseKeeper(RESOURCE, holder, self._transact)

    @property
    def holds_lease(self) -> bool:
        """Whether this process runs the jobs."""
        return self._lease.held

    async def run(self) -> None:
        """Run the jobs whenever the lease can be had, until cancelled."""
        keeping = asyncio.create_task(self._lease.keep(), name="scheduler lease")
        try:
            while True:
                grant = await self._lease.taken()
                scheduler = _scheduler(self._jobs)
                scheduler.start()
                _log.info("jobs_scheduled", jobs=[job.name for job in self._jobs], epoch=grant.epoch)
                try:
                    await self._lease.lost(grant)
                finally:
                    scheduler.shutdown(wait=False)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _transact(self, work: Work[Answer], /) -> Answer:
        def transaction() -> Answer:
            with self._database.write(ACTOR) as record:
                return work(record)

        return await in_thread(transaction)


def _scheduler(jobs: Sequence[Job]) -> AsyncIOScheduler:
    scheduler = AsyncIOScheduler(executors={"default": ThreadPoolExecutor(2)}, timezone="UTC")
    for job in jobs:
        trigger = (
            CronTrigger.from_crontab(job.cron, timezone="UTC")
            if job.cron
            else IntervalTrigger(seconds=job.every_s, timezone="UTC")
        )
        scheduler.add_job(
            _guarded(job),
            trigger,
            id=job.name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=max(1, int(job.misfire_s)),
        )
    return scheduler


def _guarded(job: Job) -> Callable[[], None]:
    def run() -> None:
        try:
            job.run()
        except Exception:  # noqa: BLE001 - the next time may go well; what failed is on the log
            _log.exception("job_failed", job=job.name)

    return run
