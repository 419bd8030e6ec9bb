"""Each fault of the simulated sputter tool: how the tool notices it, and what it then does by itself."""

from __future__ import annotations

from typing import Any

import pytest

from equipment.simulators.plant import Activity
from equipment.simulators.sputter_faults import FAULTS
from equipment.simulators.sputter_plant import SputterPlant
from equipment.sputter import SPUTTER, SputterPhase
from equipment.tags import TagValue
from tests.equipment.simulators.orders import SHORT_FILM, sputter_order


def _advance_to(plant: SputterPlant, phase: SputterPhase) -> None:
    for _ in range(20_000):
        if plant.sample()["phase_number"] == phase:
            return
        plant.advance(1.0)
    raise AssertionError(f"{phase.name} was not reached: {plant.sample()['phase_name']}, {plant.activity}")


def _in(phase: SputterPhase, seed: int = 1, **changes: TagValue) -> SputterPlant:
    """A plant that has just entered `phase`."""
    plant = SputterPlant(seed=seed)
    assert not plant.start(sputter_order(**(SHORT_FILM | changes)))
    _advance_to(plant, phase)
    return plant


def _standing(plant: SputterPlant) -> set[str]:
    return {name for name, stands in plant.alarms().items() if stands}


def _actual(plant: SputterPlant, name: str) -> Any:
    return next(actual.value for actual in plant.actuals() if actual.name == name)


def _assert_safe(plant: SputterPlant) -> None:
    sample = plant.sample()
    assert plant.activity is Activity.HELD
    assert not sample["rf_on"]
    assert sample["hold_reason"]


def test_without_a_strike_the_job_holds_after_three_tries_at_rising_pressure() -> None:
    plant = _in(SputterPhase.GAS)
    plant.inject("no_strike", True)
    setpoints = set()
    while plant.activity is Activity.RUNNING:
        plant.advance(1.0)
        setpoints.add(plant.sample()["chamber_pressure_setpoint_pa"])
    _assert_safe(plant)
    assert setpoints == {3.0, 3.5, 4.0}
    assert plant.sample()["strike_count"] == 3
    assert "no_strike" in _standing(plant)
    plant.inject("no_strike", False)
    assert plant.resume()
    assert "no_strike" not in _standing(plant)
    _advance_to(plant, SputterPhase.RAMP_DOWN)


def test_striking_is_harder_below_two_pascal() -> None:
    def tries(pressure_pa: float) -> int:
        total = 0
        for number in range(12):
            plant = SputterPlant(seed=number)
            plant.start(sputter_order(f"RUN-{number}", strike_pressure_pa=pressure_pa, **SHORT_FILM))
            while plant.sample()["phase_number"] < SputterPhase.SETTLE and plant.activity is Activity.RUNNING:
                plant.advance(50.0)
            total += int(plant.sample()["strike_count"])
        return total

    assert tries(1.3) > tries(3.0)


@pytest.mark.parametrize(
    ("rate_per_min", "alarm"),
    [(20.0, "arc_rate_high"), (200.0, "arc_rate_trip")],
)
def test_arcs_hold_the_job_above_ten_and_trip_above_fifty_a_minute(rate_per_min: float, alarm: str) -> None:
    plant = _in(SputterPhase.PRESPUTTER)
    plant.inject("arc", True, rate_per_min=rate_per_min)
    plant.advance(150.0)
    _assert_safe(plant)
    assert int(plant.sample()["arc_count"]) > 10
    held_for = plant.sample()["hold_reason"]
    assert held_for == next(a.message for a in SPUTTER.alarms if a.name == alarm)


def test_reflected_power_warns_and_then_trips_by_the_limits_of_the_recipe() -> None:
    plant = _in(SputterPhase.PRESPUTTER)
    plant.advance(30.0)
    plant.inject("reflected_power", True, share=0.10)
    plant.advance(8.0)
    assert "reflected_power_high" not in _standing(plant)
    plant.advance(4.0)
    assert "reflected_power_high" in _standing(plant)
    assert plant.activity is Activity.RUNNING
    plant.inject("reflected_power", True, share=0.30)
    plant.advance(3.5)
    _assert_safe(plant)
    assert "reflected_power_trip" in _standing(plant)


def test_a_drifting_gauge_is_seen_by_the_throttle_and_flags_the_thickness_model() -> None:
    plant = _in(SputterPhase.DEPOSIT, deposit_time_s=1800.0, max_deposit_time_s=2000.0, thickness_nm=60.0)
    plant.inject("gauge_drift", True)
    plant.advance(240.0)
    assert "gauge_drift" not in _standing(plant)
    plant.advance(600.0)
    assert "gauge_drift" in _standing(plant)
    assert plant.activity is Activity.RUNNING
    assert not plant.sample()["thickness_model_ok"]
    assert plant.sample()["chamber_pressure_pa"] == pytest.approx(0.5, rel=0.02)
    _advance_to(plant, SputterPhase.IDLE)
    assert _actual(plant, "thickness_model_ok") is False


def test_a_stuck_mass_flow_controller_holds_the_job_after_five_seconds() -> None:
    plant = _in(SputterPhase.DEPOSIT)
    plant.advance(30.0)
    plant.inject("mfc_stuck", True)
    plant.advance(4.0)
    assert plant.activity is Activity.RUNNING
    plant.advance(3.0)
    _assert_safe(plant)
    assert "argon_flow_deviation" in _standing(plant)
    assert not plant.resume()
    plant.inject("mfc_stuck", False)
    plant.advance(5.0)
    assert plant.resume()


def test_lost_water_trips_rf_before_any_time_passes_and_forbids_venting() -> None:
    plant = _in(SputterPhase.DEPOSIT)
    plant.advance(30.0)
    assert plant.sample()["rf_on"]
    plant.inject("water_flow", True)
    assert not plant.sample()["rf_on"]
    assert plant.sample()["lithium_hazard"]
    plant.advance(1.0)
    _assert_safe(plant)
    assert "water_flow_low" in _standing(plant)
    assert not plant.resume()
    assert plant.stop()
    plant.advance(6 * 3600.0)
    assert plant.sample()["phase_name"] == "COOL"
    assert not plant.sample()["vent_valve_open"]
    plant.inject("water_flow", False)
    _advance_to(plant, SputterPhase.IDLE)
    assert plant.activity is Activity.STOPPED


def test_a_lost_crystal_falls_back_to_time() -> None:
    plant = _in(SputterPhase.DEPOSIT, endpoint="qcm")
    plant.advance(60.0)
    plant.inject("qcm_fail", True)
    plant.advance(10.0)
    assert "qcm_fail" in _standing(plant)
    assert plant.activity is Activity.RUNNING
    assert int(plant.sample()["crystal_fail_count"]) >= 20
    _advance_to(plant, SputterPhase.IDLE)
    assert _actual(plant, "endpoint_reached") == "time"
    assert _actual(plant, "deposit_time_s") == pytest.approx(300.0)
    assert _actual(plant, "qcm_ok") is False
    assert any("crystal" in reason for reason in plant.start(sputter_order("RUN-2", endpoint="qcm")))


def test_a_shutter_that_does_not_open_switches_rf_off_within_two_seconds() -> None:
    plant = _in(SputterPhase.PRESPUTTER)
    plant.inject("shutter_stuck", True)
    _advance_to(plant, SputterPhase.DEPOSIT)
    plant.advance(2.0)
    _assert_safe(plant)
    assert "shutter_stuck" in _standing(plant)
    assert plant.snapshot()["truth"] == {}


def test_a_shutter_whose_switch_lies_is_caught_by_the_crystal() -> None:
    plant = _in(SputterPhase.PRESPUTTER)
    plant.inject("shutter_stuck", True, lying=1.0, position=1.0)
    plant.advance(120.0)
    _assert_safe(plant)
    assert plant.sample()["shutter_closed"]
    assert "shutter_stuck" in _standing(plant)


def test_a_tripped_turbo_pump_closes_the_gate_and_the_run_can_pump_down_again() -> None:
    plant = _in(SputterPhase.DEPOSIT)
    plant.advance(60.0)
    plant.inject("turbo_trip", True)
    plant.advance(90.0)
    _assert_safe(plant)
    sample = plant.sample()
    assert "turbo_trip" in _standing(plant)
    assert not sample["gate_open"]
    assert sample["argon_flow_setpoint_sccm"] == 0.0
    assert not plant.resume()
    plant.inject("turbo_trip", False)
    assert plant.resume()
    assert plant.sample()["phase_name"] == "ROUGH"
    _advance_to(plant, SputterPhase.IDLE)
    assert plant.activity is Activity.COMPLETED
    assert _actual(plant, "interruption_count") == 1
    assert _actual(plant, "deposit_time_s") == pytest.approx(300.0)


def test_an_excursion_of_the_glovebox_locks_transfers_until_it_is_over() -> None:
    plant = _in(SputterPhase.VENT)
    plant.inject("glovebox_excursion", True)
    plant.advance(3600.0)
    assert plant.sample()["phase_name"] == "UNLOAD"
    assert plant.sample()["transfer_locked"]
    assert plant.sample()["door_closed"]
    assert "glovebox_excursion" in _standing(plant)
    assert plant.activity is Activity.RUNNING
    plant.inject("glovebox_excursion", False)
    _advance_to(plant, SputterPhase.IDLE)
    assert plant.activity is Activity.COMPLETED


def test_a_cracked_target_is_seen_by_rate_and_arcs_together() -> None:
    plant = _in(SputterPhase.DEPOSIT, deposit_time_s=6000.0, max_deposit_time_s=7800.0, thickness_nm=200.0)
    plant.advance(900.0)
    plant.inject("target_crack", True)
    plant.advance(120.0)
    assert plant.activity is Activity.RUNNING
    plant.advance(1200.0)
    _assert_safe(plant)
    assert "target_cracked" in _standing(plant)
    assert not plant.sample()["thickness_model_ok"]


def test_a_leak_holds_the_job_at_the_rate_of_rise_and_a_wet_chamber_pumps_longer() -> None:
    plant = SputterPlant()
    plant.inject("leak", True, pa_m3_per_s=6e-5)
    plant.start(sputter_order(**SHORT_FILM, base_pressure_pa=5e-4))
    plant.advance(4 * 3600.0)
    _assert_safe(plant)
    assert "rate_of_rise_high" in _standing(plant)
    plant.inject("leak", False)
    assert plant.resume()
    _advance_to(plant, SputterPhase.DEPOSIT)

    wet = SputterPlant()
    wet.inject("vented_to_air", True)
    wet.start(sputter_order(**SHORT_FILM, base_pressure_pa=5e-4))
    wet.advance(3600.0)
    assert wet.sample()["phase_name"] == "HIVAC"


def test_hot_discs_warn_then_hold_the_job() -> None:
    plant = _in(SputterPhase.DEPOSIT, deposit_time_s=6000.0, max_deposit_time_s=7800.0)
    plant.inject("overheat", True)
    seen: set[str] = set()
    while plant.activity is Activity.RUNNING:
        plant.advance(10.0)
        seen |= _standing(plant)
    _assert_safe(plant)
    assert {"substrate_temp_high", "substrate_temp_hold"} <= seen
    assert not plant.resume()
    plant.inject("overheat", False)
    plant.advance(2 * 3600.0)
    assert plant.resume()


def test_a_fault_the_tool_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(LookupError, match="turbo_trip"):
        SputterPlant().inject("earthquake", True)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_can_be_switched_on_and_off_at_any_time(fault: str) -> None:
    plant = SputterPlant()
    plant.inject(fault, True)
    plant.advance(30.0)
    plant.inject(fault, False)
    plant.advance(7200.0)
    assert not plant.start(sputter_order(**SHORT_FILM))


def test_every_permissive_of_a_start_is_told_at_once() -> None:
    plant = SputterPlant()
    for fault in ("water_flow", "glovebox_excursion", "turbo_trip"):
        plant.inject(fault, True)
    plant.advance(300.0)
    refusals = plant.start(sputter_order())
    assert len(refusals) == 3
    assert plant.activity is Activity.IDLE
