"""Every deposition time that was decided can be explained from the record, and each run teaches once."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from recipes.errors import CorrectionRefused
from recipes.kinds import founding_library
from recipes.master import MasterRecipe
from recipes.run_to_run import Context, Lesson, Settings
from recipes.run_to_run_rows import RunToRunMove
from recipes.run_to_run_store import (
    approve_move,
    decide_time,
    find_context,
    learn_from,
    lessons_of,
    release_context,
)
from traceability.acts import Actor, system_actor
from traceability.database import Database
from traceability.errors import Conflict, InvalidInput, NotFound, NotPermitted

RECIPES = {d.document_id: d for d in founding_library() if isinstance(d, MasterRecipe)}
SPUTTER = RECIPES["SP-LIALO2-200"]
LINE = system_actor("line-controller")


def context(target: str = "TGT-1") -> Context:
    return Context("sputter-1", target, SPUTTER.family, "LIALO2-TARGET-76")


def run_once(
    database: Database, thickness_nm: float, *, target: str = "TGT-1", recipe: MasterRecipe = SPUTTER
) -> tuple[int, Lesson]:
    """One run with the decided time that came out with the thickness given; number of the move and the lesson."""
    with database.write(LINE) as record:
        stored, move = decide_time(record, recipe, tool="sputter-1", target_serial=target, target_energy_kwh=0)
        assert stored.id is not None
        update = learn_from(
            record, stored.id, thickness_nm=thickness_nm, time_s=move.time_s, evidence="measurement of the witness"
        )
        return stored.id, update.lesson


def next_time_s(database: Database, target: str = "TGT-1", recipe: MasterRecipe = SPUTTER) -> float:
    with database.write(LINE) as record:
        return decide_time(record, recipe, tool="sputter-1", target_serial=target, target_energy_kwh=0)[1].time_s


def test_what_one_run_taught_corrects_the_next_of_any_thickness(database: Database) -> None:
    run_once(database, 190)
    assert next_time_s(database) == pytest.approx(6000 * 200 / 190)
    assert next_time_s(database, recipe=RECIPES["SP-LIALO2-100"]) == pytest.approx(3000 * 200 / 190)


def test_a_move_is_kept_with_all_its_inputs_and_never_changed(database: Database) -> None:
    move_id, _ = run_once(database, 190)
    with database.read() as record:
        stored = record.get(RunToRunMove, move_id)
        assert stored is not None
        assert stored.work_master == SPUTTER.work_master
        assert float(stored.settings["level_gain"]) == Settings().level_gain
        assert stored.before["context"]["target_serial"] == "TGT-1"
        (lesson,) = lessons_of(record, context())
        assert float(lesson.after["level"]) == pytest.approx(-0.0513, abs=1e-4)
    for table in ("run_to_run_moves", "run_to_run_lessons"):
        with pytest.raises(DBAPIError, match="append-only"), database.connect() as connection:
            connection.execute(text(f"DELETE FROM {table}"))


def test_a_run_teaches_once(database: Database) -> None:
    move_id, _ = run_once(database, 190)
    with pytest.raises(Conflict), database.write(LINE) as record:
        learn_from(record, move_id, thickness_nm=190, time_s=6000, evidence="again")
    with pytest.raises(NotFound), database.write(LINE) as record:
        learn_from(record, 999, thickness_nm=190, time_s=6000, evidence="of nothing")
    with database.read() as record:
        assert len(lessons_of(record, context())) == 1


def test_an_aborted_run_is_kept_and_changes_nothing(database: Database) -> None:
    with database.write(LINE) as record:
        stored, _ = decide_time(record, SPUTTER, tool="sputter-1", target_serial="TGT-1", target_energy_kwh=0)
        assert stored.id is not None
        learn_from(record, stored.id, thickness_nm=60, time_s=1900, evidence="witness", aborted=True)
    assert next_time_s(database) == pytest.approx(6000)
    with database.read() as record:
        assert [lesson.lesson for lesson in lessons_of(record, context())] == [Lesson.ABORTED]


def test_a_new_target_starts_at_the_mean_of_new_targets(database: Database) -> None:
    run_once(database, 190, target="TGT-1")
    run_once(database, 198, target="TGT-2")
    with database.write(LINE) as record:
        decide_time(record, SPUTTER, tool="sputter-1", target_serial="TGT-3", target_energy_kwh=0)
        known = [find_context(record, context(f"TGT-{n}")) for n in (1, 2, 3)]
    levels = [row.level for row in known if row is not None]
    assert levels[2] == pytest.approx((levels[0] + levels[1]) / 2)


def test_two_outliers_in_a_row_hold_the_target_until_somebody_has_looked(
    database: Database, engineer: Actor, operator: Actor
) -> None:
    for _ in range(3):
        run_once(database, 200)
    assert [run_once(database, 170)[1] for _ in range(2)] == [Lesson.OUTLIER, Lesson.HELD]
    with pytest.raises(CorrectionRefused, match="held"):
        next_time_s(database)
    with pytest.raises(NotPermitted), database.write(operator) as record:
        release_context(record, context(), reason="I want to go on.")
    with pytest.raises(InvalidInput), database.write(engineer) as record:
        release_context(record, context(), reason="")
    with database.write(engineer) as record:
        release_context(record, context(), reason="The target is whole; the witness had a scratch.")
    assert next_time_s(database) == pytest.approx(6000)
    with pytest.raises(CorrectionRefused, match="not held"), database.write(engineer) as record:
        release_context(record, context(), reason="Once more.")


def test_a_person_lets_a_clamped_time_go_beyond_and_that_is_a_move_of_its_own(
    database: Database, engineer: Actor
) -> None:
    wide = Settings(target_spread=0.2)
    with database.write(LINE) as record:
        first, _ = decide_time(
            record, SPUTTER, tool="sputter-1", target_serial="TGT-1", target_energy_kwh=0, settings=wide
        )
        assert first.id is not None
        learn_from(record, first.id, thickness_nm=140, time_s=6000, evidence="witness")
        clamped, move = decide_time(record, SPUTTER, tool="sputter-1", target_serial="TGT-1", target_energy_kwh=0)
    assert move.clamped
    assert move.time_s == pytest.approx(7500)
    assert clamped.id is not None
    with database.write(engineer) as record:
        approved, beyond = approve_move(record, clamped.id, reason="The target is old; a witness confirmed it.")
    assert beyond.time_s == pytest.approx(6000 * 200 / 140)
    assert (approved.approves, approved.approved_by) == (clamped.id, "emil")
    with pytest.raises(InvalidInput), database.write(engineer) as record:
        approve_move(record, first.id, reason="It was not clamped.")


def test_a_press_recipe_has_no_time_to_decide(database: Database) -> None:
    with pytest.raises(InvalidInput, match="no film"), database.write(LINE) as record:
        decide_time(record, RECIPES["PR-PELLET-240"], tool="press-1", target_serial="TGT-1", target_energy_kwh=0)
