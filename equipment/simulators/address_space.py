"""The address space of a simulated tool inside a running asyncua server.

Loads the nodeset that was made from the tag table, finds nodes by tag name, publishes changed values and keeps the
ring buffer that HistoryRead answers from. Knows no plant and no jobs.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from typing import Any

from asyncua import Server, ua

from equipment.opcua.isa95 import ISA95_NAMESPACE, variant
from equipment.opcua.nodeset import isa95_nodeset, tool_namespace
from equipment.tags import Tag, TagTable, TagValue


class RingHistory:
    """The last seconds of every tag, by real time: what is needed to fill the gap that a cut link leaves.

    Has the methods of asyncua's history storage that a raw read of data needs.
    """

    max_history_data_response_size = 10_000

    def __init__(self, depth_s: float) -> None:
        self._depth_s = depth_s
        self._rings: dict[Any, deque[tuple[float, Any]]] = {}

    def record(self, node_id: Any, value: Any) -> None:
        """Remember a published value, and forget those that are too old."""
        ring = self._rings.setdefault(node_id, deque())
        now = time.monotonic()
        ring.append((now, value))
        while len(ring) > 1 and now - ring[1][0] > self._depth_s:
            ring.popleft()

    async def read_node_history(
        self, node_id: Any, start: datetime | None, end: datetime | None, nb_values: int
    ) -> tuple[list[Any], datetime | None]:
        """Values from `start` to `end`, both included, oldest first, and where to go on if there are more."""
        values = [value for _, value in self._rings.get(node_id, ())]
        times = [value.SourceTimestamp for value in values]
        first = bisect_left(times, start) if start is not None else 0
        last = bisect_right(times, end) if end is not None and end > ua.get_win_epoch() else len(values)
        limit = min(nb_values or self.max_history_data_response_size, self.max_history_data_response_size)
        chosen = values[first:last]
        more = chosen[limit].SourceTimestamp if len(chosen) > limit and not nb_values else None
        return chosen[:limit], more

    async def read_event_history(self, *_: object) -> tuple[list[Any], None]:
        """Events are not remembered; ConditionRefresh tells those that still stand."""
        return [], None

    async def init(self) -> None:
        """Nothing to prepare."""

    async def stop(self) -> None:
        """Nothing to close."""


class AddressSpace:
    """The nodes of one tool in its server.

    Attributes:
        tags: The table it was made from.
        tool_index, isa95_index: Namespace indexes in this server.
    """

    def __init__(self, server: Server, tags: TagTable, site: str, tool: str, history_s: float) -> None:
        self._server = server
        self.tags = tags
        self._namespace = tool_namespace(site, tool)
        self._history = RingHistory(history_s)
        self._published: dict[str, TagValue] = {}
        self._nodes: Mapping[str, tuple[Tag, Any]] = {}
        self.tool_index = -1
        self.isa95_index = -1

    async def load(self, nodeset: str) -> None:
        """Import the ISA-95 nodeset and the tool's own.

        The definitions are not loaded into asyncua's registry of extension objects: see `equipment.opcua.isa95`.
        """
        with resources.as_file(isa95_nodeset()) as path:
            await self._server.import_xml(str(path), auto_load_definitions=False)
        await self._server.import_xml(xmlstring=nodeset.encode(), auto_load_definitions=False)
        self.tool_index = await self._server.get_namespace_index(self._namespace)
        self.isa95_index = await self._server.get_namespace_index(ISA95_NAMESPACE)
        self._nodes = {tag.name: (tag, self.node_id(tag.string_id)) for tag in self.tags}
        self._server.iserver.history_manager.set_storage(self._history)

    def node_id(self, string_id: str) -> Any:
        """The node id of a string identifier of the tool."""
        return ua.NodeId(string_id, self.tool_index)

    def tag_node_id(self, name: str) -> Any:
        """The node id of a tag."""
        return self._nodes[name][1]

    async def publish(self, values: Mapping[str, TagValue], source_time: datetime) -> None:
        """Write the values that have changed since they were published last.

        Raises:
            ValueError: A value is not of its tag's type.
            KeyError: There is no such tag.
        """
        for name, value in values.items():
            if self._published.get(name) == value and name in self._published:
                continue
            tag, node_id = self._nodes[name]
            exact = float(value) if tag.type.python_type is float else value
            data = ua.DataValue(variant(tag.type, exact), SourceTimestamp=source_time)
            await self._server.write_attribute_value(node_id, data)
            self._history.record(node_id, data)
            self._published[name] = value

    async def write(self, string_id: str, value: Any, source_time: datetime) -> None:
        """Write a variable of the tool that is no tag."""
        await self._server.write_attribute_value(
            self.node_id(string_id), ua.DataValue(value, SourceTimestamp=source_time)
        )

    async def write_structures(self, string_id: str, values: Sequence[Any], source_time: datetime) -> None:
        """Write a list of extension objects."""
        array = ua.Variant(list(values), ua.VariantType.ExtensionObject, is_array=True)
        await self.write(string_id, array, source_time)
