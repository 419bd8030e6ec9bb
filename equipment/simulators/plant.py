"""What a plant must be able to do for a tool server to serve it.

A plant is pure: no asyncio, no sockets, no clock of its own. The server around it advances it in domain time
and publishes what it samples; a fault is injected through `inject`, never through the address space that the
MES sees. The plant runs the sequence of a job by itself and keeps its own interlocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from equipment.jobs import JobOrder, Parameter
from equipment.tags import TagTable, TagValue


class Activity(StrEnum):
    """What the plant does with the job it holds."""

    IDLE = "idle"
    RUNNING = "running"
    HELD = "held"  # by the plant itself: a fault that waits for a person; substate Held
    SUSPENDED = "suspended"  # by request: Pause; substate Suspended
    COMPLETED = "completed"
    STOPPED = "stopped"  # an orderly end before the recipe's own (Stop)
    ABORTED = "aborted"


class Plant(Protocol):
    """A simulated tool without its server.

    The values that `sample` returns cover every tag of `tags` except those of role LINK and IDENTIFICATION,
    which belong to the server; of these only `interlock_ok` is the plant's and is included, as is
    `machinery_state`. All methods are synchronous and quick.
    """

    tags: TagTable
    activity: Activity
    serial_number: str
    model: str
    manufacturer: str

    def problems(self, order: JobOrder) -> Sequence[str]:
        """Why the tool can't accept the order, one sentence each; empty when it can."""

    def start(self, order: JobOrder) -> Sequence[str]:
        """Begin the job; answers with the permissives that forbid it (nothing is begun then)."""

    def pause(self) -> bool:
        """Suspend the running job safely; False where the phase does not allow it."""

    def resume(self) -> bool:
        """Go on with a held or suspended job; False where a fault still stands."""

    def stop(self) -> bool:
        """End the job in an orderly way; the plant then runs its safe shut-down by itself."""

    def abort(self) -> None:
        """End the job at once: RF off and shutter closed, or ram unloaded."""

    def advance(self, dt_s: float) -> None:
        """Integrate over `dt_s` seconds of domain time, in steps of its own choice."""

    def sample(self) -> Mapping[str, TagValue]:
        """The present value of each tag by name."""

    def alarms(self) -> Mapping[str, bool]:
        """Each alarm of the tag table by name: True while its condition stands."""

    def actuals(self) -> Sequence[Parameter]:
        """Results of the job so far (`TagTable.job_actuals`)."""

    def inject(self, fault: str, active: bool, **settings: float) -> None:
        """Switch a fault on or off.

        Raises:
            LookupError: The plant has no such fault; the message lists those it has.
        """

    def snapshot(self) -> Mapping[str, object]:
        """State that survives a restart of the tool, JSON-serialisable (target wear, hidden truth by serial)."""

    def restore(self, state: Mapping[str, object]) -> None:
        """Take up a state made by `snapshot`; a running job is not resumed: it is aborted by the restart."""
