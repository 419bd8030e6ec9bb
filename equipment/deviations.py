"""How an ended run is judged: what was set against what was, and what went on besides.

Each check is a row of a table: which actual is held against which parameter of the control recipe, and how. What a
deviation means for the things made is for the reviewer; here it is only found, graded and stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from sqlmodel import select

from equipment.press import EQUIPMENT_CLASS as PRESS_CLASS
from equipment.run_records import Deviation, DeviationGrade, DeviationKind, Run, note_deviation
from equipment.sputter import EQUIPMENT_CLASS as SPUTTER_CLASS
from equipment.states import RunState
from equipment.traces import TraceGap
from recipes.control import ControlRecipe
from traceability.database import RecordSession
from traceability.quantities import plain

LONG_GAP_S = 10.0
"""Missing telemetry, all gaps together, from which on it is a major deviation."""


class Rule(StrEnum):
    """How an actual is held against its parameter."""

    WITHIN = "within"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"


@dataclass(frozen=True, slots=True)
class Check:
    """One actual against one parameter.

    Attributes:
        actual: Name in the job's response.
        parameter: Name in the control recipe; its tolerance is the master recipe's.
    """

    actual: str
    parameter: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class SetAgainstActual:
    """One line of a run's comparison.

    Attributes:
        tolerance: To both sides, or None where the recipe gives none.
        actual: As the tool told it, or None.
        passed: None where there is nothing to compare.
    """

    parameter: str
    unit: str
    rule: Rule
    target: Decimal
    tolerance: Decimal | None
    actual: Decimal | None
    passed: bool | None


CHECKS: Mapping[str, tuple[Check, ...]] = {
    SPUTTER_CLASS: (
        Check("thickness_qcm_nm", "thickness_nm", Rule.WITHIN),
        Check("mean_pressure_pa", "working_pressure_pa", Rule.WITHIN),
        Check("mean_power_w", "rf_power_w", Rule.WITHIN),
        Check("mean_argon_flow_sccm", "argon_flow_sccm", Rule.WITHIN),
        Check("base_pressure_pa", "base_pressure_pa", Rule.AT_MOST),
        Check("rate_of_rise_pa_per_min", "rate_of_rise_pa_per_min", Rule.AT_MOST),
        Check("peak_substrate_temp_c", "substrate_temp_c", Rule.AT_MOST),
        Check("deposit_time_s", "max_deposit_time_s", Rule.AT_MOST),
    ),
    PRESS_CLASS: (
        Check("mean_dwell_pressure_mpa", "pressure_mpa", Rule.WITHIN),
        Check("dwell_s", "dwell_s", Rule.AT_LEAST),
    ),
}

# A time or pressure that is counted in steps reaches its limit to about this part of it.
_ROUNDING = Decimal("0.001")


def set_against_actual(run: Run, control: ControlRecipe) -> Iterator[SetAgainstActual]:
    """What was set, what was, and whether it is inside; in the order of the class's checks."""
    for check in CHECKS[run.equipment_class]:
        if check.parameter not in control.parameters:
            continue
        given = control.parameters[check.parameter]
        master = control.master.formula.parameters.get(check.parameter)
        tolerance = None if master is None else master.tolerance
        told = run.actual(check.actual)
        actual = None if told is None else Decimal(repr(told))
        passed = None if actual is None else _passes(check.rule, actual, given.value, tolerance)
        yield SetAgainstActual(check.parameter, given.unit, check.rule, given.value, tolerance, actual, passed)


def judge(record: RecordSession, run: Run, control: ControlRecipe) -> list[Deviation]:
    """Find and store the deviations of a run that has ended; calling again adds nothing."""
    found = [
        note_deviation(record, run, kind, grade, message, source=source, at=run.ended_at)
        for kind, grade, source, message in _found(record, run, control)
    ]
    record.flush()
    return found


def _found(
    record: RecordSession, run: Run, control: ControlRecipe
) -> Iterator[tuple[DeviationKind, DeviationGrade, str, str]]:
    if run.state is not RunState.COMPLETED:
        message = f"The run was {run.state} before it was complete."
        yield DeviationKind.INCOMPLETE, DeviationGrade.CRITICAL, "", message
    else:
        for line in set_against_actual(run, control):
            if line.passed is False and line.actual is not None:
                yield DeviationKind.OUT_OF_TOLERANCE, _grade(line), line.parameter, _sentence(line)
    count = int(run.actual("interruption_count") or 0)
    if run.interrupted or count:
        message = f"The process was interrupted {max(count, 1)} time(s) and resumed with what was missing."
        yield DeviationKind.INTERRUPTION, DeviationGrade.MAJOR, "", message
    for name, message in (
        ("thickness_model_ok", "The tool doubts that time predicts the thickness."),
        ("qcm_ok", "The crystal gave no usable frequency."),
    ):
        if run.actuals.get(name, {}).get("value") is False:
            yield DeviationKind.DOUBTFUL, DeviationGrade.MINOR, name, message
    gaps = record.exec(select(TraceGap).where(TraceGap.run_id == run.key)).all()
    if gaps:
        missing_s = sum(max(gap.end_us - gap.start_us, 0) for gap in gaps) / 1e6
        grade = DeviationGrade.MAJOR if missing_s >= LONG_GAP_S else DeviationGrade.MINOR
        yield DeviationKind.GAP, grade, "", f"The trace has {len(gaps)} gap(s), {missing_s:.1f} s together."


def _passes(rule: Rule, actual: Decimal, target: Decimal, tolerance: Decimal | None) -> bool | None:
    slack = abs(target) * _ROUNDING
    if rule is Rule.AT_MOST:
        return actual <= target + slack
    if rule is Rule.AT_LEAST:
        return actual >= target - slack
    return None if tolerance is None else abs(actual - target) <= tolerance


def _grade(line: SetAgainstActual) -> DeviationGrade:
    if line.rule is Rule.WITHIN and line.tolerance and line.actual is not None:
        far = abs(line.actual - line.target) > 2 * line.tolerance
        return DeviationGrade.CRITICAL if far else DeviationGrade.MAJOR
    return DeviationGrade.MAJOR


def _sentence(line: SetAgainstActual) -> str:
    allowed = {
        Rule.WITHIN: f"{plain(line.target)} ± {plain(line.tolerance or Decimal(0))}",
        Rule.AT_MOST: f"at most {plain(line.target)}",
        Rule.AT_LEAST: f"at least {plain(line.target)}",
    }[line.rule]
    return f"{line.parameter} was {float(line.actual or 0):.6g} {line.unit}; {allowed} {line.unit} was set."
