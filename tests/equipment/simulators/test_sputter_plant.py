"""A whole run on the simulated sputter tool: its course, its results, its requests and its memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipment.jobs import MaterialRequirement
from equipment.simulators.chamber import ChamberPhysics
from equipment.simulators.plant import Activity
from equipment.simulators.sputter_faults import FAULTS
from equipment.simulators.sputter_plant import SputterPlant
from equipment.sputter import SPUTTER, SputterPhase
from equipment.tags import TagRole
from tests.equipment.simulators.orders import SHORT_FILM, sputter_order

QUIET = ChamberPhysics(
    run_noise=0.0, run_walk=0.0, target_spread=0.0, position_spread=0.0, burn_in_gain=0.0, flow_error=0.0
)


def _until(plant: SputterPlant, done: Callable[[Mapping[str, Any]], bool], limit_s: float = 40_000.0) -> float:
    """Advance until `done(sample)`; the seconds it took."""
    spent = 0.0
    while not done(plant.sample()):
        assert spent < limit_s, f"still in {plant.sample()['phase_name']}, {plant.activity}"
        plant.advance(5.0)
        spent += 5.0
    return spent


def _to(plant: SputterPlant, phase: SputterPhase) -> float:
    return _until(plant, lambda sample: sample["phase_number"] == phase)


def _finish(plant: SputterPlant) -> float:
    return _until(plant, lambda sample: sample["phase_number"] == SputterPhase.IDLE)


def _actuals(plant: SputterPlant) -> dict[str, Any]:
    return {actual.name: actual.value for actual in plant.actuals()}


def _truth(plant: SputterPlant) -> Any:
    return plant.snapshot()["truth"]


def test_a_run_goes_through_every_step_and_leaves_two_hundred_nanometres() -> None:
    plant = SputterPlant(physics=QUIET)
    order = sputter_order()
    assert list(plant.problems(order)) == []
    assert list(plant.start(order)) == []
    seen: list[int] = []
    energy_before = 0.0
    deposited_kwh = 0.0
    while plant.activity is Activity.RUNNING:
        plant.advance(2.0)
        sample = plant.sample()
        phase = int(sample["phase_number"])
        if not seen or seen[-1] != phase:
            if phase == SputterPhase.DEPOSIT:
                energy_before = float(sample["target_energy_kwh"])
            if phase == SputterPhase.RAMP_DOWN:
                deposited_kwh = float(sample["target_energy_kwh"]) - energy_before
            seen.append(phase)
    assert seen == [*range(1, 15), 0]
    assert plant.activity is Activity.COMPLETED
    assert _truth(plant)["LI-1"]["thickness_nm"] == pytest.approx(200.0, rel=0.01)
    assert _truth(plant)["LI-1"]["mass_ug_per_cm2"] * 0.785 == pytest.approx(37.7, rel=0.01)
    assert deposited_kwh == pytest.approx(0.20, abs=0.003)
    actuals = _actuals(plant)
    assert actuals["deposit_time_s"] == pytest.approx(6000.0)
    assert actuals["thickness_qcm_nm"] == pytest.approx(200.0, rel=0.04)
    assert actuals["mean_pressure_pa"] == pytest.approx(0.5, rel=0.01)
    assert actuals["mean_power_w"] == pytest.approx(120.0, rel=0.01)
    assert actuals["base_pressure_pa"] <= 2e-4
    assert 0.02 < actuals["rate_of_rise_pa_per_min"] < 0.05
    assert actuals["endpoint_reached"] == "time"
    assert 40.0 < actuals["peak_substrate_temp_c"] < 60.0


def test_the_forecast_of_a_run_is_good_to_a_tenth() -> None:
    plant = SputterPlant(physics=QUIET)
    plant.start(sputter_order())
    plant.advance(1.0)
    forecast = float(plant.sample()["run_remaining_s"])
    assert 3.0 * 3600 < forecast < 4.0 * 3600
    assert _finish(plant) == pytest.approx(forecast, rel=0.1)


def test_the_sample_covers_the_tag_table_in_the_right_types() -> None:
    plant = SputterPlant()
    served = {TagRole.LINK, TagRole.IDENTIFICATION}
    wanted = {tag.name: tag.type.python_type for tag in SPUTTER if tag.role not in served} | {"interlock_ok": bool}
    for phase in (SputterPhase.IDLE, SputterPhase.HIVAC, SputterPhase.DEPOSIT):
        if phase is SputterPhase.HIVAC:
            plant.start(sputter_order(**SHORT_FILM))
        _to(plant, phase)
        sample = plant.sample()
        assert {name: type(value) for name, value in sample.items()} == wanted
        assert all(math.isfinite(value) for value in sample.values() if isinstance(value, float))
    assert {actual.name: actual.unit for actual in plant.actuals()} == {a.name: a.unit for a in SPUTTER.job_actuals}
    assert set(plant.alarms()) == {alarm.name for alarm in SPUTTER.alarms}


def test_the_hidden_truth_is_in_no_tag_and_no_actual() -> None:
    plant = SputterPlant(seed=5)
    plant.start(sputter_order(**SHORT_FILM))
    _finish(plant)
    told = {value for value in plant.sample().values() if isinstance(value, float)}
    told |= {actual.value for actual in plant.actuals() if isinstance(actual.value, float)}
    assert not told & {film["thickness_nm"] for film in _truth(plant).values()}


def test_the_same_seed_gives_the_same_run_however_time_is_cut() -> None:
    records = []
    for cut_s in (1.0, 7.3, 200.0):
        plant = SputterPlant(seed=9)
        plant.start(sputter_order(**SHORT_FILM))
        while plant.activity is Activity.RUNNING:
            plant.advance(cut_s)
        records.append((_truth(plant), _actuals(plant)))
    assert records[0] == records[1] == records[2]
    other = SputterPlant(seed=10)
    other.start(sputter_order(**SHORT_FILM))
    _finish(other)
    assert _truth(other) != records[0][0]


@pytest.mark.parametrize(("endpoint", "reached"), [("qcm", "qcm"), ("first", "qcm"), ("time", "time")])
def test_the_endpoint_decides_what_ends_the_film(endpoint: str, reached: str) -> None:
    plant = SputterPlant(physics=QUIET)
    plant.start(sputter_order(endpoint=endpoint, thickness_nm=5.0, deposit_time_s=600.0, max_deposit_time_s=900.0))
    _finish(plant)
    assert _actuals(plant)["endpoint_reached"] == reached
    if reached == "qcm":
        assert _actuals(plant)["thickness_qcm_nm"] == pytest.approx(5.0, abs=1.0)
        assert _truth(plant)["LI-1"]["thickness_nm"] == pytest.approx(5.0, rel=0.3)


def test_a_paused_film_goes_on_with_the_remaining_nanometres_and_stays_flagged() -> None:
    plant = SputterPlant(physics=QUIET)
    plant.start(sputter_order(**SHORT_FILM))
    _to(plant, SputterPhase.DEPOSIT)
    plant.advance(120.0)
    assert plant.pause()
    assert plant.activity is Activity.SUSPENDED
    sample = plant.sample()
    assert not sample["rf_on"]
    assert float(_actuals(plant)["thickness_remaining_nm"]) == pytest.approx(6.0, abs=0.3)
    plant.advance(600.0)
    assert plant.resume()
    _finish(plant)
    assert plant.activity is Activity.COMPLETED
    assert _actuals(plant)["interruption_count"] == 1
    assert _truth(plant)["LI-1"]["interruptions"] == 1
    assert _truth(plant)["LI-1"]["thickness_nm"] == pytest.approx(10.0, rel=0.02)
    assert plant.sample()["film_interrupted"]


def test_a_stopped_run_cools_vents_and_unloads_before_it_is_over() -> None:
    plant = SputterPlant()
    plant.start(sputter_order(**SHORT_FILM))
    _to(plant, SputterPhase.DEPOSIT)
    plant.advance(60.0)
    assert plant.stop()
    assert not plant.stop()
    assert not plant.pause()
    _finish(plant)
    assert plant.activity is Activity.STOPPED
    assert 0.0 < _truth(plant)["LI-1"]["thickness_nm"] < 5.0
    assert _truth(plant)["LI-1"]["interruptions"] == 1


def test_an_abort_switches_rf_off_at_once_and_frees_the_tool_by_itself() -> None:
    plant = SputterPlant()
    plant.start(sputter_order(**SHORT_FILM))
    _to(plant, SputterPhase.DEPOSIT)
    plant.abort()
    sample = plant.sample()
    assert plant.activity is Activity.ABORTED
    assert not sample["rf_on"]
    assert "last job" in plant.start(sputter_order("RUN-2"))[0]
    _finish(plant)
    assert list(plant.start(sputter_order("RUN-2", **SHORT_FILM))) == []


def test_a_second_job_is_refused_while_one_is_held() -> None:
    plant = SputterPlant()
    plant.start(sputter_order())
    assert list(plant.start(sputter_order("RUN-2"))) == ["the tool already holds a job"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rf_power_w": 142.0}, "rf_power_w"),
        ({"endpoint": "never"}, "endpoint"),
        ({"max_deposit_time_s": 5000.0}, "shorter"),
        ({"argon_flow_sccm": float("nan")}, "argon_flow_sccm"),
        ({"materials": (MaterialRequirement("LI-1", "disc", 1),)}, "one target"),
        ({"materials": (MaterialRequirement("T", "target"),)}, "nothing to coat"),
        ({"materials": (MaterialRequirement("T", "target"), MaterialRequirement("A", "disc", 9))}, "no position 9"),
        (
            {
                "materials": (
                    MaterialRequirement("T", "target"),
                    MaterialRequirement("A", "disc", 1),
                    MaterialRequirement("B", "disc", 1),
                )
            },
            "position 1",
        ),
        (
            {
                "materials": (
                    MaterialRequirement("T", "target"),
                    MaterialRequirement("A", "disc", 1),
                    MaterialRequirement("A", "disc", 2),
                )
            },
            "A is named twice",
        ),
    ],
)
def test_an_order_the_tool_can_never_run_is_refused(changes: dict[str, Any], word: str) -> None:
    plant = SputterPlant()
    order = sputter_order(**changes)
    assert any(word in problem for problem in plant.problems(order))
    assert plant.start(order)
    assert plant.activity is Activity.IDLE


def test_a_restart_keeps_wear_and_truth_and_aborts_the_running_job() -> None:
    plant = SputterPlant(seed=4)
    plant.start(sputter_order(**SHORT_FILM))
    _to(plant, SputterPhase.DEPOSIT)
    plant.advance(100.0)
    state = json.loads(json.dumps(plant.snapshot()))
    again = SputterPlant(seed=4)
    again.restore(state)
    assert again.activity is Activity.ABORTED
    assert not again.sample()["rf_on"]
    assert _truth(again) == _truth(plant)
    assert again.snapshot()["targets"] == state["targets"]
    assert list(again.start(sputter_order("RUN-2", **SHORT_FILM))) == []
    _finish(again)
    assert _truth(again)["LI-1"]["jobs"] == ["RUN-1", "RUN-2"]
    assert _truth(again)["LI-1"]["interruptions"] == 1


def test_a_worn_out_target_is_refused() -> None:
    plant = SputterPlant()
    state: dict[str, Any] = dict(plant.snapshot())
    plant.restore(state | {"targets": {"TGT-1": {"energy_kwh": 20.0, "cracked": False}}})
    assert "life" in plant.start(sputter_order())[0]


def test_a_long_idle_time_costs_next_to_nothing() -> None:
    plant = SputterPlant()
    plant.advance(3000 * 3600.0)
    assert list(plant.start(sputter_order(**SHORT_FILM))) == []


REQUESTS = st.one_of(
    st.sampled_from(["pause", "resume", "stop", "abort", "start"]),
    st.tuples(st.sampled_from(sorted(FAULTS)), st.booleans()),
    st.floats(0.1, 3000.0),
)


@settings(max_examples=40, deadline=None)
@given(requests=st.lists(REQUESTS, max_size=30))
def test_rf_is_never_on_with_the_door_open_or_water_missing_whatever_is_asked(
    requests: list[str | tuple[str, bool] | float],
) -> None:
    plant = SputterPlant(seed=2)
    number = 0
    plant.start(sputter_order("RUN-0", **SHORT_FILM))
    for request in requests:
        match request:
            case "start":
                number += 1
                plant.start(sputter_order(f"RUN-{number}", **SHORT_FILM))
            case "pause" | "resume" | "stop" | "abort":
                getattr(plant, request)()
            case (str(fault), bool(active)):
                plant.inject(fault, active)
            case float(seconds):
                plant.advance(seconds)
        sample = plant.sample()
        assert not sample["rf_on"] or (sample["door_closed"] and sample["water_ok"])
        assert not sample["rf_on"] or sample["gate_open"]
        assert not (sample["vent_valve_open"] and sample["lithium_hazard"])
        assert float(sample["chamber_pressure_pa"]) > 0.0
