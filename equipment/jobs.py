"""The vocabulary of job control, in the shape of OPC 10031-4 (ISA-95 Job Control V2).

Orders, responses, states and the bits of a ReturnStatus. Driver, tool server and plant speak it; none of it
knows how it is encoded on the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, IntFlag, StrEnum

import orjson

from equipment.tags import TagValue


class JobState(IntEnum):
    """Top-level states of a job order (OPC 10031-4, ISA95JobOrderReceiverStateMachine)."""

    NOT_ALLOWED_TO_START = 1
    ALLOWED_TO_START = 2
    RUNNING = 3
    INTERRUPTED = 4
    ENDED = 5
    ABORTED = 6


class JobSubstate(StrEnum):
    """Substates, where a state has them."""

    WAITING = "Waiting"
    READY = "Ready"
    LOADED = "Loaded"
    HELD = "Held"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    CLOSED = "Closed"
    NONE = ""


class JobVerb(StrEnum):
    """The methods of an ISA95JobOrderReceiver, by their browse names."""

    STORE = "Store"
    STORE_AND_START = "StoreAndStart"
    START = "Start"
    REVOKE_START = "RevokeStart"
    PAUSE = "Pause"
    RESUME = "Resume"
    STOP = "Stop"
    ABORT = "Abort"
    CANCEL = "Cancel"
    CLEAR = "Clear"
    UPDATE = "Update"


class ReturnStatus(IntFlag):
    """Bits of the ReturnStatus that every job method answers with (OPC 10031-4, 6.2.8; 64 bits)."""

    OK = 1 << 0
    UNKNOWN_JOB = 1 << 1
    INVALID_STATUS = 1 << 3
    CANNOT_ACCEPT = 1 << 4
    INVALID_REQUEST = 1 << 32
    ALREADY_ACCEPTED = 1 << 33

    @property
    def accepted(self) -> bool:
        """The tool did it, or had done it before under the same id and content."""
        return bool(self & (ReturnStatus.OK | ReturnStatus.ALREADY_ACCEPTED))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named value with its unit (UCUM symbol; "" for none)."""

    name: str
    value: TagValue
    unit: str = ""


@dataclass(frozen=True, slots=True)
class MaterialRequirement:
    """A material that a job consumes or works on, by its serial.

    Attributes:
        serial: Identifier in the record.
        use: What it is to the job: `disc`, `witness`, `target`, `powder`, `die`, `collector`.
        position: Carrier position 1…n, or None.
        quantity: Decimal as a string with `unit`, or None for a serialised thing.
    """

    serial: str
    use: str
    position: int | None = None
    quantity: str | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a tool is asked to do: one control recipe for one run.

    Attributes:
        job_id: Unique for ever; a retry uses the same one.
        work_master: `recipe id/version/sha256 of its content` (WorkMasterID).
        parameters: Setpoints with units.
        materials: Discs, witness, target, powder.
        epoch: Lease epoch of the sender; 0 where the profile has no place for it.
        description: For people.
    """

    job_id: str
    work_master: str
    parameters: tuple[Parameter, ...]
    materials: tuple[MaterialRequirement, ...] = ()
    epoch: int = 0
    description: str = ""

    def content_hash(self) -> str:
        """SHA-256 over all that the tool acts on; the epoch and description are no part of it."""
        body = {
            "job_id": self.job_id,
            "work_master": self.work_master,
            "parameters": sorted([p.name, repr(p.value), p.unit] for p in self.parameters),
            "materials": sorted([m.serial, m.use, str(m.position), str(m.quantity), m.unit] for m in self.materials),
        }
        return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def parameter(self, name: str) -> TagValue:
        """The value of one parameter.

        Raises:
            LookupError: The order has no such parameter.
        """
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter.value
        raise LookupError(f"job {self.job_id} carries no parameter {name!r}")


@dataclass(frozen=True, slots=True)
class JobStatus:
    """State of a job as the tool tells it."""

    job_id: str
    state: JobState
    substate: JobSubstate = JobSubstate.NONE


@dataclass(frozen=True, slots=True)
class JobResponse:
    """What a job did, as the tool tells it.

    Attributes:
        job_id: The order's id.
        status: State now.
        started_at, ended_at: Domain time by the tool's own stamps, UTC; None where it has not happened.
        actuals: Results with units (thickness by QCM, energy, peak force …); numbers by name.
        order: The order as the tool holds it: what a read-back compares.
    """

    job_id: str
    status: JobStatus
    started_at: datetime | None
    ended_at: datetime | None
    actuals: Mapping[str, Parameter] = field(default_factory=dict)
    order: JobOrder | None = None
