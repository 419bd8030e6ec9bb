"""What the end of a run brings about: coated discs, pellets and stacks, genealogy, wear, exposure and deviations.

Called once for a run, within the transaction that ends it. What a tool has done is a fact: a hold or an expiry that
came meanwhile does not undo it, and what was not finished comes into being on hold. A run of which nothing reached
the things in it gives them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from equipment.deviations import judge
from equipment.jobs import JobResponse
from equipment.maintenance import Target, count_wear, register_target
from equipment.press import EQUIPMENT_CLASS as PRESS_CLASS
from equipment.press import PressOperation
from equipment.run_records import (
    DeviationGrade,
    DeviationKind,
    Run,
    RunPosition,
    Use,
    note_deviation,
    positions_of,
)
from equipment.sputter import EQUIPMENT_CLASS as SPUTTER_CLASS
from equipment.states import RunState
from equipment.tool_classes import GLOVEBOX
from equipment.trace_reading import mean_of
from recipes.control import ControlRecipe
from traceability.activities import ActivityRow, Outcome, end_activity, find_activity
from traceability.canonical import canonical_value
from traceability.database import RecordSession
from traceability.exposure import Atmosphere, count_dose, counted_until, move
from traceability.genealogy import EdgeKind
from traceability.holds import place_hold
from traceability.items import ItemKind
from traceability.layers import add_layer
from traceability.materials import find_lot, find_material
from traceability.quantities import Quantity
from traceability.units import Source, Unit, UnitEvent, UnitStatus, advance_unit, create_unit, find_unit

_OUTCOMES: Mapping[RunState, Outcome] = {
    RunState.COMPLETED: Outcome.COMPLETED,
    RunState.STOPPED: Outcome.STOPPED,
    RunState.ABORTED: Outcome.ABORTED,
}
_WATER_PPM_OF_RESIDUAL_GAS = 1e6
"""What is left in a pumped chamber is taken to be water altogether: the worst case for lithium."""

_BOX_PRESSURE_PA = 101_325.0


def complete(record: RecordSession, run: Run, response: JobResponse) -> None:
    """Record what a run that has just ended has done and made.

    Args:
        record: Open write session, inside the act that ends the run.
        run: In its end state; its activity is open.
        response: What the tool says of the ended job.
    """
    run.ended_at = response.ended_at or record.clock.now()
    run.actuals = {
        name: {"value": canonical_value(parameter.value), "unit": parameter.unit}
        for name, parameter in response.actuals.items()
    }
    record.add(run)
    if run.activity_id is None:
        raise RuntimeError(f"{run.serial} ended without having been started")
    activity = find_activity(record, run.activity_id)
    control = ControlRecipe.from_canonical(run.control_recipe)
    judge(record, run, control)
    if _reached_the_things(run):
        _COMPLETIONS[run.equipment_class](record, run, control, activity)
    else:
        release_unused(record, run)
    if run.started_at is not None and run.started_at != activity.started_at:
        with record.act("run.moved", run.serial):
            activity.started_at = run.started_at
            record.add(activity)
    end_activity(record, activity, _OUTCOMES[run.state], ended_at=run.ended_at, detail={"actuals": run.actuals})


def release_unused(record: RecordSession, run: Run, hold: str = "") -> None:
    """Give back the things of a run that nothing was done to; put them on hold where that is not sure.

    Args:
        record: Open write session, inside an act.
        run: A run that made nothing.
        hold: Why they can't be trusted; "" where they can.
    """
    for position in positions_of(record, run):
        if position.is_unit and find_unit(record, position.serial).status is UnitStatus.IN_PROCESS:
            advance_unit(record, position.serial, UnitEvent.UNLOAD)
            move(record, position.serial, Atmosphere.GLOVEBOX, GLOVEBOX)
            if hold:
                place_hold(record, position.serial, reason=hold)


def _reached_the_things(run: Run) -> bool:
    """Film grew, or force was put on; where the tool tells neither, a completed run did and another one may have."""
    name = "deposit_time_s" if run.equipment_class == SPUTTER_CLASS else "peak_force_kn"
    amount = run.actual(name)
    return amount is None or amount > 0


def _sputtered(record: RecordSession, run: Run, control: ControlRecipe, activity: ActivityRow) -> None:
    positions = positions_of(record, run)
    target = next(p for p in positions if p.use is Use.TARGET)
    _wear_target(record, run, target)
    nominal = control.value("thickness_nm")
    incomplete = _incomplete_film(run, control)
    film = _film_material(record, target, control)
    by_crystal = run.actual("thickness_qcm_nm")
    measured = by_crystal if by_crystal is not None and by_crystal > 0 else None
    for position in positions:
        if position.use not in (Use.DISC, Use.WITNESS):
            continue
        _count_chamber(record, run, position.serial)
        is_disc = position.use is Use.DISC
        made = _make(
            record,
            run,
            activity,
            ItemKind.COATED_DISC if is_disc else ItemKind.WITNESS,
            product=_product(control, "coated_disc") if is_disc else find_unit(record, position.serial).product,
            properties={
                "thickness_nominal_nm": nominal,
                "thickness_qcm_nm": _decimal(measured, "0.001"),
                "position": position.position,
                "interrupted": run.interrupted,
            },
            sources=[Source(position.serial, EdgeKind.TRANSFORMED), Source(target.serial, EdgeKind.INCORPORATED)],
            incomplete=incomplete,
        )
        position.result_serial = made.serial
        record.add(position)
        add_layer(
            record,
            made.serial,
            activity=activity,
            material_code=film,
            target_serial=target.serial,
            position=position.position or 0,
            nominal_thickness_nm=float(nominal),
            measured_thickness_nm=measured,
        )


def _pressed_pellet(record: RecordSession, run: Run, control: ControlRecipe, activity: ActivityRow) -> None:
    powder = [p for p in positions_of(record, run) if p.use is Use.POWDER]
    pellet = _make(
        record,
        run,
        activity,
        ItemKind.PELLET,
        product=_product(control, "pellet"),
        properties=_pressed_properties(run, control),
        sources=[
            Source(p.serial, EdgeKind.TRANSFORMED, _what_is_left(record, run, p, Quantity(p.quantity, p.unit)))
            for p in powder
            if p.quantity is not None
        ],
        incomplete=_incomplete_stroke(run),
        serial=run.product_serial,
    )
    for position in powder:
        position.result_serial = pellet.serial
        record.add(position)


def _pressed_stack(record: RecordSession, run: Run, control: ControlRecipe, activity: ActivityRow) -> None:
    parts = [p for p in positions_of(record, run) if p.item_id is not None]
    for part in parts:
        if part.use is Use.DISC:
            _count_press(record, run, part.serial)
    stack = _make(
        record,
        run,
        activity,
        ItemKind.HALF_STACK,
        product=_product(control, "half_stack"),
        properties=_pressed_properties(run, control),
        sources=[
            Source(
                p.serial,
                EdgeKind.INCORPORATED,
                None if p.quantity is None else _what_is_left(record, run, p, Quantity(p.quantity, p.unit)),
            )
            for p in parts
        ],
        incomplete=_incomplete_stroke(run),
    )
    for position in parts:
        position.result_serial = stack.serial
        record.add(position)


def _pressed(record: RecordSession, run: Run, control: ControlRecipe, activity: ActivityRow) -> None:
    (_pressed_pellet if makes_pellet(control) else _pressed_stack)(record, run, control, activity)


def makes_pellet(control: ControlRecipe) -> bool:
    """Whether a pellet comes out of a press run that did not go in."""
    return control.choices.get("operation") == PressOperation.PELLET


_Completion = Callable[[RecordSession, Run, ControlRecipe, ActivityRow], None]
_COMPLETIONS: Mapping[str, _Completion] = {SPUTTER_CLASS: _sputtered, PRESS_CLASS: _pressed}


def _make(
    record: RecordSession,
    run: Run,
    activity: ActivityRow,
    kind: ItemKind,
    *,
    product: str,
    properties: dict[str, Any],
    sources: Sequence[Source],
    incomplete: str,
    serial: str = "",
) -> Unit:
    """Bring a unit into being; with a reason in `incomplete` it is held from the first moment."""
    unit = create_unit(
        record,
        kind,
        activity=activity,
        product=product,
        properties={
            "run": run.serial,
            "experiment": run.experiment,
            "complete": not incomplete,
            **{name: value for name, value in properties.items() if value is not None},
        },
        sources=sources,
        happened=True,
        serial=serial,
    )
    move(record, unit.serial, Atmosphere.GLOVEBOX, GLOVEBOX)
    if incomplete:
        place_hold(record, unit.serial, reason=incomplete)
    return unit


def _wear_target(record: RecordSession, run: Run, target: RunPosition) -> None:
    if record.get(Target, target.item_id) is None:
        register_target(record, target.serial)
    count_wear(record, target.serial, _decimal(run.actual("energy_kwh"), "0.000001") or Decimal(0))


def _count_chamber(record: RecordSession, run: Run, serial: str) -> None:
    """Count what a disc took up in the chamber, up to its film: it lay bare in what the pumps leave."""
    pressure_pa = run.actual("base_pressure_pa")
    if pressure_pa is not None:
        _count(record, run, serial, Atmosphere.CHAMBER, _WATER_PPM_OF_RESIDUAL_GAS, 0.0, pressure_pa)


def _count_press(record: RecordSession, run: Run, serial: str) -> None:
    """Count what a disc took up in the press, by the glovebox's sensors as they stand in the trace."""
    connection = record.connection()
    water, oxygen = (mean_of(connection, run.key, tag) for tag in ("glovebox_h2o_ppm", "glovebox_o2_ppm"))
    if water is not None and oxygen is not None:
        _count(record, run, serial, Atmosphere.PRESS, max(water, 0.0), max(oxygen, 0.0), _BOX_PRESSURE_PA)


def _count(
    record: RecordSession,
    run: Run,
    serial: str,
    atmosphere: Atmosphere,
    water_ppm: float,
    oxygen_ppm: float,
    pressure_pa: float,
) -> None:
    """Count a dose over the run, but for the time that is counted already."""
    if run.started_at is None or run.ended_at is None:
        return
    start = max(run.started_at, counted_until(record, serial) or run.started_at)
    if start < run.ended_at:
        count_dose(record, serial, atmosphere, start, run.ended_at, water_ppm, oxygen_ppm, pressure_pa)


def _incomplete_film(run: Run, control: ControlRecipe) -> str:
    if run.state is RunState.COMPLETED:
        return ""
    remaining = run.actual("thickness_remaining_nm")
    missing = "" if remaining is None else f", {remaining:.1f} of {control.value('thickness_nm')} nm are missing"
    return f"{run.serial} was {run.state} before the film was complete{missing}."


def _incomplete_stroke(run: Run) -> str:
    if run.state is not RunState.COMPLETED:
        return f"{run.serial} was {run.state} before its stroke was complete."
    broken = run.actuals.get("fractured", {}).get("value") is True
    return f"The pellet broke in {run.serial}." if broken else ""


def _pressed_properties(run: Run, control: ControlRecipe) -> dict[str, Any]:
    measured = {
        name: _decimal(run.actual(name), step)
        for name, step in (
            ("thickness_mm", "0.0001"),
            ("stack_thickness_mm", "0.0001"),
            ("density_g_per_cm3", "0.0001"),
            ("relative_density", "0.0001"),
            ("peak_force_kn", "0.001"),
            ("mean_dwell_pressure_mpa", "0.01"),
        )
    }
    return {
        **measured,
        "powder_mass_mg": control.value("powder_mass_mg"),
        "die_diameter_mm": control.value("die_diameter_mm"),
        "pressure_mpa": control.value("pressure_mpa"),
    }


def _what_is_left(record: RecordSession, run: Run, position: RunPosition, wanted: Quantity) -> Quantity:
    """The amount a run used of a lot; where the lot has less on record, that is all there is to take."""
    left = find_lot(record, position.serial, lock=True).left.to(wanted.unit)
    if left.value >= wanted.value:
        return wanted
    message = f"{position.serial} has only {left} on record, but {wanted} of it lay in the die."
    note_deviation(
        record, run, DeviationKind.DOUBTFUL, DeviationGrade.MAJOR, message, source=f"quantity of {position.serial}"
    )
    return left


def _film_material(record: RecordSession, target: RunPosition, control: ControlRecipe) -> str:
    """The code of what grows from a target: its material's property `film_material`, else the target's own code."""
    code = next(bound.material for bound in control.materials if bound.use == Use.TARGET)
    return str(find_material(record, code).properties.get("film_material", code))


def _product(control: ControlRecipe, use: str) -> str:
    return next((made.material for made in control.master.materials_out if made.use == use), "")


def _decimal(value: float | None, step: str) -> Decimal | None:
    return None if value is None else Decimal(repr(value)).quantize(Decimal(step))
