"""The running service: every long-lived part, made once from the settings and handed on from here.

Nothing else creates databases, stores, clocks or controllers; tests make a service of their own.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import text

import equipment.acts
import recipes.acts
import traceability.acts
from api.rate_limit import RateLimit
from api.settings import Settings
from api.stream import Hub
from traceability.attachments import AttachmentStore
from traceability.clock import Clock, PiecewiseClock, SystemClock
from traceability.database import Database
from traceability.errors import StorageFailed

ACTS = (*traceability.acts.ACTS, *recipes.acts.ACTS, *equipment.acts.ACTS)

LEAST_FREE_MB = 200


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
        hub: The live stream.
        sign_in_limit: How often an address may try to sign in.
    """

    def __init__(self, settings: Settings) -> None:
        settings.data_folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.clock: Clock = PiecewiseClock(settings.clock_file) if settings.clock_file else SystemClock()
        self.database = Database(settings.url, self.clock, ACTS)
        self.attachments = AttachmentStore(settings.attachments_folder, settings.max_upload_mb << 20)
        self.hub = Hub(self.database, self.tool_states)
        self.sign_in_limit = RateLimit(settings.sign_in_rate_per_minute)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything that goes on by itself; ends it in order when the service goes down."""
        tasks = [asyncio.create_task(self.hub.run(), name="hub")]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.database.close()

    def tool_states(self) -> Mapping[str, bytes]:
        """The present state of each tool that this process drives, as JSON."""
        return {}

    def checks(self) -> list[HealthCheck]:
        """What `/readyz` shows."""
        return [self._database_check(), self._disk_check()]

    def gauges(self) -> Iterator[Metric]:
        """The state of the line for `/metrics`."""
        yield GaugeMetricFamily("argonaut_stream_clients", "Open live streams.", self.hub.clients)

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
