"""Is what a tool holds what it was sent? Read back and compared before anything is started.

Every parameter, unit and material, and the recipe itself; a tool that clamps a setpoint, drops a material or mixes
two orders up is found here. Knows no driver and no database.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from equipment.jobs import JobOrder, MaterialRequirement, Parameter
from equipment.tags import TagTable, TagType, TagValue
from traceability.errors import Finding

_ACTION = "Don't run it on this tool; have the tool and its configuration looked at."


def compare_orders(sent: JobOrder, held: JobOrder | None, tags: TagTable) -> list[Finding]:
    """Everything in which the order as the tool holds it differs from the one that was sent; empty when nothing does.

    Args:
        sent: The order as it was sent.
        held: The order as the tool tells it; None where it tells none.
        tags: Of the tool; decides the precision of each parameter on the wire.
    """
    if held is None:
        return [Finding("no_read_back", f"The tool does not tell what it holds of job {sent.job_id}.", _ACTION)]
    findings: list[Finding] = []
    if held.work_master != sent.work_master:
        findings.append(_differs("recipe_differs", "work_master", sent.work_master, held.work_master))
    findings += _parameters(sent.parameters, held.parameters, tags)
    findings += _materials(sent.materials, held.materials)
    return findings


def _parameters(sent: Sequence[Parameter], held: Sequence[Parameter], tags: TagTable) -> Iterable[Finding]:
    types = {definition.name: definition.type for definition in tags.job_parameters}
    present = {parameter.name: parameter for parameter in held}
    for wanted in sent:
        found = present.pop(wanted.name, None)
        if found is None:
            yield _differs("parameter_missing", wanted.name, _shown(wanted), "nothing")
        elif found.unit != wanted.unit or not _same_value(wanted.value, found.value, types.get(wanted.name)):
            yield _differs("parameter_differs", wanted.name, _shown(wanted), _shown(found))
    for extra in present.values():
        yield _differs("parameter_added", extra.name, "nothing", _shown(extra))


def _materials(sent: Sequence[MaterialRequirement], held: Sequence[MaterialRequirement]) -> Iterable[Finding]:
    present = {material.serial: material for material in held}
    for wanted in sent:
        found = present.pop(wanted.serial, None)
        if found is None:
            yield _differs("material_missing", wanted.serial, _shown_material(wanted), "nothing")
        elif found != wanted:
            yield _differs("material_differs", wanted.serial, _shown_material(wanted), _shown_material(found))
    for extra in present.values():
        yield _differs("material_added", extra.serial, "nothing", _shown_material(extra))


def _same_value(sent: TagValue, held: TagValue, kind: TagType | None) -> bool:
    if isinstance(sent, bool) or isinstance(held, bool) or isinstance(sent, str) or isinstance(held, str):
        return type(sent) is type(held) and sent == held
    if kind is TagType.FLOAT:
        return struct.pack("<f", sent) == struct.pack("<f", held)
    return sent == held


def _shown(parameter: Parameter) -> str:
    return f"{parameter.value} {parameter.unit}".strip()


def _shown_material(material: MaterialRequirement) -> str:
    position = "" if material.position is None else f" in position {material.position}"
    quantity = "" if material.quantity is None else f", {material.quantity} {material.unit}"
    return f"{material.use}{position}{quantity}"


def _differs(code: str, path: str, sent: str, held: str) -> Finding:
    return Finding(code, f"{path}: sent {sent}, the tool holds {held}.", _ACTION, path)
