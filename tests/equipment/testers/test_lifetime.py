"""Verdicts on single cells, and survival of groups against hand-worked and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipment.testers.cycling import CannotAnalyse, HalfCycles
from equipment.testers.lifetime import Criterion, FailureCriteria, Outcome, Verdict, judge, kaplan_meier, summarise
from equipment.testers.records import StepState

CRITERIA = FailureCriteria()


def cell(levels: list[float], highest: dict[int, float] | None = None) -> HalfCycles:
    """Half-cycles of one hour with these overpotentials."""
    n = len(levels)
    level, end_s, zero = np.array(levels), 3600.0 * np.arange(1, n + 1), np.zeros(n)
    top = level.copy()
    for row, volts in (highest or {}).items():
        top[row] = volts
    return HalfCycles(
        cycle_count=np.arange(n) // 2 + 1,
        state=np.where(np.arange(n) % 2, StepState.DISCHARGE, StepState.CHARGE).astype(np.int8),
        start_s=end_s - 3600.0,
        end_s=end_s,
        capacity_ah=zero,
        energy_wh=zero,
        integrated_capacity_ah=zero,
        disagrees=np.zeros(n, bool),
        overpotential_v=level,
        highest_v=top,
        partial=np.zeros(n, bool),
        stopped_before_s=zero,
        stopped_after_s=zero,
    )


def test_a_cell_that_outlives_its_test_is_censored_at_its_end() -> None:
    verdict = judge(cell([0.2] * 100), CRITERIA)
    assert verdict == Verdict(Outcome.CENSORED, 100.0, None, "symmetric-1", 0.2)


def test_growth_over_the_baseline_fails_a_cell_at_the_first_half_cycle_that_shows_it() -> None:
    verdict = judge(cell([0.2] * 50 + [0.41] * 10), CRITERIA)
    assert (verdict.outcome, verdict.criterion, verdict.time_h) == (Outcome.FAILED, Criterion.GROWTH, 50.5)


def test_one_high_half_cycle_is_no_failure() -> None:
    assert judge(cell([0.2] * 50 + [0.5] * 2 + [0.2] * 10), CRITERIA).outcome is Outcome.CENSORED


def test_growth_that_runs_into_the_cut_off_is_believed_at_once() -> None:
    verdict = judge(cell([0.2] * 50 + [0.6], {50: 2.0}), CRITERIA, cut_off_v=2.0)
    assert (verdict.criterion, verdict.time_h) == (Criterion.GROWTH, 50.5)


def test_reaching_the_limit_fails_a_cell_even_before_there_is_a_baseline() -> None:
    verdict = judge(cell([0.2, 0.2, 0.2], {2: 4.95}), CRITERIA)
    assert (verdict.criterion, verdict.time_h, verdict.baseline_v) == (Criterion.POLARISATION_LIMIT, 3.0, None)


def test_a_collapse_to_almost_nothing_is_a_hard_short() -> None:
    verdict = judge(cell([0.2] * 50 + [0.002] * 5), CRITERIA)
    assert (verdict.criterion, verdict.time_h) == (Criterion.HARD_SHORT, 50.5)


def test_a_sudden_fall_that_stays_is_a_suspected_soft_short() -> None:
    verdict = judge(cell([0.2] * 50 + [0.12] * 5), CRITERIA)
    assert (verdict.criterion, verdict.time_h) == (Criterion.SOFT_SHORT_SUSPECTED, 50.5)


def test_a_slow_fall_is_no_short() -> None:
    assert judge(cell(list(np.linspace(0.2, 0.1, 200))), CRITERIA).outcome is Outcome.CENSORED


def test_nothing_measured_is_censored_at_zero() -> None:
    verdict = judge(cell([]), CRITERIA)
    assert (verdict.outcome, verdict.time_h, verdict.baseline_v) == (Outcome.CENSORED, 0.0, None)


def test_a_verdict_names_the_version_of_its_criteria() -> None:
    strict = FailureCriteria(version="lab-7", growth_factor=1.2)
    verdict = judge(cell([0.2] * 50 + [0.25] * 10), strict)
    assert (verdict.criteria_version, verdict.criterion) == ("lab-7", Criterion.GROWTH)


def test_verdicts_by_different_criteria_are_not_put_together() -> None:
    verdicts = [judge(cell([0.2] * 50), FailureCriteria(version=v)) for v in ("a", "b")]
    with pytest.raises(CannotAnalyse, match="different criteria can't be put together: a, b"):
        summarise(verdicts)


@pytest.mark.parametrize(
    "change", [{"growth_factor": 1.0}, {"hard_short_fraction": 0.9}, {"in_a_row": 0}, {"polarisation_limit_v": 0.0}]
)
def test_criteria_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        FailureCriteria(**change)


def test_survival_of_seven_cells_is_as_worked_out_by_hand() -> None:
    # 100 f, 200 f, 200 censored, 300 f, 400 censored, 500 f, 600 censored:
    # 6/7, 6/7·5/6 = 5/7, 5/7·3/4 = 15/28, 15/28·1/2 = 15/56
    curve = kaplan_meier([100, 200, 200, 300, 400, 500, 600], [True, True, False, True, False, True, False])
    assert curve.time_h.tolist() == [100, 200, 300, 500]
    assert curve.at_risk.tolist() == [7, 6, 4, 2]
    assert curve.survival.tolist() == pytest.approx([6 / 7, 5 / 7, 15 / 28, 15 / 56])
    assert curve.median_h == 500
    # Greenwood at 300 h: 1/(7·6) + 1/(6·5) + 1/(4·3); log-log limits with z = 1.959964
    variance = 1 / 42 + 1 / 30 + 1 / 12
    spread = 1.959964 * math.sqrt(variance) / abs(math.log(15 / 28))
    assert curve.lower[2] == pytest.approx((15 / 28) ** math.exp(spread), rel=1e-6)
    assert curve.upper[2] == pytest.approx((15 / 28) ** math.exp(-spread), rel=1e-6)


def test_survival_agrees_with_the_published_leukaemia_trial() -> None:
    # 6-mercaptopurine arm of Freireich et al., Blood 21 (1963) 699, in weeks; the curve is printed in most books.
    failed = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    curve = kaplan_meier([*failed, *censored], [True] * len(failed) + [False] * len(censored))
    assert curve.survival.tolist() == pytest.approx([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=5e-4)
    assert curve.median_h == 23
    assert curve.median_lower_h == 13
    assert curve.median_upper_h is None


def test_a_group_of_which_most_still_live_has_no_median() -> None:
    curve = kaplan_meier([1400, 3000, 3000], [True, False, False])
    assert curve.median_h is None
    assert curve.survival.tolist() == pytest.approx([2 / 3])


def test_a_group_that_all_lives_has_an_empty_curve_and_no_median() -> None:
    curve = kaplan_meier([3000, 3000], [False, False])
    assert (len(curve.time_h), curve.median_h, curve.n) == (0, None, 2)


@pytest.mark.parametrize(
    ("times", "failed", "confidence"),
    [
        ([], [], 0.95),
        ([1.0], [True, False], 0.95),
        ([-1.0], [True], 0.95),
        ([math.nan], [True], 0.95),
        ([1.0], [True], 1),
    ],
)
def test_survival_of_nonsense_is_refused(times: list[float], failed: list[bool], confidence: float) -> None:
    with pytest.raises(CannotAnalyse, match=r"times|time and one outcome|confidence"):
        kaplan_meier(times, failed, confidence)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_survival_falls_within_its_limits_and_counts_every_failure(cells: list[tuple[int, bool]]) -> None:
    curve = kaplan_meier([time for time, _ in cells], [failed for _, failed in cells])
    assert curve.failures.sum() == sum(failed for _, failed in cells)
    assert (np.diff(curve.survival) < 1e-12).all()
    inside = curve.survival > 1e-12
    assert (curve.lower[inside] <= curve.survival[inside] + 1e-12).all()
    assert (curve.survival[inside] <= curve.upper[inside] + 1e-12).all()


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40, unique=True))
@settings(max_examples=100, deadline=None)
def test_without_censoring_survival_is_the_fraction_that_lives(times: list[int]) -> None:
    curve = kaplan_meier(times, [True] * len(times))
    assert curve.survival.tolist() == pytest.approx([sum(t > at for t in times) / len(times) for at in sorted(times)])
