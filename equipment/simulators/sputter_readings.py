"""What the instruments of the simulated sputter tool show: its tags and the actuals of its job.

Only readings appear here, never the hidden truth.
"""

from __future__ import annotations

from equipment.jobs import Parameter
from equipment.simulators.chamber_hardware import ChamberHardware
from equipment.simulators.sputter_film import FilmBook
from equipment.simulators.sputter_recipe import SputterRecipe
from equipment.simulators.sputter_sequence import STRUCK_BIAS_V, SputterSequence
from equipment.sputter import SPUTTER, Endpoint, SputterPhase
from equipment.tags import TagValue

NOT_EXECUTING = 2
EXECUTING = 3
_UNITS = {actual.name: actual.unit for actual in SPUTTER.job_actuals}


def readings(
    hardware: ChamberHardware,
    sequence: SputterSequence,
    recipe: SputterRecipe | None,
    *,
    hold_reason: str,
    film_interrupted: bool,
    thickness_model_ok: bool,
) -> dict[str, TagValue]:
    """Each tag of the sputter table that is not the server's, by name."""
    vacuum, plasma, crystal, shutter = hardware.vacuum, hardware.plasma, hardware.crystal, hardware.shutter
    target = plasma.target
    energy = target.energy_kwh if target else 0.0
    rise = sequence.rate_of_rise_pa_per_min
    return {
        "interlock_ok": hardware.interlock_ok,
        "machinery_state": NOT_EXECUTING if sequence.phase is SputterPhase.IDLE else EXECUTING,
        "chamber_pressure_pa": vacuum.reading_pa,
        "chamber_pressure_setpoint_pa": vacuum.pressure_setpoint_pa,
        "argon_flow_sccm": vacuum.argon.reading_sccm,
        "argon_flow_setpoint_sccm": vacuum.argon.setpoint_sccm,
        "oxygen_flow_sccm": vacuum.oxygen.reading_sccm,
        "oxygen_flow_setpoint_sccm": vacuum.oxygen.setpoint_sccm,
        "throttle_position_percent": 100.0 * vacuum.throttle,
        "turbo_speed_percent": 100.0 * vacuum.turbo_speed,
        "turbo_speed_setpoint_percent": 100.0 if vacuum.turbo_on else 0.0,
        "foreline_pressure_pa": vacuum.foreline_pa,
        "rate_of_rise_pa_per_min": rise if rise == rise else 0.0,
        "box_differential_pressure_pa": vacuum.box_difference_pa,
        "rf_forward_power_w": plasma.forward_reading_w,
        "rf_forward_power_setpoint_w": plasma.power_setpoint_w,
        "rf_reflected_power_w": plasma.reflected_reading_w,
        "dc_bias_v": plasma.bias_v,
        "match_load_percent": 46.0 + 20.0 * plasma.mismatch,
        "match_tune_percent": 58.0 - 15.0 * plasma.mismatch,
        "arc_rate_per_min": float(plasma.arcs_within(60.0)),
        "qcm_thickness_nm": crystal.thickness_nm,
        "qcm_rate_nm_per_min": crystal.slope_nm_per_min() or 0.0,
        "qcm_frequency_hz": crystal.frequency_hz,
        "qcm_life_percent": crystal.life_percent,
        "holder_temp_c": hardware.holder_reading_c,
        "substrate_temp_c": hardware.disc_reading_c,
        "rotation_rpm": hardware.rotation_rpm,
        "rotation_setpoint_rpm": hardware.rotation_setpoint_rpm,
        "cooling_water_flow_l_per_min": hardware.water_l_per_min,
        "glovebox_o2_ppm": hardware.glovebox.o2_ppm,
        "glovebox_h2o_ppm": hardware.glovebox.h2o_ppm,
        "phase_number": int(sequence.phase),
        "phase_name": sequence.phase.name,
        "phase_remaining_s": sequence.phase_remaining_s(),
        "run_remaining_s": sequence.run_remaining_s(),
        "hold_reason": hold_reason,
        "shutter_open": shutter.reads_open,
        "shutter_closed": shutter.reads_closed,
        "gate_open": vacuum.gate_open,
        "rough_valve_open": vacuum.rough_open,
        "vent_valve_open": vacuum.vent_open,
        "door_closed": vacuum.door_closed,
        "rf_on": plasma.rf_on,
        "plasma_on": plasma.bias_v >= STRUCK_BIAS_V,
        "water_ok": hardware.water_ok,
        "transfer_locked": hardware.transfer_locked,
        "lithium_hazard": hardware.lithium_hazard,
        "qcm_ok": crystal.ok,
        "thickness_model_ok": thickness_model_ok,
        "film_interrupted": film_interrupted,
        "target_serial": recipe.target_serial if recipe else "",
        "strike_count": sequence.strikes,
        "arc_count": plasma.arcs,
        "crystal_fail_count": crystal.fail_count,
        "deposit_elapsed_s": sequence.deposit_elapsed_s,
        "target_energy_kwh": energy,
        "target_life_percent": 100.0 * energy / hardware.physics.target_life_kwh,
    }


def actuals(
    hardware: ChamberHardware,
    sequence: SputterSequence,
    recipe: SputterRecipe,
    films: FilmBook,
    *,
    energy_at_start_kwh: float,
    qcm_ok: bool,
    thickness_model_ok: bool,
) -> tuple[Parameter, ...]:
    """Each actual of the sputter table; 0 for what was not measured yet."""
    means, target = films.means, hardware.plasma.target
    energy = target.energy_kwh if target else 0.0
    by_time = recipe.thickness_nm * sequence.deposit_elapsed_s / recipe.deposit_time_s
    grown = sequence.film_by_crystal_nm if recipe.endpoint is Endpoint.QCM and qcm_ok else by_time
    remaining = 0.0 if sequence.endpoint_reached else max(0.0, recipe.thickness_nm - grown)
    base, rise = sequence.base_pressure_pa, sequence.rate_of_rise_pa_per_min
    values: dict[str, TagValue] = {
        "thickness_qcm_nm": sequence.film_by_crystal_nm,
        "thickness_remaining_nm": remaining,
        "deposit_time_s": sequence.deposit_elapsed_s,
        "energy_kwh": energy - energy_at_start_kwh,
        "target_energy_kwh": energy,
        "base_pressure_pa": base if base == base else 0.0,
        "rate_of_rise_pa_per_min": rise if rise == rise else 0.0,
        "mean_pressure_pa": means.mean(means.pressure),
        "mean_power_w": means.mean(means.power),
        "mean_argon_flow_sccm": means.mean(means.argon),
        "mean_dc_bias_v": means.mean(means.bias),
        "peak_reflected_power_w": means.peak_reflected_w,
        "peak_substrate_temp_c": means.peak_temp_c,
        "arc_count": hardware.plasma.arcs,
        "strike_count": sequence.strikes,
        "interruption_count": films.interruptions,
        "endpoint_reached": sequence.endpoint_reached,
        "qcm_ok": qcm_ok,
        "thickness_model_ok": thickness_model_ok,
    }
    return tuple(Parameter(name, value, _UNITS[name]) for name, value in values.items())
