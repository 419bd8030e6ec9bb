"""The running service: every long-lived part, made once from the settings and handed on from here.

Nothing else creates databases, stores, clocks or controllers; tests make a service of their own.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import orjson
import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import inspect, text

import equipment.acts
import recipes.acts
import traceability.acts
from api.auth import Identities, forget_sessions
from api.idempotency import forget_keys
from api.rate_limit import RateLimit
from api.scheduler import JobScheduler
from api.settings import Settings
from api.stream import Hub
from equipment.journal import CommandJournal
from equipment.line_config import LineConfig, load_line
from equipment.line_controller import LineController
from equipment.maintenance import maintenance_jobs
from equipment.profiles.driver import TagSample
from equipment.run_section import RunSection
from equipment.testers.outbox import Outbox
from equipment.testers.polling import ask_testers
from equipment.tool_link import LinkState, ToolLink
from equipment.traces import SealedTraces
from recipes.history import RecipeSection
from traceability.acts import system_actor
from traceability.attachments import AttachmentStore
from traceability.canonical import timestamp
from traceability.clock import Clock, PiecewiseClock, SystemClock, wall_now
from traceability.database import Database
from traceability.errors import StorageFailed
from traceability.exports.record_sections import RecordSection
from traceability.jobs import Job, record_jobs, verify_and_record
from traceability.verification import AttachmentSeals, SealedContent, VerificationReport

_log = structlog.get_logger(__name__)

ACTS = (*traceability.acts.ACTS, *recipes.acts.ACTS, *equipment.acts.ACTS)

LEAST_FREE_MB = 200
IDEMPOTENCY_KEYS_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One thing that must be right; the service is not ready while a vital one is not."""

    name: str
    ok: bool
    detail: str
    vital: bool = True


class Service:
    """The parts of one process.

    Attributes:
        settings: As read at the start.
        clock: Domain time.
        database: The record.
        attachments: Raw files by their hash.
        line: The tools and testers of the line.
        controller: Drives the tools; None in a process that drives none.
        scheduler: Runs jobs; None in a process that runs none.
        outbox: Delivers hand-offs to testers, beside the jobs.
        hub: The live stream.
        identities: Who reads, remembered for a moment.
        sign_in_limit: How often an address may try to sign in.
    """

    def __init__(self, settings: Settings) -> None:
        settings.data_folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.clock: Clock = PiecewiseClock(settings.clock_file) if settings.clock_file else SystemClock()
        self.clock.now()  # a shared clock that can't be read is said now, not at the first act
        self.database = Database(settings.url, self.clock, ACTS)
        self.attachments = AttachmentStore(settings.attachments_folder, settings.max_upload_mb << 20)
        self.holder = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self.line: LineConfig = load_line(settings.line_file)
        self.journal = CommandJournal(settings.journal_file)
        self.controller = (
            LineController(self.line, self.database, holder=self.holder, journal=self.journal)
            if settings.drive_tools
            else None
        )
        self.scheduler = JobScheduler(self.database, self.holder, self.jobs()) if settings.run_jobs else None
        self.outbox = Outbox(self.database, self.line.testers)
        self.hub = Hub(self.database, self.tool_states)
        self.identities = Identities(self.database)
        self.sign_in_limit = RateLimit(settings.sign_in_rate_per_minute)

    def is_empty(self) -> bool:
        """Whether the database holds nothing yet, not even a schema."""
        with self.database.connect() as connection:
            return not inspect(connection).get_table_names()

    @property
    def sealed(self) -> Sequence[SealedContent]:
        """Content outside of events whose hash an event holds."""
        return (SealedTraces(), AttachmentSeals(self.attachments))

    @property
    def history_sections(self) -> Sequence[RecordSection]:
        """What the packages above the record add to a history record."""
        return (RecipeSection(), RunSection())

    def jobs(self) -> list[Job]:
        """Everything that is done by the clock."""
        housekeeping = system_actor("housekeeping")

        def forget() -> None:
            forget_sessions(self.database)
            forget_keys(self.database, housekeeping, wall_now() - IDEMPOTENCY_KEYS_KEPT)

        def poll() -> None:
            ask_testers(self.database, self.line.testers)

        return [
            *record_jobs(self.database, self.sealed),
            *maintenance_jobs(self.database),
            Job("ask-testers", poll, every_s=60),
            Job("forget-sessions-and-keys", forget, every_s=3600),
        ]

    def verify(self) -> VerificationReport:
        """Verify the whole record now; the result goes on the trail."""
        return verify_and_record(self.database, self.sealed)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything that goes on by itself; ends it in order when the service goes down."""
        tasks = [asyncio.create_task(self.hub.run(), name="hub")]
        if self.scheduler is not None:
            tasks.append(asyncio.create_task(self.scheduler.run(), name="scheduler"))
            tasks.append(asyncio.create_task(self.outbox.run(), name="outbox"))
        driving = asyncio.create_task(self.controller.run(), name="line") if self.controller else None
        for task in (*tasks, *([driving] if driving else [])):
            task.add_done_callback(_log_failure)
        try:
            yield
        finally:
            if self.controller is not None and driving is not None:
                self.controller.stop()
                await asyncio.gather(driving, return_exceptions=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.database.close()

    def tool_states(self) -> Mapping[str, bytes]:
        """The present state of each tool that this process drives, as JSON: its link and its last values."""
        if self.controller is None:
            return {}
        return {name: _state(link, self.controller.values(name)) for name, link in self.controller.links.items()}

    def checks(self) -> list[HealthCheck]:
        """What `/readyz` shows."""
        return [
            self._database_check(),
            self._disk_check(),
            self._clock_check(),
            *self._scheduler_check(),
            *self._tool_checks(),
        ]

    def gauges(self) -> Iterator[Metric]:
        """The state of the line for `/metrics`."""
        yield GaugeMetricFamily("argonaut_stream_clients", "Open live streams.", self.hub.clients)
        scheduling = self.scheduler is not None and self.scheduler.holds_lease
        waiting = GaugeMetricFamily(
            "argonaut_outbox_waiting", "Messages that testers have yet to hear.", labels=["tester"]
        )
        for tester, count in self.outbox.waiting.items():
            waiting.add_metric([tester], count)
        yield waiting
        yield GaugeMetricFamily("argonaut_scheduler_lease", "1 where this process runs the jobs.", int(scheduling))
        if self.controller is None:
            return
        yield GaugeMetricFamily(
            "argonaut_samples_waiting", "Samples that wait for the database.", self.controller.samples_waiting
        )
        online = GaugeMetricFamily("argonaut_tool_online", "1 while the link to a tool stands.", labels=["tool"])
        connections = GaugeMetricFamily(
            "argonaut_tool_connections", "Connections made since the process began.", labels=["tool"]
        )
        for name, link in self.controller.links.items():
            online.add_metric([name], int(link.state is LinkState.ONLINE))
            connections.add_metric([name], link.connections)
        yield online
        yield connections

    def _database_check(self) -> HealthCheck:
        try:
            with self.database.connect() as connection:
                seq = connection.execute(text("SELECT seq FROM audit_head")).scalar_one()
        except StorageFailed as error:
            return HealthCheck("database", False, error.message)
        return HealthCheck("database", True, f"{seq} audit events")

    def _disk_check(self) -> HealthCheck:
        free_mb = shutil.disk_usage(self.settings.data_folder).free // 2**20
        return HealthCheck("disk", free_mb >= LEAST_FREE_MB, f"{free_mb} MB free in {self.settings.data_folder}")

    def _clock_check(self) -> HealthCheck:
        """Domain time stands on real time or on the line's shared clock; a clock set back would stall jobs."""
        now = self.clock.now()
        return HealthCheck("clock", True, f"{timestamp(now)}, {self.clock.factor:g} domain seconds a second")

    def _scheduler_check(self) -> Iterator[HealthCheck]:
        if self.scheduler is not None:
            holds = self.scheduler.holds_lease
            detail = "this process runs the jobs" if holds else "another process runs the jobs"
            yield HealthCheck("scheduler lease", True, detail, vital=False)

    def _tool_checks(self) -> Iterator[HealthCheck]:
        if self.controller is None:
            return
        for name, link in self.controller.links.items():
            ok = link.state is LinkState.ONLINE and not link.fenced
            lease = "no lease" if link.lease_epoch is None else f"lease epoch {link.lease_epoch}"
            fenced = ", fenced: the lease could not be renewed in time" if link.fenced else ""
            why = f": {link.why}" if link.why else ""
            yield HealthCheck(f"tool {name}", ok, f"{link.state}{why}; {lease}{fenced}", vital=False)


def _log_failure(task: asyncio.Task[None]) -> None:
    """A part that runs for as long as the process must not end unheard."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("part_failed", part=task.get_name(), exc_info=error)


def _state(link: ToolLink, values: Mapping[str, TagSample]) -> bytes:
    return orjson.dumps(
        {
            "link": link.state,
            "why": link.why,
            "since": timestamp(link.since),
            "values": {name: sample.value if sample.good else None for name, sample in values.items()},
        }
    )
