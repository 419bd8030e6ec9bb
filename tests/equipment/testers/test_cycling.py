"""Cycling figures against numbers that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipment.testers.cycling import (
    CannotAnalyse,
    Cycles,
    cycles,
    half_cycles,
    retention,
    specific_capacity_mah_g,
    summary,
)
from equipment.testers.records import CellKind, CyclingSteps, Polarity, Records, StepState

CURRENT_A = 1e-3
CHARGE, DISCHARGE, REST = StepState.CHARGE, StepState.DISCHARGE, StepState.REST


@dataclass(frozen=True)
class Step:
    """A constant-current step, recorded at 21 times from `joined_at_s` to its end."""

    cycle: int
    state: StepState
    length_s: float = 3600.0
    voltage_v: float = 0.2
    joined_at_s: float = 0.0
    counter_factor: float = 1.0

    def records(self, number: int, began_s: float) -> Records:
        time_s = np.linspace(self.joined_at_s, self.length_s, 21)
        sign = {REST: 0.0, CHARGE: 1.0, DISCHARGE: -1.0}[self.state]
        capacity_ah = self.counter_factor * abs(sign) * CURRENT_A * time_s / 3600
        ones, blank = np.ones(21, np.int64), np.full(21, np.nan)
        return Records(
            record_index=ones,
            test_time_second=began_s + time_s - self.joined_at_s,
            step_time_second=time_s,
            unix_time_second=blank,
            voltage_volt=self.voltage_v * (sign or 1.0) * ones,
            current_ampere=sign * CURRENT_A * ones,
            step_capacity_ah=capacity_ah,
            step_energy_wh=capacity_ah * self.voltage_v,
            temperature_t1_celsius=blank,
            cycle_count=self.cycle * ones,
            step_index=number * ones,
            state=np.full(21, self.state, np.int8),
        )


def run_of(*steps: Step, stops_s: Mapping[int, float] | None = None) -> Records:
    """The steps one after the other; before record k the tester stood still for `stops_s[k]`."""
    parts: list[Records] = []
    for number, step in enumerate(steps, start=1):
        parts.append(step.records(number, float(parts[-1].test_time_second[-1]) if parts else 0.0))
    columns = Records.concatenate(parts).columns()
    clock = 1.7e9 + columns["test_time_second"]
    for row, stop_s in (stops_s or {}).items():
        clock[row:] += stop_s
    return Records(**columns | {"unix_time_second": clock})


def analysed(records: Records, kind: CellKind = CellKind.FULL, *, is_final: bool = True) -> Cycles:
    return cycles(half_cycles([records], is_final=is_final), kind)


WHOLE = (Step(1, CHARGE, voltage_v=4.0), Step(1, REST), Step(1, DISCHARGE, 3240.0, 3.5))


def test_capacity_and_energy_are_the_testers_own_counters() -> None:
    halves = half_cycles([run_of(*WHOLE)], is_final=True)
    assert halves.state.tolist() == [CHARGE, DISCHARGE]
    assert halves.capacity_ah.tolist() == pytest.approx([1e-3, 0.9e-3])
    assert halves.energy_wh.tolist() == pytest.approx([4e-3, 3.15e-3])
    assert halves.start_s.tolist() == [0, 7200]
    assert halves.end_s.tolist() == [3600, 10440]
    assert not halves.partial.any()
    assert not halves.disagrees.any()


def test_coulombic_and_energy_efficiency_are_discharge_over_charge() -> None:
    cycle = analysed(run_of(*WHOLE))
    assert cycle.coulombic_efficiency.tolist() == pytest.approx([0.9])
    assert cycle.energy_efficiency.tolist() == pytest.approx([3.15 / 4.0])


def test_a_cell_that_lay_reversed_was_charged_while_the_tester_discharged() -> None:
    halves = half_cycles([run_of(*WHOLE)], polarity=Polarity.REVERSED, is_final=True)
    assert halves.state.tolist() == [DISCHARGE, CHARGE]
    assert cycles(halves, CellKind.FULL).coulombic_efficiency.tolist() == pytest.approx([1 / 0.9])


def test_a_symmetric_cell_has_an_overpotential_and_no_energy_efficiency() -> None:
    records = run_of(Step(1, DISCHARGE, voltage_v=0.19), Step(1, CHARGE, 3240.0, voltage_v=0.21))
    cycle = analysed(records, CellKind.SYMMETRIC)
    assert cycle.overpotential_v.tolist() == pytest.approx([0.2])
    assert cycle.coulombic_efficiency.tolist() == pytest.approx([0.9])
    assert np.isnan(cycle.energy_efficiency).all()


def test_overpotential_is_the_median_over_the_middle_half_of_the_step_alone() -> None:
    columns = run_of(Step(1, CHARGE)).columns()
    # Records 5 to 15 of 21 lie in the middle half.
    columns["voltage_volt"] = np.array([3.0] * 5 + [0.1] * 5 + [-0.2] + [0.3] * 5 + [-9.0] * 5)
    halves = half_cycles([Records(**columns)], is_final=True)
    assert halves.overpotential_v.tolist() == [0.2]
    assert halves.highest_v.tolist() == [9.0]


def test_a_recorder_that_leaves_out_the_start_of_a_step_is_not_one_that_joins_late() -> None:
    halves = half_cycles([run_of(Step(1, CHARGE, joined_at_s=180.0))], is_final=True)
    assert not halves.partial.any()
    assert halves.integrated_capacity_ah.tolist() == pytest.approx([1e-3])


def test_counters_that_disagree_with_current_times_time_are_flagged_and_still_used() -> None:
    halves = half_cycles(
        [run_of(Step(1, CHARGE, counter_factor=1.13), Step(1, DISCHARGE, counter_factor=1.01))], is_final=True
    )
    assert halves.disagrees.tolist() == [True, False]
    assert halves.capacity_ah[0] == pytest.approx(1.13e-3)
    assert halves.integrated_capacity_ah[0] == pytest.approx(1e-3)


def test_without_counters_the_current_is_integrated() -> None:
    columns = run_of(*WHOLE).columns()
    columns["step_capacity_ah"][:] = np.nan
    columns["step_energy_wh"][:] = np.nan
    halves = half_cycles([Records(**columns)], is_final=True)
    assert halves.capacity_ah.tolist() == pytest.approx([1e-3, 0.9e-3])
    assert halves.energy_wh.tolist() == pytest.approx([4e-3, 3.15e-3])


def assert_partial(cycle: Cycles, row: int) -> None:
    assert cycle.partial[row]
    assert np.isnan(cycle.coulombic_efficiency[row])
    assert np.isnan(cycle.energy_efficiency[row])


@pytest.mark.parametrize("record", [10, 30, 50])  # within the charge, the rest and the discharge
def test_a_cycle_resumed_after_a_stop_has_no_efficiency(record: int) -> None:
    later = tuple(Step(2, step.state, step.length_s, step.voltage_v) for step in WHOLE)
    cycle = analysed(run_of(*WHOLE, *later, stops_s={record: 600.0}))
    assert_partial(cycle, 0)
    assert cycle.coulombic_efficiency[1] == pytest.approx(0.9)


def test_a_stop_between_two_cycles_makes_neither_partial() -> None:
    later = tuple(Step(2, step.state, step.length_s, step.voltage_v) for step in WHOLE)
    assert not analysed(run_of(*WHOLE, *later, stops_s={63: 600.0})).partial.any()


def test_a_step_that_the_export_joins_late_makes_its_cycle_partial() -> None:
    assert_partial(analysed(run_of(Step(1, CHARGE, joined_at_s=1800.0), Step(1, DISCHARGE))), 0)


def test_a_step_done_twice_makes_its_cycle_partial() -> None:
    assert_partial(analysed(run_of(Step(1, CHARGE, 1800), Step(1, CHARGE), Step(1, DISCHARGE))), 0)


def test_the_last_step_of_a_running_test_is_partial_and_of_a_finished_one_is_not() -> None:
    assert_partial(analysed(run_of(*WHOLE), is_final=False), 0)
    assert not analysed(run_of(*WHOLE), is_final=True).partial.any()


def test_retention_refers_to_a_named_cycle() -> None:
    records = run_of(
        *(Step(n, s, length) for n, length in ((1, 4000.0), (2, 3000.0), (3, 2700.0)) for s in (CHARGE, DISCHARGE))
    )
    assert retention(analysed(records), 2).tolist() == pytest.approx([4 / 3, 1.0, 0.9])
    with pytest.raises(CannotAnalyse, match="no cycle 7"):
        retention(analysed(records), 7)
    running = analysed(records, is_final=False)
    assert np.isnan(retention(running, 2)[2])
    with pytest.raises(CannotAnalyse, match="cycle 3 is partial"):
        retention(running, 3)


def test_specific_capacity_takes_the_mass_that_it_is_given() -> None:
    assert specific_capacity_mah_g(np.array([6.125e-4]), 4.9e-3).tolist() == pytest.approx([125.0])
    for mass in (0.0, -1.0, float("nan")):
        with pytest.raises(CannotAnalyse, match="positive number of grams"):
            specific_capacity_mah_g(np.array([1.0]), mass)


def test_a_test_without_a_single_step_has_nothing_to_say() -> None:
    halves = half_cycles([], is_final=True)
    of = cycles(halves, CellKind.FULL)
    assert len(halves) == len(of) == 0
    assert summary(halves, of)["median_overpotential_v"] is None


def test_the_summary_says_what_the_cycles_say() -> None:
    halves = half_cycles([run_of(*WHOLE)], is_final=True)
    figures = summary(halves, cycles(halves, CellKind.FULL))
    assert figures["n_cycles"] == 1
    assert figures["median_coulombic_efficiency"] == pytest.approx(0.9)
    assert figures["duration_h"] == pytest.approx(2.9)


lengths = st.floats(100.0, 10_000.0)
drawn_cycles = st.lists(
    st.tuples(lengths, lengths, st.floats(0.01, 5.0), st.floats(0.01, 5.0)), min_size=1, max_size=6
)


@given(drawn_cycles, st.lists(st.integers(1, 200), max_size=6))
@settings(max_examples=60, deadline=None)
def test_how_a_file_is_cut_into_batches_changes_nothing(
    drawn: list[tuple[float, float, float, float]], cuts: list[int]
) -> None:
    steps = [
        Step(n, state, length, volts)
        for n, (up_s, down_s, up_v, down_v) in enumerate(drawn, start=1)
        for state, length, volts in ((CHARGE, up_s, up_v), (DISCHARGE, down_s, down_v))
    ]
    records = run_of(*steps, stops_s={cuts[0]: 300.0} if cuts else None)
    edges = sorted({0, len(records), *(min(cut, len(records)) for cut in cuts)})
    batches = [records[a:b] for a, b in pairwise(edges)]
    whole, pieces = half_cycles([records], is_final=True), half_cycles(batches, is_final=True)
    for name in ("capacity_ah", "overpotential_v", "partial", "start_s", "end_s", "stopped_after_s"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name))


@given(drawn_cycles, st.floats(0.1, 10.0))
@settings(max_examples=60, deadline=None)
def test_efficiency_does_not_depend_on_the_unit_of_charge_and_obeys_its_definition(
    drawn: list[tuple[float, float, float, float]], factor: float
) -> None:
    def run(scale: float) -> Cycles:
        steps = [
            Step(n, state, length, volts, counter_factor=scale)
            for n, (up_s, down_s, up_v, down_v) in enumerate(drawn, start=1)
            for state, length, volts in ((CHARGE, up_s, up_v), (DISCHARGE, down_s, down_v))
        ]
        return analysed(run_of(*steps))

    one, other = run(1.0), run(factor)
    expected = [down_s / up_s for up_s, down_s, _, _ in drawn]
    np.testing.assert_allclose(one.coulombic_efficiency, expected)
    np.testing.assert_allclose(other.coulombic_efficiency, expected)
    np.testing.assert_allclose(
        one.energy_efficiency, [down_s * down_v / (up_s * up_v) for up_s, down_s, up_v, down_v in drawn]
    )


def test_a_protocol_survives_the_way_through_json() -> None:
    steps = CyclingSteps(0.1, 1.0, cut_off_v=2.0, max_cycles=7, rest_s=60.0, max_duration_h=100.0)
    assert CyclingSteps.from_json(steps.to_json()) == steps
    assert steps.half_cycle_s == 36_000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "other"}, "not a protocol of format argonaut-cycling"),
        ({"version": 2}, "version 2"),
        ({"temperature_c": 25}, "unknown fields .*temperature_c"),
        ({"rest_s": "60"}, "rest_s must be a number"),
        ({"max_cycles": 1.5}, "max_cycles must be a whole number"),
        ({"current_density_ma_cm2": -0.1}, "current_density_ma_cm2 must be a positive number"),
        ({"cut_off_v": float("nan")}, "cut_off_v must be a positive number"),
    ],
)
def test_a_protocol_that_cannot_be_run_is_refused(change: dict[str, object], says: str) -> None:
    body: dict[str, object] = {**CyclingSteps(0.1, 0.1).to_json(), **change}
    with pytest.raises(ValueError, match=says):
        CyclingSteps.from_json(body)
