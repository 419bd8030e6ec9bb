"""The end of a hand-off: its test is over and its last result is in, whichever came first.

Then the cell counts as tested and the figures of the result become measurements of the cell. Which result counts is
decided in `ingest`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlmodel import col, select

from equipment.testers.handoff_records import Handoff, ResultStatus, TesterResult
from equipment.testers.handoff_states import HANDOFF_STATES, HandoffEvent
from equipment.testers.handoff_steps import begin_test, follow, move
from equipment.testers.lifetime import Outcome
from traceability.activities import ActivityRow, find_activity
from traceability.database import RecordSession
from traceability.measurements import correct_measurement, measurements_of, record_measurement


def current_result(record: RecordSession, handoff: Handoff) -> TesterResult | None:
    """The result that counts: ingested, and superseded by none."""
    return record.exec(
        select(TesterResult)
        .where(TesterResult.handoff_id == handoff.key)
        .where(TesterResult.status == ResultStatus.INGESTED)
        .where(col(TesterResult.superseded_by).is_(None))
    ).first()


def ingest_if_complete(record: RecordSession, handoff: Handoff) -> None:
    """End a hand-off whose test is over and whose last result is in, whichever came first."""
    result = current_result(record, handoff)
    if result is None or not result.is_final or HandoffEvent.INGEST not in HANDOFF_STATES.events_from(handoff.state):
        return
    begin_test(record, handoff, handoff.started_at or result.first_at)
    move(record, handoff, HANDOFF_STATES.next(handoff.state, HandoffEvent.INGEST, handoff.uuid))
    follow(record, handoff, HandoffEvent.INGEST, record.clock.now())
    measure(record, handoff, result)


def measure(record: RecordSession, handoff: Handoff, row: TesterResult) -> None:
    """The figures of a final result as measurements of the cell; a later final result corrects them."""
    if handoff.activity_id is None or row.analysis is None:
        return
    activity = find_activity(record, handoff.activity_id)
    instrument = " ".join(filter(None, (handoff.tester, handoff.tester_serial)))
    measured_at = min(row.last_at, record.clock.now())
    known = {m.quantity_name: m for m in measurements_of(record, [handoff.item_id]) if m.activity_id == activity.key}
    for name, value, unit, method in _figures(row.analysis, activity):
        former = known.get(name)
        if former is None:
            record_measurement(
                record,
                item_serial=handoff.cell_serial,
                quantity_name=name,
                value=value,
                unit=unit,
                uncertainty=None,
                instrument=instrument,
                method=method,
                measured_at=measured_at,
                attachment_sha256=row.blob_sha256,
                activity=activity,
            )
        elif former.value != value:
            correct_measurement(
                record,
                former.serial,
                value=value,
                reason=f"{row.serial} superseded the result it was taken from.",
                attachment_sha256=row.blob_sha256,
            )


def _figures(analysis: dict[str, Any], activity: ActivityRow) -> Iterable[tuple[str, float, str, str]]:
    """Name, value, unit and method of each figure there is; the verdict's time is a lifetime or survived."""
    method = f"{activity.work_master.rpartition('/')[0]}, analysis {analysis['analysis_version']}"
    summary, areal, verdict = analysis["summary"], analysis["areal"], analysis["verdict"]
    found = [
        ("cycle_count", summary["n_cycles"], "1"),
        ("test_duration_h", summary["duration_h"], "h"),
        ("median_overpotential_v", summary["median_overpotential_v"], "V"),
        ("median_coulombic_efficiency", summary["median_coulombic_efficiency"], "1"),
        ("area_specific_resistance_ohm_cm2", areal["area_specific_resistance_ohm_cm2"], "Ohm cm2"),
        ("charge_passed_mah_cm2", areal["charge_passed_mah_cm2"], "mAh/cm2"),
        ("specific_capacity_mah_g", areal["specific_capacity_mah_g"], "mAh/g"),
    ]
    for name, value, unit in found:
        if value is not None:
            yield name, float(value), unit, method
    if verdict is not None:
        failed = verdict["outcome"] == Outcome.FAILED
        name = "lifetime_h" if failed else "survived_h"
        how = f"failed by {verdict['criterion']}" if failed else "censored: alive at the end of the test"
        yield name, float(verdict["time_h"]), "h", f"{method}, criteria {verdict['criteria_version']}, {how}"
