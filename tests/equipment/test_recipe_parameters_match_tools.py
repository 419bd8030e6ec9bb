"""What recipes tell the tools and what the tools take are one vocabulary, although neither package sees the other."""

from __future__ import annotations

from decimal import Decimal

import pytest

from equipment.press import PRESS
from equipment.sputter import JUDGED_IN_DEPOSIT, SPUTTER
from equipment.tags import TagTable, TagType
from recipes.control import BoundMaterial, ControlRecipe, freeze
from recipes.kinds import founding_library
from recipes.limits import RULES, EquipmentClass
from recipes.master import MasterRecipe

TABLES = {EquipmentClass(table.equipment_class): table for table in (SPUTTER, PRESS)}
RECIPES = [document for document in founding_library() if isinstance(document, MasterRecipe)]


def control(recipe: MasterRecipe) -> ControlRecipe:
    """The recipe with the least that it takes in the tool."""
    return freeze(
        recipe,
        materials=[
            BoundMaterial(
                use=material.use,
                material=material.material,
                serial=f"{material.use}-{n}",
                quantity=material.quantity if material.unit != "piece" else Decimal(1),
                unit=material.unit,
            )
            for material in recipe.materials_in
            for n in range(int(material.quantity) if material.unit == "piece" else 1)
        ],
    )


@pytest.mark.parametrize("equipment_class", list(EquipmentClass))
def test_each_recipe_parameter_is_a_job_parameter_with_the_same_unit_inside_the_tools_limits(
    equipment_class: EquipmentClass,
) -> None:
    taken = {parameter.name: parameter for parameter in TABLES[equipment_class].job_parameters}
    for rule in RULES[equipment_class].parameters.values():
        parameter = taken[rule.name]
        assert parameter.unit == rule.unit, rule.name
        assert parameter.low is not None
        assert parameter.high is not None
        assert rule.hard.low is not None
        assert rule.hard.high is not None
        assert Decimal(str(parameter.low)) <= rule.hard.low <= rule.hard.high <= Decimal(str(parameter.high)), (
            rule.name
        )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.document_id)
def test_a_founding_recipe_gives_a_tool_all_that_it_requires_and_nothing_else(recipe: MasterRecipe) -> None:
    table = TABLES[recipe.equipment_class]
    taken = {parameter.name: parameter for parameter in table.job_parameters}
    given = {name: (value, unit) for name, value, unit in control(recipe).job_parameters()}
    assert {name for name, parameter in taken.items() if parameter.required} <= set(given) <= set(taken)
    for name, (value, unit) in given.items():
        parameter = taken[name]
        assert unit == parameter.unit
        if parameter.type is TagType.STRING:
            assert isinstance(value, str)
        else:
            assert isinstance(value, float)
            assert parameter.low is None or value >= parameter.low
            assert parameter.high is None or value <= parameter.high


@pytest.mark.parametrize("equipment_class", list(EquipmentClass))
def test_each_signal_of_a_procedure_is_a_tag_with_the_same_unit(equipment_class: EquipmentClass) -> None:
    table: TagTable = TABLES[equipment_class]
    for signal, unit in RULES[equipment_class].signals.items():
        assert table[signal].unit == unit


def test_the_phases_of_recipes_are_the_phases_of_the_tools() -> None:
    from equipment.press import PressPhase
    from equipment.sputter import SputterPhase

    for equipment_class, phases in ((EquipmentClass.SPUTTER, SputterPhase), (EquipmentClass.PRESS, PressPhase)):
        assert RULES[equipment_class].phases == tuple(phase.name.lower() for phase in phases if phase.value)


def test_what_is_judged_in_the_deposition_has_a_recipe_parameter() -> None:
    assert set(JUDGED_IN_DEPOSIT) <= set(RULES[EquipmentClass.SPUTTER].parameters)
