"""Run-to-run control holds the thickness near the noise of the process, and stops learning when it should."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import CorrectionRefused
from recipes.run_to_run import Context, Lesson, Settings, State, approve_beyond_clamp, begin, decide, learn, release

CONTEXT = Context("sputter-1", "TGT-1", "LIALO2-0P5PA-120W", "LIALO2")
WANTED_NM, RATE = 200.0, 2.0
RUN_NOISE, METROLOGY, DRIFT, TARGET_STEP, RUNS_A_TARGET = 0.01, 0.005, 0.0015, 0.04, 100


def errors_nm(seed: int, targets: int, *, controlled: bool) -> list[float]:
    """Thickness errors of product runs (the first run of a target is its witness run), in nm."""
    chance = random.Random(seed)
    errors = []
    for target in range(targets):
        state = begin(replace(CONTEXT, target_serial=f"TGT-{target}"))
        step = chance.gauss(0, TARGET_STEP)
        for run in range(RUNS_A_TARGET):
            time_s = 60 * WANTED_NM / RATE
            if controlled:
                move = decide(state, WANTED_NM, RATE)
                state, time_s = move.after, move.time_s
            true_nm = time_s / 60 * RATE * math.exp(step - DRIFT * run + chance.gauss(0, RUN_NOISE))
            if run:
                errors.append(true_nm - WANTED_NM)
            if controlled:
                measured_nm = true_nm * math.exp(chance.gauss(0, METROLOGY))
                update = learn(state, measured_nm, time_s, RATE)
                state = update.after if not update.after.held else release(update.after)
    return errors


def rms(errors: list[float]) -> float:
    return math.sqrt(fmean(error * error for error in errors))


def outside(errors: list[float]) -> float:
    return fmean(abs(error) > 0.1 * WANTED_NM for error in errors)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thickness_stays_near_the_noise_floor_where_a_fixed_time_wanders_off(seed: int) -> None:
    floor_nm = RUN_NOISE * WANTED_NM
    controlled, fixed = errors_nm(seed, 12, controlled=True), errors_nm(seed, 12, controlled=False)
    assert floor_nm * 0.9 < rms(controlled) < floor_nm * 1.35
    assert outside(controlled) < 0.001
    assert rms(fixed) > 13
    assert outside(fixed) > 0.15


def test_a_new_target_asks_for_seasoning_and_is_known_after_one_run() -> None:
    state = begin(CONTEXT)
    assert state.needs_seasoning
    learned = learn(state, 190, 6000, RATE).after
    assert not learned.needs_seasoning
    assert decide(learned, WANTED_NM, RATE).time_s == pytest.approx(6000 * 200 / 190)


def test_the_knowledge_of_one_thickness_serves_another() -> None:
    learned = learn(begin(CONTEXT), 95, 3000, RATE).after
    assert decide(learned, 300, RATE).time_s == pytest.approx(9000 / 0.95)


def settled(level: float = 0.0) -> State:
    return replace(begin(CONTEXT), level=level, runs=20, last_log_time=-level)


def test_a_change_within_the_dead_band_is_not_made() -> None:
    state = replace(settled(), level=0.004)
    move = decide(state, WANTED_NM, RATE)
    assert move.time_s == pytest.approx(6000)
    assert "dead-band" in move.reason


@given(st.floats(-1, 1), st.floats(-0.2, 0.2))
def test_no_move_goes_beyond_a_clamp_without_a_person(level: float, last: float) -> None:
    state = replace(settled(), level=level, last_log_time=last)
    move = decide(state, WANTED_NM, RATE)
    assert move.time_s / move.model_time_s <= 1.25 * (1 + 1e-9)
    assert move.model_time_s / move.time_s <= 1.25 * (1 + 1e-9)
    assert abs(math.log(move.time_s / move.model_time_s) - last) <= math.log(1.05) + 1e-9
    beyond = max(abs(level + last) - math.log(1.05), abs(level) - math.log(1.25))
    assert beyond > -1e-9 if move.clamped else beyond < 1e-9
    if move.clamped:
        assert approve_beyond_clamp(move, "quentin").time_s == move.wanted_time_s


def test_approval_is_for_clamped_moves_and_by_a_named_person() -> None:
    with pytest.raises(ValueError, match="clamped"):
        approve_beyond_clamp(decide(settled(), WANTED_NM, RATE), "quentin")
    with pytest.raises(ValueError, match="person"):
        approve_beyond_clamp(decide(replace(settled(), level=0.2), WANTED_NM, RATE), "")


def test_one_outlier_is_not_learned_from_and_a_second_holds_the_context() -> None:
    first = learn(settled(), 185, 6000, RATE)
    assert first.lesson is Lesson.OUTLIER
    assert first.after.level == 0
    second = learn(first.after, 185, 6000, RATE)
    assert second.lesson is Lesson.HELD
    with pytest.raises(CorrectionRefused) as refused:
        decide(second.after, WANTED_NM, RATE)
    assert refused.value.findings[0].code == "context_held"
    assert decide(release(second.after), WANTED_NM, RATE).time_s == pytest.approx(6000)


def test_a_good_run_after_an_outlier_clears_it() -> None:
    cleared = learn(learn(settled(), 185, 6000, RATE).after, 200, 6000, RATE)
    assert cleared.lesson is Lesson.LEARNED
    assert learn(cleared.after, 185, 6000, RATE).lesson is Lesson.OUTLIER


def test_an_aborted_run_teaches_nothing() -> None:
    update = learn(settled(), 80, 2500, RATE, aborted=True)
    assert (update.lesson, update.after) == (Lesson.ABORTED, settled())


@given(st.floats(0.9, 1.1), st.floats(10, 1000))
def test_a_steady_process_is_met_exactly_whatever_its_rate(true_over_model: float, wanted_nm: float) -> None:
    state, settings = begin(CONTEXT), Settings(dead_band=0)
    for _ in range(12):
        move = decide(state, wanted_nm, RATE, settings)
        made_nm = move.time_s / 60 * RATE * true_over_model
        state = learn(move.after, made_nm, move.time_s, RATE, settings).after
    assert made_nm == pytest.approx(wanted_nm, rel=1e-6)
