"""AlarmConditionType events on the wire: which fields are asked for, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncua import ua

from equipment.opcua.streams import utc
from equipment.profiles.driver import AlarmEvent

_EVENT_FIELDS = (
    ("EventId",), ("Time",), ("Message",), ("Severity",), ("ConditionName",),
    ("ActiveState", "Id"), ("AckedState", "Id"), ("Retain",),
)  # fmt: skip


def alarm_filter() -> Any:
    """The event filter of an alarm subscription."""
    return ua.EventFilter(
        SelectClauses=[
            ua.SimpleAttributeOperand(
                TypeDefinitionId=ua.NodeId(ua.ObjectIds.AlarmConditionType),
                BrowsePath=[ua.QualifiedName(name, 0) for name in path],
                AttributeId=ua.AttributeIds.Value,
            )
            for path in _EVENT_FIELDS
        ]
    )


def to_alarm(fields: Sequence[Any]) -> AlarmEvent | None:
    """An alarm from the selected fields; None for an event that is no condition's."""
    event_id, moment, message, severity, name, active, acknowledged, retain = (field.Value for field in fields)
    if not name:
        return None
    return AlarmEvent(
        name=name,
        active=bool(active),
        acknowledged=bool(acknowledged),
        retain=bool(retain),
        severity=int(severity or 0),
        message=(message.Text or "") if message is not None else "",
        source_time=utc(moment),
        event_id=event_id or b"",
    )
