"""What recipes leave on the record holds: the verification covers their rows, the history shows them as signed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from recipes.authoring import approve, make_effective, revise, submit
from recipes.history import RecipeSection
from recipes.importing import import_library
from recipes.kinds import founding_library
from recipes.master import MasterRecipe
from recipes.run_to_run_store import decide_time, learn_from
from recipes.store import effective
from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor, Role, system_actor
from traceability.database import Database
from traceability.signatures import open_signing
from traceability.users import actor_of, create_user
from traceability.verification import verify

SPUTTER = next(d for d in founding_library() if isinstance(d, MasterRecipe) and d.document_id == "SP-LIALO2-200")
PASSWORD = "winding brass kettle"


@pytest.fixture
def activity_id(database: Database, engineer: Actor) -> int:
    """A run of the founding recipe: imported, revised, signed, effective, corrected and learned from."""
    with database.write(system_actor("set-up")) as record:
        user = create_user(
            record, name="quentin", full_name="Quentin Q", password=PASSWORD, roles=[Role.QA], temporary=False
        )
        record.flush()
        qa = actor_of(user, "test")
    with database.write(engineer) as record:
        import_library(record, founding_library())
    with database.write(engineer) as record:
        revise(record, SPUTTER.model_copy(update={"description": "Zwei Worte: „gut“."}))
        revise(record, SPUTTER)
        submit(record, "SP-LIALO2-200", 1)
    signing = open_signing(database, qa, "quentin", PASSWORD)
    with database.write(qa) as record:
        approve(record, "SP-LIALO2-200", 1, signing)
        make_effective(record, "SP-LIALO2-200", 1)
    with database.write(system_actor("line-controller")) as record:
        run = begin_activity(
            record, ActivityKind.SPUTTER_RUN, work_master=effective(record, "SP-LIALO2-200").work_master
        )
        stored, move = decide_time(record, SPUTTER, tool="sputter-1", target_serial="TGT-1", target_energy_kwh=0.7)
        assert stored.id is not None
        learn_from(record, stored.id, thickness_nm=193.7, time_s=move.time_s, evidence="witness")
        return run.key


def test_the_rows_of_recipes_and_run_to_run_agree_with_the_trail(database: Database, activity_id: int) -> None:
    report = verify(database)
    assert report.intact, report.first


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE recipe_versions SET approved_by = 'emil' WHERE document_id = 'SP-LIALO2-200'",
        "UPDATE recipe_versions SET status = 'effective' WHERE document_id = 'PR-PELLET-240'",
        "UPDATE run_to_run_contexts SET level = 0.01",
        "DELETE FROM recipe_versions WHERE document_id = 'PT-SYM-01-01'",
    ],
)
def test_a_row_changed_behind_the_service_is_found(database: Database, activity_id: int, statement: str) -> None:
    with database.connect() as connection:
        connection.execute(text(statement))
        connection.commit()
    report = verify(database)
    assert not report.intact


def test_the_history_shows_the_recipe_as_it_was_signed(database: Database, activity_id: int) -> None:
    with database.read() as record:
        found: Any = RecipeSection().collect(record, [], [activity_id])
    (entry,) = found
    assert entry["work_master"] == SPUTTER.work_master
    assert entry["content_intact"] is True
    assert entry["content"]["formula"]["parameters"]["rf_power_w"]["target"] == "120"
    assert [(s["printed_name"], s["meaning"]) for s in entry["signatures"]] == [("Quentin Q", "approved")]
    with database.read() as record:
        assert RecipeSection().collect(record, [], []) == []
