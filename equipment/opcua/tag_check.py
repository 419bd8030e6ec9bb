"""Whether a tool's address space is what its tag table says: every tag there, of its type, in its unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asyncua import ua

from equipment.opcua.units import symbol_of
from equipment.tags import Tag, TagTable


async def tag_problems(services: Any, tags: TagTable, node_id: Callable[[str], Any]) -> Sequence[str]:
    """Everything that differs, one sentence each.

    Args:
        services: An asyncua session.
        tags: What should be there.
        node_id: Node id by string identifier.

    Raises:
        ua.UaError, OSError: The tool, or the link, doesn't answer.
    """
    return [*await _type_problems(services, tags, node_id), *await _unit_problems(services, tags, node_id)]


async def _type_problems(services: Any, tags: TagTable, node_id: Callable[[str], Any]) -> Sequence[str]:
    nodes = [node_id(tag.string_id) for tag in tags]
    found = await services.read_attributes(nodes, ua.AttributeIds.DataType)
    problems = []
    for tag, data in zip(tags, found, strict=True):
        expected = ua.NodeId(ua.VariantType[tag.type.value].value)
        if not data.StatusCode.is_good():
            problems.append(f"tag {tag.name} ({tag.string_id}) is missing")
        elif data.Value.Value != expected:
            problems.append(f"tag {tag.name} is not a {tag.type.value}")
    return problems


async def _unit_problems(services: Any, tags: TagTable, node_id: Callable[[str], Any]) -> Sequence[str]:
    with_unit = [tag for tag in tags if tag.unit]
    paths = [_engineering_units_of(node_id(tag.string_id)) for tag in with_unit]
    targets = await services.translate_browsepaths_to_nodeids(paths)
    known: list[tuple[Tag, Any]] = [
        (tag, target.Targets[0].TargetId)
        for tag, target in zip(with_unit, targets, strict=True)
        if target.StatusCode.is_good() and target.Targets
    ]
    units = await services.read_attributes([node for _, node in known], ua.AttributeIds.Value)
    symbols = {tag.name: symbol_of(data.Value.Value) for (tag, _), data in zip(known, units, strict=True)}
    return [
        f"tag {tag.name} is in {symbols.get(tag.name) or 'no unit'}, not {tag.unit}"
        for tag in with_unit
        if symbols.get(tag.name) != tag.unit
    ]


def _engineering_units_of(node_id: Any) -> Any:
    element = ua.RelativePathElement(
        ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasProperty),
        IsInverse=False,
        IncludeSubtypes=True,
        TargetName=ua.QualifiedName("EngineeringUnits", 0),
    )
    return ua.BrowsePath(StartingNode=node_id, RelativePath=ua.RelativePath([element]))
