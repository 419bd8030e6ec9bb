"""The closed formulas of the chamber against figures computed by hand or printed in the literature."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipment.simulators.chamber import (
    SCCM_PA_M3_PER_S,
    ChamberPhysics,
    erosion,
    film_density_g_per_cm3,
    growth_nm_per_min,
    keller_simmons,
    non_uniformity,
    ring_source,
)
from equipment.simulators.chamber_crystal import (
    BARE_HZ,
    CM_PER_NM,
    Crystal,
    CrystalSettings,
    film_thickness_nm,
    loaded_frequency_hz,
)
from equipment.simulators.chamber_vacuum import VacuumSystem

RH450 = ChamberPhysics()
EXACT = ChamberPhysics(flow_error=0.0)


def _pumped() -> VacuumSystem:
    """A chamber at its base pressure, in sputter mode."""
    vacuum = VacuumSystem(EXACT, Random(0))
    vacuum.pressure_pa, vacuum.turbo_speed, vacuum.turbo_on, vacuum.pumped_s = 1e-3, 1.0, True, 3600.0
    assert vacuum.open_gate() == ""
    return vacuum


def test_the_gas_lets_85_percent_of_the_atoms_through_at_half_a_pascal() -> None:
    assert keller_simmons(0.5 * 0.080, 0.12) == pytest.approx(0.850, abs=0.0005)
    assert keller_simmons(0.0, 0.12) == 1.0


def test_the_rate_falls_with_pressure_to_the_power_of_minus_one_sixth() -> None:
    step = 1e-4
    up, down = (growth_nm_per_min(RH450, 120.0, 0.5 * (1.0 + sign * step)) for sign in (1, -1))
    assert math.log(up / down) / (2.0 * step) == pytest.approx(-0.16, abs=0.005)


def test_a_millimetre_of_distance_costs_2_3_percent_on_the_axis() -> None:
    near, far = (growth_nm_per_min(RH450, 120.0, 0.5, distance_mm=d, radius_mm=0.0) for d in (79.5, 80.5))
    assert math.log(far / near) == pytest.approx(-0.023, abs=0.0005)


def test_a_fixed_disc_is_uniform_only_near_the_axis() -> None:
    assert non_uniformity(10.0, 80.0, 23.0) == pytest.approx(0.0016, abs=0.00005)
    assert non_uniformity(75.0, 80.0, 23.0) == pytest.approx(0.088, abs=0.0005)
    axis = ring_source(0.0, 80.0, 23.0)
    assert 1.0 - ring_source(20.0, 80.0, 23.0) / axis == pytest.approx(0.085, abs=0.001)
    assert 1.0 - ring_source(30.0, 80.0, 23.0) / axis == pytest.approx(0.18, abs=0.002)


def test_the_reference_conditions_give_two_hundred_nanometres_in_a_hundred_minutes() -> None:
    assert 100.0 * growth_nm_per_min(RH450, 120.0, 0.5) == pytest.approx(200.0)


def test_a_target_burns_in_and_then_wears() -> None:
    assert erosion(0.0, RH450) == pytest.approx(1.03)
    assert erosion(RH450.target_life_kwh, RH450) == pytest.approx(0.85, abs=1e-6)


def test_the_film_gets_looser_with_pressure() -> None:
    assert film_density_g_per_cm3(RH450, 0.5) / 2.615 == pytest.approx(0.918, abs=0.001)
    assert film_density_g_per_cm3(RH450, 1.5) == pytest.approx(2.4 * 0.97)


def test_two_hundred_nanometres_shift_the_crystal_by_3_91_kilohertz() -> None:
    shift = BARE_HZ - loaded_frequency_hz(200.0 * CM_PER_NM * 2.4)
    assert shift == pytest.approx(3910.0, abs=5.0)


@given(nanometres=st.floats(0.0, 5000.0), density=st.floats(1.0, 8.0))
def test_the_crystal_formula_reads_back_the_film_that_loads_it(nanometres: float, density: float) -> None:
    frequency = loaded_frequency_hz(nanometres * CM_PER_NM * density)
    read = film_thickness_nm(frequency, CrystalSettings(density_g_per_cm3=density))
    assert read == pytest.approx(nanometres, rel=1e-9, abs=1e-6)


def test_the_crystal_reading_scatters_by_half_a_hertz() -> None:
    crystal, random = Crystal(RH450, Random(1)), Random(2)
    readings = []
    for _ in range(4000):
        crystal.step(0.25, 0.0, 2.4, 0.0, random)
        readings.append(crystal.frequency_hz - BARE_HZ)
    mean = sum(readings) / len(readings)
    assert abs(mean) < 0.04
    assert math.sqrt(sum((r - mean) ** 2 for r in readings) / len(readings)) == pytest.approx(0.5, rel=0.05)


def test_thirty_sccm_at_half_a_pascal_need_109_litres_a_second_and_answer_in_0_6_seconds() -> None:
    vacuum, random = _pumped(), Random(3)
    assert vacuum.gas_on(30.0, 0.0, 0.5) == ""
    for _ in range(240):
        vacuum.step(0.25, random)
    assert vacuum.pressure_pa == pytest.approx(0.5, rel=0.005)
    speed = vacuum.throttle * EXACT.turbo_speed_m3_per_s
    assert speed == pytest.approx(0.109, abs=0.0015)
    assert EXACT.volume_m3 / speed == pytest.approx(0.60, abs=0.01)


def test_the_roughing_pump_needs_10_8_seconds_for_each_e_fold() -> None:
    vacuum, random = VacuumSystem(EXACT, Random(0)), Random(4)
    assert vacuum.open_rough() == ""
    start = vacuum.pressure_pa
    vacuum.step(10.8, random)
    assert start / vacuum.pressure_pa == pytest.approx(math.e, rel=0.01)


def test_high_vacuum_falls_with_time_to_its_ultimate() -> None:
    vacuum, random = _pumped(), Random(5)
    vacuum.pumped_s = 0.0
    for _ in range(3600):
        vacuum.step(1.0, random)
    assert vacuum.pressure_pa == pytest.approx(1e-4 + 2e-5, rel=0.01)
    vacuum.wet = True
    vacuum.step(1.0, random)
    assert vacuum.pressure_pa == pytest.approx(1e-3, rel=0.03)


def test_the_chamber_rises_by_0_04_pascal_a_minute_from_its_base_pressure() -> None:
    vacuum, random = _pumped(), Random(6)
    vacuum.pumped_s = 2000.0
    for _ in range(5):
        vacuum.step(1.0, random)
    base = vacuum.pressure_pa
    assert base == pytest.approx(2e-4, rel=0.02)
    vacuum.close_gate()
    for _ in range(60):
        vacuum.step(1.0, random)
    assert vacuum.pressure_pa - base == pytest.approx(0.037, abs=0.001)


def test_the_turbo_pump_takes_180_seconds_to_90_percent() -> None:
    vacuum, random = VacuumSystem(EXACT, Random(0)), Random(7)
    vacuum.pressure_pa = 5.0
    assert vacuum.open_gate() == ""
    assert vacuum.start_turbo(water_ok=True) == ""
    for _ in range(180):
        vacuum.step(1.0, random)
    assert vacuum.turbo_speed == pytest.approx(0.90, abs=0.001)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["rough", "gate", "gas", "vent", "close", "turbo", "stop", "door", "shut"]),
            st.floats(0.01, 900.0),
        ),
        max_size=25,
    )
)
def test_the_pressure_is_never_negative_and_gas_is_conserved(steps: list[tuple[str, float]]) -> None:
    vacuum, random = VacuumSystem(EXACT, Random(0)), Random(8)
    for act, seconds in steps:
        match act:
            case "rough":
                vacuum.open_rough()
            case "gate":
                vacuum.open_gate()
            case "gas":
                vacuum.gas_on(30.0, 1.0, 0.5)
            case "vent":
                vacuum.open_vent(lithium_hazard=False)
            case "close":
                vacuum.close_gate()
            case "turbo":
                vacuum.start_turbo(water_ok=True)
            case "stop":
                vacuum.stop_turbo()
            case "door":
                vacuum.open_door(transfer_locked=False, rf_on=False)
            case _:
                vacuum.close_door()
        vacuum.step(seconds, random)
        assert 0.0 < vacuum.pressure_pa <= EXACT.box_pressure_pa
        assert vacuum.door_closed or not (vacuum.gate_open or vacuum.rough_open)
        assert vacuum.sputter_mode or vacuum.argon.setpoint_sccm == 0.0


def test_a_closed_chamber_keeps_all_gas_that_flows_in() -> None:
    vacuum, random = VacuumSystem(ChamberPhysics(flow_error=0.0, ultimate_pressure_pa=0.0), Random(0)), Random(9)
    vacuum.pressure_pa, vacuum.pumped_s = 1e-3, 1e12
    vacuum.leak_pa_m3_per_s = 10.0 * SCCM_PA_M3_PER_S
    for _ in range(60):
        vacuum.step(1.0, random)
    assert vacuum.pressure_pa == pytest.approx(1e-3 + 60.0 * 10.0 * SCCM_PA_M3_PER_S / 0.065, rel=1e-3)


def test_each_permissive_of_the_vacuum_refuses_with_its_reason() -> None:
    vacuum = VacuumSystem(EXACT, Random(0))
    assert "below 10 Pa" in vacuum.start_turbo(water_ok=True)
    assert "below 10 Pa" in vacuum.open_gate()
    assert "turbo pump above 80 %" in vacuum.gas_on(30.0, 0.0, 0.5)
    vacuum.pressure_pa = 5.5
    assert "water" in vacuum.start_turbo(water_ok=False)
    vacuum.backing_on = False
    assert "backing" in vacuum.start_turbo(water_ok=True)
    vacuum.turbo_speed = 0.9
    assert "below 5 Pa" in vacuum.open_gate()
    assert "below 20 %" in vacuum.open_vent(lithium_hazard=False)
    vacuum.turbo_speed = 0.0
    assert "lithium" in vacuum.open_vent(lithium_hazard=True)
    assert "100 Pa" in vacuum.open_door(transfer_locked=False, rf_on=False)
    vacuum.pressure_pa = EXACT.box_pressure_pa
    assert "locked" in vacuum.open_door(transfer_locked=True, rf_on=False)
    assert "RF off" in vacuum.open_door(transfer_locked=False, rf_on=True)
    assert vacuum.open_door(transfer_locked=False, rf_on=False) == ""
    assert "door" in vacuum.open_rough()
