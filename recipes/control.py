"""The control recipe: the immutable copy of a master recipe that one run executes (ISA-88).

Frozen once with the serials of what lies in the tool, weighed amounts and the run-to-run correction; what is derived
(force, deposition time) is computed here and nowhere else. It knows the names that a job order carries, but no tool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from recipes.documents import ByName, Frozen, Identifier, Name, Number, Sealed, Text
from recipes.errors import NotRunnable
from recipes.limits import RULES, EquipmentClass, Range
from recipes.master import MasterRecipe, Material
from recipes.prediction import MAX_TIME_FACTOR, predict
from recipes.rate_model import SputterRateModel, force_kn
from recipes.run_to_run import Move
from traceability.errors import Finding
from traceability.quantities import plain

TIME_STEP_S = Decimal("0.1")
FORCE_STEP_KN = Decimal("0.001")

Serial = Annotated[str, Field(min_length=1, max_length=64)]


class BoundMaterial(Frozen):
    """A thing that lies in the tool, by its serial."""

    use: Name
    """What it is to the run, as the master recipe names it."""
    material: Identifier
    """Code of its material definition."""
    serial: Serial
    """Its identifier in the record."""
    position: Annotated[int, Field(ge=1, le=100)] | None = None
    """Place on the carrier, where it has one."""
    quantity: Annotated[Number, Field(gt=0)] = Decimal(1)
    """How much of it."""
    unit: Annotated[str, Field(max_length=16)] = "piece"
    """Unit of `quantity`."""


class Correction(Frozen):
    """A number that differs from the master recipe's, or from its model's, and why."""

    name: Name
    """The parameter."""
    unit: Annotated[str, Field(max_length=16)]
    """Of both numbers."""
    master_value: Number
    """What the master recipe, or its model, says."""
    value: Number
    """What this run uses."""
    reason: Text
    """Why."""


class ControlParameter(Frozen):
    """A number as the run uses it."""

    value: Number
    """In `unit`."""
    unit: Annotated[str, Field(max_length=16)]
    """UCUM symbol."""


class ControlRecipe(Sealed):
    """What one run executes. Never changed after it was frozen."""

    format: Literal["argonaut-control-recipe"] = "argonaut-control-recipe"
    """Tells the kind of document."""
    work_master: str
    """`id/version/sha256` of the master recipe."""
    experiment: bool
    """The run may use a recipe that is not effective, and makes nothing for product."""
    master: MasterRecipe
    """The whole master recipe."""
    parameters: ByName[ControlParameter]
    """Every number, derived ones too."""
    choices: ByName[str]
    """Every word, serials of fixed equipment too."""
    corrections: tuple[Correction, ...] = ()
    """What differs from the master recipe."""
    materials: tuple[BoundMaterial, ...] = ()
    """What lies in the tool."""
    expected_duration_s: Number
    """From start to end."""

    def job_parameters(self) -> tuple[JobValue, ...]:
        """What the job order carries, sorted by name."""
        numbers = [JobValue(name, float(p.value), p.unit) for name, p in self.parameters.items()]
        words = [JobValue(name, word, "") for name, word in self.choices.items()]
        return tuple(sorted(numbers + words))

    def value(self, name: str) -> Decimal:
        """One number in its own unit.

        Raises:
            LookupError: The recipe has no such parameter.
        """
        if name not in self.parameters:
            raise LookupError(f"the control recipe of {self.work_master} has no parameter {name!r}")
        return self.parameters[name].value


class JobValue(NamedTuple):
    """A parameter of a job order: name, value and UCUM unit ("" for words)."""

    name: str
    value: float | str
    unit: str


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A parameter set for one run inside its tolerance, e.g. the weighed powder.

    Attributes:
        value: In the parameter's unit.
        reason: Why it differs.
    """

    value: Decimal
    reason: str


def freeze(
    master: MasterRecipe,
    *,
    materials: Sequence[BoundMaterial],
    move: Move | None = None,
    adjustments: Mapping[str, Adjustment] | None = None,
    experiment: bool = False,
    model: SputterRateModel | None = None,
    target_energy_kwh: float = 0.0,
) -> ControlRecipe:
    """Make the control recipe of one run.

    Args:
        master: Valid master recipe. Whether it may be used is decided in `recipes.store`.
        materials: What lies in the tool.
        move: Run-to-run decision for this run; the model's time where None.
        adjustments: Numbers set for this run, inside the tolerance of their parameters.
        experiment: Said on everything that the run makes.
        model: Rate law behind `move`; default constants where None.
        target_energy_kwh: RF energy that the target has seen.

    Raises:
        NotRunnable: Something is not bound, bound twice or outside its tolerance; all findings at once.
    """
    changes = dict(adjustments or {})
    findings = [
        *_material_findings(master, materials),
        *_adjustment_findings(master, changes),
        *_powder_findings(master, materials, changes),
    ]
    if move is not None and Decimal(str(move.thickness_nm)) != _thickness(master):
        findings.append(
            Finding(
                "other_move",
                f"The run-to-run decision is for {move.thickness_nm:g} nm, not for this recipe.",
                "Decide anew for this recipe.",
                "move",
            )
        )
    if findings:
        raise NotRunnable(
            f"No control recipe can be made of {master.document_id} version {master.version}.", findings
        )
    parameters = {
        name: ControlParameter(
            value=changes[name].value if name in changes else parameter.target, unit=parameter.unit
        )
        for name, parameter in master.formula.parameters.items()
    }
    corrections = [
        Correction(
            name=name,
            unit=parameters[name].unit,
            master_value=master.formula.target(name),
            value=change.value,
            reason=change.reason,
        )
        for name, change in changes.items()
    ]
    prediction = predict(master, sputter_model=model, target_energy_kwh=target_energy_kwh)
    duration_s = prediction.duration_s
    choices = dict(master.formula.choices)
    if prediction.deposit_time_s is not None:
        time_s = prediction.deposit_time_s if move is None else move.time_s
        duration_s += time_s - prediction.deposit_time_s
        parameters["deposit_time_s"] = _stepped(time_s, TIME_STEP_S, "s")
        parameters["max_deposit_time_s"] = _stepped(time_s * float(MAX_TIME_FACTOR), TIME_STEP_S, "s")
        corrections += [] if move is None else _time_corrections(move, prediction.deposit_time_s)
    if master.equipment_class is EquipmentClass.PRESS:
        force = force_kn(float(parameters["pressure_mpa"].value), float(parameters["die_diameter_mm"].value))
        parameters["force_kn"] = _stepped(force, FORCE_STEP_KN, "kN")
        choices["die_id"] = next(bound.serial for bound in materials if bound.use == "die")
    return ControlRecipe(
        work_master=master.work_master,
        experiment=experiment,
        master=master,
        parameters=parameters,
        choices=choices,
        corrections=tuple(corrections),
        materials=tuple(materials),
        expected_duration_s=_stepped(duration_s, TIME_STEP_S, "s").value,
    )


def _time_corrections(move: Move, model_time_s: float) -> Iterator[Correction]:
    """The correction of the deposition time, where there is any to the step of the tool."""
    by_model, used = (_stepped(time_s, TIME_STEP_S, "s").value for time_s in (model_time_s, move.time_s))
    if used != by_model:
        approval = f", approved by {move.approved_by}" if move.approved_by else ""
        reason = f"run-to-run control, {move.reason}{approval}"
        yield Correction(name="deposit_time_s", unit="s", master_value=by_model, value=used, reason=reason)


def _stepped(value: float, step: Decimal, unit: str) -> ControlParameter:
    return ControlParameter(value=Decimal(str(value)).quantize(step), unit=unit)


def _thickness(master: MasterRecipe) -> Decimal | None:
    parameter = master.formula.parameters.get("thickness_nm")
    return None if parameter is None else parameter.target


def _material_findings(master: MasterRecipe, bound: Sequence[BoundMaterial]) -> Iterator[Finding]:
    wanted = {material.use: material for material in master.materials_in}
    for material in wanted.values():
        yield from _amount_findings(material, [b for b in bound if b.use == material.use])
    for b in bound:
        if b.use not in wanted:
            yield Finding(
                "material_not_wanted", f"{b.serial} is bound as {b.use}, which the recipe has not.", "Leave it out.",
                b.serial,
            )  # fmt: skip
        elif b.material not in {wanted[b.use].material, *wanted[b.use].alternatives}:
            yield Finding(
                "wrong_material",
                f"{b.serial} is {b.material}; as {b.use} the recipe takes {wanted[b.use].material}"
                + "".join(f" or {other}" for other in wanted[b.use].alternatives)
                + ".",
                "Take another one.",
                b.serial,
            )
    for serial, count in Counter(b.serial for b in bound if b.unit == "piece").items():
        if count > 1:
            yield Finding("bound_twice", f"{serial} is bound {count} times.", "Scan each thing once.", serial)
    for position, count in Counter(b.position for b in bound if b.position is not None).items():
        if count > 1:
            yield Finding(
                "position_twice", f"{count} things lie at position {position}.", "Give each a place of its own.",
                f"materials.{position}",
            )  # fmt: skip


def _amount_findings(material: Material, bound: Sequence[BoundMaterial]) -> Iterator[Finding]:
    path = f"materials.{material.use}"
    for b in bound:
        if b.unit != material.unit:
            yield Finding(
                "wrong_unit", f"{b.serial} is bound in {b.unit}, not in {material.unit}.", "Convert it.", path
            )
            return
    amount = sum((b.quantity for b in bound), Decimal(0))
    most = material.at_most or material.quantity
    if not bound:
        yield Finding(
            "material_missing",
            f"No {material.use} is bound; the recipe takes {plain(material.quantity)} {material.unit} of "
            f"{material.material}.",
            "Scan it.",
            path,
        )
    elif material.unit == "piece" and not material.quantity <= amount <= most:
        yield Finding(
            "wrong_amount",
            f"{plain(amount)} of {material.use} are bound; the recipe takes {plain(material.quantity)}"
            + (f" to {plain(most)}." if most != material.quantity else "."),
            "Bind the right number.",
            path,
        )


def _powder_findings(
    master: MasterRecipe, bound: Sequence[BoundMaterial], changes: Mapping[str, Adjustment]
) -> Iterator[Finding]:
    """The powder that was weighed in and the mass that the run reckons with are one number."""
    parameter = master.formula.parameters.get("powder_mass_mg")
    weighed = [b for b in bound if b.use == "powder" and b.unit == "mg"]
    if parameter is None or not weighed:
        return
    amount = sum((b.quantity for b in weighed), Decimal(0))
    mass = changes["powder_mass_mg"].value if "powder_mass_mg" in changes else parameter.target
    if amount != mass:
        yield Finding(
            "wrong_amount",
            f"{plain(amount)} mg of powder are bound, but the run reckons with {plain(mass)} mg.",
            "Adjust powder_mass_mg to the weighed mass.",
            "materials.powder",
        )


def _adjustment_findings(master: MasterRecipe, changes: Mapping[str, Adjustment]) -> Iterator[Finding]:
    rules = RULES[master.equipment_class]
    for name, change in changes.items():
        parameter = master.formula.parameters.get(name)
        if parameter is None or name not in rules.parameters:
            yield Finding("unknown_parameter", f"The recipe has no parameter {name}.", "Leave it out.", name)
            continue
        off = abs(change.value - parameter.target)
        if off and (parameter.tolerance is None or off > parameter.tolerance):
            allowed = "no tolerance" if parameter.tolerance is None else f"± {plain(parameter.tolerance)}"
            yield Finding(
                "outside_tolerance",
                f"{name} {plain(change.value)} {parameter.unit} is outside {plain(parameter.target)} ({allowed}).",
                "Bring it inside, or write another version of the recipe.",
                name,
            )
        elif change.value not in Range(parameter.hard_low, parameter.hard_high):
            yield Finding(
                "out_of_hard_limits", f"{name} {plain(change.value)} is outside its hard limits.", "Bring it inside.",
                name,
            )  # fmt: skip
