"""The history record of a thing tells every run that made it, and what has become due is noticed once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlmodel import select

from equipment.alarms import record_alarm
from equipment.maintenance import (
    maintenance_jobs,
    record_calibration,
    register_target,
    standing_notices,
    update_notices,
)
from equipment.profiles.driver import AlarmEvent, TagSample
from equipment.run_records import find_run, positions_of
from equipment.run_section import RunSection
from equipment.runs import give_up, mark_unknown
from equipment.sputter import SPUTTER as SPUTTER_TABLE
from equipment.traces import TraceSeal, TraceWriter
from tests.conftest import START
from tests.equipment.line import COMPLETED, GOOD_FILM, LINE, RUNNING, SPUTTER, Line
from traceability.acts import Actor
from traceability.audit import AuditEvent
from traceability.clock import ManualClock
from traceability.exports.history_record import history_record
from traceability.units import UnitEvent, advance_unit
from traceability.verification import verify


def made_run(line: Line) -> tuple[str, str, str]:
    """A run with a trace and an alarm: its serial, its seal, and the serial of the disc it coated."""
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    writer = TraceWriter(line.database, line.run(serial).key, SPUTTER_TABLE)
    writer.append([TagSample("phase_number", 10, START), TagSample("phase_number", 11, START + timedelta(minutes=5))])
    writer.gap(START + timedelta(seconds=1), START + timedelta(seconds=2), "link lost")
    with line.database.write(LINE) as record:
        event = AlarmEvent("no_strike", True, False, True, 600, "No plasma.", START, b"1")
        record_alarm(record, SPUTTER, event, serial)
    digest = writer.seal()
    line.observe(serial, COMPLETED, {**GOOD_FILM, "mean_power_w": (125.0, "W")})
    with line.database.read() as record:
        coated = positions_of(record, find_run(record, serial))[0].result_serial
    return serial, digest, coated


def test_the_history_of_a_disc_tells_its_run(line: Line) -> None:
    serial, digest, coated = made_run(line)
    with line.database.read() as record:
        document = history_record(record, coated, [RunSection()])
    runs: Any = document["runs"]
    (run,) = runs
    assert (run["serial"], run["state"], run["simulated"], run["experiment"]) == (serial, "completed", True, True)
    power = next(entry for entry in run["set_against_actual"] if entry["parameter"] == "rf_power_w")
    assert (power["set"], power["actual"], power["inside"]) == ("120", "125", False)
    assert {deviation["kind"] for deviation in run["deviations"]} == {"out_of_tolerance", "alarm", "gap"}
    assert [alarm["name"] for alarm in run["alarms"]] == ["no_strike"]
    assert run["trace"]["sealed"]["sha256"] == digest
    assert [span["number"] for span in run["trace"]["phases"]] == [10, 11]
    assert [gap["reason"] for gap in run["trace"]["gaps"]] == ["link lost"]
    assert run["recipe"]["parameters"]["thickness_nm"] == {"value": "200", "unit": "nm"}
    assert coated in {thing["result_serial"] for thing in run["things"]}


def test_a_run_without_a_trace_says_so(line: Line) -> None:
    serial = line.finish(SPUTTER, line.film(line.discs(1)), GOOD_FILM)
    with line.database.read() as record:
        run = find_run(record, serial)
        told: Any = RunSection().collect(record, [], [run.activity_id or 0])
    assert told[0]["trace"] is None


def test_every_row_of_runs_and_alarms_is_covered_by_the_audit_trail(line: Line) -> None:
    made_run(line)
    report = verify(line.database)
    assert report.intact, report.first


def test_giving_a_run_up_seals_what_was_recorded_of_it(line: Line, engineer: Actor) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    writer = TraceWriter(line.database, line.run(serial).key, SPUTTER_TABLE)
    writer.append([TagSample("phase_number", 10, START)])
    writer.flush(force=True)
    with line.database.write(LINE) as record:
        mark_unknown(record, serial, "the tool forgot the job")
    with line.database.write(engineer) as record:
        give_up(record, serial, reason="nobody knows")
    with line.database.read() as record:
        assert record.get_one(TraceSeal, line.run(serial).key).samples == 1


def test_what_becomes_due_is_noticed_once_and_cleared_when_it_was_seen_to(line: Line, clock: ManualClock) -> None:
    with line.database.write(LINE) as record:
        register_target(record, line.target, life_kwh=Decimal(10), energy_kwh=Decimal("9.5"))
        record_calibration(record, SPUTTER, "gauge", due_at=clock.now() + timedelta(days=30))
    (job,) = maintenance_jobs(line.database)
    for _ in range(2):
        job.run()
    clock.advance(days=25)
    job.run()
    with line.database.read() as record:
        assert {(n.subject, n.code) for n in standing_notices(record)} == {
            (line.target, "target_nearly_used_up"),
            ("sputter-1: gauge", "calibration_due"),
        }
        assert len(record.exec(select(AuditEvent).where(AuditEvent.kind == "maintenance.noticed")).all()) == 2
    with line.database.write(LINE) as record:
        record_calibration(record, SPUTTER, "gauge", due_at=clock.now() + timedelta(days=365))
        advance_unit(record, line.target, UnitEvent.SCRAP, reason="worn out")
        assert update_notices(record) == []
