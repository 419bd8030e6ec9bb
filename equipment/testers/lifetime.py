"""Whether and when a symmetric cell failed, and how long a population of cells lives.

The failure criteria are settings with a version, and every verdict names the version it was given by. A cell
that outlives its test is censored: its time is a lower bound, and the summary (Kaplan–Meier) treats it so.
This module knows half-cycles and no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from equipment.testers.cycling import CannotAnalyse, HalfCycles

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Outcome(StrEnum):
    """How a test ended for the cell."""

    FAILED = "failed"
    CENSORED = "censored"


class Criterion(StrEnum):
    """By what a cell is said to have failed."""

    POLARISATION_LIMIT = "polarisation_limit"
    GROWTH = "growth_over_baseline"
    HARD_SHORT = "hard_short"
    SOFT_SHORT_SUSPECTED = "soft_short_suspected"


@dataclass(frozen=True, slots=True)
class FailureCriteria:
    """When a symmetric cell counts as failed. A change of any number is another version.

    Attributes:
        version: Stored with each verdict.
        polarisation_limit_v: A half-cycle whose |voltage| reaches it, at any time.
        growth_factor: Overpotential over baseline.
        hard_short_fraction: Overpotential under this part of the baseline: the electrodes touch.
        soft_short_drop: Sudden fall of overpotential against the half-cycles just before, as a part of it, that
            does not recover: lithium may have bridged the electrolyte in places.
        baseline_from, baseline_half_cycles: The baseline is the median overpotential of so many whole
            half-cycles, after so many have been left out for settling.
        in_a_row: Half-cycles that must agree before growth or a short is believed.
    """

    version: str = "symmetric-1"
    polarisation_limit_v: float = 4.9
    growth_factor: float = 2.0
    hard_short_fraction: float = 0.1
    soft_short_drop: float = 0.3
    baseline_from: int = 4
    baseline_half_cycles: int = 20
    in_a_row: int = 3

    def __post_init__(self) -> None:
        if not (self.polarisation_limit_v > 0 and self.growth_factor > 1):
            raise ValueError("the polarisation limit must be positive and the growth factor above 1")
        if not (0 < self.hard_short_fraction < 1 - self.soft_short_drop < 1):
            raise ValueError("a hard short must lie below a soft one, and both between 0 and 1")
        if self.baseline_from < 0 or self.baseline_half_cycles < 1 or self.in_a_row < 1:
            raise ValueError("the baseline needs half-cycles, and a finding at least one in a row")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a test says about the life of one cell.

    Attributes:
        outcome: Failed, or censored: alive at the last record.
        time_h: Test time of the failure, or of the last half-cycle's end.
        criterion: By what it failed; None for a censored cell.
        criteria_version: Of the criteria.
        baseline_v: Overpotential that growth and shorts were judged against; None before there is one.
    """

    outcome: Outcome
    time_h: float
    criterion: Criterion | None
    criteria_version: str
    baseline_v: float | None


@dataclass(frozen=True, slots=True)
class Survival:
    """A Kaplan–Meier curve: steps at the times of failure.

    Attributes:
        time_h: Times at which cells failed, rising.
        at_risk, failures: Cells alive just before, and failed at, each time.
        survival: Fraction that outlives each time.
        lower, upper: Log-log confidence limits of it (Greenwood's variance); NaN where survival is zero.
        median_h: First time at which survival is one half or less; None while the curve stays above.
        median_lower_h, median_upper_h: Limits of the median (Brookmeyer and Crowley); None where open.
        n: Cells.
        confidence: Of the limits.
    """

    time_h: Floats
    at_risk: NDArray[np.int64]
    failures: NDArray[np.int64]
    survival: Floats
    lower: Floats
    upper: Floats
    median_h: float | None
    median_lower_h: float | None
    median_upper_h: float | None
    n: int
    confidence: float


def judge(halves: HalfCycles, criteria: FailureCriteria, cut_off_v: float = math.inf) -> Verdict:
    """Say when the first criterion was met, if one was.

    Args:
        halves: Of one symmetric cell.
        criteria: The version to judge by.
        cut_off_v: |voltage| at which the protocol ended the test; reaching it is reaching the limit.

    A half-cycle's overpotential is that of its middle, so this is the time of the first of those in a row that
    showed growth or a short; the limit is met at the end of the half-cycle that reached it. Growth that runs into
    the limit is believed however few half-cycles it took.
    """
    end_h = halves.end_s / 3600.0
    lived_h = float(end_h.max()) if len(halves) else 0.0
    usable = np.flatnonzero(np.isfinite(halves.overpotential_v) & ~halves.partial)
    window = usable[criteria.baseline_from :][: criteria.baseline_half_cycles]
    at_limit = halves.highest_v >= min(criteria.polarisation_limit_v, 0.999 * cut_off_v)
    baseline_v = None
    met: list[tuple[float, Criterion]] = []
    if at_limit.any():
        met.append((float(end_h[np.argmax(at_limit)]), Criterion.POLARISATION_LIMIT))
    if len(window) == criteria.baseline_half_cycles:
        baseline_v = float(np.median(halves.overpotential_v[window]))
        later = usable[usable > window[-1]]
        level = halves.overpotential_v[later]
        dropped = _sudden_drop(halves.overpotential_v[usable], criteria)[usable > window[-1]]
        middle_h = 0.5 * (halves.start_s[later] / 3600.0 + end_h[later])
        growing = level >= criteria.growth_factor * baseline_v
        found = {
            Criterion.GROWTH: _first_run(growing, criteria.in_a_row, growing & at_limit[later]),
            Criterion.HARD_SHORT: _first_run(level <= criteria.hard_short_fraction * baseline_v, criteria.in_a_row),
            Criterion.SOFT_SHORT_SUSPECTED: _first_run(dropped, criteria.in_a_row),
        }
        met += [(float(middle_h[row]), criterion) for criterion, row in found.items() if row is not None]
    if not met:
        return Verdict(Outcome.CENSORED, lived_h, None, criteria.version, baseline_v)
    order = list(Criterion)
    time_h, criterion = min(met, key=lambda finding: (finding[0], order.index(finding[1])))
    return Verdict(Outcome.FAILED, time_h, criterion, criteria.version, baseline_v)


def kaplan_meier(time_h: Sequence[float], failed: Sequence[bool], confidence: float = 0.95) -> Survival:
    """Survival of a population in which some cells are still alive.

    Args:
        time_h: Failure, or end of the test, of each cell.
        failed: False where the cell was alive then.
        confidence: Of the two-sided limits.

    Cells censored at the very time of a failure count as at risk then. Sources: Kaplan and Meier, J. Am. Stat.
    Assoc. 53 (1958) 457; Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 1.4;
    Brookmeyer and Crowley, Biometrics 38 (1982) 29.

    Raises:
        CannotAnalyse: Lengths differ, there is no cell, a time is negative or not finite, or the confidence is
            not between 0 and 1.
    """
    times, events = np.asarray(time_h, np.float64), np.asarray(failed, bool)
    if times.ndim != 1 or times.shape != events.shape or len(times) == 0:
        raise CannotAnalyse(f"one time and one outcome a cell are needed, not {times.shape} and {events.shape}")
    if not np.isfinite(times).all() or (times < 0).any():
        raise CannotAnalyse("times must be finite and not negative")
    if not 0 < confidence < 1:
        raise CannotAnalyse(f"the confidence must lie between 0 and 1, not {confidence}")
    steps, failures = np.unique(times[events], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), steps, side="left")
    survival: Floats = np.cumprod(1.0 - failures / at_risk).astype(np.float64)
    alive = at_risk > failures
    greenwood = np.cumsum(np.divide(failures, at_risk * (at_risk - failures), where=alive, out=np.zeros(len(steps))))
    lower, upper = np.full(len(steps), np.nan), np.full(len(steps), np.nan)
    inside = survival > 0
    spread = NormalDist().inv_cdf(0.5 + confidence / 2) * np.sqrt(greenwood[inside]) / np.log(survival[inside])
    lower[inside] = survival[inside] ** np.exp(-spread)
    upper[inside] = survival[inside] ** np.exp(spread)
    return Survival(
        steps,
        at_risk.astype(np.int64),
        failures.astype(np.int64),
        survival,
        lower,
        upper,
        _first_at_half(steps, survival),
        _first_at_half(steps, np.where(inside, lower, 0.0)),
        _first_at_half(steps, upper),
        len(times),
        confidence,
    )


def summarise(verdicts: Sequence[Verdict], confidence: float = 0.95) -> Survival:
    """Kaplan–Meier over the verdicts of a group of cells.

    Raises:
        CannotAnalyse: There is none, or they were given by different versions of the criteria.
    """
    versions = sorted({verdict.criteria_version for verdict in verdicts})
    if len(versions) > 1:
        raise CannotAnalyse(f"verdicts by different criteria can't be put together: {', '.join(versions)}")
    return kaplan_meier(
        [verdict.time_h for verdict in verdicts],
        [verdict.outcome is Outcome.FAILED for verdict in verdicts],
        confidence,
    )


def _sudden_drop(level: Floats, criteria: FailureCriteria) -> Flags:
    """Half-cycles right after a fall, all of which lie low against the median of three times as many before."""
    n, n_before = criteria.in_a_row, 3 * criteria.in_a_row
    found = np.zeros(len(level), bool)
    if len(level) < n_before + n:
        return found
    before = np.median(np.lib.stride_tricks.sliding_window_view(level, n_before)[:-n], axis=1)
    highest_after = np.lib.stride_tricks.sliding_window_view(level[n_before:], n).max(axis=1)
    for fall in np.flatnonzero(highest_after <= (1 - criteria.soft_short_drop) * before) + n_before:
        found[fall : fall + n] = True
    return found


def _first_run(found: Flags, n: int, proof: Flags | None = None) -> int | None:
    """Where the first run of findings begins that is n long, or that holds a finding which proves it alone."""
    edges = np.diff(found.astype(np.int8), prepend=0, append=0)
    for begin, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        if end - begin >= n or (proof is not None and proof[begin:end].any()):
            return int(begin)
    return None


def _first_at_half(time_h: Floats, curve: Floats) -> float | None:
    reached = np.flatnonzero(curve <= 0.5 + 1e-12)
    return float(time_h[reached[0]]) if len(reached) else None
