"""What the rest of the MES may ask of a tool, whatever its profile.

A driver speaks for one tool during one epoch: it is connected once, used, and thrown away when its link is
lost; a new epoch takes a new driver. It knows nothing of leases, databases or retries. Tags are known by the
names of the tag table; no node id leaves a driver.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from equipment.jobs import JobOrder, JobResponse, JobStatus, ReturnStatus
from equipment.tags import TagTable, TagValue


@dataclass(frozen=True, slots=True)
class TagSample:
    """A value of a tag.

    Attributes:
        name: Tag name.
        value: The value; None where the tool has none, then `good` is False.
        source_time: When the tool says it was so (domain time, UTC).
        status: OPC UA status code; 0 is good.
    """

    name: str
    value: TagValue | None
    source_time: datetime
    status: int = 0

    @property
    def good(self) -> bool:
        """The tool vouches for the value."""
        return self.status == 0


@dataclass(frozen=True, slots=True)
class Overflow:
    """Changes that were thrown away because the reader of a stream was too slow: a gap to record.

    Attributes:
        lost: How many changes.
        first, last: Source times of the first and last change lost.
    """

    lost: int
    first: datetime
    last: datetime


StreamItem: TypeAlias = TagSample | Overflow


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """A change of an alarm's condition, or its present state after a refresh.

    Attributes:
        name: As in the tag table, e.g. `no_strike`.
        active: The condition stands.
        acknowledged: Somebody has seen it.
        retain: The tool still wants it shown: active, or not acknowledged.
        severity: 1 to 1000.
        message: One sentence of the tool.
        source_time: Domain time, UTC.
        event_id: What an acknowledgement names.
    """

    name: str
    active: bool
    acknowledged: bool
    retain: bool
    severity: int
    message: str
    source_time: datetime
    event_id: bytes


class ToolDriver(Protocol):
    """A connection to one tool for one epoch.

    Every method is bounded in time. All may raise `LinkLost` when the link is gone; a method that makes the
    tool do something raises `OutcomeUnknown` when it was cut in flight, and `ToolRefused` or `WriteRefused`
    when the tool says no.
    """

    @property
    def tags(self) -> TagTable:
        """What the tool shows."""

    async def connect(self) -> None:
        """Connect once.

        Raises:
            ToolUnreachable: Nobody answers at the address.
            SecurityRefused: The tool can't be trusted, or doesn't trust us.
            TagMismatch: A tag is missing, or of another type or unit.
        """

    async def disconnect(self) -> None:
        """Give the connection up; never raises, also when it is gone already."""

    async def read_all(self) -> Mapping[str, TagSample]:
        """The present value of every tag, in one request."""

    def subscribe(self) -> AsyncGenerator[StreamItem, None]:
        """Every change of every tag from now on, first the present values.

        Ends by raising `LinkLost`. Whoever leaves earlier closes it (`contextlib.aclosing`), which gives the
        subscription up at the tool. The queue is bounded: when its reader is too slow the newest changes are
        dropped, counted, and reported by an `Overflow` in the place where they are missing.
        """

    def alarms(self) -> AsyncGenerator[AlarmEvent, None]:
        """Every change of every alarm, first those that stand now (ConditionRefresh); closed like `subscribe`."""

    async def acknowledge(self, alarm: AlarmEvent, comment: str = "") -> None:
        """Tell the tool that a person has seen the alarm.

        Raises:
            WriteRefused: The alarm has changed since, or is acknowledged already.
        """

    async def store(self, order: JobOrder) -> ReturnStatus:
        """Download an order without starting it.

        Answers with the accepting bits (OK, and ALREADY_ACCEPTED where the tool knows the same order).
        """

    async def start(self, job_id: str, epoch: int) -> ReturnStatus:
        """Start a stored job; asking again for a job that was started by this is accepted."""

    async def store_and_start(self, order: JobOrder) -> ReturnStatus:
        """Download an order and start it at once."""

    async def pause(self, job_id: str, epoch: int) -> ReturnStatus:
        """Suspend the running job safely."""

    async def resume(self, job_id: str, epoch: int) -> ReturnStatus:
        """Go on with a held or suspended job."""

    async def stop(self, job_id: str, epoch: int) -> ReturnStatus:
        """End the job in an orderly way."""

    async def abort(self, job_id: str, epoch: int) -> ReturnStatus:
        """End the job at once."""

    async def cancel(self, job_id: str, epoch: int) -> ReturnStatus:
        """Take back a job that has not been started."""

    async def clear(self, job_id: str, epoch: int) -> ReturnStatus:
        """Let the tool forget an ended or aborted job and its response."""

    async def jobs(self) -> Sequence[JobStatus]:
        """Every job the tool holds, also those ended and not yet cleared."""

    async def response(self, job_id: str) -> JobResponse | None:
        """What a job did so far and the order as the tool holds it; None where the tool knows no such job."""

    async def write_mes_heartbeat(self, count: int) -> None:
        """Tell the tool that the MES lives; about once a second of real time."""

    async def write_epoch(self, epoch: int) -> None:
        """Take the tool over for a lease epoch.

        Raises:
            WriteRefused: The tool has seen a higher epoch.
        """

    async def history(self, tag: str, since: datetime, until: datetime | None = None) -> Sequence[TagSample]:
        """Changes of a tag that the tool remembers, oldest first; empty where it has no memory."""
