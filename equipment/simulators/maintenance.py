"""The maintenance object of a simulated tool: where trainers and tests switch faults on and off.

It stands in a namespace of its own and is no part of the tool's tag table, so that nothing of the MES sees it. A
fault is the plant's or one of the link's, which are here: a frozen heartbeat, and an order that is clamped or
corrupted on its way into the tool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from asyncua import Client, Server, ua

from equipment.jobs import JobOrder
from equipment.simulators.job_receiver import JobReceiver
from equipment.simulators.plant import Plant
from equipment.simulators.tool_server_methods import argument_fault

MAINTENANCE_NAMESPACE = "urn:argonaut:maintenance"

FREEZE_HEARTBEAT = "freeze_heartbeat"
CLAMP_PARAMETER = "clamp_parameter"
CORRUPT_PARAMETER = "corrupt_parameter"

_OBJECT_ID, _METHOD_ID = "Maintenance", "Maintenance.Inject"


@dataclass
class Maintenance:
    """Faults of one tool.

    Attributes:
        heartbeat_frozen: The tool's heartbeat stands still, though the link lives.
    """

    plant: Plant
    receiver: JobReceiver
    heartbeat_frozen: bool = False

    def inject(self, fault: str, active: bool, settings: Mapping[str, Any]) -> None:
        """Switch a fault on or off.

        Args:
            fault: A fault of the plant, or `freeze_heartbeat`, `clamp_parameter`, `corrupt_parameter`.
            active: On or off.
            settings: Of the plant's faults: numbers. `clamp_parameter` takes `parameter` and `limit`,
                `corrupt_parameter` takes `parameter` and `factor`.

        Raises:
            LookupError: No such fault.
            ValueError: Settings missing, or not numbers.
        """
        if fault == FREEZE_HEARTBEAT:
            self.heartbeat_frozen = active
        elif fault in (CLAMP_PARAMETER, CORRUPT_PARAMETER):
            self.receiver.tamper = self._tampering(fault, settings) if active else None
        else:
            self.plant.inject(fault, active, **{name: float(value) for name, value in settings.items()})

    def _tampering(self, fault: str, settings: Mapping[str, Any]) -> _Tampering:
        number = "limit" if fault == CLAMP_PARAMETER else "factor"
        if set(settings) != {"parameter", number}:
            raise ValueError(f"{fault} takes parameter and {number}")
        return _Tampering(str(settings["parameter"]), float(settings[number]), clamp=fault == CLAMP_PARAMETER)

    async def add_to(self, server: Server) -> None:
        """Make the object and its method Inject(fault, active, settings as JSON) → message, "" when done."""
        index = await server.register_namespace(MAINTENANCE_NAMESPACE)
        folder = await server.nodes.objects.add_object(ua.NodeId(_OBJECT_ID, index), f"{index}:Maintenance")
        inputs = [ua.VariantType.String, ua.VariantType.Boolean, ua.VariantType.String]
        method = ua.NodeId(_METHOD_ID, index)
        await folder.add_method(method, f"{index}:Inject", self._call, inputs, [ua.VariantType.String])

    async def _call(self, _parent: Any, *arguments: Any) -> Any:
        expected = [ua.VariantType.String, ua.VariantType.Boolean, ua.VariantType.String]
        fault = argument_fault(arguments, expected)
        if fault is not None:
            return fault
        name, active, settings = (argument.Value for argument in arguments)
        message = ""
        try:
            self.inject(name or "", active, json.loads(settings or "{}"))
        except (LookupError, ValueError, TypeError) as error:
            message = str(error)
        return [ua.Variant(message, ua.VariantType.String)]


@dataclass(frozen=True)
class _Tampering:
    """Changes one number of every order."""

    parameter: str
    number: float
    clamp: bool

    def __call__(self, order: JobOrder) -> JobOrder:
        changed = []
        for parameter in order.parameters:
            value = parameter.value
            if parameter.name == self.parameter and isinstance(value, float):
                value = min(value, self.number) if self.clamp else value * self.number
            changed.append(replace(parameter, value=value))
        return replace(order, parameters=tuple(changed))


async def inject(client: Client, fault: str, active: bool, **settings: float | str) -> None:
    """Switch a fault of a simulated tool on or off over a connected client.

    Raises:
        ValueError: The tool says why it can't.
    """
    index = await client.get_namespace_index(MAINTENANCE_NAMESPACE)
    node = client.get_node(ua.NodeId(_OBJECT_ID, index))
    message = await node.call_method(ua.NodeId(_METHOD_ID, index), fault, active, json.dumps(settings))
    if message:
        raise ValueError(message)
