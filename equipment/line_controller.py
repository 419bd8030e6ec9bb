"""The line controller: one lease and one supervisor for every tool of the line, and the writer they share.

Any number of processes may run one; for each tool exactly one of them drives, and another takes over when it dies.
Composes and nothing else; knows no protocol and no simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from equipment.execution import StepHook, ignore_step
from equipment.journal import CommandJournal
from equipment.lease import TTL_S, LeaseKeeper
from equipment.line_config import LineConfig, SecurityConfig, SecurityMode, ToolConfig
from equipment.opcua.security import CertificatePair, ToolSecurity
from equipment.profiles.driver import AlarmEvent, TagSample, ToolDriver
from equipment.profiles.job_control import JobControlDriver
from equipment.supervisor import Supervisor
from equipment.tool_link import ToolLink
from equipment.utilisation import register_tool
from equipment.writer import Writer
from traceability.acts import system_actor
from traceability.audit import SealedEvent
from traceability.database import Database, RecordSession
from traceability.errors import StorageFailed

_log = structlog.get_logger(__name__)

ACTOR = system_actor("line-controller")

_STORAGE_RETRY_S = 1.0
_ASKED = frozenset({"command.requested", "command.stop_requested"})

MakeDriver = Callable[[ToolConfig], ToolDriver]


def make_driver(tool: ToolConfig) -> ToolDriver:
    """A fresh driver for a tool, by its profile.

    Raises:
        InvalidInput: Its password can't be read.
    """
    _, site, name = tool.namespace_uri.split(":")
    return JobControlDriver(tool.endpoint, site, name, tool.tags, tool_security(tool.security))


def tool_security(config: SecurityConfig) -> ToolSecurity:
    """How to speak to a tool, with its secrets read.

    Raises:
        InvalidInput: The password can't be read.
    """
    own = None
    if config.mode is SecurityMode.SIGN_AND_ENCRYPT and config.client_certificate and config.client_key:
        own = CertificatePair(config.client_certificate, config.client_key)
    return ToolSecurity(
        own=own,
        server_certificate=config.server_certificate,
        user=config.user or None,
        password=config.password(),
    )


class LineController:
    """Drives the tools of a line.

    Args:
        line: Which tools there are.
        database: The record's database.
        holder: Name of this process in leases, unique among all that run at once.
        journal: Of commands that the database could not take; None where there is none.
        drivers: Makes a fresh driver for a tool.
        lease_ttl_s: How long a lease lasts without renewal, real time.
        hook: Told each boundary between two steps of a command.
    """

    def __init__(
        self,
        line: LineConfig,
        database: Database,
        *,
        holder: str,
        journal: CommandJournal | None = None,
        drivers: MakeDriver = make_driver,
        lease_ttl_s: float = TTL_S,
        hook: StepHook = ignore_step,
    ) -> None:
        self._line = line
        self._database = database
        self._writer = Writer(database, ACTOR)
        self._leases = [LeaseKeeper(tool.name, holder, self._writer.run, lease_ttl_s) for tool in line.tools]
        self._supervisors = {
            tool.name: Supervisor(
                tool.name,
                tool.tags,
                partial(drivers, tool),
                self._writer,
                lease,
                database.clock,
                journal,
                hook,
            )
            for tool, lease in zip(line.tools, self._leases, strict=True)
        }
        self._stopping = asyncio.Event()

    @property
    def links(self) -> Mapping[str, ToolLink]:
        """How the link to each tool stands now, by its name."""
        return {name: supervisor.link for name, supervisor in self._supervisors.items()}

    @property
    def samples_waiting(self) -> int:
        """Samples that wait for the database."""
        return self._writer.waiting

    def values(self, tool: str) -> Mapping[str, TagSample]:
        """The last value heard of every tag of a tool.

        Raises:
            LookupError: The line has no such tool.
        """
        return self._supervisors[tool].values

    def alarms(self, tool: str) -> Mapping[str, AlarmEvent]:
        """Every alarm of a tool as last heard, by name.

        Raises:
            LookupError: The line has no such tool.
        """
        return self._supervisors[tool].alarms

    def stop(self) -> None:
        """Let `run` come to its end. To be called on the event loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Drive the line until `stop` is called; then give every lease back and store what there is.

        Raises:
            Exception: The writer has failed by a fault of the code; nothing can be recorded any more.
        """
        loop = asyncio.get_running_loop()

        def committed(events: Sequence[SealedEvent]) -> None:
            if any(event.kind in _ASKED for event in events):
                loop.call_soon_threadsafe(self._wake)

        unsubscribe = self._database.publisher.subscribe(committed)
        self._writer.start()
        try:
            await self._register_tools()
            await self._drive()
        finally:
            unsubscribe()
            await asyncio.to_thread(self._writer.stop)

    async def _drive(self) -> None:
        keeping = [asyncio.create_task(lease.keep(), name=f"lease of {lease.tool}") for lease in self._leases]
        driving = [asyncio.create_task(s.run(), name=f"supervisor of {s.tool}") for s in self._supervisors.values()]
        ends: list[asyncio.Future[Any]] = [
            asyncio.create_task(self._stopping.wait()),
            asyncio.wrap_future(self._writer.failure),
        ]
        try:
            ended, _ = await asyncio.wait([*ends, *keeping, *driving], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            # The tools are let go of before the leases are given back, so that nobody takes over too early.
            await _cancel([*ends, *driving])
            await _cancel(keeping)

    async def _register_tools(self) -> None:
        def register(record: RecordSession) -> None:
            for tool in self._line.tools:
                register_tool(record, tool.name, tool.equipment_class)

        while not self._stopping.is_set():
            try:
                await self._writer.run(register)
            except StorageFailed as error:
                _log.warning("line_waits_for_storage", cause=error.message)
                await asyncio.sleep(_STORAGE_RETRY_S)
            else:
                return

    def _wake(self) -> None:
        for supervisor in self._supervisors.values():
            supervisor.wake()


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
