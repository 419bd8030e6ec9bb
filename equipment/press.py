"""What the glovebox press shows and takes: its tag table, its phases, its alarms, and force from pressure.

Driver, tool server and plant read this one table. It knows names, units, hard limits of the tool and why each
alarm is there; it knows no node ids, no recipe and no powder mechanics.
"""

from __future__ import annotations

import math
from enum import IntEnum, StrEnum

from equipment.tags import (
    AlarmDefinition,
    JobParameter,
    Tag,
    TagRole,
    TagTable,
    TagType,
    link_alarms,
    link_tags,
    number_parameter,
    state_tag,
)

EQUIPMENT_CLASS = "glovebox_press"


class PressPhase(IntEnum):
    """The steps of a stroke in their order, by the number that the tag `phase_number` carries."""

    IDLE = 0
    PRELOAD = 1
    RAMP = 2
    DWELL = 3
    UNLOAD = 4


class PressOperation(StrEnum):
    """What a stroke makes."""

    PELLET = "pellet"
    CATHODE = "cathode"
    ELECTRODES = "electrodes"


def die_area_mm2(die_diameter_mm: float) -> float:
    """Area in mm² of a round die.

    Raises:
        ValueError: The diameter is not positive.
    """
    if not die_diameter_mm > 0.0:
        raise ValueError(f"a die of {die_diameter_mm} mm has no area")
    return math.pi * die_diameter_mm**2 / 4.0


def force_kn(pressure_mpa: float, die_diameter_mm: float) -> float:
    """Force in kN that puts `pressure_mpa` on a round die; 360 MPa on Ø 10 mm is 28.27 kN.

    A force is always derived from pressure and die, never typed by hand.

    Raises:
        ValueError: The pressure is negative or the diameter not positive.
    """
    if not pressure_mpa >= 0.0:
        raise ValueError(f"a die pressure of {pressure_mpa} MPa is negative")
    return pressure_mpa * die_area_mm2(die_diameter_mm) / 1000.0


def pressure_mpa(force_kn: float, die_diameter_mm: float) -> float:
    """Mean pressure in MPa under a force in kN on a round die.

    Raises:
        ValueError: The diameter is not positive.
    """
    return 1000.0 * force_kn / die_area_mm2(die_diameter_mm)


def pellet_density_g_per_cm3(mass_mg: float, thickness_mm: float, die_diameter_mm: float) -> float:
    """Density of a round pellet in g/cm³ from its mass in mg and its thickness in mm.

    Raises:
        ValueError: Thickness or diameter is not positive.
    """
    if not thickness_mm > 0.0:
        raise ValueError(f"a pellet of {thickness_mm} mm has no volume")
    return mass_mg / (die_area_mm2(die_diameter_mm) * thickness_mm)


def _process(
    name: str,
    browse: str,
    unit: str,
    span: tuple[float, float],
    resolution: float,
    description: str,
    *,
    role: TagRole = TagRole.PROCESS_VALUE,
    setpoint: str | None = None,
) -> Tag:
    low, high = span
    path = ("Monitoring", "Process", browse)
    return Tag(
        name, path, TagType.FLOAT, role, unit, low, high, resolution, setpoint, traced=True, description=description
    )


_TAGS = (
    _process("force_kn", "Force", "kN", (0.0, 50.0), 0.001, "Force by the load cell.", setpoint="force_setpoint_kn"),
    _process("force_setpoint_kn", "ForceSetpoint", "kN", (0.0, 50.0), 0.001, "Setpoint of the force.",
             role=TagRole.SETPOINT),
    _process("die_pressure_mpa", "DiePressure", "MPa", (0.0, 640.0), 0.01, "Force over the area of the die."),
    _process("ram_position_mm", "RamPosition", "mm", (0.0, 60.0), 0.001,
             "Way of the ram from its upper end; the stroke window guards it."),
    _process("stack_thickness_mm", "StackThickness", "mm", (0.0, 30.0), 0.001,
             "Thickness of what stands in the die, from the ram position."),
    _process("glovebox_o2_ppm", "GloveboxO2", "[ppm]", (0.0, 1000.0), 0.01, "Oxygen in the box, by volume."),
    _process("glovebox_h2o_ppm", "GloveboxH2O", "[ppm]", (0.0, 1000.0), 0.01, "Water in the box, by volume."),
    state_tag("phase_number", "PhaseNumber", TagType.INT32, "Step of the stroke; see PressPhase.", traced=True),
    state_tag("phase_name", "PhaseName", TagType.STRING, "Step of the stroke by name."),
    state_tag("phase_remaining_s", "PhaseRemaining", TagType.FLOAT, "Seconds left in this step as predicted."),
    state_tag("run_remaining_s", "RunRemaining", TagType.FLOAT, "Seconds left in this stroke as predicted."),
    state_tag("hold_reason", "HoldReason", TagType.STRING, "Why the press holds its job; empty when it does not."),
    state_tag("guard_closed", "GuardClosed", TagType.BOOLEAN, "The guard is closed."),
    state_tag("die_id", "DieId", TagType.STRING, "The die in the press, by its tag."),
    Tag("die_diameter_mm", ("Components", "Die", "Diameter"), TagType.FLOAT, TagRole.STATE, "mm", 1.0, 50.0, 0.001,
        description="Diameter of the die in the press."),
    Tag("die_stroke_count", ("Components", "Die", "StrokeCount"), TagType.UINT32, TagRole.COUNTER, "1", low=0.0,
        description="Strokes that this die has made."),
    Tag("ram_stroke_count", ("Components", "Ram", "StrokeCount"), TagType.UINT32, TagRole.COUNTER, "1", low=0.0,
        description="Strokes that the ram has made."),
)  # fmt: skip


_PARAMETERS = (
    JobParameter("operation", TagType.STRING),
    JobParameter("die_id", TagType.STRING),
    number_parameter("die_diameter_mm", "mm", 5.0, 20.0),
    number_parameter("pressure_mpa", "MPa", 10.0, 450.0),
    number_parameter("force_kn", "kN", 0.5, 36.0),
    number_parameter("preload_kn", "kN", 0.1, 5.0),
    number_parameter("preload_s", "s", 1.0, 60.0),
    number_parameter("ramp_kn_per_s", "kN/s", 0.05, 2.0),
    number_parameter("dwell_s", "s", 10.0, 600.0),
    number_parameter("unload_kn_per_s", "kN/s", 0.05, 1.0),
    number_parameter("powder_mass_mg", "mg", 10.0, 1000.0),
    number_parameter("theoretical_density_g_per_cm3", "g/cm3", 0.5, 20.0, required=False),
    number_parameter("added_thickness_mm", "mm", 0.0, 5.0, required=False),
)
"""`powder_mass_mg` is the electrolyte's mass in the pellet, for each operation; `added_thickness_mm` is the
thickness of what lies in the die beside the pellet (discs, composite), so that the pellet's own is told."""

_ACTUALS = (
    number_parameter("peak_force_kn", "kN"),
    number_parameter("mean_dwell_force_kn", "kN"),
    number_parameter("mean_dwell_pressure_mpa", "MPa"),
    number_parameter("dwell_s", "s"),
    number_parameter("stack_thickness_mm", "mm"),
    number_parameter("thickness_mm", "mm"),
    number_parameter("density_g_per_cm3", "g/cm3"),
    number_parameter("relative_density", "1"),
    JobParameter("fractured", TagType.BOOLEAN),
    JobParameter("interruption_count", TagType.INT64, "1"),
)

_ALARMS = (
    AlarmDefinition(
        "over_force", "Force above its limit: the ram was unloaded.", 900,
        "The force loop ran away or the load cell failed.",
        "Die and pellet may be harmed; the job is aborted.",
        "Inspect the die and check the load cell before the next stroke.",
    ),
    AlarmDefinition(
        "fracture", "The force fell by more than 5 % in 0.1 s: the pellet broke.", 700,
        "A crack in the pellet, or the die gave way.",
        "The pellet is to be scrapped; the job holds with the ram unloaded.",
        "Stop the job, take the pellet out and look at it.",
    ),
    AlarmDefinition(
        "force_deviation", "Force in the dwell more than 5 % off its setpoint.", 600,
        "The hydraulics leak or the loop is badly tuned.",
        "The pellet's density is off; the job holds.",
        "Check the hydraulics; then resume the dwell.",
    ),
    AlarmDefinition(
        "stroke_window", "The ram left its stroke window: the ram was unloaded.", 800,
        "Wrong or missing filling of the die, or the wrong die.",
        "The die may be harmed; the job is aborted.",
        "Check what is in the die.",
    ),
    AlarmDefinition(
        "guard_open", "The guard is open: the ram was unloaded.", 850,
        "Somebody opened the guard during a stroke, or its switch fails.",
        "The job holds with the ram unloaded.",
        "Close the guard; then resume.",
    ),
    AlarmDefinition(
        "die_mismatch", "The die in the press is not the one the job names.", 600,
        "The wrong die was set up.",
        "The pressure would be wrong; no stroke is begun.",
        "Set up the die that the job names.",
    ),
    AlarmDefinition(
        "glovebox_excursion", "Glovebox above 1 ppm O2 or H2O: no stroke is begun.", 800,
        "A glove, a seal, or a spent regenerator.",
        "Sulphide electrolyte and lithium react.",
        "Cover the material; find the leak or regenerate; wait for the limits.",
    ),
    *link_alarms(),
)  # fmt: skip

PRESS = TagTable(
    equipment_class=EQUIPMENT_CLASS,
    components=("Ram", "Die", "Glovebox"),
    tags=(*link_tags(), *_TAGS),
    job_parameters=_PARAMETERS,
    job_actuals=_ACTUALS,
    alarms=_ALARMS,
)
"""A hydraulic press in a glovebox: one ram, a round die, 50 kN load cell."""
