"""The OPC UA methods of a simulated tool: arguments checked, job receiver asked, answer encoded.

asyncua checks neither the number nor the types of the arguments of a call, so all of that is done here. Why an
order was refused goes into the diagnostic information of the call's first argument.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from asyncua import Server, ua

from equipment.jobs import JobResponse, JobVerb, ReturnStatus
from equipment.opcua.isa95 import (
    ISA95JobOrderAndStateDataType,
    ISA95JobOrderDataType,
    ISA95JobResponseDataType,
    ISA95StateDataType,
    order_from_wire,
    order_to_wire,
    pack,
    response_to_wire,
    state_to_wire,
    unpack,
)
from equipment.opcua.nodeset import (
    JOB_CONTROL_PATH,
    JOB_RESULTS_PATH,
    ORDER_VERBS,
    REQUEST_RESPONSE_BY_ID,
    REQUEST_RESPONSES_BY_STATE,
    job_method_id,
)
from equipment.simulators.address_space import AddressSpace
from equipment.simulators.job_receiver import Answer, JobReceiver
from equipment.simulators.job_receiver_memory import HeldJob

EPOCH_COMMENT = re.compile(r"epoch=(\d{1,9})")
"""How a caller names its lease epoch: in the Comment of every job method. Without it the epoch is 0."""

Method: TypeAlias = Callable[..., Awaitable[Any]]


class JobMethods:
    """JobOrderControl and JobOrderResults of one tool."""

    def __init__(self, server: Server, space: AddressSpace, receiver: JobReceiver) -> None:
        self._server = server
        self._space = space
        self._receiver = receiver
        self._shown_revision = -1

    def link(self) -> None:
        """Put a callback behind every method node."""
        for verb in JobVerb:
            self._link(job_method_id(verb), self._order_method(verb) if verb in ORDER_VERBS else self._verb(verb))
        results = ".".join(JOB_RESULTS_PATH)
        self._link(f"{results}.{REQUEST_RESPONSE_BY_ID}", self._response_by_id)
        self._link(f"{results}.{REQUEST_RESPONSES_BY_STATE}", self._responses_by_state)

    async def show_jobs(self) -> None:
        """Bring JobOrderList and JobOrderResponseList up to date."""
        if self._shown_revision == self._receiver.revision:
            return
        self._shown_revision = self._receiver.revision
        now = self._receiver.now()
        jobs = list(self._receiver.jobs.values())
        orders = [self._order_and_state(job) for job in jobs]
        await self._space.write_structures(".".join((*JOB_CONTROL_PATH, "JobOrderList")), orders, now)
        responses = [self._pack_response(job.response()) for job in jobs]
        await self._space.write_structures(".".join((*JOB_RESULTS_PATH, "JobOrderResponseList")), responses, now)

    def _link(self, string_id: str, method: Method) -> None:
        self._server.link_method(self._server.get_node(self._space.node_id(string_id)), method)

    def _order_method(self, verb: JobVerb) -> Method:
        take = {
            JobVerb.STORE: self._receiver.store,
            JobVerb.STORE_AND_START: self._receiver.store_and_start,
            JobVerb.UPDATE: self._receiver.update,
        }[verb]

        async def call(_parent: Any, *arguments: Any) -> Any:
            fault = argument_fault(arguments, [ua.VariantType.ExtensionObject, ua.VariantType.LocalizedText])
            if fault is not None:
                return fault
            try:
                wire = unpack(ISA95JobOrderDataType, arguments[0].Value, self._space.isa95_index)
                order = order_from_wire(wire, epoch_of(arguments[1]))
                self._check_wire_types(wire)
            except ValueError as error:
                return _answer(Answer(ReturnStatus.INVALID_REQUEST, str(error)))
            answer = take(order)
            await self.show_jobs()
            return _answer(answer)

        return call

    def _check_wire_types(self, wire: ISA95JobOrderDataType) -> None:
        expected = {parameter.name: parameter.type.value for parameter in self._space.tags.job_parameters}
        for parameter in wire.JobOrderParameters or []:
            kind = parameter.Value.VariantType.name
            if parameter.ID in expected and kind != expected[parameter.ID]:
                raise ValueError(f"{parameter.ID} is {kind}, not {expected[parameter.ID]}")

    def _verb(self, verb: JobVerb) -> Method:
        async def call(_parent: Any, *arguments: Any) -> Any:
            fault = argument_fault(arguments, [ua.VariantType.String, ua.VariantType.LocalizedText])
            if fault is not None:
                return fault
            answer = self._receiver.verb(verb, arguments[0].Value or "", epoch_of(arguments[1]))
            await self.show_jobs()
            return _answer(answer)

        return call

    async def _response_by_id(self, _parent: Any, *arguments: Any) -> Any:
        fault = argument_fault(arguments, [ua.VariantType.String])
        if fault is not None:
            return fault
        self._receiver.refresh_actuals()
        held = self._receiver.jobs.get(arguments[0].Value or "")
        status = ReturnStatus.OK if held is not None else ReturnStatus.UNKNOWN_JOB
        response = held.response() if held is not None else None
        return [ua.Variant(self._pack_response(response), ua.VariantType.ExtensionObject), _status(status)]

    async def _responses_by_state(self, _parent: Any, *arguments: Any) -> Any:
        fault = argument_fault(arguments, [ua.VariantType.ExtensionObject])
        if fault is not None:
            return fault
        try:
            levels = [
                unpack(ISA95StateDataType, value, self._space.isa95_index) for value in arguments[0].Value or []
            ]
        except ValueError:
            levels = []
        wanted = [level.StateNumber for level in levels]
        self._receiver.refresh_actuals()
        found = [
            self._pack_response(job.response())
            for job in self._receiver.jobs.values()
            if wanted and [level.StateNumber for level in self._levels(job)][: len(wanted)] == wanted
        ]
        status = ReturnStatus.OK if wanted else ReturnStatus.INVALID_REQUEST
        return [ua.Variant(found, ua.VariantType.ExtensionObject, is_array=True), _status(status)]

    def _levels(self, job: HeldJob) -> Sequence[ISA95StateDataType]:
        return state_to_wire(job.status, self._space.isa95_index)

    def _order_and_state(self, job: HeldJob) -> Any:
        kinds = {parameter.name: parameter.type for parameter in self._space.tags.job_parameters}
        entry = ISA95JobOrderAndStateDataType(order_to_wire(job.order, kinds), list(self._levels(job)))
        return pack(entry, self._space.isa95_index)

    def _pack_response(self, response: JobResponse | None) -> Any:
        index = self._space.isa95_index
        return pack(ISA95JobResponseDataType() if response is None else response_to_wire(response, index), index)


def argument_fault(arguments: Sequence[Any], expected: Sequence[Any]) -> Any | None:
    """The call's result when its arguments are not those of the method; None when they are."""
    if len(arguments) < len(expected):
        return ua.CallMethodResult(StatusCode=ua.StatusCode(ua.StatusCodes.BadArgumentsMissing))
    if len(arguments) > len(expected):
        return ua.CallMethodResult(StatusCode=ua.StatusCode(ua.StatusCodes.BadTooManyArguments))
    wrong = [argument.VariantType != kind for argument, kind in zip(arguments, expected, strict=True)]
    if not any(wrong):
        return None
    verdicts = [ua.StatusCodes.BadTypeMismatch if bad else ua.StatusCodes.Good for bad in wrong]
    return ua.CallMethodResult(
        StatusCode=ua.StatusCode(ua.StatusCodes.BadInvalidArgument),
        InputArgumentResults=[ua.StatusCode(verdict) for verdict in verdicts],
    )


def epoch_of(comment: Any) -> int:
    """The lease epoch in a Comment argument; 0 where it names none."""
    texts = comment.Value if isinstance(comment.Value, list) else [comment.Value]
    for text in texts:
        match = EPOCH_COMMENT.fullmatch(text.Text or "") if text is not None else None
        if match:
            return int(match[1])
    return 0


def _status(status: ReturnStatus) -> Any:
    return ua.Variant(int(status), ua.VariantType.UInt64)


def _answer(answer: Answer) -> Any:
    result = ua.CallMethodResult(OutputArguments=[_status(answer.status)])
    if answer.why:
        result.InputArgumentDiagnosticInfos = [ua.DiagnosticInfo(AdditionalInfo=answer.why)]
    return result
