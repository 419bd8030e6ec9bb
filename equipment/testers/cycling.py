"""What a cycling test says: half-cycles, cycles, capacity, energy, efficiency, overpotential.

Capacities and energies are the tester's own counters; I·dt over the records only cross-checks them, because
records are sparse and their currents are rounded. This module knows no file, no mass but the one it is given,
and no verdict: see `lifetime`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipment.errors import EquipmentError
from equipment.testers.records import CellKind, Polarity, Records, StepState, oriented

STOP_S = 60.0  # The tester's clock runs on while its test time stands: longer than this is a stop.

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class CannotAnalyse(EquipmentError):
    """The figure that was asked for does not follow from what was measured."""


@dataclass(frozen=True, slots=True)
class HalfCycles:
    """One entry a charge or discharge step, in order; all arrays have one length.

    Attributes:
        cycle_count: Cycle that it belongs to.
        state: `StepState.CHARGE` or `DISCHARGE`, as the cell saw it.
        start_s, end_s: Test time of the step's start and of its last record.
        capacity_ah, energy_wh: By the tester's counters; by I·dt where the file has none.
        integrated_capacity_ah: By I·dt (trapezoids over the records).
        disagrees: Counter and I·dt differ by more than the tolerance.
        overpotential_v: Median |voltage| over the middle half of the step's time; NaN without a record there.
        highest_v: Largest |voltage|.
        partial: It was joined late, stopped within, or is not over: its capacity is not that of a half-cycle.
        stopped_before_s, stopped_after_s: Time for which the test had stood still until the start and the end.
    """

    cycle_count: Ints
    state: NDArray[np.int8]
    start_s: Floats
    end_s: Floats
    capacity_ah: Floats
    energy_wh: Floats
    integrated_capacity_ah: Floats
    disagrees: Flags
    overpotential_v: Floats
    highest_v: Floats
    partial: Flags
    stopped_before_s: Floats
    stopped_after_s: Floats

    def __len__(self) -> int:
        return len(self.cycle_count)


@dataclass(frozen=True, slots=True)
class Cycles:
    """One entry a cycle, in order; all arrays have one length.

    Attributes:
        cycle_count: Number of the cycle.
        start_s, end_s: Test time.
        charge_capacity_ah, discharge_capacity_ah, charge_energy_wh, discharge_energy_wh: Sums over its steps.
        coulombic_efficiency: Discharge over charge; for a symmetric cell its second half-cycle over its first,
            since neither of them is the charge of the cell. NaN for a partial cycle.
        energy_efficiency: Discharge over charge energy; NaN for a partial cycle and for a symmetric cell, which
            stores none.
        overpotential_v: Mean of its half-cycles.
        partial: Not exactly one whole charge and one whole discharge, or resumed after a stop.
    """

    cycle_count: Ints
    start_s: Floats
    end_s: Floats
    charge_capacity_ah: Floats
    discharge_capacity_ah: Floats
    charge_energy_wh: Floats
    discharge_energy_wh: Floats
    coulombic_efficiency: Floats
    energy_efficiency: Floats
    overpotential_v: Floats
    partial: Flags

    def __len__(self) -> int:
        return len(self.cycle_count)


def half_cycles(
    batches: Iterable[Records],
    *,
    polarity: Polarity = Polarity.NORMAL,
    is_final: bool,
    tolerance: float = 0.02,
) -> HalfCycles:
    """Measure every charge and discharge step of a test, in memory bounded by the longest step.

    Args:
        batches: Records in order.
        polarity: How the cell lay in the channel.
        is_final: The test is over; of a running one the last step is partial.
        tolerance: Relative difference of counter and I·dt that is still agreement.
    """
    measure = _Measure(tolerance)
    parts: list[HalfCycles] = []
    pending: list[Records] = []
    for batch in batches:
        if len(batch) == 0:
            continue
        starts = _step_starts(batch, pending[-1] if pending else None)
        if len(starts):
            cut = int(starts[-1])
            pending.append(oriented(batch[:cut], polarity))
            parts.append(measure(Records.concatenate(pending), is_over=True))
            pending = [oriented(batch[cut:], polarity)]
        else:
            pending.append(oriented(batch, polarity))
    parts.append(measure(Records.concatenate(pending), is_over=is_final))
    return HalfCycles(**_joined(parts))


def cycles(halves: HalfCycles, kind: CellKind) -> Cycles:
    """Put half-cycles together by their cycle number."""
    numbers, first, of_cycle = np.unique(halves.cycle_count, return_index=True, return_inverse=True)
    n = len(numbers)

    def total(values: NDArray[Any], chosen: Flags) -> Floats:
        sums: Floats = np.bincount(of_cycle[chosen], weights=values[chosen], minlength=n).astype(np.float64)
        return sums

    charge, discharge = halves.state == StepState.CHARGE, halves.state == StepState.DISCHARGE
    every = np.ones(len(halves), bool)
    charge_ah, discharge_ah = total(halves.capacity_ah, charge), total(halves.capacity_ah, discharge)
    charge_wh, discharge_wh = total(halves.energy_wh, charge), total(halves.energy_wh, discharge)
    start, end = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(start, of_cycle, halves.start_s)
    np.maximum.at(end, of_cycle, halves.end_s)
    stopped_before, stopped_after = np.full(n, np.inf), np.zeros(n)
    np.minimum.at(stopped_before, of_cycle, halves.stopped_before_s)
    np.maximum.at(stopped_after, of_cycle, halves.stopped_after_s)
    one_of_each = (total(charge, every) == 1) & (total(discharge, every) == 1)
    partial = ~one_of_each | (total(halves.partial, every) > 0) | (stopped_after > stopped_before)
    if kind is CellKind.SYMMETRIC:
        charge_first = charge[first]
        coulombic = _ratio(
            np.where(charge_first, discharge_ah, charge_ah), np.where(charge_first, charge_ah, discharge_ah), partial
        )
        energetic = np.full(n, np.nan)
    else:
        coulombic = _ratio(discharge_ah, charge_ah, partial)
        energetic = _ratio(discharge_wh, charge_wh, partial)
    seen = np.isfinite(halves.overpotential_v)
    count = total(every, seen)
    overpotential = _ratio(total(halves.overpotential_v, seen), count, count == 0)
    return Cycles(
        numbers,
        start,
        end,
        charge_ah,
        discharge_ah,
        charge_wh,
        discharge_wh,
        coulombic,
        energetic,
        overpotential,
        partial,
    )


def retention(of: Cycles, reference_cycle: int) -> Floats:
    """Discharge capacity of each cycle over that of a named reference cycle; NaN for partial cycles.

    Raises:
        CannotAnalyse: The reference cycle was not measured, is partial, or passed no charge.
    """
    found = np.flatnonzero(of.cycle_count == reference_cycle)
    if len(found) == 0:
        raise CannotAnalyse(f"the test has no cycle {reference_cycle} to refer to")
    row = int(found[0])
    if of.partial[row]:
        raise CannotAnalyse(f"cycle {reference_cycle} is partial, so nothing can be referred to it")
    reference_ah = of.discharge_capacity_ah[row]
    if reference_ah <= 0:
        raise CannotAnalyse(f"cycle {reference_cycle} passed no charge, so nothing can be referred to it")
    return np.where(of.partial, np.nan, of.discharge_capacity_ah / reference_ah)


def specific_capacity_mah_g(capacity_ah: Floats, active_mass_g: float) -> Floats:
    """Capacity per gram of active material of that very cell, by its genealogy.

    Raises:
        CannotAnalyse: The mass is not a positive number.
    """
    if not (np.isfinite(active_mass_g) and active_mass_g > 0):
        raise CannotAnalyse(f"the active mass must be a positive number of grams, not {active_mass_g!r}")
    return 1e3 * capacity_ah / active_mass_g


def summary(halves: HalfCycles, of: Cycles) -> Mapping[str, int | float | None]:
    """The figures of a test that a person asks for first; None where there is nothing to say."""
    whole = ~of.partial

    def median(values: Floats) -> float | None:
        known = values[whole & np.isfinite(values)]
        return float(np.median(known)) if len(known) else None

    return {
        "n_cycles": len(of),
        "n_partial_cycles": int(of.partial.sum()),
        "duration_h": float(halves.end_s.max() / 3600.0) if len(halves) else 0.0,
        "capacity_passed_ah": float(halves.capacity_ah.sum()),
        "median_overpotential_v": median(of.overpotential_v),
        "median_coulombic_efficiency": median(of.coulombic_efficiency),
        "median_energy_efficiency": median(of.energy_efficiency),
        "n_disagreeing_half_cycles": int(halves.disagrees.sum()),
    }


class _Measure:
    """Measures runs of whole steps, one after the other, and remembers how long the test stood still."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._last_s = np.nan
        self._last_clock_s = np.nan
        self._stopped_s = 0.0

    def __call__(self, records: Records, *, is_over: bool) -> HalfCycles:
        """The half-cycles in a run of records that begins with a step; the last step is over or not."""
        if len(records) == 0:
            return HalfCycles(**{f.name: np.empty(0, _DTYPES.get(f.name, np.float64)) for f in fields(HalfCycles)})
        time_s = records.test_time_second
        stopped = self._standing_still(records)
        starts = np.concatenate(([0], _step_starts(records, None)))
        ends = np.concatenate((starts[1:], [len(records)])) - 1
        of_step = np.repeat(np.arange(len(starts)), ends - starts + 1)
        began_s = time_s[starts] - records.step_time_second[starts]

        dt_s = np.diff(time_s, prepend=time_s[0])
        dt_s[starts] = 0.0
        current = np.abs(records.current_ampere)
        power = records.voltage_volt * records.current_ampere
        lead_s = records.step_time_second[starts]  # before the step's first record
        integrated_ah = (_trapezoids(current, dt_s, starts) + current[starts] * lead_s) / 3600.0
        integrated_wh = np.abs(_trapezoids(power, dt_s, starts) + power[starts] * lead_s) / 3600.0
        counted_ah, counted_wh = records.step_capacity_ah[ends], records.step_energy_wh[ends]
        difference = np.abs(counted_ah - integrated_ah)

        joined_late = lead_s > 1.5 * np.maximum.reduceat(dt_s, starts) + 1.0
        partial = joined_late | (starts == ends) | (stopped[ends] > stopped[starts])
        if not is_over:
            partial[-1] = True
        halves = {
            "cycle_count": records.cycle_count[starts],
            "state": records.state[starts],
            "start_s": began_s,
            "end_s": time_s[ends],
            "capacity_ah": np.where(np.isnan(counted_ah), integrated_ah, counted_ah),
            "energy_wh": np.where(np.isnan(counted_wh), integrated_wh, counted_wh),
            "integrated_capacity_ah": integrated_ah,
            "disagrees": difference > self._tolerance * np.maximum(counted_ah, integrated_ah),
            "overpotential_v": _middle_median(records, of_step, began_s, time_s[ends]),
            "highest_v": np.maximum.reduceat(np.abs(records.voltage_volt), starts),
            "partial": partial,
            "stopped_before_s": stopped[starts],
            "stopped_after_s": stopped[ends],
        }
        moving = records.state[starts] != StepState.REST
        return HalfCycles(**{name: column[moving] for name, column in halves.items()})

    def _standing_still(self, records: Records) -> Floats:
        """Time until each record for which the clock ran on and the test did not."""
        time_s, clock_s = records.test_time_second, records.unix_time_second
        behind = np.diff(clock_s, prepend=self._last_clock_s) - np.diff(time_s, prepend=self._last_s)
        stopped = self._stopped_s + np.cumsum(np.where(behind > STOP_S, behind, 0.0))
        self._last_s, self._last_clock_s = float(time_s[-1]), float(clock_s[-1])
        self._stopped_s = float(stopped[-1])
        return stopped


_DTYPES: Mapping[str, type[np.generic]] = {
    "cycle_count": np.int64,
    "state": np.int8,
    "disagrees": np.bool_,
    "partial": np.bool_,
}


def _step_starts(records: Records, before: Records | None) -> Ints:
    """Rows where a step begins; the first row only if it begins another step than `before` ended in."""
    step, cycle, state = records.step_index, records.cycle_count, records.state
    begins = np.zeros(len(records), bool)
    begins[1:] = (
        (step[1:] != step[:-1])
        | (cycle[1:] != cycle[:-1])
        | (state[1:] != state[:-1])
        | (records.step_time_second[1:] < records.step_time_second[:-1])
    )
    if before is not None and len(before):
        begins[0] = (
            step[0] != before.step_index[-1]
            or cycle[0] != before.cycle_count[-1]
            or state[0] != before.state[-1]
            or records.step_time_second[0] < before.step_time_second[-1]
        )
    return np.flatnonzero(begins)


def _trapezoids(values: Floats, dt_s: Floats, starts: Ints) -> Floats:
    """∫ values dt of each step; `dt_s` is zero where a step begins."""
    means = values.copy()
    means[1:] = 0.5 * (values[1:] + values[:-1])
    return np.add.reduceat(means * dt_s, starts)


def _middle_median(records: Records, of_step: Ints, began_s: Floats, ended_s: Floats) -> Floats:
    """Median |voltage| of each step over the middle half of its time."""
    quarter = 0.25 * (ended_s - began_s)
    time_s = records.test_time_second
    middle = (time_s >= (began_s + quarter)[of_step]) & (time_s <= (ended_s - quarter)[of_step])
    step, volts = of_step[middle], np.abs(records.voltage_volt[middle])
    volts = volts[np.lexsort((volts, step))]
    counts = np.bincount(step, minlength=len(began_s))
    offset = np.cumsum(counts) - counts
    medians = np.full(len(began_s), np.nan)
    some = counts > 0
    low, high = (offset + (counts - 1) // 2)[some], (offset + counts // 2)[some]
    medians[some] = 0.5 * (volts[low] + volts[high])
    return medians


def _ratio(above: Floats, below: Floats, without: Flags) -> Floats:
    """Quotient; NaN where there is nothing to say."""
    sensible = ~without & (below > 0)
    quotient = np.full(len(above), np.nan)
    quotient[sensible] = above[sensible] / below[sensible]
    return quotient


def _joined(parts: list[HalfCycles]) -> dict[str, NDArray[Any]]:
    return {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(HalfCycles)}
