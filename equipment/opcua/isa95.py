"""Job orders and responses on the wire: the structures of OPC 10031-4 V2 and the way to our vocabulary.

The structures are encoded and decoded here and nowhere else, with the namespace index of the very server they go
to or come from. They are deliberately *not* registered with asyncua: its registry of extension objects is global to
the process, so with two tools at different namespace indexes the second would be sent an order that it can't
decode, and would still answer OK. Knows no methods and no nodes but the type ids of the ISA-95 nodeset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from equipment.jobs import JobOrder, JobResponse, JobState, JobStatus, JobSubstate, MaterialRequirement, Parameter
from equipment.opcua.units import symbol_of, to_eu_information
from equipment.tags import TagType, TagValue

ISA95_NAMESPACE = "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/"

POSITION_PROPERTY = "CarrierPosition"


@dataclass
class ISA95PropertyDataType:
    """A property of a material, person or equipment."""

    Encoding: ua.UInt32 = field(default=0, repr=False, init=False, compare=False)
    ID: ua.String = ""
    Value: ua.Variant = field(default_factory=ua.Variant)
    Description: list[ua.LocalizedText] | None = None
    EngineeringUnits: ua.EUInformation | None = None
    Subproperties: list[ISA95PropertyDataType] | None = None


@dataclass
class ISA95ParameterDataType:
    """A setpoint of an order, or a result of a response."""

    Encoding: ua.UInt32 = field(default=0, repr=False, init=False, compare=False)
    ID: ua.String = ""
    Value: ua.Variant = field(default_factory=ua.Variant)
    Description: list[ua.LocalizedText] | None = None
    EngineeringUnits: ua.EUInformation | None = None
    Subparameters: list[ISA95ParameterDataType] | None = None


@dataclass
class ISA95StateDataType:
    """One level of a job's state."""

    BrowsePath: ua.RelativePath = field(default_factory=ua.RelativePath)
    StateText: ua.LocalizedText = field(default_factory=ua.LocalizedText)
    StateNumber: ua.UInt32 = 0


@dataclass
class ISA95WorkMasterDataType:
    """The recipe."""

    Encoding: ua.UInt32 = field(default=0, repr=False, init=False, compare=False)
    ID: ua.String = ""
    Description: ua.LocalizedText | None = None
    Parameters: list[ISA95ParameterDataType] | None = None


@dataclass
class ISA95MaterialDataType:
    """A material that a job consumes or works on."""

    Encoding: ua.UInt32 = field(default=0, repr=False, init=False, compare=False)
    MaterialClassID: ua.String | None = None
    MaterialDefinitionID: ua.String | None = None
    MaterialLotID: ua.String | None = None
    MaterialSublotID: ua.String | None = None
    Description: list[ua.LocalizedText] | None = None
    MaterialUse: ua.String | None = None
    Quantity: ua.String | None = None
    EngineeringUnits: ua.EUInformation | None = None
    Properties: list[ISA95PropertyDataType] | None = None


@dataclass
class ISA95ResourceDataType:
    """Personnel, equipment and physical assets: three data types of the nodeset with one layout."""

    Encoding: ua.UInt32 = field(default=0, repr=False, init=False, compare=False)
    ID: ua.String = ""
    Description: list[ua.LocalizedText] | None = None
    Use: ua.String | None = None
    Quantity: ua.String | None = None
    EngineeringUnits: ua.EUInformation | None = None
    Properties: list[ISA95PropertyDataType] | None = None


@dataclass
class ISA95JobOrderDataType:
    """A job order."""

    Encoding: ua.UInt32 = field(default=0, repr=False, init=False, compare=False)
    JobOrderID: ua.String = ""
    Description: list[ua.LocalizedText] | None = None
    WorkMasterID: list[ISA95WorkMasterDataType] | None = None
    StartTime: ua.DateTime | None = None
    EndTime: ua.DateTime | None = None
    Priority: ua.Int16 | None = None
    JobOrderParameters: list[ISA95ParameterDataType] | None = None
    PersonnelRequirements: list[ISA95ResourceDataType] | None = None
    EquipmentRequirements: list[ISA95ResourceDataType] | None = None
    PhysicalAssetRequirements: list[ISA95ResourceDataType] | None = None
    MaterialRequirements: list[ISA95MaterialDataType] | None = None


@dataclass
class ISA95JobOrderAndStateDataType:
    """An entry of the tool's job order list."""

    JobOrder: ISA95JobOrderDataType = field(default_factory=ISA95JobOrderDataType)
    State: list[ISA95StateDataType] = field(default_factory=list)


@dataclass
class ISA95JobResponseDataType:
    """A job response."""

    Encoding: ua.UInt32 = field(default=0, repr=False, init=False, compare=False)
    JobResponseID: ua.String = ""
    Description: ua.LocalizedText | None = None
    JobOrderID: ua.String = ""
    StartTime: ua.DateTime | None = None
    EndTime: ua.DateTime | None = None
    JobState: list[ISA95StateDataType] = field(default_factory=list)
    JobResponseData: list[ISA95ParameterDataType] | None = None
    PersonnelActuals: list[ISA95ResourceDataType] | None = None
    EquipmentActuals: list[ISA95ResourceDataType] | None = None
    PhysicalAssetActuals: list[ISA95ResourceDataType] | None = None
    MaterialActuals: list[ISA95MaterialDataType] | None = None


_BINARY_ENCODING_IDS: Mapping[type, int] = {
    ISA95JobOrderDataType: 5014,
    ISA95JobResponseDataType: 5026,
    ISA95StateDataType: 5029,
    ISA95JobOrderAndStateDataType: 5032,
}
"""Structure → identifier of its `Default Binary` encoding in the ISA-95 namespace."""

_VARIANT_TYPES: Mapping[TagType, ua.VariantType] = {kind: ua.VariantType[kind.value] for kind in TagType}

_SUBSTATE_NUMBERS: Mapping[JobSubstate, int] = {
    JobSubstate.WAITING: 1,
    JobSubstate.READY: 2,
    JobSubstate.LOADED: 3,
    JobSubstate.HELD: 1,
    JobSubstate.SUSPENDED: 2,
    JobSubstate.COMPLETED: 1,
    JobSubstate.CLOSED: 2,
}

_STATE_NAMES: Mapping[JobState, str] = {
    JobState.NOT_ALLOWED_TO_START: "NotAllowedToStart",
    JobState.ALLOWED_TO_START: "AllowedToStart",
    JobState.RUNNING: "Running",
    JobState.INTERRUPTED: "Interrupted",
    JobState.ENDED: "Ended",
    JobState.ABORTED: "Aborted",
}

Structure = TypeVar("Structure")


def pack(structure: object, isa95_index: int) -> ua.ExtensionObject:
    """A structure as an extension object for the server whose ISA-95 namespace has that index."""
    type_id = ua.NodeId(_BINARY_ENCODING_IDS[type(structure)], isa95_index)
    return ua.ExtensionObject(TypeId=type_id, Body=struct_to_binary(structure))


def unpack(structure: type[Structure], value: object, isa95_index: int) -> Structure:
    """The structure inside an extension object that came from a server with that ISA-95 index.

    Raises:
        ValueError: It is something else, or can't be decoded.
    """
    expected = ua.NodeId(_BINARY_ENCODING_IDS[structure], isa95_index)
    if isinstance(value, ua.ExtensionObject):
        if value.TypeId != expected or value.Body is None:
            raise ValueError(f"expected a {structure.__name__} ({expected}), got {value.TypeId}")
        body = value.Body
    elif type(value).__name__ == structure.__name__:
        body = struct_to_binary(value)  # decoded by a class that somebody else in this process has registered
    else:
        raise ValueError(f"expected a {structure.__name__}, got {type(value).__name__}")
    buffer = Buffer(body)
    try:
        decoded: Structure = struct_from_binary(structure, buffer)
    except Exception as error:  # the decoder raises whatever foreign bytes make it stumble over
        raise ValueError(f"a {structure.__name__} can't be decoded: {error}") from error
    if len(buffer):
        raise ValueError(f"a {structure.__name__} is followed by {len(buffer)} bytes too many")
    return decoded


def variant(kind: TagType, value: TagValue) -> ua.Variant:
    """A value as the OPC UA type of its tag.

    Raises:
        ValueError: The value is of another type.
    """
    if type(value) is not kind.python_type:
        raise ValueError(f"{value!r} is {type(value).__name__}, not {kind.value}")
    return ua.Variant(value, _VARIANT_TYPES[kind])


def _guess(value: TagValue) -> TagType:
    match value:
        case bool():
            return TagType.BOOLEAN
        case int():
            return TagType.INT64
        case float():
            return TagType.DOUBLE
        case str():
            return TagType.STRING


def parameter_to_wire(parameter: Parameter, kind: TagType | None = None) -> ISA95ParameterDataType:
    """A parameter; `kind` is the type that the tool expects, else the natural one is taken."""
    return ISA95ParameterDataType(
        ID=parameter.name,
        Value=variant(kind or _guess(parameter.value), parameter.value),
        EngineeringUnits=to_eu_information(parameter.unit) if parameter.unit else None,
    )


def parameter_from_wire(wire: ISA95ParameterDataType) -> Parameter:
    """A parameter back.

    Raises:
        ValueError: Its value is neither boolean, integer, real nor text.
    """
    value = wire.Value.Value
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"parameter {wire.ID} has a value of type {wire.Value.VariantType.name}")
    return Parameter(wire.ID, value, symbol_of(wire.EngineeringUnits))


def _material_to_wire(material: MaterialRequirement) -> ISA95MaterialDataType:
    position = material.position
    return ISA95MaterialDataType(
        MaterialSublotID=material.serial,
        MaterialUse=material.use,
        Quantity=material.quantity,
        EngineeringUnits=to_eu_information(material.unit) if material.unit else None,
        Properties=None
        if position is None
        else [ISA95PropertyDataType(ID=POSITION_PROPERTY, Value=ua.Variant(position, ua.VariantType.Int32))],
    )


def _material_from_wire(wire: ISA95MaterialDataType) -> MaterialRequirement:
    positions = [p.Value.Value for p in wire.Properties or [] if p.ID == POSITION_PROPERTY]
    return MaterialRequirement(
        serial=wire.MaterialSublotID or wire.MaterialLotID or "",
        use=wire.MaterialUse or "",
        position=positions[0] if positions else None,
        quantity=wire.Quantity,
        unit=symbol_of(wire.EngineeringUnits),
    )


def order_to_wire(order: JobOrder, kinds: Mapping[str, TagType]) -> ISA95JobOrderDataType:
    """An order; `kinds` are the types that the tool expects by parameter name.

    Raises:
        ValueError: A parameter is of another type than the tool expects.
    """
    return ISA95JobOrderDataType(
        JobOrderID=order.job_id,
        Description=[ua.LocalizedText(order.description)] if order.description else None,
        WorkMasterID=[ISA95WorkMasterDataType(ID=order.work_master)],
        JobOrderParameters=[parameter_to_wire(p, kinds.get(p.name)) for p in order.parameters],
        MaterialRequirements=[_material_to_wire(m) for m in order.materials],
    )


def order_from_wire(wire: ISA95JobOrderDataType, epoch: int = 0) -> JobOrder:
    """An order back; the epoch travels beside it.

    Raises:
        ValueError: It lacks something that every order has.
    """
    if not wire.JobOrderID:
        raise ValueError("a job order without an id")
    if not wire.WorkMasterID or len(wire.WorkMasterID) != 1:
        raise ValueError(f"job order {wire.JobOrderID} must name exactly one work master")
    return JobOrder(
        job_id=wire.JobOrderID,
        work_master=wire.WorkMasterID[0].ID,
        parameters=tuple(parameter_from_wire(p) for p in wire.JobOrderParameters or []),
        materials=tuple(_material_from_wire(m) for m in wire.MaterialRequirements or []),
        epoch=epoch,
        description=(wire.Description[0].Text or "") if wire.Description else "",
    )


def state_to_wire(status: JobStatus, isa95_index: int) -> list[ISA95StateDataType]:
    """A job's state, level by level."""

    def level(name: str, number: int) -> ISA95StateDataType:
        element = ua.RelativePathElement(
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasComponent),
            IsInverse=False,
            IncludeSubtypes=True,
            TargetName=ua.QualifiedName(name, isa95_index),
        )
        return ISA95StateDataType(ua.RelativePath([element]), ua.LocalizedText(name), number)

    levels = [level(_STATE_NAMES[status.state], status.state.value)]
    if status.substate is not JobSubstate.NONE:
        levels.append(level(status.substate.value, _SUBSTATE_NUMBERS[status.substate]))
    return levels


def state_from_wire(job_id: str, levels: Sequence[ISA95StateDataType]) -> JobStatus:
    """A job's state back.

    Raises:
        ValueError: No such state.
    """
    if not levels:
        raise ValueError(f"job {job_id} has no state")
    substate = JobSubstate(levels[1].StateText.Text or "") if len(levels) > 1 else JobSubstate.NONE
    return JobStatus(job_id, JobState(levels[0].StateNumber), substate)


def response_to_wire(response: JobResponse, isa95_index: int) -> ISA95JobResponseDataType:
    """A response; the order it answers is in the tool's job order list."""
    return ISA95JobResponseDataType(
        JobResponseID=response.job_id,
        JobOrderID=response.job_id,
        StartTime=response.started_at,
        EndTime=response.ended_at,
        JobState=state_to_wire(response.status, isa95_index),
        JobResponseData=[parameter_to_wire(p) for p in response.actuals.values()],
    )


def response_from_wire(wire: ISA95JobResponseDataType, order: JobOrder | None) -> JobResponse:
    """A response back, with the order as the tool holds it.

    Raises:
        ValueError: Its state or a result can't be understood.
    """
    actuals = [parameter_from_wire(p) for p in wire.JobResponseData or []]
    return JobResponse(
        job_id=wire.JobOrderID,
        status=state_from_wire(wire.JobOrderID, wire.JobState),
        started_at=_utc(wire.StartTime),
        ended_at=_utc(wire.EndTime),
        actuals={p.name: p for p in actuals},
        order=order,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
