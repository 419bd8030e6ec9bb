"""What a simulated tool checks of the parameters of an order, against its tag table, before its plant is asked."""

from __future__ import annotations

from collections.abc import Sequence

from equipment.jobs import JobOrder, Parameter
from equipment.tags import JobParameter, TagTable, TagType


def parameter_problems(tags: TagTable, order: JobOrder) -> Sequence[str]:
    """Everything wrong with names, types, units and ranges, one sentence each."""
    definitions = {parameter.name: parameter for parameter in tags.job_parameters}
    given = [parameter.name for parameter in order.parameters]
    found = [f"parameter {name} is given twice" for name in sorted({n for n in given if given.count(n) > 1})]
    found += [f"parameter {p.name} is missing" for p in definitions.values() if p.required and p.name not in given]
    for parameter in order.parameters:
        definition = definitions.get(parameter.name)
        if definition is None:
            found.append(f"parameter {parameter.name} is not known here")
        else:
            found += _value_problems(definition, parameter)
    return found


def _value_problems(definition: JobParameter, parameter: Parameter) -> Sequence[str]:
    name, value = parameter.name, parameter.value
    if type(value) is not definition.type.python_type:
        return [f"{name} is {type(value).__name__}, not {definition.type.value}"]
    if parameter.unit != definition.unit:
        return [f"{name} is in {parameter.unit or 'no unit'}, not {definition.unit or 'no unit'}"]
    if isinstance(value, str) or definition.type is TagType.BOOLEAN:
        return []
    low, high = definition.low, definition.high
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        return [f"{name} {value} {definition.unit} is not within {low} … {high}"]
    return []
