"""Predictions agree with the figures worked out by hand from the published constants."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.kinds import founding_library
from recipes.master import MasterRecipe
from recipes.prediction import predict, pump_down_s
from recipes.rate_model import HeckelModel, SputterRateModel, die_area_mm2, force_kn

RECIPES = {d.document_id: d for d in founding_library() if isinstance(d, MasterRecipe)}
MODEL = SputterRateModel()


def test_200_nm_take_100_minutes_and_a_fifth_of_a_kilowatt_hour() -> None:
    prediction = predict(RECIPES["SP-LIALO2-200"])
    assert prediction.deposit_time_s == pytest.approx(6000)
    assert prediction.max_deposit_time_s == pytest.approx(7800)
    assert prediction.rate_nm_per_min == pytest.approx(2.0)
    assert 0.20 < prediction.energy_kwh < 0.25
    assert prediction.thickness_nm == 200


def test_gas_scattering_and_distance_have_their_known_slopes() -> None:
    assert MODEL.transmission(0.5, 80) == pytest.approx(0.850, abs=5e-4)
    by_pressure = math.log(MODEL.rate_nm_per_min(120, 0.505) / MODEL.rate_nm_per_min(120, 0.495)) / math.log(
        505 / 495
    )
    assert by_pressure == pytest.approx(-0.16, abs=0.005)
    on_axis = replace(MODEL, circle_radius_mm=0.0)
    by_distance = math.log(
        on_axis.rate_nm_per_min(120, 0.5, distance_mm=80.5) / on_axis.rate_nm_per_min(120, 0.5, distance_mm=79.5)
    )
    assert by_distance == pytest.approx(-0.023, abs=0.0005)


@pytest.mark.parametrize(("radius_mm", "loss"), [(20, 0.085), (30, 0.18)])
def test_off_the_axis_the_rate_falls_as_for_a_ring_source(radius_mm: float, loss: float) -> None:
    at_radius = replace(MODEL, circle_radius_mm=radius_mm).geometry(80)
    on_axis = replace(MODEL, circle_radius_mm=0.0).geometry(80)
    assert 1 - at_radius / on_axis == pytest.approx(loss, abs=0.005)


def test_a_worn_target_needs_longer() -> None:
    fresh, worn = predict(RECIPES["SP-LIALO2-200"]), predict(RECIPES["SP-LIALO2-200"], target_energy_kwh=20)
    assert worn.deposit_time_s is not None
    assert fresh.deposit_time_s is not None
    assert worn.deposit_time_s / fresh.deposit_time_s == pytest.approx(1.03 / 0.85)


def test_a_film_of_more_nanometres_takes_longer_in_proportion() -> None:
    times = [predict(RECIPES[f"SP-LIALO2-{nm}"]).deposit_time_s for nm in (100, 200, 300)]
    assert times == pytest.approx([3000, 6000, 9000])


@pytest.mark.parametrize(("pressure", "force"), [(120, 9.42), (240, 18.85), (360, 28.27), (450, 35.34)])
def test_force_follows_from_pressure_and_die(pressure: float, force: float) -> None:
    assert die_area_mm2(10) == pytest.approx(78.54, abs=0.005)
    assert force_kn(pressure, 10) == pytest.approx(force, abs=0.005)


@pytest.mark.parametrize(("pressure", "thickness"), [(120, 1.31), (240, 1.16), (360, 1.08)])
def test_a_pellet_of_150_mg_has_the_thickness_of_heckels_law(pressure: float, thickness: float) -> None:
    assert HeckelModel().thickness_mm(150, pressure, 10) == pytest.approx(thickness, abs=0.005)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_profile_covers_the_run_and_ends_at_rest(recipe: MasterRecipe) -> None:
    prediction = predict(recipe)
    assert prediction.assumptions
    assert sum(phase.duration_s for phase in prediction.phases) == pytest.approx(prediction.duration_s)
    for series in prediction.profile:
        times = [time for time, _ in series.points]
        assert times == sorted(times)
        assert times[-1] <= prediction.duration_s + 1e-6
    actuator = prediction.profile[0]
    assert actuator.points[-1] == (pytest.approx(prediction.duration_s), 0.0)


def test_a_vacuum_below_what_the_pump_reaches_is_not_predicted() -> None:
    assert pump_down_s(2e-4) == pytest.approx(2000)
    with pytest.raises(ValueError, match="ultimate"):
        pump_down_s(2e-5)


@given(st.floats(20, 141), st.floats(0.1, 5), st.floats(0, 20))
def test_the_rate_is_positive_and_falls_with_pressure_over_the_whole_window(
    power: float, pressure: float, energy: float
) -> None:
    rate = MODEL.rate_nm_per_min(power, pressure, energy)
    assert 0 < rate < 4
    assert MODEL.rate_nm_per_min(power, pressure * 1.1, energy) < rate
