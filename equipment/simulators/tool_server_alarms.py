"""The alarms of a simulated tool as AlarmConditionType events: latched, acknowledged, refreshed.

An alarm is retained while its condition stands or until somebody has acknowledged it. Knows no plant: it is told
which conditions stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncua import Server, ua
from asyncua.common.event_objects import AlarmCondition
from asyncua.server.event_generator import EventGenerator

from equipment.opcua.nodeset import alarm_id
from equipment.simulators.address_space import AddressSpace
from equipment.simulators.tool_server_methods import argument_fault
from equipment.tags import AlarmDefinition

_ACKNOWLEDGE = ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge)


@dataclass
class _Alarm:
    definition: AlarmDefinition
    generator: EventGenerator
    active: bool = False
    acknowledged: bool = True

    @property
    def retain(self) -> bool:
        return self.active or not self.acknowledged


class AlarmBoard:
    """All alarms of one tool."""

    def __init__(self, server: Server, space: AddressSpace, tool: str) -> None:
        self._server = server
        self._space = space
        self._tool = tool
        self._alarms: dict[str, _Alarm] = {}
        self._now: datetime | None = None

    async def prepare(self) -> None:
        """Make an event generator for every alarm and put a callback behind Acknowledge."""
        tool_node = self._space.node_id(self._tool)
        for definition in self._space.tags.alarms:
            event = AlarmCondition(sourcenode=tool_node, message=definition.message, severity=definition.severity)
            event.add_property("NodeId", self._space.node_id(alarm_id(definition.name)), ua.VariantType.NodeId)
            event.SourceName = self._tool
            event.ConditionName = definition.name
            generator = EventGenerator(self._server.iserver.isession)
            await generator.init(event, add_generates_event=False)
            self._alarms[definition.name] = _Alarm(definition, generator)
        self._server.iserver.isession.add_method_callback(_ACKNOWLEDGE, self._acknowledge)

    async def update(self, standing: Mapping[str, bool], now: datetime) -> None:
        """Take the conditions that stand and tell every change.

        Raises:
            KeyError: The tag table names no such alarm.
        """
        self._now = now
        for name, active in standing.items():
            alarm = self._alarms[name]
            if active == alarm.active:
                continue
            alarm.active = active
            if active:
                alarm.acknowledged = False
            await self._tell(alarm, now)

    async def _acknowledge(self, condition: Any, *arguments: Any) -> Any:
        fault = argument_fault(arguments, [ua.VariantType.ByteString, ua.VariantType.LocalizedText])
        if fault is not None:
            return fault
        for alarm in self._alarms.values():
            event = alarm.generator.event
            if event.NodeId != condition:
                continue
            if event.EventId is None or _plain(event.EventId) != arguments[0].Value:
                return ua.StatusCode(ua.StatusCodes.BadEventIdUnknown)
            if alarm.acknowledged:
                return ua.StatusCode(ua.StatusCodes.BadConditionBranchAlreadyAcked)
            alarm.acknowledged = True
            if self._now is not None:
                await self._tell(alarm, self._now)
            return []
        return ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)

    async def _tell(self, alarm: _Alarm, now: datetime) -> None:
        event = alarm.generator.event
        states = (("ActiveState", alarm.active, "Active", "Inactive"),
                  ("AckedState", alarm.acknowledged, "Acknowledged", "Unacknowledged"))  # fmt: skip
        owner = alarm_id(alarm.definition.name)
        for state, holds, yes, no in states:
            text = ua.LocalizedText(yes if holds else no)
            setattr(event, state, text)
            setattr(event, f"{state}/Id", holds)
            await self._space.write(f"{owner}.{state}", ua.Variant(text, ua.VariantType.LocalizedText), now)
            await self._space.write(f"{owner}.{state}.Id", ua.Variant(holds, ua.VariantType.Boolean), now)
        event.Retain = alarm.retain
        await self._space.write(f"{owner}.Retain", ua.Variant(alarm.retain, ua.VariantType.Boolean), now)
        message = ua.LocalizedText(alarm.definition.message)
        await self._space.write(f"{owner}.Message", ua.Variant(message, ua.VariantType.LocalizedText), now)
        await alarm.generator.trigger(time_attr=now, message=alarm.definition.message)


def _plain(value: Any) -> Any:
    return value.Value if isinstance(value, ua.Variant) else value
