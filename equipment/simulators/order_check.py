"""What any tool checks of a job order before it takes it: each parameter by name, type, unit and hard limit.

It knows only the tag table; what the values mean together is the plant's own business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from equipment.jobs import JobOrder, Parameter
from equipment.tags import JobParameter, TagTable, TagType


def parameter_problems(table: TagTable, order: JobOrder) -> list[str]:
    """Every fault of the order's parameters, one sentence each."""
    return list(_problems(table, order))


def _problems(table: TagTable, order: JobOrder) -> Iterator[str]:
    known = {parameter.name: parameter for parameter in table.job_parameters}
    given: set[str] = set()
    for parameter in order.parameters:
        if parameter.name in given:
            yield f"the parameter {parameter.name} is given twice"
        given.add(parameter.name)
        definition = known.get(parameter.name)
        if definition is None:
            yield f"this tool has no parameter {parameter.name}"
        else:
            yield from _value_problems(definition, parameter)
    for definition in table.job_parameters:
        if definition.required and definition.name not in given:
            yield f"the parameter {definition.name} is missing"


def _value_problems(definition: JobParameter, parameter: Parameter) -> Iterator[str]:
    name, value = parameter.name, parameter.value
    if parameter.unit != definition.unit:
        yield f"{name} is in {parameter.unit or 'no unit'}, this tool takes {definition.unit or 'no unit'}"
    if definition.type in (TagType.STRING, TagType.BOOLEAN):
        if not isinstance(value, definition.type.python_type):
            yield f"{name} is not a {definition.type.value}"
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{name} is not a number"
        return
    if not math.isfinite(value):
        yield f"{name} is not a finite number"
        return
    if definition.low is not None and value < definition.low:
        yield f"{name} of {value:g} {definition.unit} is below the tool's limit of {definition.low:g}"
    if definition.high is not None and value > definition.high:
        yield f"{name} of {value:g} {definition.unit} is above the tool's limit of {definition.high:g}"
