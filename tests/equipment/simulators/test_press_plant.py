"""The simulated press: compaction by the highest pressure so far, strokes, interlocks and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipment.press import PRESS, PressPhase, die_area_mm2, force_kn, pellet_density_g_per_cm3, pressure_mpa
from equipment.simulators.plant import Activity
from equipment.simulators.press_plant import PRESS_FAULTS, PressPlant
from equipment.simulators.press_powder import (
    Pellet,
    PowderPhysics,
    creep_gain,
    loose_thickness_mm,
    relative_density,
    springback,
)
from equipment.tags import TagRole
from tests.equipment.simulators.orders import press_order

LGPS = PowderPhysics()
EVEN = PowderPhysics(noise=0.0)


def _finish(plant: PressPlant, step_s: float = 1.0) -> None:
    for _ in range(5000):
        if plant.sample()["phase_number"] == PressPhase.IDLE:
            return
        plant.advance(step_s)
    raise AssertionError(f"the stroke does not end: {plant.sample()['phase_name']}, {plant.activity}")


def _to(plant: PressPlant, phase: PressPhase) -> None:
    for _ in range(5000):
        if plant.sample()["phase_number"] == phase:
            return
        plant.advance(0.5)
    raise AssertionError(f"{phase.name} was not reached: {plant.activity}")


def _in(phase: PressPhase) -> PressPlant:
    plant = PressPlant()
    assert not plant.start(press_order())
    _to(plant, phase)
    return plant


def _actuals(plant: PressPlant) -> dict[str, Any]:
    return {actual.name: actual.value for actual in plant.actuals()}


def _standing(plant: PressPlant) -> set[str]:
    return {name for name, stands in plant.alarms().items() if stands}


def _truth(state: Mapping[str, Any], serial: str = "PEL-1") -> dict[str, Any]:
    pellet: dict[str, Any] = state["truth"][serial]
    return pellet


@pytest.mark.parametrize(("mpa", "kn"), [(120.0, 9.42), (240.0, 18.85), (360.0, 28.27), (450.0, 35.3)])
def test_force_is_pressure_times_the_area_of_the_die(mpa: float, kn: float) -> None:
    assert die_area_mm2(10.0) == pytest.approx(78.54, abs=0.005)
    assert force_kn(mpa, 10.0) == pytest.approx(kn, abs=0.05)
    assert pressure_mpa(force_kn(mpa, 10.0), 10.0) == pytest.approx(mpa)


def test_a_die_without_area_and_a_negative_pressure_have_no_force() -> None:
    with pytest.raises(ValueError, match="area"):
        force_kn(100.0, 0.0)
    with pytest.raises(ValueError, match="negative"):
        force_kn(-1.0, 10.0)


def test_a_pellet_of_150_mg_is_0_936_mm_when_fully_dense() -> None:
    assert loose_thickness_mm(150.0, die_area_mm2(10.0), 2.04) == pytest.approx(0.936, abs=0.0005)


@pytest.mark.parametrize(("mpa", "thickness_mm"), [(120.0, 1.31), (240.0, 1.16), (360.0, 1.08)])
def test_heckels_law_gives_the_known_thicknesses(mpa: float, thickness_mm: float) -> None:
    solid = loose_thickness_mm(150.0, die_area_mm2(10.0), 2.04)
    assert solid / relative_density(mpa, LGPS) == pytest.approx(thickness_mm, abs=0.005)


def test_springback_and_creep_have_their_size() -> None:
    assert springback(360.0, LGPS) == pytest.approx(0.016)
    assert creep_gain(120.0, LGPS) == pytest.approx(0.0077, abs=0.0001)


@given(loads=st.lists(st.floats(0.0, 450.0), min_size=1, max_size=30))
def test_a_pellet_never_gets_looser_and_only_the_highest_pressure_counts(loads: list[float]) -> None:
    pellet = Pellet(150.0, 2.04, filling=1.0)
    before = 0.0
    for load in loads:
        pellet.load(load, 1.0)
        assert pellet.loaded_density(LGPS) >= before - 0.02
        before = pellet.loaded_density(LGPS)
    assert pellet.peak_mpa == max(loads)
    assert 0.0 < pellet.free_density(LGPS) < 1.0
    assert pellet.thickness_mm(78.54, 0.0, LGPS) >= pellet.thickness_mm(78.54, pellet.peak_mpa, LGPS)


def test_the_pellets_of_one_powder_scatter_by_one_percent() -> None:
    plant = PressPlant()
    fillings = []
    for number in range(300):
        plant.start(press_order(f"S-{number}", pellet=f"PEL-{number}"))
        plant.abort()
        plant.advance(5.0)
        fillings.append(_truth(plant.snapshot(), f"PEL-{number}")["filling"])
    mean = sum(fillings) / len(fillings)
    spread = (sum((f - mean) ** 2 for f in fillings) / len(fillings)) ** 0.5
    assert mean == pytest.approx(1.0, abs=0.003)
    assert spread == pytest.approx(0.01, rel=0.15)


def test_a_stroke_holds_its_force_and_measures_the_pellet() -> None:
    plant = PressPlant(physics=EVEN)
    assert list(plant.problems(press_order())) == []
    assert list(plant.start(press_order())) == []
    seen: list[int] = []
    while plant.activity is Activity.RUNNING:
        plant.advance(0.5)
        phase = int(plant.sample()["phase_number"])
        if not seen or seen[-1] != phase:
            seen.append(phase)
    assert seen == [1, 2, 3, 4, 0]
    assert plant.activity is Activity.COMPLETED
    actuals = _actuals(plant)
    assert actuals["mean_dwell_force_kn"] == pytest.approx(18.85, rel=0.005)
    assert actuals["mean_dwell_pressure_mpa"] == pytest.approx(240.0, rel=0.005)
    assert actuals["dwell_s"] == pytest.approx(120.0)
    assert actuals["peak_force_kn"] <= 1.02 * 18.85
    assert actuals["thickness_mm"] == pytest.approx(1.166, abs=0.01)
    truth = _truth(plant.snapshot())
    assert actuals["density_g_per_cm3"] == pytest.approx(truth["density_g_per_cm3"], rel=0.005)
    assert truth["density_g_per_cm3"] == pytest.approx(
        pellet_density_g_per_cm3(150.0, truth["thickness_mm"], 10.0), rel=1e-9
    )
    assert actuals["density_g_per_cm3"] != truth["density_g_per_cm3"]


def test_later_strokes_go_on_from_the_highest_pressure_so_far() -> None:
    plant = PressPlant()
    densities = []
    for number, mpa in enumerate((240.0, 120.0, 360.0)):
        assert not plant.start(press_order(f"S-{number}", pressure_mpa=mpa))
        _finish(plant)
        densities.append(_truth(plant.snapshot())["relative_density"])
    assert densities[1] == densities[0]
    assert densities[2] > densities[0] + 0.04


def test_what_lies_beside_the_pellet_is_taken_off_its_thickness() -> None:
    plant = PressPlant(physics=EVEN)
    plant.start(press_order(operation="electrodes", pressure_mpa=360.0, added_thickness_mm=1.0))
    _finish(plant)
    actuals = _actuals(plant)
    assert actuals["stack_thickness_mm"] - actuals["thickness_mm"] == pytest.approx(1.0)
    assert actuals["thickness_mm"] == pytest.approx(1.084, abs=0.01)


def test_the_sample_covers_the_tag_table_in_the_right_types() -> None:
    served = {TagRole.LINK, TagRole.IDENTIFICATION}
    wanted = {tag.name: tag.type.python_type for tag in PRESS if tag.role not in served} | {"interlock_ok": bool}
    for plant in (PressPlant(), _in(PressPhase.DWELL)):
        assert {name: type(value) for name, value in plant.sample().items()} == wanted
        assert set(plant.alarms()) == {alarm.name for alarm in PRESS.alarms}
    assert {a.name: a.unit for a in _in(PressPhase.RAMP).actuals()} == {a.name: a.unit for a in PRESS.job_actuals}


def test_the_same_seed_gives_the_same_stroke_however_time_is_cut() -> None:
    records = []
    for cut_s in (0.3, 7.0, 500.0):
        plant = PressPlant(seed=3)
        plant.start(press_order())
        _finish(plant, cut_s)
        records.append((_actuals(plant), plant.snapshot()))
    assert records[0] == records[1] == records[2]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"pressure_mpa": 451.0}, "pressure_mpa"),
        ({"force_kn": 20.0}, "pressure times area"),
        ({"operation": "stamp"}, "operation"),
        ({"ramp_kn_per_s": 3.0}, "ramp_kn_per_s"),
        ({"dwell_s": 5.0}, "dwell_s"),
    ],
)
def test_an_order_the_press_can_never_run_is_refused(changes: dict[str, Any], word: str) -> None:
    plant = PressPlant()
    assert any(word in problem for problem in plant.problems(press_order(**changes)))
    assert plant.start(press_order(**changes))
    assert plant.activity is Activity.IDLE


def test_the_wrong_die_an_open_guard_and_bad_gas_are_told_at_once() -> None:
    plant = PressPlant()
    for fault in ("wrong_die", "guard_open", "glovebox_excursion"):
        plant.inject(fault, True)
    plant.advance(300.0)
    assert len(plant.start(press_order())) == 3
    assert _standing(plant) == {"die_mismatch", "guard_open", "glovebox_excursion"}
    for fault in ("wrong_die", "guard_open", "glovebox_excursion"):
        plant.inject(fault, False)
    plant.advance(3 * 3600.0)
    assert not plant.start(press_order())


def test_a_runaway_force_is_cut_within_a_tenth_of_a_second() -> None:
    plant = _in(PressPhase.DWELL)
    plant.inject("over_force", True)
    while plant.activity is Activity.RUNNING:
        plant.advance(0.05)
    reached = float(plant.sample()["force_kn"])
    plant.advance(0.1)
    assert plant.activity is Activity.ABORTED
    assert "over_force" in _standing(plant)
    assert _actuals(plant)["peak_force_kn"] < 1.05 * 18.85 + 0.2 + 0.1 * 40.0
    assert float(plant.sample()["force_kn"]) < reached
    _finish(plant)
    assert plant.sample()["force_kn"] == 0.0


@pytest.mark.parametrize("phase", [PressPhase.RAMP, PressPhase.DWELL])
def test_a_breaking_pellet_holds_the_job_with_the_ram_unloaded_and_stays_broken(phase: PressPhase) -> None:
    plant = _in(phase)
    plant.advance(5.0)
    plant.inject("fracture", True)
    plant.advance(1.0)
    assert plant.activity is Activity.HELD
    assert "fracture" in _standing(plant)
    assert _actuals(plant)["fractured"] is True
    assert not plant.resume()
    assert plant.stop()
    _finish(plant)
    assert plant.activity is Activity.STOPPED
    assert "broken" in plant.start(press_order("STROKE-2"))[0]


def test_an_opened_guard_unloads_the_ram_and_the_dwell_goes_on_when_it_is_closed() -> None:
    plant = _in(PressPhase.DWELL)
    plant.advance(30.0)
    plant.inject("guard_open", True)
    plant.advance(1.0)
    assert plant.activity is Activity.HELD
    assert plant.sample()["force_kn"] == 0.0
    assert not plant.resume()
    plant.inject("guard_open", False)
    assert plant.resume()
    _finish(plant)
    assert plant.activity is Activity.COMPLETED
    assert _actuals(plant)["dwell_s"] == pytest.approx(120.0)
    assert _actuals(plant)["interruption_count"] == 1


def test_a_held_stroke_can_be_stopped_with_the_guard_open() -> None:
    plant = _in(PressPhase.DWELL)
    plant.inject("guard_open", True)
    plant.advance(1.0)
    assert plant.stop()
    _finish(plant)
    assert plant.activity is Activity.STOPPED


def test_an_empty_die_leaves_the_stroke_window_and_aborts() -> None:
    plant = PressPlant()
    plant.inject("empty_die", True)
    plant.start(press_order())
    _finish(plant)
    assert plant.activity is Activity.ABORTED
    assert "stroke_window" in _standing(plant)


def test_a_press_that_loses_force_holds_the_job() -> None:
    plant = _in(PressPhase.DWELL)
    plant.inject("force_loss", True)
    plant.advance(10.0)
    assert plant.activity is Activity.HELD
    assert "force_deviation" in _standing(plant)
    plant.inject("force_loss", False)
    assert plant.resume()


def test_pause_and_stop_leave_the_ram_free() -> None:
    plant = _in(PressPhase.RAMP)
    assert plant.pause()
    plant.advance(1.0)
    assert plant.activity is Activity.SUSPENDED
    assert plant.sample()["force_kn"] == 0.0
    assert plant.resume()
    _to(plant, PressPhase.DWELL)
    assert plant.stop()
    _finish(plant)
    assert plant.activity is Activity.STOPPED


def test_a_restart_keeps_each_pellet_and_aborts_the_stroke() -> None:
    plant = _in(PressPhase.DWELL)
    plant.advance(20.0)
    state = json.loads(json.dumps(plant.snapshot()))
    again = PressPlant()
    again.restore(state)
    assert again.activity is Activity.ABORTED
    assert again.snapshot()["truth"] == state["truth"]
    assert not again.start(press_order("STROKE-2"))
    assert _truth(again.snapshot())["peak_mpa"] == pytest.approx(240.0, rel=0.01)


def test_a_fault_the_press_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(LookupError, match="fracture"):
        PressPlant().inject("earthquake", True)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.one_of(
            st.sampled_from(["pause", "resume", "stop", "abort", "start"]),
            st.tuples(st.sampled_from(PRESS_FAULTS), st.booleans()),
            st.floats(0.1, 200.0),
        ),
        max_size=25,
    )
)
def test_the_ram_never_stays_loaded_with_the_guard_open_whatever_is_asked(
    requests: list[str | tuple[str, bool] | float],
) -> None:
    plant = PressPlant(seed=2)
    number = 0
    plant.start(press_order("S-0"))
    for request in requests:
        match request:
            case "start":
                number += 1
                plant.start(press_order(f"S-{number}", pellet=f"PEL-{number}"))
            case "pause" | "resume" | "stop" | "abort":
                getattr(plant, request)()
            case (str(fault), bool(active)):
                plant.inject(fault, active)
                plant.advance(0.5)
            case float(seconds):
                plant.advance(seconds)
        sample = plant.sample()
        assert sample["guard_closed"] or sample["force_kn"] == 0.0
        assert 0.0 <= float(sample["force_kn"]) <= 40.0
