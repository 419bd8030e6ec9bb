"""Orders for the simulated tools, complete and within limits; each test changes what it is about."""

from __future__ import annotations

from equipment.jobs import JobOrder, MaterialRequirement, Parameter
from equipment.press import PRESS, force_kn
from equipment.sputter import SPUTTER
from equipment.tags import TagTable, TagValue

SPUTTER_VALUES: dict[str, TagValue] = {
    "working_pressure_pa": 0.5,
    "argon_flow_sccm": 30.0,
    "oxygen_fraction": 0.0,
    "base_pressure_pa": 2e-4,
    "rate_of_rise_pa_per_min": 0.05,
    "rf_power_w": 120.0,
    "power_ramp_up_w_per_min": 10.0,
    "power_ramp_down_w_per_min": 20.0,
    "strike_pressure_pa": 3.0,
    "strike_power_w": 40.0,
    "presputter_min": 10.0,
    "rotation_rpm": 10.0,
    "substrate_temp_c": 60.0,
    "thickness_nm": 200.0,
    "endpoint": "time",
    "deposit_time_s": 6000.0,
    "max_deposit_time_s": 7800.0,
}
SHORT_FILM: dict[str, TagValue] = {"thickness_nm": 10.0, "deposit_time_s": 300.0, "max_deposit_time_s": 390.0}
CARRIER = (
    MaterialRequirement("TGT-1", "target"),
    MaterialRequirement("LI-1", "disc", 1),
    MaterialRequirement("LI-2", "disc", 2),
    MaterialRequirement("SI-1", "witness", 8),
)


def _order(
    table: TagTable, job_id: str, values: dict[str, TagValue], materials: tuple[MaterialRequirement, ...]
) -> JobOrder:
    units = {parameter.name: parameter.unit for parameter in table.job_parameters}
    parameters = tuple(Parameter(name, value, units.get(name, "")) for name, value in values.items())
    return JobOrder(job_id, "recipe/1/0", parameters, materials)


def sputter_order(
    job_id: str = "RUN-1", materials: tuple[MaterialRequirement, ...] = CARRIER, **changes: TagValue
) -> JobOrder:
    """200 nm on two discs and a witness unless told otherwise."""
    return _order(SPUTTER, job_id, SPUTTER_VALUES | changes, materials)


def press_order(
    job_id: str = "STROKE-1", pressure_mpa: float = 240.0, pellet: str = "PEL-1", **changes: TagValue
) -> JobOrder:
    """A pellet of 150 mg unless told otherwise; the force follows the pressure."""
    values: dict[str, TagValue] = {
        "operation": "pellet",
        "die_id": "DIE-10-1",
        "die_diameter_mm": 10.0,
        "pressure_mpa": pressure_mpa,
        "force_kn": force_kn(pressure_mpa, 10.0),
        "preload_kn": 1.0,
        "preload_s": 5.0,
        "ramp_kn_per_s": 0.5,
        "dwell_s": 120.0,
        "unload_kn_per_s": 1.0,
        "powder_mass_mg": 150.0,
    }
    materials = (MaterialRequirement("LGPS-1", "powder"), MaterialRequirement(pellet, "pellet"))
    return _order(PRESS, job_id, values | changes, materials)
