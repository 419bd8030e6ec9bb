"""What a parameter of each equipment class may be: unit, default, soft and hard limits, help, source.

Soft limits warn, hard limits refuse. The numbers are engineering judgement to be confirmed on the real tool, except
those whose source is the founding paper (LiAlO2-modified lithium electrodes with Li10GeP2S12). The table knows no
recipe and no tool; a tool has hard limits of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class EquipmentClass(StrEnum):
    """The classes of equipment that recipes are written for."""

    SPUTTER = "rf_magnetron_sputter"
    PRESS = "glovebox_press"


class Source(StrEnum):
    """Where a number comes from."""

    PAPER = "founding paper"
    JUDGEMENT = "engineering judgement"
    COMPUTED = "computed"


@dataclass(frozen=True, slots=True)
class Range:
    """A closed range in the parameter's unit; None means no bound on that side."""

    low: Decimal | None = None
    high: Decimal | None = None

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Decimal):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"{self.low} to {self.high}"
        if self.low is not None:
            return f"at least {self.low}"
        return f"at most {self.high}" if self.high is not None else "anything"


@dataclass(frozen=True, slots=True)
class ParameterRule:
    """What one numeric parameter may be.

    Attributes:
        name: Carries the unit.
        unit: UCUM symbol; the only one in which a recipe may give it.
        default: What a form proposes.
        soft: Outside is a warning.
        hard: Outside is an error.
        help: One sentence for the author.
        source: Of the default.
    """

    name: str
    unit: str
    default: Decimal
    soft: Range
    hard: Range
    help: str
    source: Source = Source.JUDGEMENT


@dataclass(frozen=True, slots=True)
class ChoiceRule:
    """What one worded parameter may be.

    Attributes:
        options: The words allowed, each with what it means.
    """

    name: str
    default: str
    options: Mapping[str, str]
    help: str


@dataclass(frozen=True, slots=True)
class EquipmentRules:
    """All that a recipe for one equipment class may say.

    Attributes:
        parameters, choices: By name; a recipe gives every one of them unless `optional` names it.
        derived: Names that are computed and never typed, each with how they come about.
        phases: The phases in the order in which the tool runs them.
        optional: Parameters that only some recipes need.
        signals: What a phase may set or wait for, with its unit.
    """

    parameters: Mapping[str, ParameterRule]
    choices: Mapping[str, ChoiceRule]
    derived: Mapping[str, str]
    phases: tuple[str, ...]
    optional: frozenset[str]
    signals: Mapping[str, str]


def _rule(
    name: str,
    unit: str,
    default: str,
    soft: str,
    hard: str,
    help_text: str,
    source: Source = Source.JUDGEMENT,
) -> ParameterRule:
    return ParameterRule(name, unit, Decimal(default), _range(soft), _range(hard), help_text, source)


def _range(text: str) -> Range:
    low, _, high = text.partition("..")
    return Range(Decimal(low) if low else None, Decimal(high) if high else None)


def _by_name(*rules: ParameterRule) -> Mapping[str, ParameterRule]:
    return {rule.name: rule for rule in rules}


# name, unit, default, soft low..high, hard low..high, help
SPUTTER = EquipmentRules(
    parameters=_by_name(
        _rule("thickness_nm", "nm", "200", "50..400", "5..2000", "Film thickness on the discs.", Source.PAPER),
        _rule("working_pressure_pa", "Pa", "0.5", "0.3..1", "0.1..5", "Pressure of deposition.", Source.PAPER),
        _rule("argon_flow_sccm", "sccm", "30", "15..60", "5..100", "Argon flow; the throttle sets the pressure."),
        _rule("oxygen_fraction", "1", "0", "0..0.1", "0..0.2", "Oxygen in the gas; none with bare lithium loaded."),
        _rule("base_pressure_pa", "Pa", "0.0002", "0.00005..0.0005", "0.00003..0.001", "Vacuum before the gas."),
        _rule("rate_of_rise_pa_per_min", "Pa/min", "0.05", "0.03..0.05", "0.01..0.2",
              "Largest pressure rise with all valves closed: leaks and outgassing."),
        _rule("rate_of_rise_s", "s", "60", "60..120", "10..600", "How long the rise is watched."),
        _rule("rf_power_w", "W", "120", "60..135", "20..141", "13.56 MHz power; 141 W is 3.1 W/cm² on 76.2 mm."),
        _rule("power_ramp_up_w_per_min", "W/min", "10", "5..20", "1..30", "Power up; oxide targets crack if rushed."),
        _rule("power_ramp_down_w_per_min", "W/min", "20", "5..25", "1..30", "Power down after deposition."),
        _rule("strike_pressure_pa", "Pa", "3", "2..4", "1.3..4", "Argon pressure for striking the plasma."),
        _rule("strike_power_w", "W", "40", "30..60", "20..80", "RF power for striking the plasma."),
        _rule("reflected_warn_percent", "%", "5", "2..5", "1..20", "Reflected power that warns after 10 s."),
        _rule("reflected_trip_percent", "%", "20", "5..20", "2..20", "Reflected power that trips after 2 s."),
        _rule("reflected_trip_w", "W", "25", "5..25", "2..25", "Reflected power that trips after 2 s, in watts."),
        _rule("presputter_min", "min", "10", "10..60", "5..120", "Shutter closed; 30 after a new or vented target."),
        _rule("rotation_rpm", "1/min", "10", "2..20", "0..30", "Carrier rotation; at 0 the discs differ."),
        _rule("substrate_temp_c", "Cel", "60", "30..60", "30..80", "Hottest a disc may be; Li melts at 180.5."),
        _rule("cool_to_c", "Cel", "40", "30..40", "25..60", "Holder temperature below which it is vented."),
        _rule("qcm_tooling_factor", "1", "1", "0.5..2", "0.2..5", "Film on the discs per film on the crystal."),
        _rule("qcm_z_ratio", "1", "1", "0.3..2", "0.1..10", "Acoustic impedance of the film against quartz."),
        _rule("film_density_g_per_cm3", "g/cm3", "2.4", "2..2.7", "0.5..20", "Density by which the crystal counts."),
    ),
    choices={
        "endpoint": ChoiceRule(
            "endpoint",
            "time",
            {
                "time": "Ends after the computed time.",
                "qcm": "Ends when the crystal shows the thickness, at the latest after the longest time.",
                "first": "Ends at whichever comes first.",
            },
            "What ends the deposition.",
        )
    },
    derived={
        "deposit_time_s": "it follows from thickness, rate model and run-to-run correction",
        "max_deposit_time_s": "it is 1.3 times the predicted deposition time",
    },
    phases=(
        "load", "rough", "turbo", "hivac", "gas", "strike", "settle", "ramp", "presputter", "deposit",
        "ramp_down", "cool", "vent", "unload",
    ),
    optional=frozenset({"qcm_tooling_factor", "qcm_z_ratio", "film_density_g_per_cm3"}),
    signals={
        "chamber_pressure_pa": "Pa",
        "argon_flow_sccm": "sccm",
        "oxygen_flow_sccm": "sccm",
        "turbo_speed_percent": "%",
        "rate_of_rise_pa_per_min": "Pa/min",
        "rf_forward_power_w": "W",
        "rf_reflected_power_w": "W",
        "dc_bias_v": "V",
        "qcm_thickness_nm": "nm",
        "holder_temp_c": "Cel",
        "substrate_temp_c": "Cel",
        "rotation_rpm": "1/min",
        "shutter_open": "",
    },
)  # fmt: skip

PRESS = EquipmentRules(
    parameters=_by_name(
        _rule("pressure_mpa", "MPa", "240", "100..380", "10..450", "Pressure on the die's area.", Source.PAPER),
        _rule("die_diameter_mm", "mm", "10", "10..10", "5..20", "Bore of the die; the die in the press must agree.",
              Source.PAPER),
        _rule("preload_kn", "kN", "1", "0.5..2", "0.1..5", "Force that seats the punches."),
        _rule("preload_s", "s", "5", "2..30", "1..60", "Time at preload."),
        _rule("ramp_kn_per_s", "kN/s", "0.5", "0.1..1", "0.05..2", "Force up; faster traps gas in the powder."),
        _rule("dwell_s", "s", "120", "60..300", "10..600", "Time at pressure."),
        _rule("unload_kn_per_s", "kN/s", "1", "0.2..1", "0.05..1", "Force down; faster cracks the pellet."),
        _rule("powder_mass_mg", "mg", "150", "120..180", "10..1000", "Electrolyte in the pellet.", Source.PAPER),
        _rule("theoretical_density_g_per_cm3", "g/cm3", "2.04", "1.8..2.2", "0.5..20",
              "Density of the electrolyte without pores.", Source.COMPUTED),
        _rule("added_thickness_mm", "mm", "0", "0..1.5", "0..5", "What lies in the die beside the pellet."),
    ),
    choices={
        "operation": ChoiceRule(
            "operation",
            "pellet",
            {
                "pellet": "Electrolyte powder is pressed into a pellet.",
                "cathode": "Cathode composite is pressed onto the pellet.",
                "electrodes": "Lithium discs are pressed onto the pellet.",
            },
            "What the stroke makes.",
        )
    },
    derived={
        "force_kn": "it follows from pressure and die diameter",
        "force_n": "it follows from pressure and die diameter",
    },
    phases=("preload", "ramp", "dwell", "unload"),
    optional=frozenset({"theoretical_density_g_per_cm3", "added_thickness_mm"}),
    signals={"force_kn": "kN", "die_pressure_mpa": "MPa", "stack_thickness_mm": "mm"},
)  # fmt: skip

RULES: Mapping[EquipmentClass, EquipmentRules] = {EquipmentClass.SPUTTER: SPUTTER, EquipmentClass.PRESS: PRESS}
