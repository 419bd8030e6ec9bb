"""A simulated tool: an OPC UA server around any plant.

The plant is advanced in domain time, in real ticks of 50 ms; the link to the MES (heartbeats, watchdog, history)
runs in real time. Nothing here knows what the plant makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.common.callback import CallbackType
from asyncua.common.utils import ServiceError
from asyncua.server.internal_server import InternalServer

from equipment.opcua.nodeset import render, tool_namespace
from equipment.opcua.security import is_loopback
from equipment.simulators.address_space import AddressSpace
from equipment.simulators.job_receiver import JobReceiver
from equipment.simulators.maintenance import Maintenance
from equipment.simulators.plant import Plant
from equipment.simulators.tool_server_access import LOCAL_ANONYMOUS, ServerAccess
from equipment.simulators.tool_server_alarms import AlarmBoard
from equipment.simulators.tool_server_methods import JobMethods
from equipment.tags import TagValue

TICK_S = 0.05
HEARTBEAT_S = 0.5
LOST_MES = "lost_mes"
SOFTWARE_REVISION = "argonaut simulator"


class ToolServer:
    """One simulated tool.

    Args:
        plant: What it simulates.
        name: Browse name and last part of the namespace, e.g. `sputter`.
        site: Middle part of the namespace.
        endpoint: `opc.tcp://host:port/`.
        now: Domain time, UTC.
        access: Certificates and accounts; the default lets everybody in on loopback.
        namespace_padding: Namespaces registered before the tool's own, so that its indexes differ.
        history_s: Depth of the history of each tag, in seconds of real time.
        mes_lost_after_s: Real time after which an MES whose heartbeat stands still is lost.
        max_samples_per_tick: How often each tag may be sampled in one tick, however fast the clock runs.
        state_path: File that survives a restart; None forgets.
        nodeset: NodeSet2 XML to load; made from the plant's tag table by default.

    Raises:
        ValueError: `access` is not safe where the tool listens.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        name: str,
        site: str,
        endpoint: str,
        now: Callable[[], datetime],
        access: ServerAccess = LOCAL_ANONYMOUS,
        namespace_padding: int = 0,
        history_s: float = 60.0,
        mes_lost_after_s: float = 5.0,
        max_samples_per_tick: int = 5,
        state_path: Path | None = None,
        nodeset: str | None = None,
    ) -> None:
        access.check(loopback=is_loopback(endpoint))
        self.endpoint = endpoint
        self.boot_id = uuid.uuid4().hex
        self._plant = plant
        self._name = name
        self._site = site
        self._now = now
        self._access = access
        self._padding = namespace_padding
        self._mes_lost_after_s = mes_lost_after_s
        self._max_samples = max_samples_per_tick
        self._nodeset = nodeset if nodeset is not None else render(plant.tags, site, name)
        self._time = now()
        self._server = Server(InternalServer(user_manager=access))
        self._space = AddressSpace(self._server, plant.tags, site, name, history_s)
        self.receiver = JobReceiver(plant, lambda: self._time, state_path)
        self.maintenance = Maintenance(plant, self.receiver)
        self._methods = JobMethods(self._server, self._space, self.receiver)
        self._alarms = AlarmBoard(self._server, self._space, name)
        self._heartbeat = 0
        self._heartbeat_at = -math.inf
        self._mes_seen_at: float | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ToolServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Build the address space and listen.

        Raises:
            OSError: The port is taken.
        """
        await self._configure()
        for number in range(self._padding):
            await self._server.register_namespace(f"urn:{self._site}:padding:{number}")
        await self._space.load(self._nodeset)
        self._methods.link()
        await self._alarms.prepare()
        await self.maintenance.add_to(self._server)
        self._server.subscribe_server_callback(CallbackType.PreWrite, self._before_write)
        self._server.subscribe_server_callback(CallbackType.PostWrite, self._after_write)
        await self._space.publish({**self._identity(), "mes_heartbeat": 0}, self._time)
        await self._publish()
        await self._server.start()
        self._ticking = asyncio.create_task(self._tick_for_ever(), name=f"ticks of {self._name}")

    async def stop(self) -> None:
        """Stop listening, keep what survives."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        await self._server.stop()
        self.receiver.save()

    async def wait(self) -> None:
        """Wait until the tool dies of an error of its plant.

        Raises:
            Exception: That error.
        """
        if self._ticking is not None:
            await asyncio.shield(self._ticking)

    async def _configure(self) -> None:
        server = self._server
        server.iserver.bind_condition_methods = 1
        await server.init()
        server.set_endpoint(self.endpoint)
        server.set_server_name(f"Argonaut {self._name}")
        await server.set_application_uri(f"{tool_namespace(self._site, self._name)}:server")
        server.allow_remote_admin(False)
        policy = ua.SecurityPolicyType.NoSecurity
        if self._access.own is not None:
            policy = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt
            await server.load_certificate(self._access.own.certificate)
            await server.load_private_key(self._access.own.private_key)
        server.set_security_policy([policy])
        anonymous = [ua.AnonymousIdentityToken] if self._access.anonymous else []
        server.set_identity_tokens([ua.UserNameIdentityToken, *anonymous])

    # -- time ---------------------------------------------------------------------------------------------------

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._tick()

    async def _tick(self) -> None:
        start, passed_s = self._time, (self._now() - self._time).total_seconds()
        self._watch_mes()
        samples = min(self._max_samples, max(1, math.ceil(passed_s / TICK_S)))
        for number in range(1, samples + 1):
            if passed_s > 0:
                self._time = start + timedelta(seconds=passed_s * number / samples)
                self._plant.advance(passed_s / samples)
            self.receiver.follow()
            await self._publish()

    async def _publish(self) -> None:
        now = self._time
        await self._space.publish({**self._plant.sample(), **self._link()}, now)
        await self._alarms.update({**self._plant.alarms(), LOST_MES: not self.receiver.accepts_new}, now)
        await self._methods.show_jobs()

    # -- link ---------------------------------------------------------------------------------------------------

    def _identity(self) -> Mapping[str, TagValue]:
        return {
            "simulated": True,
            "manufacturer": self._plant.manufacturer,
            "model": self._plant.model,
            "serial_number": self._plant.serial_number,
            "software_revision": SOFTWARE_REVISION,
            "boot_id": self.boot_id,
        }

    def _link(self) -> Mapping[str, TagValue]:
        now = time.monotonic()
        if now - self._heartbeat_at >= HEARTBEAT_S and not self.maintenance.heartbeat_frozen:
            self._heartbeat_at = now
            self._heartbeat += 1
        return {
            "heartbeat": self._heartbeat,
            "last_job_counter": self.receiver.jobs_started,
            "last_job_id": self.receiver.last_job_id,
            "controller_epoch": self.receiver.epoch,
        }

    def _watch_mes(self) -> None:
        """The watchdog runs from the first heartbeat of an MES on; a job that runs goes on without one."""
        seen = self._mes_seen_at
        self.receiver.accepts_new = seen is None or time.monotonic() - seen < self._mes_lost_after_s

    def _before_write(self, event: Any, _service: Any) -> None:
        """Refuse a write of an older epoch; asyncua answers a raised ServiceError for the whole request."""
        for item in self._outside_writes(event, "controller_epoch"):
            epoch = item.Value.Value.Value
            if not isinstance(epoch, int) or epoch < self.receiver.epoch:
                raise ServiceError(ua.StatusCodes.BadInvalidState)

    def _after_write(self, event: Any, _service: Any) -> None:
        results = dict(zip(map(id, event.request_params.NodesToWrite), event.response_params, strict=True))
        for item in self._outside_writes(event, "controller_epoch"):
            if results[id(item)].is_good():
                self.receiver.take_epoch(item.Value.Value.Value)
        for item in self._outside_writes(event, "mes_heartbeat"):
            if results[id(item)].is_good():
                self._mes_seen_at = time.monotonic()
                self._watch_mes()

    def _outside_writes(self, event: Any, tag: str) -> list[Any]:
        node_id = self._space.tag_node_id(tag)
        return [item for item in event.request_params.NodesToWrite if event.is_external and item.NodeId == node_id]


async def serve(*servers: ToolServer) -> None:
    """Run simulated tools until this is cancelled, or one dies.

    Raises:
        OSError: A port is taken.
        ExceptionGroup: The error of a plant.
    """
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(server.wait())
