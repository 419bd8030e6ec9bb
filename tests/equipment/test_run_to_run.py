"""Planned runs are corrected by what measured witnesses taught, each run teaches once, and people decide the rest."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlmodel import col, select

from equipment.jobs import JobState, JobSubstate
from equipment.run_corrections import approve_correction, release_correction
from equipment.run_records import Use, find_run, positions_of
from equipment.run_requests import RunForecast, RunRequest, Thing, check_request, plan_request
from equipment.runs import withdraw_run
from recipes.control import ControlRecipe
from recipes.errors import CorrectionRefused
from recipes.run_to_run import Context, Lesson, begin, decide, learn
from recipes.run_to_run_rows import RunToRunContext, RunToRunLesson, RunToRunMove
from recipes.run_to_run_store import lessons_of
from tests.equipment.line import ABORTED, COMPLETED, GOOD_FILM, LINE, RUNNING, SPUTTER, Line, master
from traceability.acts import Actor
from traceability.audit import AuditEvent
from traceability.errors import NotPermitted, Refused, Severity
from traceability.measurements import record_measurement
from traceability.verification import verify

RECIPE = "SP-LIALO2-200"
WANTED_NM = 200.0


def wanted(line: Line, recipe: str = RECIPE, *, experiment: bool = True) -> RunRequest:
    witness, (disc,) = line.witness(), line.discs(1)
    things = [Thing(disc, Use.DISC, 1), Thing(witness, Use.WITNESS, 8), Thing(line.target, Use.TARGET)]
    return RunRequest(SPUTTER, recipe, things, experiment=experiment)


def planned(line: Line, recipe: str = RECIPE) -> str:
    request = wanted(line, recipe)
    with line.database.write(LINE) as record:
        return plan_request(record, request).serial


def foreseen(line: Line, *, experiment: bool = True) -> RunForecast:
    request = wanted(line, experiment=experiment)
    with line.database.read() as record:
        return check_request(record, request, LINE)


def refused(line: Line) -> set[str]:
    with pytest.raises(Refused) as refusal:
        planned(line)
    return {finding.code for finding in refusal.value.findings if finding.severity is Severity.ERROR}


def approved_by(line: Line, person: Actor) -> RunToRunMove:
    with line.database.write(person) as record:
        return approve_correction(
            record, tool=SPUTTER, recipe_id=RECIPE, number=1, target_serial=line.target, reason="two witnesses agree"
        )


def control_of(line: Line, serial: str) -> ControlRecipe:
    return ControlRecipe.from_canonical(line.run(serial).control_recipe)


def time_s(line: Line, serial: str) -> float:
    return float(control_of(line, serial).value("deposit_time_s"))


def deposited(
    line: Line, serial: str, end: tuple[JobState, JobSubstate] = COMPLETED, *, interruptions: int = 0
) -> str:
    """Let a planned run be done, without wear, so that the model's rate stays; its serial."""
    actuals = GOOD_FILM | {
        "deposit_time_s": (time_s(line, serial), "s"),
        "energy_kwh": (0.0, "kW.h"),
        "interruption_count": (interruptions, "1"),
    }
    line.start(serial)
    line.observe(serial, RUNNING)
    line.observe(serial, end, actuals)
    return serial


def measured(line: Line, serial: str, thickness_nm: float) -> None:
    """Measure the witness of a run that has ended."""
    with line.database.write(LINE) as record:
        witness = next(p for p in positions_of(record, find_run(record, serial)) if p.use is Use.WITNESS)
        record_measurement(
            record,
            item_serial=witness.result_serial,
            quantity_name="film_thickness_nm",
            value=thickness_nm,
            unit="nm",
            uncertainty=1.0,
            instrument="profilometer",
            method="step height",
            measured_at=record.clock.now(),
        )


def context_of(line: Line) -> Context:
    return Context(SPUTTER, line.target, master(RECIPE).family, "LIALO2-TARGET-76")


def lessons(line: Line) -> list[Lesson]:
    with line.database.read() as record:
        return [lesson.lesson for lesson in lessons_of(record, context_of(line))]


def context_id(line: Line) -> int:
    with line.database.read() as record:
        (row,) = record.exec(select(RunToRunContext)).all()
    assert row.id is not None
    return row.id


def law_time_s(line: Line, thicknesses_nm: list[float]) -> float:
    """What the pure law decides after runs of 6000 s nominal that came out so, each made with its last time."""
    state = begin(context_of(line))
    for thickness_nm in thicknesses_nm:
        move = decide(state, WANTED_NM, 2.0)
        state = learn(move.after, thickness_nm, move.time_s, 2.0).after
    return decide(state, WANTED_NM, 2.0).time_s


def test_a_run_after_a_witness_four_percent_thin_is_made_that_much_longer(line: Line) -> None:
    first = deposited(line, planned(line))
    assert time_s(line, first) == 6000.0
    assert control_of(line, first).corrections == ()
    measured(line, first, 192.0)
    second = planned(line)
    assert time_s(line, second) == pytest.approx(6000 * 200 / 192, abs=0.05)
    assert time_s(line, second) == pytest.approx(law_time_s(line, [192.0]), abs=0.05)
    (correction,) = control_of(line, second).corrections
    assert (correction.name, correction.master_value) == ("deposit_time_s", Decimal(6000))
    assert "run-to-run" in correction.reason
    with line.database.read() as record:
        move = record.get_one(RunToRunMove, line.run(second).move_id)
        (lesson,) = lessons_of(record, context_of(line))
    assert move.time_s == pytest.approx(time_s(line, second), abs=0.05)
    assert lesson.move_id == line.run(first).move_id
    assert first in lesson.evidence


def test_what_a_thick_film_taught_holds_for_a_thin_one_of_the_family(line: Line) -> None:
    measured(line, deposited(line, planned(line)), 192.0)
    assert time_s(line, planned(line, "SP-LIALO2-100")) == pytest.approx(3000 * 200 / 192, abs=0.05)


def test_each_run_follows_the_law_over_several_measured_runs(line: Line) -> None:
    thicknesses_nm = [192.0, 201.0, 203.5]
    for made, thickness_nm in enumerate(thicknesses_nm):
        run = deposited(line, planned(line))
        assert time_s(line, run) == pytest.approx(law_time_s(line, thicknesses_nm[:made]), abs=0.2)
        measured(line, run, thickness_nm)
    assert time_s(line, planned(line)) == pytest.approx(law_time_s(line, thicknesses_nm), abs=0.2)


def test_a_run_that_was_not_measured_teaches_nothing(line: Line) -> None:
    deposited(line, planned(line))
    assert time_s(line, planned(line)) == 6000.0
    assert lessons(line) == []


@pytest.mark.parametrize(("end", "interruptions"), [(ABORTED, 0), (COMPLETED, 1)], ids=["aborted", "interrupted"])
def test_a_run_that_did_not_go_through_teaches_nothing(
    line: Line, end: tuple[JobState, JobSubstate], interruptions: int
) -> None:
    run = deposited(line, planned(line), end, interruptions=interruptions)
    measured(line, run, 150.0)
    assert time_s(line, planned(line)) == 6000.0
    assert lessons(line) == []


def test_a_withdrawn_run_leaves_no_lesson(line: Line, operator: Actor) -> None:
    run = planned(line)
    with line.database.write(operator) as record:
        withdraw_run(record, run, reason="wrong carrier")
    assert time_s(line, planned(line)) == 6000.0
    assert lessons(line) == []


def test_planning_twice_learns_once(line: Line) -> None:
    measured(line, deposited(line, planned(line)), 192.0)
    second, third = planned(line), planned(line)
    assert time_s(line, second) == time_s(line, third)
    assert lessons(line) == [Lesson.LEARNED]
    assert line.run(second).move_id != line.run(third).move_id


def test_a_check_shows_the_correction_and_stores_nothing(line: Line) -> None:
    measured(line, deposited(line, planned(line)), 192.0)

    def stored() -> tuple[int, int, int]:
        with line.database.read() as record:
            moves, taught, events = (
                len(record.exec(select(table)).all()) for table in (RunToRunMove, RunToRunLesson, AuditEvent)
            )
        return moves, taught, events

    request = wanted(line)
    before = stored()
    with line.database.read() as record:
        forecast = check_request(record, request, LINE)
    assert stored() == before
    assert forecast.control is not None
    assert forecast.findings == []
    with line.database.write(LINE) as record:
        run = plan_request(record, request)
    assert ControlRecipe.from_canonical(run.control_recipe) == forecast.control


def test_product_on_a_target_never_measured_is_warned_about_until_it_was(line: Line) -> None:
    def warnings() -> list[str]:
        found = foreseen(line, experiment=False).findings
        return [finding.code for finding in found if finding.severity is Severity.WARNING]

    assert "target_unproved" in warnings()
    assert foreseen(line).control is not None
    assert "target_unproved" not in [finding.code for finding in foreseen(line).findings]
    measured(line, deposited(line, planned(line)), 199.0)
    assert "target_unproved" not in warnings()


def test_a_correction_beyond_the_clamp_waits_for_a_person_and_is_good_for_one_run(
    line: Line, engineer: Actor, operator: Actor
) -> None:
    for run in [planned(line), planned(line)]:
        measured(line, deposited(line, run), 180.0)
    assert refused(line) == {"correction_beyond_clamp"}
    assert lessons(line) == []
    assert foreseen(line).control is None
    with pytest.raises(NotPermitted):
        approved_by(line, operator)
    approved = approved_by(line, engineer)
    assert approved.approved_by == "emil"
    run = planned(line)
    assert line.run(run).move_id == approved.id
    assert time_s(line, run) == pytest.approx(6000 * 200 / 180, rel=0.01)
    assert "approved by emil" in control_of(line, run).corrections[0].reason
    assert refused(line) == {"correction_beyond_clamp"}
    measured(line, deposited(line, run), 200.0)
    assert time_s(line, planned(line)) == pytest.approx(time_s(line, run), rel=0.01)


def test_a_correction_within_the_clamp_needs_no_approval(line: Line, engineer: Actor) -> None:
    with pytest.raises(CorrectionRefused, match="no approval"):
        approved_by(line, engineer)
    with line.database.read() as record:
        assert record.exec(select(RunToRunMove)).all() == []


def test_two_films_far_off_hold_the_target_until_somebody_has_looked(line: Line, engineer: Actor) -> None:
    for thickness_nm in (200.0, 170.0, 170.0):
        measured(line, deposited(line, planned(line)), thickness_nm)
    assert refused(line) == {"context_held"}
    with line.database.write(engineer) as record:
        row = release_correction(record, context_id(line), reason="The target is whole; the witness was scratched.")
        assert not row.held
    assert lessons(line) == [Lesson.LEARNED, Lesson.OUTLIER, Lesson.HELD]
    assert time_s(line, planned(line)) == 6000.0


def test_the_audit_trail_tells_of_lesson_and_move_under_the_planning(line: Line) -> None:
    measured(line, deposited(line, planned(line)), 192.0)
    planned(line)
    with line.database.read() as record:
        kinds = [event.kind for event in record.exec(select(AuditEvent).order_by(col(AuditEvent.seq)))]
    assert kinds[-3:] == ["run.planned", "run_to_run.learned", "run_to_run.moved"]
    report = verify(line.database)
    assert report.intact, report.first
