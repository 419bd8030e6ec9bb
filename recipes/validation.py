"""The dry run of a master recipe: everything that is wrong with it, at once, each with what to do.

Input may be any text or data; nothing here raises because of it. The rules are those of the document alone: whether
materials are in stock or a tool is ready is asked at dispatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from recipes.documents import read
from recipes.errors import UnreadableDocument
from recipes.formula import Parameter
from recipes.limits import RULES, EquipmentClass, EquipmentRules, ParameterRule, Range
from recipes.master import MasterRecipe, with_limits
from recipes.prediction import MAX_TIME_FACTOR, deposit_time_s
from recipes.procedure_rules import procedure_findings
from recipes.rate_model import SputterRateModel, force_kn
from recipes.reading import MasterParts, Report, did_you_mean, read_master_parts, read_whole
from traceability.errors import Finding, Severity
from traceability.quantities import plain

PRESS_LIMIT_KN = 35.4
"""Largest force of the press: 450 MPa on a 10 mm die."""


def validate_master(document: str | bytes | Mapping[str, Any]) -> Report[MasterRecipe]:
    """Find everything that is wrong with a master recipe in YAML, JSON or plain data."""
    try:
        data = with_limits(read(document))
    except UnreadableDocument as error:
        return Report[MasterRecipe].unreadable(error)
    master, findings = read_whole(MasterRecipe, data)
    return Report.judged(master, [*findings, *_content_findings(read_master_parts(data))])


def _content_findings(parts: MasterParts) -> Iterator[Finding]:
    if parts.equipment_class is None:
        return
    rules = RULES[parts.equipment_class]
    for name, parameter in parts.formula.parameters.items():
        yield from _parameter_findings(name, parameter, rules)
    yield from _choice_findings(parts, rules)
    yield from _presence_findings(parts, rules)
    if parts.equipment_class is EquipmentClass.SPUTTER:
        yield from _sputter_findings(parts)
    else:
        yield from _press_findings(parts)
    yield from procedure_findings(parts, rules)
    yield from _material_findings(parts)


def _parameter_findings(name: str, parameter: Parameter, rules: EquipmentRules) -> Iterator[Finding]:
    path = f"formula.parameters.{name}"
    if name in rules.derived:
        return
    if name not in rules.parameters:
        action = did_you_mean(name, rules.parameters)
        yield Finding("unknown_parameter", f"{name} is no parameter of this equipment class.", action, path)
        return
    rule = rules.parameters[name]
    if parameter.unit != rule.unit:
        yield Finding(
            "wrong_unit",
            f"{name} is given in {parameter.unit or 'no unit'}, not in {rule.unit}.",
            f"Convert the number and all its limits to {rule.unit}.",
            f"{path}.unit",
        )
        return
    yield from _limit_findings(name, path, parameter, rule)


def _limit_findings(name: str, path: str, parameter: Parameter, rule: ParameterRule) -> Iterator[Finding]:
    hard = Range(parameter.hard_low, parameter.hard_high)
    soft = Range(parameter.soft_low, parameter.soft_high)
    for side in ("low", "high"):
        own, allowed = getattr(hard, side), getattr(rule.hard, side)
        if own is not None and allowed is not None and (own < allowed if side == "low" else own > allowed):
            yield Finding(
                "limit_widened",
                f"The hard limit {plain(own)} {rule.unit} of {name} is wider than the equipment class allows "
                f"({plain(allowed)} {rule.unit}).",
                "Narrow it or leave it out.",
                f"{path}.hard_{side}",
            )
    for kind, limits in (("hard", hard), ("soft", soft)):
        if limits.low is not None and limits.high is not None and limits.low > limits.high:
            yield Finding(
                "limits_crossed",
                f"The {kind} limits of {name} are crossed: {plain(limits.low)} is above {plain(limits.high)}.",
                "Exchange them.",
                f"{path}.{kind}_low",
            )
    if parameter.target not in hard or parameter.target not in rule.hard:
        bound = hard if parameter.target not in hard else rule.hard
        yield Finding(
            "out_of_hard_limits",
            f"{name} is {plain(parameter.target)} {rule.unit}; it must be {bound}.",
            f"Choose a value inside; usual is {plain(rule.default)} {rule.unit}.",
            f"{path}.target",
        )
    elif parameter.target not in soft:
        yield Finding(
            "out_of_soft_limits",
            f"{name} is {plain(parameter.target)} {rule.unit}; usual is {soft}.",
            "Check that it is meant, and say why in the recipe's description.",
            f"{path}.target",
            Severity.WARNING,
        )
    if parameter.tolerance is not None and parameter.tolerance > abs(parameter.target):
        yield Finding(
            "tolerance_too_wide",
            f"The tolerance of {name} ({plain(parameter.tolerance)} {rule.unit}) is larger than its target.",
            f"Give it in {rule.unit}, not in percent.",
            f"{path}.tolerance",
            Severity.WARNING,
        )


def _choice_findings(parts: MasterParts, rules: EquipmentRules) -> Iterator[Finding]:
    for name, word in parts.formula.choices.items():
        path = f"formula.choices.{name}"
        if name not in rules.choices:
            action = did_you_mean(name, rules.choices)
            yield Finding("unknown_choice", f"{name} is no choice of this equipment class.", action, path)
        elif word not in rules.choices[name].options:
            action = did_you_mean(word, rules.choices[name].options)
            yield Finding("unknown_option", f"{name} can't be {word!r}.", action, path)


def _presence_findings(parts: MasterParts, rules: EquipmentRules) -> Iterator[Finding]:
    for name in sorted(parts.named & set(rules.derived)):
        yield Finding(
            "derived_parameter",
            f"{name} is never typed: {rules.derived[name]}{_disagreement(name, parts)}.",
            "Leave it out.",
            f"formula.parameters.{name}",
        )
    for rule in rules.parameters.values():
        if rule.name not in parts.named and rule.name not in rules.optional:
            yield Finding(
                "missing_parameter",
                f"{rule.name} is missing. {rule.help}",
                f"Add it; usual is {plain(rule.default)} {rule.unit}.",
                f"formula.parameters.{rule.name}",
            )
    for choice in rules.choices.values():
        if choice.name not in parts.named:
            yield Finding(
                "missing_choice",
                f"{choice.name} is missing. {choice.help}",
                f"Add one of {', '.join(choice.options)}; usual is {choice.default}.",
                f"formula.choices.{choice.name}",
            )


def _disagreement(name: str, parts: MasterParts) -> str:
    """How far a typed force is from what pressure and die make of it."""
    typed = parts.formula.parameters.get(name)
    pressure = parts.formula.parameters.get("pressure_mpa")
    die = parts.formula.parameters.get("die_diameter_mm")
    if typed is None or pressure is None or die is None or not name.startswith("force"):
        return ""
    force = Decimal(str(force_kn(float(pressure.target), float(die.target))))
    given = typed.target / 1000 if name == "force_n" else typed.target
    if abs(given - force) <= abs(force) / 100:
        return ""
    return (
        f"; here it even disagrees: {plain(pressure.target)} MPa on {plain(die.target)} mm is {force:.2f} kN, "
        f"not {given:.2f} kN"
    )


def _material_findings(parts: MasterParts) -> Iterator[Finding]:
    uses = [material.use for material in parts.materials_in]
    for use in sorted({use for use in uses if uses.count(use) > 1}):
        yield Finding(
            "use_twice",
            f"{use} stands {uses.count(use)} times among the materials that go in.",
            "Join them: one line a use, others under alternatives.",
            "materials_in",
        )
    fixed = {EquipmentClass.SPUTTER: "target", EquipmentClass.PRESS: "die"}
    if parts.equipment_class is not None and fixed[parts.equipment_class] not in uses:
        use = fixed[parts.equipment_class]
        yield Finding(
            "missing_material", f"The {use} is missing among the materials that go in.", f"Add {use}.", "materials_in"
        )


def _sputter_findings(parts: MasterParts) -> Iterator[Finding]:
    targets = {name: parameter.target for name, parameter in parts.formula.parameters.items()}
    bare = [material.material for material in parts.materials_in if material.bare_lithium]
    if bare and targets.get("oxygen_fraction", Decimal(0)) > 0:
        yield Finding(
            "oxygen_with_bare_lithium",
            f"Oxygen would burn the bare lithium of {', '.join(bare)}.",
            "Set oxygen_fraction to 0, or coat discs that are covered already.",
            "formula.parameters.oxygen_fraction.target",
        )
    for lower, upper, why in (
        ("working_pressure_pa", "strike_pressure_pa", "the plasma strikes at the higher pressure"),
        ("strike_power_w", "rf_power_w", "the power is ramped up from the strike"),
        ("reflected_warn_percent", "reflected_trip_percent", "a warning comes before the trip"),
        ("cool_to_c", "substrate_temp_c", "it is vented colder than it was deposited"),
    ):
        if lower in targets and upper in targets and targets[lower] > targets[upper]:
            yield Finding(
                "inconsistent_parameters",
                f"{lower} ({plain(targets[lower])}) is above {upper} ({plain(targets[upper])}), but {why}.",
                f"Lower {lower} or raise {upper}.",
                f"formula.parameters.{lower}.target",
            )
    if parts.formula.choices.get("endpoint") in {"qcm", "first"} and "qcm_tooling_factor" not in targets:
        yield Finding(
            "tooling_factor_missing",
            "The crystal ends the deposition, but no tooling factor is given.",
            "Add qcm_tooling_factor from the last calibration.",
            "formula.parameters.qcm_tooling_factor",
        )
    yield from _deposit_time_findings(parts, targets)


def _deposit_time_findings(parts: MasterParts, targets: Mapping[str, Decimal]) -> Iterator[Finding]:
    """The deposition's time-out against 1.3 times the predicted time."""
    names = ("rf_power_w", "working_pressure_pa", "thickness_nm")
    if any(targets.get(name, Decimal(0)) <= 0 for name in names):
        return
    predicted = deposit_time_s(targets, SputterRateModel())
    longest = predicted * float(MAX_TIME_FACTOR)
    for path, phase in parts.phases:
        if phase.phase != "deposit":
            continue
        if phase.timeout_s < longest:
            yield Finding(
                "timeout_too_short",
                f"The deposition is predicted to take {predicted:.0f} s and may take {longest:.0f} s "
                f"({plain(MAX_TIME_FACTOR)} times), but is ended after {plain(phase.timeout_s)} s.",
                f"Raise timeout_s to at least {longest:.0f}.",
                f"{path}.timeout_s",
            )
        elif phase.timeout_s > 2 * longest:
            yield Finding(
                "timeout_too_long",
                f"The deposition is predicted to take {predicted:.0f} s; a fault would show only after "
                f"{plain(phase.timeout_s)} s.",
                f"Lower timeout_s towards {longest:.0f}.",
                f"{path}.timeout_s",
                Severity.WARNING,
            )


def _press_findings(parts: MasterParts) -> Iterator[Finding]:
    targets = {name: parameter.target for name, parameter in parts.formula.parameters.items()}
    if "pressure_mpa" not in targets or "die_diameter_mm" not in targets:
        return
    force = force_kn(float(targets["pressure_mpa"]), float(targets["die_diameter_mm"]))
    asked = f"{plain(targets['pressure_mpa'])} MPa on {plain(targets['die_diameter_mm'])} mm needs {force:.2f} kN"
    if force > PRESS_LIMIT_KN:
        yield Finding(
            "force_above_press",
            f"{asked}; the press gives at most {PRESS_LIMIT_KN} kN.",
            "Lower pressure_mpa or take a smaller die.",
            "formula.parameters.pressure_mpa.target",
        )
    if float(targets.get("preload_kn", Decimal(0))) >= force:
        yield Finding(
            "inconsistent_parameters",
            f"The preload is not below the pressing force: {asked}.",
            "Lower preload_kn.",
            "formula.parameters.preload_kn.target",
        )
    if parts.formula.choices.get("operation") == "pellet" and targets.get("added_thickness_mm", Decimal(0)) > 0:
        yield Finding(
            "inconsistent_parameters",
            "Nothing lies beside the powder when a pellet is pressed.",
            "Leave added_thickness_mm out.",
            "formula.parameters.added_thickness_mm.target",
        )
