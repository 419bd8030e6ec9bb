"""Tools that speak OPC 10031-4 job control: the profile of our own address space.

Proved against the simulators and against servers that load the exported nodesets; never tried on a real tool.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncua import ua

from equipment.errors import AccessDenied, LinkLost, OutcomeUnknown, ProtocolViolation, ToolRefused, WriteRefused
from equipment.jobs import JobOrder, JobResponse, JobStatus, JobVerb, ReturnStatus
from equipment.opcua.isa95 import (
    ISA95_NAMESPACE,
    ISA95JobOrderAndStateDataType,
    ISA95JobResponseDataType,
    order_from_wire,
    order_to_wire,
    pack,
    response_from_wire,
    state_from_wire,
    unpack,
)
from equipment.opcua.nodeset import (
    JOB_CONTROL_PATH,
    JOB_RESULTS_PATH,
    REQUEST_RESPONSE_BY_ID,
    alarm_id,
    job_method_id,
    tool_namespace,
)
from equipment.opcua.security import ToolSecurity
from equipment.opcua.session import OpcuaSession
from equipment.profiles.driver import AlarmEvent, StreamItem, TagSample
from equipment.tags import TagTable

_CONTROL = ".".join(JOB_CONTROL_PATH)
_RESULTS = ".".join(JOB_RESULTS_PATH)
_JOB_LIST = f"{_CONTROL}.JobOrderList"


class JobControlDriver:
    """A `ToolDriver` for one tool and one epoch.

    A job that ended by Stop is Ended/Closed, one that ran to its end Ended/Completed.

    Args:
        endpoint: `opc.tcp://host:port/`.
        site, tool: Make the namespace `urn:<site>:<tool>`.
        tags: What the tool shows and takes.
        security: How to speak to it.
        stream_limit: How many changes a stream holds for a slow reader.
    """

    def __init__(
        self,
        endpoint: str,
        site: str,
        tool: str,
        tags: TagTable,
        security: ToolSecurity,
        *,
        stream_limit: int = 50_000,
    ) -> None:
        self._session = OpcuaSession(endpoint, tool_namespace(site, tool), tags, security, stream_limit=stream_limit)
        self._kinds = {parameter.name: parameter.type for parameter in tags.job_parameters}
        self._isa95 = -1

    @property
    def tags(self) -> TagTable:
        """What the tool shows."""
        return self._session.tags

    async def connect(self) -> None:
        """See `ToolDriver.connect`."""
        await self._session.connect((ISA95_NAMESPACE,))
        self._isa95 = self._session.namespace_index(ISA95_NAMESPACE)

    async def disconnect(self) -> None:
        """See `ToolDriver.disconnect`."""
        await self._session.disconnect()

    # -- what it shows ------------------------------------------------------------------------------------------

    async def read_all(self) -> Mapping[str, TagSample]:
        """See `ToolDriver.read_all`."""
        return await self._session.read_all()

    def subscribe(self) -> AsyncGenerator[StreamItem, None]:
        """See `ToolDriver.subscribe`."""
        return self._session.changes()

    def alarms(self) -> AsyncGenerator[AlarmEvent, None]:
        """See `ToolDriver.alarms`."""
        return self._session.alarms()

    async def acknowledge(self, alarm: AlarmEvent, comment: str = "") -> None:
        """See `ToolDriver.acknowledge`."""
        result = await self._session.call(
            self._session.node_id(alarm_id(alarm.name)),
            ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge),
            ua.Variant(alarm.event_id, ua.VariantType.ByteString),
            ua.Variant(ua.LocalizedText(comment), ua.VariantType.LocalizedText),
        )
        if not result.StatusCode.is_good():
            raise WriteRefused(alarm.name, result.StatusCode.name)

    async def history(self, tag: str, since: datetime, until: datetime | None = None) -> Sequence[TagSample]:
        """See `ToolDriver.history`."""
        return await self._session.history(tag, since, until)

    async def write_mes_heartbeat(self, count: int) -> None:
        """See `ToolDriver.write_mes_heartbeat`."""
        await self._session.write("mes_heartbeat", count)

    async def write_epoch(self, epoch: int) -> None:
        """See `ToolDriver.write_epoch`."""
        await self._session.write("controller_epoch", epoch)

    # -- jobs ---------------------------------------------------------------------------------------------------

    async def store(self, order: JobOrder) -> ReturnStatus:
        """See `ToolDriver.store`."""
        return await self._send(JobVerb.STORE, order)

    async def store_and_start(self, order: JobOrder) -> ReturnStatus:
        """See `ToolDriver.store_and_start`."""
        return await self._send(JobVerb.STORE_AND_START, order)

    async def update(self, order: JobOrder) -> ReturnStatus:
        """Replace an order that has not been started."""
        return await self._send(JobVerb.UPDATE, order)

    async def start(self, job_id: str, epoch: int) -> ReturnStatus:
        """See `ToolDriver.start`."""
        return await self._ask(JobVerb.START, job_id, epoch)

    async def revoke_start(self, job_id: str, epoch: int) -> ReturnStatus:
        """Take a start back that has not begun."""
        return await self._ask(JobVerb.REVOKE_START, job_id, epoch)

    async def pause(self, job_id: str, epoch: int) -> ReturnStatus:
        """See `ToolDriver.pause`."""
        return await self._ask(JobVerb.PAUSE, job_id, epoch)

    async def resume(self, job_id: str, epoch: int) -> ReturnStatus:
        """See `ToolDriver.resume`."""
        return await self._ask(JobVerb.RESUME, job_id, epoch)

    async def stop(self, job_id: str, epoch: int) -> ReturnStatus:
        """See `ToolDriver.stop`."""
        return await self._ask(JobVerb.STOP, job_id, epoch)

    async def abort(self, job_id: str, epoch: int) -> ReturnStatus:
        """See `ToolDriver.abort`."""
        return await self._ask(JobVerb.ABORT, job_id, epoch)

    async def cancel(self, job_id: str, epoch: int) -> ReturnStatus:
        """See `ToolDriver.cancel`."""
        return await self._ask(JobVerb.CANCEL, job_id, epoch)

    async def clear(self, job_id: str, epoch: int) -> ReturnStatus:
        """See `ToolDriver.clear`."""
        return await self._ask(JobVerb.CLEAR, job_id, epoch)

    async def jobs(self) -> Sequence[JobStatus]:
        """See `ToolDriver.jobs`."""
        return [status for _, status in await self._held()]

    async def response(self, job_id: str) -> JobResponse | None:
        """See `ToolDriver.response`."""
        result = await self._session.call(
            self._session.node_id(_RESULTS),
            self._session.node_id(f"{_RESULTS}.{REQUEST_RESPONSE_BY_ID}"),
            ua.Variant(job_id, ua.VariantType.String),
        )
        wire, status = self._outputs(REQUEST_RESPONSE_BY_ID, result, 2)
        if ReturnStatus(status) & ReturnStatus.UNKNOWN_JOB:
            return None
        order = next((order for order, _ in await self._held() if order.job_id == job_id), None)
        try:
            return response_from_wire(unpack(ISA95JobResponseDataType, wire, self._isa95), order)
        except ValueError as error:
            raise ProtocolViolation(f"the response of job {job_id} can't be understood: {error}") from error

    async def _held(self) -> Sequence[tuple[JobOrder, JobStatus]]:
        held = []
        for value in await self._session.read_node(_JOB_LIST) or ():
            try:
                entry = unpack(ISA95JobOrderAndStateDataType, value, self._isa95)
                order = order_from_wire(entry.JobOrder)
                held.append((order, state_from_wire(order.job_id, entry.State)))
            except ValueError as error:
                raise ProtocolViolation(f"the tool's job list can't be understood: {error}") from error
        return held

    async def _send(self, verb: JobVerb, order: JobOrder) -> ReturnStatus:
        try:
            wire = pack(order_to_wire(order, self._kinds), self._isa95)
        except ValueError as error:
            raise ToolRefused(verb, order.job_id, ReturnStatus.INVALID_REQUEST, str(error)) from error
        return await self._call(verb, order.job_id, ua.Variant(wire, ua.VariantType.ExtensionObject), order.epoch)

    async def _ask(self, verb: JobVerb, job_id: str, epoch: int) -> ReturnStatus:
        return await self._call(verb, job_id, ua.Variant(job_id, ua.VariantType.String), epoch)

    async def _call(self, verb: JobVerb, job_id: str, subject: Any, epoch: int) -> ReturnStatus:
        if not self._session.connected:
            raise LinkLost(f"{verb} of job {job_id} was not sent: the tool is not connected")
        comment = ua.Variant([ua.LocalizedText(f"epoch={epoch}")], ua.VariantType.LocalizedText, is_array=True)
        method = self._session.node_id(job_method_id(verb))
        try:
            result = await self._session.call(self._session.node_id(_CONTROL), method, subject, comment)
        except LinkLost as error:
            raise OutcomeUnknown(verb, job_id, str(error)) from error
        (bits,) = self._outputs(verb, result, 1)
        status = ReturnStatus(bits)
        if not status.accepted:
            raise ToolRefused(verb, job_id, status, _reason(result))
        return status

    def _outputs(self, method: str, result: Any, count: int) -> Sequence[Any]:
        if result.StatusCode.value == ua.StatusCodes.BadUserAccessDenied:
            raise AccessDenied(f"{method} is not allowed to our user")
        if not result.StatusCode.is_good() or len(result.OutputArguments or ()) != count:
            raise ProtocolViolation(f"{method} answered {result.StatusCode.name}")
        return [argument.Value for argument in result.OutputArguments]


def _reason(result: Any) -> str:
    """What the tool says about a refusal, in its diagnostic information; "" for nothing."""
    return "; ".join(info.AdditionalInfo for info in result.InputArgumentDiagnosticInfos or () if info.AdditionalInfo)
