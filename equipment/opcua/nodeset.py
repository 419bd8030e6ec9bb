"""The address space of a tool: NodeSet2 XML made from its tag table.

A simulator loads what is made here, a vendor may load the exported file, and the client finds every node by the
names that are fixed here. Knows node ids and browse names; knows no server and no session.

    python -m equipment.opcua.nodeset      writes equipment/nodesets/argonaut_*.xml anew
"""

from __future__ import annotations

import xml.etree.ElementTree as ET  # nosec B405 - it writes, and parses nothing
from collections.abc import Iterable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from equipment.jobs import JobVerb
from equipment.opcua.isa95 import ISA95_NAMESPACE
from equipment.opcua.units import on_the_wire
from equipment.press import PRESS
from equipment.sputter import SPUTTER
from equipment.tags import AlarmDefinition, Tag, TagRole, TagTable

JOB_CONTROL_PATH = ("JobManagement", "JobOrderControl")
JOB_RESULTS_PATH = ("JobManagement", "JobOrderResults")
ALARMS_FOLDER = "Alarms"
REQUEST_RESPONSE_BY_ID = "RequestJobResponseByJobOrderID"
REQUEST_RESPONSES_BY_STATE = "RequestJobResponseByJobOrderState"

EXPORT_SITE = "argonaut"
EXPORTED: dict[str, tuple[str, TagTable]] = {
    "argonaut_sputter.xml": ("sputter", SPUTTER),
    "argonaut_press.xml": ("press", PRESS),
}
"""File name below `nodesets` → name and tag table of a tool of site `EXPORT_SITE`."""

_UA_NODESET = "http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"
_UA_TYPES = "http://opcfoundation.org/UA/2008/02/Types.xsd"
_VERSION = "1.0.0"
_PUBLISHED = "2026-01-01T00:00:00Z"

_TOOL, _ISA95 = 1, 2  # namespace indexes inside the file

_OBJECTS_FOLDER, _FOLDER_TYPE, _BASE_OBJECT_TYPE = "i=85", "i=61", "i=58"
_VARIABLE_TYPE, _PROPERTY_TYPE = "i=63", "i=68"
_ANALOG_UNIT_TYPE, _ANALOG_UNIT_RANGE_TYPE, _TWO_STATE_TYPE, _ALARM_TYPE = "i=17497", "i=17570", "i=8995", "i=2915"
_RANGE, _RANGE_XML, _EU_INFORMATION, _EU_INFORMATION_XML = "i=884", "i=885", "i=887", "i=888"
_ARGUMENT, _ARGUMENT_XML = "i=296", "i=297"
_BOOLEAN, _UINT16, _UINT64, _STRING, _LOCALIZED_TEXT = "i=1", "i=5", "i=9", "i=12", "i=21"
_HAS_COMPONENT, _HAS_PROPERTY, _ORGANIZES, _HAS_TYPE = "i=47", "i=46", "i=35", "i=40"
_READ, _READ_WRITE, _READ_HISTORY = "1", "3", "5"

_RECEIVER_TYPE, _PROVIDER_TYPE = f"ns={_ISA95};i=1002", f"ns={_ISA95};i=1003"
_JOB_ORDER, _JOB_RESPONSE, _JOB_STATE = f"ns={_ISA95};i=3008", f"ns={_ISA95};i=3013", f"ns={_ISA95};i=3006"
_ORDER_AND_STATE, _WORK_MASTER = f"ns={_ISA95};i=3015", f"ns={_ISA95};i=3007"

_METHOD_DECLARATIONS: dict[JobVerb, int] = {
    JobVerb.STORE: 7001,
    JobVerb.STORE_AND_START: 7004,
    JobVerb.START: 7005,
    JobVerb.REVOKE_START: 7013,
    JobVerb.PAUSE: 7007,
    JobVerb.RESUME: 7008,
    JobVerb.STOP: 7006,
    JobVerb.ABORT: 7010,
    JobVerb.CANCEL: 7011,
    JobVerb.CLEAR: 7012,
    JobVerb.UPDATE: 7009,
}
ORDER_VERBS = frozenset({JobVerb.STORE, JobVerb.STORE_AND_START, JobVerb.UPDATE})
"""The methods whose first argument is a whole order; that of the others is a job id."""

_RECEIVER_LISTS = (
    ("WorkMaster", _WORK_MASTER),
    ("MaterialClassID", _STRING),
    ("MaterialDefinitionID", _STRING),
    ("EquipmentID", _STRING),
    ("PhysicalAssetID", _STRING),
    ("PersonnelID", _STRING),
)


def tool_namespace(site: str, tool: str) -> str:
    """Namespace of a tool's own nodes."""
    return f"urn:{site}:{tool}"


def alarm_id(name: str) -> str:
    """String identifier of an alarm's node, which is its ConditionId."""
    return f"{ALARMS_FOLDER}.{name}"


def job_method_id(verb: JobVerb) -> str:
    """String identifier of a job method's node."""
    return ".".join((*JOB_CONTROL_PATH, verb.value))


def isa95_nodeset() -> Traversable:
    """The OPC Foundation's job control nodeset, which every tool's own requires."""
    return resources.files("equipment.nodesets") / "opc.ua.isa95-jobcontrol.nodeset2.xml"


def render(table: TagTable, site: str, tool: str) -> str:
    """NodeSet2 XML of one tool; the same table makes the same text."""
    return _Writer(tool_namespace(site, tool)).tool(table, tool)


class _Writer:
    """Writes one file; every node is written after its parent."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._root = ET.Element("UANodeSet", {"xmlns": _UA_NODESET, "xmlns:uax": _UA_TYPES})
        self._folders: set[tuple[str, ...]] = set()
        uris = ET.SubElement(self._root, "NamespaceUris")
        for uri in (namespace, ISA95_NAMESPACE):
            ET.SubElement(uris, "Uri").text = uri
        models = ET.SubElement(self._root, "Models")
        model = ET.SubElement(
            models, "Model", {"ModelUri": namespace, "Version": _VERSION, "PublicationDate": _PUBLISHED}
        )
        ET.SubElement(
            model,
            "RequiredModel",
            {"ModelUri": ISA95_NAMESPACE, "Version": "2.0.0", "PublicationDate": "2024-01-31T00:00:00Z"},
        )

    def tool(self, table: TagTable, name: str) -> str:
        """The whole tool."""
        self._object("Machines", "Machines", _OBJECTS_FOLDER, _ORGANIZES, _FOLDER_TYPE)
        self._object(name, name, _own("Machines"), _ORGANIZES, _BASE_OBJECT_TYPE)
        self._tool = _own(name)
        for component in table.components:
            self._folder(("Components", component))
        for tag in table:
            self._tag(tag)
        self._job_control()
        self._job_results()
        for alarm in table.alarms:
            self._alarm(alarm)
        ET.indent(self._root)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(self._root, encoding="unicode") + "\n"

    def _node(self, element: str, string_id: str, browse_name: str, parent: str, reference: str, kind: str | None,
              index: int = _TOOL, **attributes: str) -> ET.Element:  # fmt: skip
        node = ET.SubElement(
            self._root,
            element,
            {"NodeId": _own(string_id), "BrowseName": f"{index}:{browse_name}", "ParentNodeId": parent, **attributes},
        )
        ET.SubElement(node, "DisplayName").text = browse_name
        references = ET.SubElement(node, "References")
        if kind is not None:
            ET.SubElement(references, "Reference", {"ReferenceType": _HAS_TYPE}).text = kind
        ET.SubElement(references, "Reference", {"ReferenceType": reference, "IsForward": "false"}).text = parent
        return node

    def _object(self, string_id: str, browse_name: str, parent: str, reference: str, kind: str) -> ET.Element:
        return self._node("UAObject", string_id, browse_name, parent, reference, kind)

    def _folder(self, path: tuple[str, ...]) -> str:
        """The object at a path below the tool, with all objects on the way; answers with its node id."""
        if not path:
            return self._tool
        if path not in self._folders:
            parent = self._folder(path[:-1])
            self._object(".".join(path), path[-1], parent, _HAS_COMPONENT, _BASE_OBJECT_TYPE)
            self._folders.add(path)
        return _own(".".join(path))

    def _variable(self, string_id: str, browse_name: str, parent: str, data_type: str, kind: str = _VARIABLE_TYPE,
                  index: int = _TOOL, **attributes: str) -> ET.Element:  # fmt: skip
        reference = _HAS_PROPERTY if kind == _PROPERTY_TYPE else _HAS_COMPONENT
        return self._node(
            "UAVariable", string_id, browse_name, parent, reference, kind, index, DataType=data_type, **attributes
        )

    def _tag(self, tag: Tag) -> None:
        parent = self._folder(tag.path[:-1])
        has_range = tag.low is not None and tag.high is not None
        if tag.role is TagRole.IDENTIFICATION:
            kind, access = _PROPERTY_TYPE, _READ
        else:
            kind = _VARIABLE_TYPE if not tag.unit else _ANALOG_UNIT_RANGE_TYPE if has_range else _ANALOG_UNIT_TYPE
            access = _READ_WRITE if tag.writable else _READ_HISTORY
        node = self._variable(
            tag.string_id, tag.path[-1], parent, _BUILT_IN[tag.type.value], kind,
            AccessLevel=access, UserAccessLevel=access, Historizing=str(access == _READ_HISTORY).lower(),
        )  # fmt: skip
        if tag.description:
            description = ET.Element("Description")
            description.text = tag.description
            node.insert(1, description)
        if tag.unit:
            unit = on_the_wire(tag.unit)
            body = _structure("EUInformation", NamespaceUri=unit.namespace, UnitId=str(unit.unit_id))
            body.append(_localized("DisplayName", unit.display_name))
            body.append(_localized("Description", unit.description))
            self._property(tag.string_id, "EngineeringUnits", _EU_INFORMATION, _extension(_EU_INFORMATION_XML, body))
        if has_range:
            body = _structure("Range", Low=str(tag.low), High=str(tag.high))
            self._property(tag.string_id, "EURange", _RANGE, _extension(_RANGE_XML, body))

    def _property(self, owner: str, name: str, data_type: str, value: ET.Element, *, index: int = 0,
                  rank: str = "-1") -> None:  # fmt: skip
        node = self._variable(f"{owner}.{name}", name, _own(owner), data_type, _PROPERTY_TYPE, index, ValueRank=rank)
        ET.SubElement(node, "Value").append(value)

    def _method(self, owner: tuple[str, ...], name: str, declaration: int, inputs: Iterable[tuple[str, str, int]],
                outputs: Iterable[tuple[str, str, int]]) -> None:  # fmt: skip
        string_id = ".".join((*owner, name))
        self._node(
            "UAMethod", string_id, name, _own(".".join(owner)), _HAS_COMPONENT, None, _ISA95,
            MethodDeclarationId=f"ns={_ISA95};i={declaration}",
        )  # fmt: skip
        for title, arguments in (("InputArguments", inputs), ("OutputArguments", outputs)):
            values = ET.Element("uax:ListOfExtensionObject")
            for argument in arguments:
                values.append(_extension(_ARGUMENT_XML, _argument(*argument)))
            self._property(string_id, title, _ARGUMENT, values, rank="1")

    def _job_control(self) -> None:
        parent = self._folder(JOB_CONTROL_PATH[:-1])
        owner = ".".join(JOB_CONTROL_PATH)
        self._object(owner, JOB_CONTROL_PATH[-1], parent, _HAS_COMPONENT, _RECEIVER_TYPE)
        status = [("ReturnStatus", _UINT64, -1)]
        for verb, declaration in _METHOD_DECLARATIONS.items():
            subject = ("JobOrder", _JOB_ORDER, -1) if verb in ORDER_VERBS else ("JobOrderID", _STRING, -1)
            self._method(
                JOB_CONTROL_PATH, verb.value, declaration, [subject, ("Comment", _LOCALIZED_TEXT, 1)], status
            )
        lists = (("JobOrderList", _ORDER_AND_STATE), *_RECEIVER_LISTS)
        for name, data_type in lists:
            self._variable(f"{owner}.{name}", name, _own(owner), data_type, index=_ISA95, ValueRank="1")
        self._property(owner, "MaxDownloadableJobOrders", _UINT16, _scalar("UInt16", "100"), index=_ISA95)

    def _job_results(self) -> None:
        parent = self._folder(JOB_RESULTS_PATH[:-1])
        owner = ".".join(JOB_RESULTS_PATH)
        self._object(owner, JOB_RESULTS_PATH[-1], parent, _HAS_COMPONENT, _PROVIDER_TYPE)
        status = ("ReturnStatus", _UINT64, -1)
        self._method(JOB_RESULTS_PATH, REQUEST_RESPONSE_BY_ID, 7002, [("JobOrderID", _STRING, -1)],
                     [("JobResponse", _JOB_RESPONSE, -1), status])  # fmt: skip
        self._method(JOB_RESULTS_PATH, REQUEST_RESPONSES_BY_STATE, 7014, [("JobOrderState", _JOB_STATE, 1)],
                     [("JobResponses", _JOB_RESPONSE, 1), status])  # fmt: skip
        name = "JobOrderResponseList"
        self._variable(f"{owner}.{name}", name, _own(owner), _JOB_RESPONSE, index=_ISA95, ValueRank="1")

    def _alarm(self, alarm: AlarmDefinition) -> None:
        string_id = alarm_id(alarm.name)
        self._object(string_id, alarm.name, self._folder((ALARMS_FOLDER,)), _HAS_COMPONENT, _ALARM_TYPE)
        for state in ("ActiveState", "AckedState"):
            self._variable(f"{string_id}.{state}", state, _own(string_id), _LOCALIZED_TEXT, _TWO_STATE_TYPE, 0)
            self._property(f"{string_id}.{state}", "Id", _BOOLEAN, _scalar("Boolean", "false"))
        self._property(string_id, "Retain", _BOOLEAN, _scalar("Boolean", "false"))
        self._property(string_id, "ConditionName", _STRING, _scalar("String", alarm.name))
        self._variable(f"{string_id}.Message", "Message", _own(string_id), _LOCALIZED_TEXT, _PROPERTY_TYPE, 0)
        self._property(string_id, "Severity", _UINT16, _scalar("UInt16", str(alarm.severity)))
        for title, text in (("Cause", alarm.cause), ("Consequence", alarm.consequence), ("Action", alarm.action)):
            self._property(string_id, title, _STRING, _scalar("String", text), index=_TOOL)


_BUILT_IN = {
    "Boolean": "i=1",
    "Int32": "i=6",
    "UInt32": "i=7",
    "Int64": "i=8",
    "Float": "i=10",
    "Double": "i=11",
    "String": "i=12",
}
"""Built-in type → node id of its data type."""


def _own(string_id: str) -> str:
    return f"ns={_TOOL};s={string_id}"


def _scalar(kind: str, text: str) -> ET.Element:
    element = ET.Element(f"uax:{kind}")
    element.text = text
    return element


def _localized(name: str, text: str) -> ET.Element:
    element = ET.Element(f"uax:{name}")
    ET.SubElement(element, "uax:Text").text = text
    return element


def _structure(name: str, **fields: str) -> ET.Element:
    element = ET.Element(f"uax:{name}")
    for title, text in fields.items():
        ET.SubElement(element, f"uax:{title}").text = text
    return element


def _extension(type_id: str, body: ET.Element) -> ET.Element:
    element = ET.Element("uax:ExtensionObject")
    ET.SubElement(ET.SubElement(element, "uax:TypeId"), "uax:Identifier").text = type_id
    ET.SubElement(element, "uax:Body").append(body)
    return element


def _argument(name: str, data_type: str, rank: int) -> ET.Element:
    element = _structure("Argument", Name=name)
    ET.SubElement(ET.SubElement(element, "uax:DataType"), "uax:Identifier").text = data_type
    ET.SubElement(element, "uax:ValueRank").text = str(rank)
    ET.SubElement(element, "uax:ArrayDimensions")
    return element


def write_all(folder: Path) -> Sequence[Path]:
    """Write every exported nodeset anew; answers with the files."""
    written = []
    for name, (tool, table) in EXPORTED.items():
        path = folder / name
        path.write_text(render(table, EXPORT_SITE, tool), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    write_all(Path(__file__).parent.parent / "nodesets")
