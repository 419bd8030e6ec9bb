"""The tag table: every signal of a tool, named once.

A driver reads a tool through its `TagTable` and a simulator builds its OPC UA address space from the same
table, so the two cannot drift apart. This module knows names, units and ranges; it knows no node ids, no
namespace indexes and no plant physics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

TagValue: TypeAlias = bool | int | float | str


class TagType(StrEnum):
    """The data type of a tag, by its OPC UA built-in type."""

    BOOLEAN = "Boolean"
    INT32 = "Int32"
    UINT32 = "UInt32"
    INT64 = "Int64"
    FLOAT = "Float"
    DOUBLE = "Double"
    STRING = "String"

    @property
    def python_type(self) -> type[bool] | type[int] | type[float] | type[str]:
        """The Python type that carries a value of this tag."""
        return _PYTHON_TYPES[self]


_PYTHON_TYPES: Mapping[TagType, type[bool] | type[int] | type[float] | type[str]] = {
    TagType.BOOLEAN: bool,
    TagType.INT32: int,
    TagType.UINT32: int,
    TagType.INT64: int,
    TagType.FLOAT: float,
    TagType.DOUBLE: float,
    TagType.STRING: str,
}


class TagRole(StrEnum):
    """What a tag is for."""

    PROCESS_VALUE = "process_value"
    SETPOINT = "setpoint"
    STATE = "state"
    COUNTER = "counter"
    LINK = "link"
    IDENTIFICATION = "identification"


@dataclass(frozen=True, slots=True)
class Tag:
    """One signal of a tool.

    Attributes:
        name: Unique within its tool; carries the unit (`chamber_pressure_pa`).
        path: Browse names below the tool's own node, e.g. `("Monitoring", "Process", "ChamberPressure")`.
        type: OPC UA built-in type.
        role: What the tag is for.
        unit: UCUM symbol ("Pa", "nm", "W", "kN", "1"), or "" where a unit makes no sense.
        low, high: Engineering range in `unit`; None where it makes no sense.
        resolution: Smallest step that means something, in `unit`; decides the stored width of a trace.
        setpoint: Name of the tag that holds this process value's setpoint, if it has one.
        traced: Recorded in the trace of a run.
        writable: A client with the operator role may write it.
        description: One sentence for people.
    """

    name: str
    path: tuple[str, ...]
    type: TagType
    role: TagRole
    unit: str = ""
    low: float | None = None
    high: float | None = None
    resolution: float | None = None
    setpoint: str | None = None
    traced: bool = False
    writable: bool = False
    description: str = ""

    @property
    def string_id(self) -> str:
        """The identifier of the tag's node below its tool, e.g. `Monitoring.Process.ChamberPressure`."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class JobParameter:
    """A parameter that a job order for this class of tool carries.

    Attributes:
        name: Carries the unit, e.g. `rf_power_w`.
        type: OPC UA built-in type of the value.
        unit: UCUM symbol.
        low, high: Hard limits of the tool itself, in `unit`; an order outside is refused by the tool.
        required: An order without it is refused.
    """

    name: str
    type: TagType
    unit: str = ""
    low: float | None = None
    high: float | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class AlarmDefinition:
    """An alarm that a tool can raise.

    Attributes:
        name: Unique within its tool, e.g. `no_strike`.
        message: What is shown, one sentence.
        severity: OPC UA severity, 1 to 1000 (801 and up high, 401 to 800 medium, below low).
        cause, consequence, action: ISA-18.2 rationalisation, one sentence each.
    """

    name: str
    message: str
    severity: int
    cause: str
    consequence: str
    action: str


@dataclass(frozen=True)
class TagTable:
    """All that one class of tool shows to the outside.

    Attributes:
        equipment_class: What recipes ask for, e.g. `rf_magnetron_sputter`.
        components: Browse names below `Components`.
        tags: Every signal.
        job_parameters: What a job order carries.
        job_actuals: What a job response carries back.
        alarms: What it can raise.
    """

    equipment_class: str
    components: tuple[str, ...]
    tags: tuple[Tag, ...]
    job_parameters: tuple[JobParameter, ...]
    job_actuals: tuple[JobParameter, ...]
    alarms: tuple[AlarmDefinition, ...]

    def __post_init__(self) -> None:
        for names in ([t.name for t in self.tags], [t.string_id for t in self.tags], [a.name for a in self.alarms]):
            duplicates = {name for name in names if names.count(name) > 1}
            if duplicates:
                raise ValueError(f"the tag table of {self.equipment_class} names {sorted(duplicates)} twice")
        known = {tag.name for tag in self.tags}
        for tag in self.tags:
            if tag.setpoint is not None and tag.setpoint not in known:
                raise ValueError(f"tag {tag.name} has an unknown setpoint {tag.setpoint}")

    def __iter__(self) -> Iterator[Tag]:
        return iter(self.tags)

    def __getitem__(self, name: str) -> Tag:
        for tag in self.tags:
            if tag.name == name:
                return tag
        raise LookupError(f"{self.equipment_class} has no tag {name!r}")

    @property
    def traced(self) -> tuple[Tag, ...]:
        """The tags recorded in the trace of a run, in table order."""
        return tuple(tag for tag in self.tags if tag.traced)


def state_tag(name: str, browse: str, kind: TagType, description: str, *, traced: bool = False) -> Tag:
    """A tag of what the tool is doing, at `Monitoring/Status/<browse>`."""
    return Tag(name, ("Monitoring", "Status", browse), kind, TagRole.STATE, traced=traced, description=description)


def number_parameter(
    name: str, unit: str, low: float | None = None, high: float | None = None, *, required: bool = True
) -> JobParameter:
    """A number that a job order carries, or a response where it has no limits."""
    return JobParameter(name, TagType.DOUBLE, unit, low, high, required)


def link_tags() -> tuple[Tag, ...]:
    """The tags every tool has for its link to the MES (`Link/…`) and its machinery state.

    `Heartbeat` counts up at least once a second of real time while the tool's controller lives; `BootId`
    changes with each start of the tool; `ControllerEpoch` is the highest lease epoch that the tool has seen.
    """
    link = TagRole.LINK
    return (
        Tag("heartbeat", ("Link", "Heartbeat"), TagType.UINT32, link, description="Counts up while the tool lives."),
        Tag("boot_id", ("Link", "BootId"), TagType.STRING, link, description="Changes with each start of the tool."),
        Tag("last_job_counter", ("Link", "LastJobCounter"), TagType.UINT32, link, description="Jobs started so far."),
        Tag("last_job_id", ("Link", "LastJobId"), TagType.STRING, link, description="The job started last."),
        Tag("interlock_ok", ("Link", "InterlockOk"), TagType.BOOLEAN, link, description="All interlocks closed."),
        Tag(
            "mes_heartbeat",
            ("Link", "MesHeartbeat"),
            TagType.UINT32,
            link,
            writable=True,
            description="Written by the MES once a second; still for 5 s raises lost_mes.",
        ),
        Tag(
            "controller_epoch",
            ("Link", "ControllerEpoch"),
            TagType.UINT32,
            link,
            writable=True,
            description="Highest lease epoch seen; a write of a lower one is refused.",
        ),
        Tag(
            "simulated",
            ("Identification", "Simulated"),
            TagType.BOOLEAN,
            TagRole.IDENTIFICATION,
            description="The tool declares that it is a simulator.",
        ),
        Tag("manufacturer", ("Identification", "Manufacturer"), TagType.STRING, TagRole.IDENTIFICATION),
        Tag("model", ("Identification", "Model"), TagType.STRING, TagRole.IDENTIFICATION),
        Tag("serial_number", ("Identification", "SerialNumber"), TagType.STRING, TagRole.IDENTIFICATION),
        Tag("software_revision", ("Identification", "SoftwareRevision"), TagType.STRING, TagRole.IDENTIFICATION),
        Tag(
            "machinery_state",
            ("Monitoring", "Status", "MachineryItemState"),
            TagType.INT32,
            TagRole.STATE,
            description="0 NotAvailable, 1 OutOfService, 2 NotExecuting, 3 Executing (OPC 40001-1).",
        ),
    )


def link_alarms() -> tuple[AlarmDefinition, ...]:
    """The alarms every tool has for its link to the MES; its server raises them, not its plant."""
    return (
        AlarmDefinition(
            "lost_mes",
            "The MES heartbeat has stood still for 5 s.",
            500,
            "The MES is down or the network is cut.",
            "The tool goes on with the job it holds and refuses another one.",
            "Nothing at the tool; restore the MES or the network.",
        ),
    )
