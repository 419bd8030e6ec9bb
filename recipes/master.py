"""The master recipe: what is to be done on one class of equipment, as a document that people sign.

The content alone: who wrote it, who approved it and whether it is effective stands in `recipes.store`. The
published JSON schema carries unit, limits and help of every parameter, so that a form can be drawn from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from recipes.documents import Document, Frozen, Identifier, Name, Number, Text
from recipes.formula import Formula
from recipes.limits import RULES, ChoiceRule, EquipmentClass, ParameterRule
from recipes.procedure import Procedure

Reference = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9-]{1,47}/[1-9][0-9]{0,3}$")]
"""`id/version` of a document."""


class Material(Frozen):
    """A material that goes in, or a thing that comes out."""

    use: Name
    """What it is to the run: `disc`, `witness`, `target`, `powder`, `die`, `collector`; or what is made."""
    material: Identifier
    """Code of the material definition."""
    alternatives: Annotated[tuple[Identifier, ...], Field(max_length=20)] = ()
    """Other materials that may take its place."""
    quantity: Annotated[Number, Field(gt=0)] = Decimal(1)
    """How much for one run."""
    unit: Annotated[str, Field(max_length=16)] = "piece"
    """Unit of `quantity`."""
    at_most: Annotated[Number, Field(gt=0)] | None = None
    """Where a run may take more: the largest quantity."""
    bare_lithium: bool = False
    """Lithium lies open in the tool: no oxygen, no air."""


class MasterRecipe(Document):
    """One version of one recipe for one class of equipment."""

    format: Literal["argonaut-master-recipe"] = "argonaut-master-recipe"
    """Tells the kind of document."""
    recipe_id: Identifier
    """The same for all versions."""
    description: Text = ""
    """What it is for."""
    equipment_class: EquipmentClass
    """The class of tool that it runs on."""
    family: Identifier
    """Recipes whose runs teach one another (run-to-run context)."""
    parent: Reference | None = None
    """The site or general recipe that it refines, as `id/version`."""
    formula: Formula
    """What is set."""
    procedure: Procedure
    """In which order."""
    materials_in: Annotated[tuple[Material, ...], Field(max_length=50)] = ()
    """What goes in."""
    materials_out: Annotated[tuple[Material, ...], Field(max_length=50)] = ()
    """What comes out."""

    @property
    def document_id(self) -> str:
        """The same for all versions."""
        return self.recipe_id

    @property
    def work_master(self) -> str:
        """`id/version/sha256`: what a tool is told that it runs."""
        return f"{self.recipe_id}/{self.version}/{self.content_hash()}"

    @property
    def bare_lithium(self) -> bool:
        """Lithium lies open in the tool."""
        return any(material.bare_lithium for material in self.materials_in)


def with_limits(document: Mapping[str, Any]) -> dict[str, Any]:
    """The plain document with every limit that its author left out taken from the table of its equipment class.

    Parts that are not of the expected shape are left as they are: validation speaks about them.
    """
    filled = dict(document)
    formula = document.get("formula")
    equipment_class = document.get("equipment_class")
    if equipment_class not in list(EquipmentClass) or not isinstance(formula, Mapping):
        return filled
    parameters = formula.get("parameters")
    if not isinstance(parameters, Mapping):
        return filled
    rules = RULES[EquipmentClass(equipment_class)].parameters
    filled["formula"] = {
        **formula,
        "parameters": {
            name: _limited(value, rules[name]) if isinstance(value, Mapping) and name in rules else value
            for name, value in parameters.items()
        },
    }
    return filled


def _limited(parameter: Mapping[str, Any], rule: ParameterRule) -> dict[str, Any]:
    limits = {
        "soft_low": rule.soft.low,
        "soft_high": rule.soft.high,
        "hard_low": rule.hard.low,
        "hard_high": rule.hard.high,
    }
    return {**parameter, **{key: limit for key, limit in limits.items() if parameter.get(key) is None}}


def master_schema() -> dict[str, Any]:
    """The JSON schema of a master recipe (draft 2020-12).

    For each equipment class an `if`/`then` pair gives every parameter its unit, minimum, maximum, default, help and
    source; soft limits stand under `x-soft-minimum` and `x-soft-maximum`, because they warn and do not refuse.
    """
    schema = MasterRecipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["allOf"] = [
        {
            "if": {"properties": {"equipment_class": {"const": equipment_class.value}}},
            "then": {
                "properties": {
                    "formula": {
                        "properties": {
                            "parameters": {
                                "required": sorted(set(rules.parameters) - rules.optional),
                                "properties": {r.name: _parameter_schema(r) for r in rules.parameters.values()},
                                "additionalProperties": False,
                            },
                            "choices": {
                                "required": sorted(rules.choices),
                                "properties": {c.name: _choice_schema(c) for c in rules.choices.values()},
                                "additionalProperties": False,
                            },
                        }
                    }
                }
            },
        }
        for equipment_class, rules in RULES.items()
    ]
    return schema


def _parameter_schema(rule: ParameterRule) -> dict[str, Any]:
    limits = {
        "minimum": rule.hard.low,
        "maximum": rule.hard.high,
        "x-soft-minimum": rule.soft.low,
        "x-soft-maximum": rule.soft.high,
    }
    return {
        "description": rule.help,
        "x-source": rule.source.value,
        "properties": {
            "unit": {"const": rule.unit, "default": rule.unit},
            "target": {
                "default": float(rule.default),
                **{key: float(limit) for key, limit in limits.items() if limit is not None},
            },
        },
    }


def _choice_schema(rule: ChoiceRule) -> dict[str, Any]:
    return {
        "description": rule.help,
        "default": rule.default,
        "oneOf": [{"const": word, "description": meaning} for word, meaning in rule.options.items()],
    }
