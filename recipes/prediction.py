"""What a recipe is expected to do: duration, energy, thickness and the course of its setpoints.

Predictions come from the recipe's own numbers and the laws of `recipes.rate_model`; every assumption beyond them is
said in words. Nothing here is learned from runs: run-to-run control corrects the rate separately.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from recipes.limits import EquipmentClass
from recipes.master import MasterRecipe
from recipes.rate_model import HeckelModel, SputterRateModel, force_kn

MAX_TIME_FACTOR = Decimal("1.3")
"""A deposition may take this much longer than predicted before it is ended."""

AMBIENT_C = 22.0
HOLDER_RISE_C = 25.0
HOLDER_FULL_POWER_W = 141.0
HOLDER_TIME_CONSTANT_S = 3600.0
ROUGH_TIME_CONSTANT_S = 10.8
TURBO_S = 180.0
GAS_S = 10.0
STRIKE_S = 10.0
SETTLE_S = 15.0
VENT_S = 120.0
PRESSURE_AFTER_ONE_HOUR_PA = 1e-4
ULTIMATE_PRESSURE_PA = 2e-5


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """How long one phase takes, in seconds."""

    phase: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """A setpoint over the time since start, linear between its points.

    Attributes:
        points: Pairs of seconds and value in `unit`; two points at one time are a step.
    """

    signal: str
    unit: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a recipe is expected to do.

    Attributes:
        duration_s: From start to end without the operator's part.
        energy_kwh: RF energy of the whole run; 0 for the press.
        thickness_nm: Of the film; None for the press.
        thickness_mm: Of the pellet under pressure; None for the sputter tool or where no powder is pressed.
        rate_nm_per_min: Of the film; None for the press.
        deposit_time_s, max_deposit_time_s: Shutter open; None for the press.
        force_kn: At pressure; None for the sputter tool.
        phases: In running order.
        profile: Course of the main setpoints.
        assumptions: Whole sentences.
    """

    duration_s: float
    energy_kwh: float
    thickness_nm: float | None
    thickness_mm: float | None
    rate_nm_per_min: float | None
    deposit_time_s: float | None
    max_deposit_time_s: float | None
    force_kn: float | None
    phases: tuple[PhaseTime, ...]
    profile: tuple[Series, ...]
    assumptions: tuple[str, ...]


def predict(
    master: MasterRecipe,
    *,
    sputter_model: SputterRateModel | None = None,
    heckel_model: HeckelModel | None = None,
    target_energy_kwh: float = 0.0,
) -> Prediction:
    """What a valid master recipe is expected to do.

    Args:
        master: A recipe without findings of severity error.
        sputter_model: Rate law; the default constants where None.
        heckel_model: Density law; the default constants where None.
        target_energy_kwh: RF energy that the target has seen before.

    Raises:
        LookupError: The formula lacks a parameter.
        ValueError: A parameter is out of the law's range.
    """
    targets = {name: parameter.target for name, parameter in master.formula.parameters.items()}
    if master.equipment_class is EquipmentClass.SPUTTER:
        return predict_sputter(targets, sputter_model or SputterRateModel(), target_energy_kwh)
    return predict_press(targets, heckel_model or HeckelModel())


def deposit_time_s(targets: Mapping[str, Decimal], model: SputterRateModel, target_energy_kwh: float = 0.0) -> float:
    """Seconds with the shutter open for the thickness wanted.

    Raises:
        LookupError: A parameter is missing.
        ValueError: A parameter is out of the law's range.
    """
    rate = model.rate_nm_per_min(
        float(targets["rf_power_w"]), float(targets["working_pressure_pa"]), target_energy_kwh
    )
    return 60.0 * float(targets["thickness_nm"]) / rate


def pump_down_s(base_pressure_pa: float) -> float:
    """Seconds in high vacuum to a base pressure after a dry vent: `p = p1h·(1 h/t) + p_ult`.

    Raises:
        ValueError: The pump's ultimate pressure is not below it.
    """
    if base_pressure_pa <= ULTIMATE_PRESSURE_PA:
        raise ValueError(f"{base_pressure_pa} Pa is not above the ultimate pressure {ULTIMATE_PRESSURE_PA} Pa")
    return 3600.0 * PRESSURE_AFTER_ONE_HOUR_PA / (base_pressure_pa - ULTIMATE_PRESSURE_PA)


def predict_sputter(
    targets: Mapping[str, Decimal], model: SputterRateModel, target_energy_kwh: float = 0.0
) -> Prediction:
    """See `predict`; `targets` by parameter name, each in its own unit."""
    power, strike_power = float(targets["rf_power_w"]), float(targets["strike_power_w"])
    pressure, strike_pressure = float(targets["working_pressure_pa"]), float(targets["strike_pressure_pa"])
    deposit_s = deposit_time_s(targets, model, target_energy_kwh)
    ramp_up_s = 60.0 * abs(power - strike_power) / float(targets["power_ramp_up_w_per_min"])
    ramp_down_s = 60.0 * power / float(targets["power_ramp_down_w_per_min"])
    presputter_s = 60.0 * float(targets["presputter_min"])
    hot_s = ramp_up_s + presputter_s + deposit_s
    holder_rise = HOLDER_RISE_C * power / HOLDER_FULL_POWER_W * -math.expm1(-hot_s / HOLDER_TIME_CONSTANT_S)
    rest = float(targets["cool_to_c"]) - AMBIENT_C
    cool_s = HOLDER_TIME_CONSTANT_S * math.log(holder_rise / rest) if 0 < rest < holder_rise else 0.0
    phases = (
        PhaseTime("rough", ROUGH_TIME_CONSTANT_S * math.log(1e5 / 10.0)),
        PhaseTime("turbo", TURBO_S),
        PhaseTime("hivac", pump_down_s(float(targets["base_pressure_pa"])) + float(targets["rate_of_rise_s"])),
        PhaseTime("gas", GAS_S),
        PhaseTime("strike", STRIKE_S),
        PhaseTime("settle", SETTLE_S),
        PhaseTime("ramp", ramp_up_s),
        PhaseTime("presputter", presputter_s),
        PhaseTime("deposit", deposit_s),
        PhaseTime("ramp_down", ramp_down_s),
        PhaseTime("cool", cool_s),
        PhaseTime("vent", VENT_S),
    )
    begin = _begins(phases)
    power_course = (
        (0.0, 0.0), (begin["strike"], 0.0), (begin["strike"], strike_power), (begin["ramp"], strike_power),
        (begin["presputter"], power), (begin["ramp_down"], power), (begin["cool"], 0.0), (begin["end"], 0.0),
    )  # fmt: skip
    pressure_course = (
        (begin["gas"], strike_pressure), (begin["settle"], strike_pressure), (begin["settle"], pressure),
        (begin["cool"], pressure),
    )  # fmt: skip
    plasma_w_s = (
        strike_power * (STRIKE_S + SETTLE_S)
        + (power + strike_power) / 2 * ramp_up_s
        + power * (presputter_s + deposit_s)
        + power / 2 * ramp_down_s
    )
    return Prediction(
        duration_s=begin["end"],
        energy_kwh=plasma_w_s / 3.6e6,
        thickness_nm=float(targets["thickness_nm"]),
        thickness_mm=None,
        rate_nm_per_min=60.0 * float(targets["thickness_nm"]) / deposit_s,
        deposit_time_s=deposit_s,
        max_deposit_time_s=deposit_s * float(MAX_TIME_FACTOR),
        force_kn=None,
        phases=phases,
        profile=(
            Series("rf_forward_power_w", "W", power_course),
            Series("chamber_pressure_pa", "Pa", pressure_course),
        ),
        assumptions=(
            f"The target has seen {target_energy_kwh:g} kWh and keeps its rate during the run.",
            f"A mean target gives {model.reference_rate_nm_per_min:g} nm/min at {model.reference_power_w:g} W, "
            f"{model.reference_pressure_pa:g} Pa and {model.reference_distance_mm:g} mm.",
            "The chamber was last vented with dry argon; after air the pump-down takes ten times as long.",
            f"The room has {AMBIENT_C:g} °C; the plasma strikes at the first try.",
            "Loading and unloading by the operator are not counted.",
        ),
    )


def predict_press(targets: Mapping[str, Decimal], model: HeckelModel) -> Prediction:
    """See `predict`; `targets` by parameter name, each in its own unit."""
    pressure, diameter = float(targets["pressure_mpa"]), float(targets["die_diameter_mm"])
    preload, force = float(targets["preload_kn"]), force_kn(pressure, diameter)
    phases = (
        PhaseTime("preload", float(targets["preload_s"])),
        PhaseTime("ramp", max(force - preload, 0.0) / float(targets["ramp_kn_per_s"])),
        PhaseTime("dwell", float(targets["dwell_s"])),
        PhaseTime("unload", force / float(targets["unload_kn_per_s"])),
    )
    begin = _begins(phases)
    mass = float(targets["powder_mass_mg"])
    course = (
        (0.0, preload), (begin["ramp"], preload), (begin["dwell"], force), (begin["unload"], force),
        (begin["end"], 0.0),
    )  # fmt: skip
    return Prediction(
        duration_s=begin["end"],
        energy_kwh=0.0,
        thickness_nm=None,
        thickness_mm=model.thickness_mm(mass, pressure, diameter),
        rate_nm_per_min=None,
        deposit_time_s=None,
        max_deposit_time_s=None,
        force_kn=force,
        phases=phases,
        profile=(Series("force_kn", "kN", course),),
        assumptions=(
            f"The pellet follows Heckel's law with K {model.slope_per_mpa:g} 1/MPa and A {model.intercept:g}, "
            "at this pressure for the first time; springback after unloading is not counted.",
            f"The electrolyte has {model.full_density_g_per_cm3:g} g/cm³ without pores.",
            "Filling the die and taking it out are not counted.",
        ),
    )


def _begins(phases: tuple[PhaseTime, ...]) -> dict[str, float]:
    """Seconds at which each phase begins, and `end`."""
    begins, now = {}, 0.0
    for phase in phases:
        begins[phase.phase] = now
        now += phase.duration_s
    return {**begins, "end": now}
