"""Subscriptions as bounded streams.

A stream takes what a subscription publishes and gives it to one reader. It never blocks the link: when its reader
is too slow the newest items are dropped and counted, and the gap is reported in its place. A subscription that
publishes nothing, not even a keep-alive, has died silently, which asyncua does not notice by itself; here it ends
the stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from asyncua import ua

from equipment.errors import EquipmentError, LinkLost
from equipment.profiles.driver import AlarmEvent, Overflow, TagSample

PUBLISHING_MS = 100.0
KEEP_ALIVE_COUNT = 10
LIFETIME_COUNT = 60
SILENT_AFTER_S = 3.0
"""Three keep-alives missed."""

STREAM_LIMIT = 50_000
SERVER_QUEUE = 1_000
_OVERFLOW_BITS = 0x480
"""InfoBits of a status code: the value comes out of a queue that has overflowed (OPC 10000-4, 7.39)."""

Item = TypeVar("Item", bound=TagSample | AlarmEvent)


class BoundedStream(Generic[Item]):
    """A queue with a limit, a single reader, and an account of what was dropped."""

    def __init__(self, limit: int = STREAM_LIMIT, silent_after_s: float = SILENT_AFTER_S) -> None:
        self._limit = limit
        self._silent_after_s = silent_after_s
        self._items: deque[Item | Overflow] = deque()
        self._lost: Overflow | None = None
        self._error: EquipmentError | None = None
        self._wake = asyncio.Event()

    def offer(self, item: Item) -> None:
        """Take an item, or drop it when the reader is too far behind."""
        if self._lost is None and len(self._items) < self._limit:
            self._items.append(item)
        elif self._lost is not None and len(self._items) <= self._limit // 2:
            self._items.extend((self._lost, item))
            self._lost = None
        else:
            first = item.source_time if self._lost is None else self._lost.first
            self._lost = Overflow(1 if self._lost is None else self._lost.lost + 1, first, item.source_time)

    def report_lost(self, at: datetime) -> None:
        """Account for a change that the tool says it had to drop."""
        self._items.append(Overflow(1, at, at))

    def alive(self) -> None:
        """The subscription has published something, if only a keep-alive."""
        self._wake.set()

    def fail(self, error: EquipmentError) -> None:
        """Let the reader have what there is, then this error."""
        if self._error is None:
            self._error = error
        self._wake.set()

    async def items(self) -> AsyncGenerator[Item | Overflow, None]:
        """Everything in order.

        Raises:
            LinkLost: The link was cut, or the subscription fell silent.
        """
        while True:
            while self._items:
                yield self._items.popleft()
            if self._lost is not None:
                lost, self._lost = self._lost, None
                yield lost
            if self._error is not None:
                raise self._error
            self._wake.clear()
            try:
                async with asyncio.timeout(self._silent_after_s):
                    await self._wake.wait()
            except TimeoutError:
                raise LinkLost(f"the subscription has been silent for {self._silent_after_s:.0f} s") from None


class Subscription(Generic[Item]):
    """One OPC UA subscription that feeds a stream."""

    def __init__(self, services: Any, stream: BoundedStream[Item]) -> None:
        self._services = services
        self.stream = stream
        self.id = 0

    async def create(self) -> None:
        """Ask the tool for it, with our parameters.

        Raises:
            ua.UaError, OSError: The tool, or the link, doesn't do it.
        """
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=PUBLISHING_MS,
            RequestedLifetimeCount=LIFETIME_COUNT,
            RequestedMaxKeepAliveCount=KEEP_ALIVE_COUNT,
            MaxNotificationsPerPublish=0,
            PublishingEnabled=True,
            Priority=0,
        )
        created = await self._services.create_subscription(parameters, self._published)
        self.id = created.SubscriptionId

    async def delete(self) -> None:
        """Give it up at the tool.

        Raises:
            ua.UaError, OSError: The tool, or the link, doesn't do it.
        """
        await self._services.delete_subscriptions([self.id])

    async def monitor(self, items: Sequence[Any], convert: Callable[[int, Any], Item | None]) -> Sequence[Any]:
        """Add items; their position is the client handle that `convert` is given with each notification.

        Answers with the status of each item, in order.
        """
        self._convert = convert
        parameters = ua.CreateMonitoredItemsParameters(
            SubscriptionId=self.id,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ItemsToCreate=[
                ua.MonitoredItemCreateRequest(
                    ItemToMonitor=item,
                    MonitoringMode=ua.MonitoringMode.Reporting,
                    RequestedParameters=ua.MonitoringParameters(
                        ClientHandle=handle,
                        SamplingInterval=0.0,
                        QueueSize=SERVER_QUEUE,
                        DiscardOldest=True,
                        Filter=event_filter,
                    ),
                )
                for handle, (item, event_filter) in enumerate(items)
            ],
        )
        results = await self._services.create_monitored_items(parameters)
        return [result.StatusCode for result in results]

    def _published(self, result: Any) -> None:
        for notification in result.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                for change in notification.MonitoredItems:
                    self._take(change.ClientHandle, change.Value)
            elif isinstance(notification, ua.EventNotificationList):
                for event in notification.Events:
                    self._take(event.ClientHandle, event.EventFields)
            elif isinstance(notification, ua.StatusChangeNotification):
                self.stream.fail(LinkLost(f"the subscription was ended: {notification.Status.name}"))
        self.stream.alive()

    def _take(self, handle: int, content: Any) -> None:
        item = self._convert(handle, content)
        if item is None:
            return
        if isinstance(item, TagSample) and item.status & 0xFFFF & _OVERFLOW_BITS == _OVERFLOW_BITS:
            self.stream.report_lost(item.source_time)
        self.stream.offer(item)


def to_sample(name: str, data: Any) -> TagSample:
    """A data value as a sample of a tag."""
    status = data.StatusCode.value if data.StatusCode is not None else 0
    value = data.Value.Value if data.Value is not None else None
    return TagSample(name, value, utc(data.SourceTimestamp or data.ServerTimestamp), status)


def utc(moment: datetime | None) -> datetime:
    """A time of the wire, which is UTC whether it says so or not; the OPC UA epoch for none."""
    if moment is None:
        return datetime(1601, 1, 1, tzinfo=UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
