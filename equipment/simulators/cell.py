"""Simulated cells on a simulated cycler: single cells drawn from the hidden law, cycled record by record.

A seed is a cell: the same truth, protocol and seed give the same records, however far they are asked for. This
module knows the law (`cell_law`) and how a tester records; it knows no file layout and no analysis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from equipment.simulators.cell_law import CellTruth, population
from equipment.testers.records import CyclingSteps, Records, StepState

Floats = NDArray[np.float64]

SCATTER = 0.05  # coefficient of variation of single cells, of life and of resistance
DOUBLED = 2.0  # the life of a polarising cell ends when its resistance has grown by this factor
COLLAPSE = 0.015  # e-folding time of the last rise, as a part of the life: quick failure
SHORTED_RESISTANCE = 0.01  # of a hard short, as a part of the young cell's resistance
SOFT_RESISTANCE = 0.4  # of a soft short, likewise
SOFT_PART = 0.5  # of the shorts begin soft
SOFT_LASTS = 0.1  # and turn hard after this part of the life
SETTLING = 0.1  # part of the overpotential that builds up within a half-cycle, with
SETTLING_TIME = 0.05  # this time constant, as a part of the half-cycle
NOISE_V = 3e-4
GRID_POINTS = 60
BLOCK_HALF_CYCLES = 128


class EndReason(StrEnum):
    """Why a test ended."""

    CUT_OFF = "cut_off"
    MAX_CYCLES = "max_cycles"
    MAX_DURATION = "max_duration"


@dataclass(frozen=True, slots=True)
class EndOfTest:
    """When a test ends, in test time, and why."""

    time_h: float
    reason: EndReason


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """When the tester records within a step.

    It does so at the start and the end, whenever |voltage| passes a multiple of `delta_v`, and every `interval_s`
    or every quarter of the step, whichever comes sooner.
    """

    interval_s: float = 900.0
    delta_v: float = 0.05

    def __post_init__(self) -> None:
        if self.interval_s <= 0 or self.delta_v <= 0:
            raise ValueError("the recording interval and voltage step must be positive")


@dataclass(frozen=True, slots=True)
class Cells:
    """Single cells of one truth, drawn from its population; arrays of one length.

    Attributes:
        lifetime_h: Time until the resistance has doubled, or until the short.
        overpotential_v: Of the young cell at the protocol's current density.
        ends_shorted: By a short, not by polarisation.
        short_begins_soft: Of those that end shorted.
        drift_per_h: Growth of resistance while alive, as a part of the young cell's.
    """

    lifetime_h: Floats
    overpotential_v: Floats
    ends_shorted: NDArray[np.bool_]
    short_begins_soft: NDArray[np.bool_]
    drift_per_h: float

    def resistance_factor(self, cell: int, time_h: Floats) -> Floats:
        """Resistance of one cell over that of the young cell; the shape of `time_h`."""
        life_h = float(self.lifetime_h[cell])
        drifted: Floats = 1.0 + self.drift_per_h * time_h
        if not self.ends_shorted[cell]:
            at_end = max(DOUBLED - 1.0 - self.drift_per_h * life_h, 0.1)
            # The exponent is capped where any tester has long cut off.
            return drifted + at_end * np.exp(np.minimum((time_h - life_h) / (COLLAPSE * life_h), 20.0))
        soft_until_h = life_h * (1.0 + SOFT_LASTS) if self.short_begins_soft[cell] else life_h
        shorted: Floats = np.where(
            time_h < life_h, drifted, np.where(time_h < soft_until_h, SOFT_RESISTANCE, SHORTED_RESISTANCE)
        )
        return shorted


def draw(truth: CellTruth, steps: CyclingSteps, n: int, rng: np.random.Generator) -> Cells:
    """Draw `n` cells; life and resistance scatter log-normally and independently about the median.

    Raises:
        CellNotModelled: There is no law for cells of this kind.
    """
    median = population(truth, steps)
    sigma = float(np.sqrt(np.log1p(SCATTER**2)))
    lifetime_h = median.lifetime_h * np.exp(sigma * rng.standard_normal(n))
    overpotential_v = median.overpotential_v * np.exp(sigma * rng.standard_normal(n))
    ends_shorted = rng.random(n) < median.shorted
    return Cells(lifetime_h, overpotential_v, ends_shorted, rng.random(n) < SOFT_PART, median.drift_per_h)


def simulate(
    truth: CellTruth,
    steps: CyclingSteps,
    seed: int,
    *,
    started_unix_s: float = 0.0,
    until_h: float | None = None,
    recording: RecordingRule | None = None,
) -> Iterator[Records]:
    """The records of one cell's test, in batches.

    Args:
        truth: What the cell is.
        steps: What the tester does with it.
        seed: Which cell of its population it is.
        started_unix_s: The tester's clock at the start.
        until_h: Test time until which records are wanted (a running test); None for the whole test.
        recording: When the tester records; the default keeps a test of 3000 h with half-cycles of 1 h under
            20 000 records.

    Raises:
        CellNotModelled: There is no law for cells of this kind.
    """
    test = _Test(truth, steps, seed, recording or RecordingRule())
    until_s = np.inf if until_h is None else 3600.0 * until_h
    count = 0
    for block in test.blocks():
        records = block[block.test_time_second <= until_s]
        if len(records):
            columns = records.columns()
            columns["record_index"] = np.arange(count + 1, count + len(records) + 1)
            columns["unix_time_second"] = started_unix_s + records.test_time_second
            count += len(records)
            yield Records(**columns)
        if len(records) < len(block):
            return


def end_of_test(truth: CellTruth, steps: CyclingSteps, seed: int) -> EndOfTest:
    """When and why the test of this cell ends.

    Raises:
        CellNotModelled: There is no law for cells of this kind.
    """
    test = _Test(truth, steps, seed, RecordingRule())
    for _ in test.blocks():
        pass
    return test.end


class _Test:
    """One cell in one channel; blocks of half-cycles are computed as [half-cycle, point in it] arrays."""

    def __init__(self, truth: CellTruth, steps: CyclingSteps, seed: int, recording: RecordingRule) -> None:
        self._rng = np.random.default_rng(seed)
        self._cells = draw(truth, steps, 1, self._rng)
        self._steps = steps
        self._recording = recording
        self._current_a = 1e-3 * steps.current_density_ma_cm2 * truth.area_cm2
        # The tester times its steps to the millisecond.
        self._length_s = length_s = round(steps.half_cycle_s, 3)
        self._interval_s = min(recording.interval_s, length_s / 4.0)
        every = np.arange(0.0, length_s, self._interval_s)
        points = np.concatenate((np.linspace(0.0, length_s, GRID_POINTS + 1), every))
        self._grid_s: Floats = np.unique(np.round(points, 3)).astype(np.float64)
        self.end = EndOfTest(steps.max_duration_h, EndReason.MAX_DURATION)

    def blocks(self) -> Iterator[Records]:
        """Records of all steps in order, without record numbers and clock; sets `end` when it is through."""
        steps, max_s = self._steps, 3600.0 * self._steps.max_duration_h
        step_s = self._length_s + steps.rest_s
        n_half_cycles = 2 * steps.max_cycles
        if steps.rest_s > 0:
            yield self._rests(np.array([-1]), np.array([0.0]), max_s)
        for first in range(0, n_half_cycles, BLOCK_HALF_CYCLES):
            halves = np.arange(first, min(first + BLOCK_HALF_CYCLES, n_half_cycles))
            began_s: Floats = steps.rest_s + halves.astype(np.float64) * step_s
            if began_s[0] >= max_s:
                return
            records, cut_s = self._half_cycles(halves, began_s, max_s)
            if steps.rest_s > 0:
                rests = self._rests(halves, began_s + self._length_s, min(max_s, cut_s))
                columns = Records.concatenate((records, rests)).columns()
                order = np.lexsort((columns["step_index"], columns["test_time_second"]))
                records = Records(**{name: column[order] for name, column in columns.items()})
            yield records
            if np.isfinite(cut_s):
                self.end = EndOfTest(cut_s / 3600.0, EndReason.CUT_OFF)
                return
        last_s = steps.rest_s + n_half_cycles * step_s
        if last_s < max_s:
            self.end = EndOfTest(last_s / 3600.0, EndReason.MAX_CYCLES)

    def _half_cycles(self, halves: NDArray[np.int64], began_s: Floats, max_s: float) -> tuple[Records, float]:
        """Records of a block of half-cycles, and the test time of its cut-off (infinite without one)."""
        grid_s = self._grid_s
        time_s = began_s[:, None] + grid_s[None, :]
        settling = 1.0 - SETTLING * np.exp(-grid_s / (SETTLING_TIME * grid_s[-1]))
        smooth_v = self._cells.overpotential_v[0] * settling * self._cells.resistance_factor(0, time_s / 3600.0)
        noisy_v = np.abs(smooth_v + NOISE_V * self._rng.standard_normal(smooth_v.shape))

        taken = self._recorded(smooth_v)
        in_time = (time_s <= max_s) & (began_s < max_s)[:, None]
        taken &= in_time
        cut_s = np.inf
        over = (smooth_v >= self._steps.cut_off_v) & in_time
        volts = np.minimum(noisy_v, self._steps.cut_off_v)
        if over.any():
            half, point = np.unravel_index(int(np.argmax(over)), over.shape)
            cut_s = float(time_s[half, point])
            taken[half + 1 :] = False
            taken[half, point:] = False
            taken[half, point], volts[half, point] = True, self._steps.cut_off_v
        charge_ah = np.broadcast_to(self._current_a * grid_s / 3600.0, volts.shape)
        steps_wh = self._current_a * 0.5 * (smooth_v[:, 1:] + smooth_v[:, :-1]) * np.diff(grid_s) / 3600.0
        energy_wh = np.concatenate((np.zeros((len(halves), 1)), np.cumsum(steps_wh, axis=1)), axis=1)
        charging = np.broadcast_to((halves % 2 == 0)[:, None], volts.shape)[taken]
        sign = np.where(charging, 1.0, -1.0).astype(np.float64)
        steps_each = 2 if self._steps.rest_s > 0 else 1
        step = np.broadcast_to((steps_each * (halves + 1))[:, None], volts.shape)[taken]
        records = _records(
            time_s[taken],
            np.broadcast_to(grid_s, volts.shape)[taken],
            sign * volts[taken],
            sign * self._current_a,
            charge_ah[taken],
            energy_wh[taken],
            np.broadcast_to((halves // 2 + 1)[:, None], volts.shape)[taken],
            step,
            np.where(charging, StepState.CHARGE, StepState.DISCHARGE),
        )
        return records, cut_s

    def _recorded(self, smooth_v: Floats) -> NDArray[np.bool_]:
        """Which points of each half-cycle the recording rule takes."""
        taken = np.zeros(smooth_v.shape, bool)
        taken[:, [0, -1]] = True
        # The grid is rounded to the millisecond, so a time on the interval may lie a hair before it.
        intervals = np.floor((self._grid_s + 1e-3) / self._interval_s)
        taken[:, 1:] |= np.diff(intervals) > 0
        taken[:, 1:] |= np.diff(np.floor(smooth_v / self._recording.delta_v), axis=1) != 0
        return taken

    def _rests(self, after_halves: NDArray[np.int64], began_s: Floats, max_s: float) -> Records:
        """One record at the end of each rest; `after_halves` is −1 for the rest before the first half-cycle."""
        time_s = began_s + self._steps.rest_s
        n = len(time_s)
        noise_v = NOISE_V * self._rng.standard_normal(n)
        zero = np.zeros(n)
        rests = _records(
            time_s,
            np.full(n, self._steps.rest_s),
            noise_v,
            zero,
            zero,
            zero,
            np.maximum(after_halves, 0) // 2 + 1,
            2 * (after_halves + 1) + 1,
            np.full(n, StepState.REST),
        )
        return rests[time_s <= max_s]


def _records(
    time_s: Floats,
    step_time_s: Floats,
    volts: Floats,
    amperes: Floats,
    capacity_ah: Floats,
    energy_wh: Floats,
    cycle: NDArray[np.int64],
    step: NDArray[np.int64],
    state: NDArray[np.int64],
) -> Records:
    n = len(time_s)
    return Records(
        record_index=np.zeros(n, np.int64),
        test_time_second=time_s,
        step_time_second=step_time_s,
        unix_time_second=np.full(n, np.nan),
        voltage_volt=volts,
        current_ampere=amperes,
        step_capacity_ah=capacity_ah,
        step_energy_wh=energy_wh,
        temperature_t1_celsius=np.full(n, np.nan),
        cycle_count=cycle.astype(np.int64),
        step_index=step.astype(np.int64),
        state=state.astype(np.int8),
    )
