"""From draft to effective and out again: who may, what is signed, what never changes; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import orjson
import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import select

from recipes.authoring import approve, create_draft, make_effective, revise, send_back, submit, withdraw
from recipes.diff import diff
from recipes.errors import InvalidRecipe, NotRunnable
from recipes.importing import ImportAction, import_library, plan_import
from recipes.kinds import founding_library, read_document
from recipes.lifecycle import LIFECYCLE, LifecycleMove, Status
from recipes.store import (
    RecipeVersion,
    Use,
    effective,
    find_version,
    list_versions,
    read_content,
    read_master_version,
    runnable,
    versions_of,
    where_used,
)
from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor, Role, system_actor
from traceability.audit import AuditEvent
from traceability.database import Database
from traceability.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    Refused,
    SignatureRefused,
    StaleVersion,
    StorageFailed,
)
from traceability.signatures import Signature, open_signing, signatures_of
from traceability.users import actor_of, create_user

LIBRARY = founding_library()
TEXTS = {document.document_id: document.to_yaml() for document in LIBRARY}
SPUTTER_ID = "SP-LIALO2-200"
PASSWORD = "winding brass kettle"


def recipe(number: int = 1, document_id: str = SPUTTER_ID, **parameters: Any) -> dict[str, Any]:
    """The founding recipe as plain data, with another version and other targets."""
    data: dict[str, Any] = yaml.safe_load(TEXTS[document_id]) | {"version": number}
    for name, target in parameters.items():
        data["formula"]["parameters"][name]["target"] = target
    return data


@pytest.fixture
def people(database: Database) -> dict[str, Actor]:
    """An author, a second engineer and QA, each with a password of their own."""
    with database.write(system_actor("set-up")) as record:
        users = {
            name: create_user(
                record,
                name=name,
                full_name=name.title(),
                password=PASSWORD,
                roles=[role],
                temporary=False,
            )
            for name, role in (("emil", Role.ENGINEER), ("erika", Role.ENGINEER), ("quentin", Role.QA))
        }
        record.flush()
        return {name: actor_of(user, "test") for name, user in users.items()}


def approve_as(database: Database, actor: Actor, document_id: str, number: int = 1, **options: Any) -> None:
    signing = open_signing(database, actor, actor.name, PASSWORD)
    with database.write(actor) as record:
        approve(record, document_id, number, signing, **options)


def bring_into_effect(database: Database, people: dict[str, Actor], *documents: Any) -> None:
    for document in documents:
        with database.write(people["emil"]) as record:
            row = create_draft(record, document)
            submit(record, row.document_id, row.number)
        approve_as(database, people["quentin"], row.document_id, row.number)
        with database.write(people["quentin"]) as record:
            make_effective(record, row.document_id, row.number)


def status(database: Database, number: int = 1, document_id: str = SPUTTER_ID) -> Status:
    with database.read() as record:
        return find_version(record, document_id, number).status


def test_a_recipe_goes_from_draft_to_effective_with_a_second_persons_signature(
    database: Database, people: dict[str, Actor]
) -> None:
    bring_into_effect(database, people, TEXTS[SPUTTER_ID])
    with database.read() as record:
        row = effective(record, SPUTTER_ID)
        document = read_master_version(record, row)
        (signature,) = signatures_of(record, document.canonical_json())
        assert (row.authors, row.approved_by) == (["emil"], "quentin")
        assert (signature.name, signature.meaning) == ("quentin", "approved")
        assert row.work_master == document.work_master
        assert runnable(record, SPUTTER_ID).id == row.id
        kinds = [event.kind for event in record.exec(select(AuditEvent).order_by(AuditEvent.seq))]
    assert [kind for kind in kinds if kind.startswith("recipe.")] == [
        "recipe.drafted", "recipe.submitted", "recipe.approved", "recipe.made_effective",
    ]  # fmt: skip


def test_an_author_cannot_approve_and_neither_can_a_co_author(database: Database, people: dict[str, Actor]) -> None:
    with database.write(people["emil"]) as record:
        create_draft(record, recipe())
    with database.write(people["erika"]) as record:
        revise(record, recipe(rf_power_w=118))
        submit(record, SPUTTER_ID, 1)
    for author in ("emil", "erika"):
        with pytest.raises(SignatureRefused, match="second person"):
            approve_as(database, people[author], SPUTTER_ID)
    assert status(database) is Status.IN_REVIEW
    with database.read() as record:
        assert record.exec(select(Signature)).all() == []
    approve_as(database, people["quentin"], SPUTTER_ID)
    assert status(database) is Status.APPROVED


def test_an_operator_may_not_write_recipes(database: Database, operator: Actor) -> None:
    with pytest.raises(NotPermitted), database.write(operator) as record:
        create_draft(record, TEXTS[SPUTTER_ID])
    with database.read() as record:
        assert versions_of(record, SPUTTER_ID) == []


def test_a_document_with_errors_is_not_stored_and_all_its_findings_are_on_the_trail(
    database: Database, engineer: Actor
) -> None:
    with pytest.raises(InvalidRecipe) as refused, database.write(engineer) as record:
        create_draft(record, recipe(rf_power_w=500, rotation_rpm=-1))
    assert len(refused.value.findings) == 3
    with database.read() as record:
        (event,) = record.exec(select(AuditEvent)).all()
        assert record.exec(select(RecipeVersion)).all() == []
    assert len(orjson.loads(event.body)["detail"]["findings"]) == 3


@pytest.mark.parametrize("state", list(Status))
@pytest.mark.parametrize("move", list(LifecycleMove))
def test_the_table_allows_nine_moves_and_no_other(state: Status, move: LifecycleMove) -> None:
    allowed = {
        ("draft", "submit"), ("in_review", "return"), ("in_review", "approve"), ("approved", "make_effective"),
        ("effective", "supersede"), ("draft", "withdraw"), ("in_review", "withdraw"), ("approved", "withdraw"),
        ("effective", "withdraw"),
    }  # fmt: skip
    if (state, move) in allowed:
        assert LIFECYCLE.next(state, move) is not state
    else:
        with pytest.raises(Refused):
            LIFECYCLE.next(state, move)


def test_only_drafts_change_and_a_returned_one_is_a_draft_again(database: Database, people: dict[str, Actor]) -> None:
    with database.write(people["emil"]) as record:
        create_draft(record, recipe())
        submit(record, SPUTTER_ID, 1)
    with pytest.raises(Refused, match="in_review"), database.write(people["emil"]) as record:
        revise(record, recipe(rf_power_w=110))
    with pytest.raises(InvalidInput, match="why"), database.write(people["quentin"]) as record:
        send_back(record, SPUTTER_ID, 1, reason=" ")
    with database.write(people["quentin"]) as record:
        send_back(record, SPUTTER_ID, 1, reason="Power is too high for a new target.")
    with database.write(people["emil"]) as record:
        revise(record, recipe(rf_power_w=110))
    with database.read() as record:
        document = read_master_version(record, find_version(record, SPUTTER_ID, 1))
    assert document.formula.target("rf_power_w") == 110


def test_a_draft_that_a_run_has_used_never_changes_again(database: Database, engineer: Actor) -> None:
    with database.write(engineer) as record:
        row = create_draft(record, recipe())
        begin_activity(record, ActivityKind.SPUTTER_RUN, work_master=row.work_master)
    with pytest.raises(Refused) as refused, database.write(engineer) as record:
        revise(record, recipe(rf_power_w=110))
    assert refused.value.findings[0].action == "Write version 2."


def test_a_stale_row_version_is_refused(database: Database, engineer: Actor) -> None:
    with database.write(engineer) as record:
        read = create_draft(record, recipe()).version
        revise(record, recipe(rf_power_w=110), expected_version=read)
    with pytest.raises(StaleVersion), database.write(engineer) as record:
        revise(record, recipe(rf_power_w=115), expected_version=read)
    with pytest.raises(StaleVersion), database.write(engineer) as record:
        submit(record, SPUTTER_ID, 1, expected_version=read)


def test_versions_are_written_one_after_the_other(database: Database, engineer: Actor) -> None:
    with database.write(engineer) as record:
        create_draft(record, recipe())
    with pytest.raises(Conflict), database.write(engineer) as record:
        create_draft(record, recipe())
    with pytest.raises(InvalidRecipe, match="is 2, not 3"), database.write(engineer) as record:
        create_draft(record, recipe(3))
    with pytest.raises(NotFound), database.write(engineer) as record:
        submit(record, SPUTTER_ID, 7)


def test_of_two_authors_who_write_the_same_version_at_once_one_is_told(database: Database, engineer: Actor) -> None:
    start = Barrier(2, timeout=20)

    def write(power: int) -> str:
        start.wait()
        try:
            with database.write(engineer) as record:
                create_draft(record, recipe(rf_power_w=power))
        except Conflict:
            return "conflict"
        return "stored"

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(write, (118, 119))) == ["conflict", "stored"]
    with database.read() as record:
        assert len(versions_of(record, SPUTTER_ID)) == 1


def test_the_next_effective_version_supersedes_the_last(database: Database, people: dict[str, Actor]) -> None:
    bring_into_effect(database, people, recipe(1), recipe(2, rf_power_w=110))
    assert [status(database, number) for number in (1, 2)] == [Status.SUPERSEDED, Status.EFFECTIVE]
    with database.read() as record:
        assert effective(record, SPUTTER_ID).number == 2
        assert read_master_version(record, find_version(record, SPUTTER_ID, 1)).formula.target("rf_power_w") == 120


def test_the_database_itself_allows_one_effective_version(database: Database, people: dict[str, Actor]) -> None:
    bring_into_effect(database, people, recipe(1), recipe(2, rf_power_w=110))
    with pytest.raises(DBAPIError), database.engine.connect() as connection:
        connection.execute(text("UPDATE recipe_versions SET status = 'effective'"))


def test_the_database_itself_refuses_to_change_a_content(database: Database, engineer: Actor) -> None:
    with database.write(engineer) as record:
        create_draft(record, recipe())
    for statement in ("UPDATE recipe_contents SET content = '{}'", "DELETE FROM recipe_contents"):
        with pytest.raises(DBAPIError, match="append-only"), database.connect() as connection:
            connection.execute(text(statement))


def test_product_runs_use_the_effective_version_and_experiments_may_use_a_draft(
    database: Database, people: dict[str, Actor]
) -> None:
    with database.write(people["emil"]) as record:
        create_draft(record, recipe())
    with database.read() as record:
        with pytest.raises(NotRunnable) as refused:
            runnable(record, SPUTTER_ID)
        assert refused.value.findings[0].code == "recipe_not_effective"
        with pytest.raises(NotRunnable):
            runnable(record, SPUTTER_ID, number=1)
        assert runnable(record, SPUTTER_ID, number=1, experiment=True).status is Status.DRAFT
    with database.write(people["quentin"]) as record:
        withdraw(record, SPUTTER_ID, 1, reason="Never to be used.")
    with database.read() as record, pytest.raises(NotRunnable):
        runnable(record, SPUTTER_ID, number=1, experiment=True)


def test_an_approval_moved_to_another_content_is_noticed(database: Database, people: dict[str, Actor]) -> None:
    bring_into_effect(database, people, recipe())
    with database.write(people["emil"]) as record:
        other = create_draft(record, recipe(document_id="SP-LIALO2-300")).content_sha256
    with database.connect() as connection:
        connection.execute(
            text("UPDATE recipe_versions SET content_sha256 = :sha WHERE document_id = :id"),
            {"sha": other, "id": SPUTTER_ID},
        )
        connection.commit()
    with database.read() as record, pytest.raises(NotRunnable, match="does not cover"):
        runnable(record, SPUTTER_ID)


def test_a_content_changed_behind_the_triggers_is_noticed(database: Database, people: dict[str, Actor]) -> None:
    bring_into_effect(database, people, recipe())
    trigger = {
        "sqlite": "DROP TRIGGER recipe_contents_no_update",
        "postgresql": "DROP TRIGGER recipe_contents_append_only ON recipe_contents",
    }
    with database.connect() as connection:
        connection.execute(text(trigger[connection.dialect.name]))
        connection.execute(text("""UPDATE recipe_contents SET content = REPLACE(content, '"120"', '"140"')"""))
        connection.commit()
    with database.read() as record, pytest.raises(StorageFailed, match="hash"):
        runnable(record, SPUTTER_ID)


def test_a_route_becomes_effective_only_after_all_that_it_names(database: Database, people: dict[str, Actor]) -> None:
    with database.write(people["emil"]) as record:
        create_draft(record, TEXTS["RT-COATED-DISC"])
        submit(record, "RT-COATED-DISC", 1)
    approve_as(database, people["quentin"], "RT-COATED-DISC")
    bring_into_effect(database, people, TEXTS["SP-LIALO2-100"])
    with pytest.raises(Refused) as refused, database.write(people["quentin"]) as record:
        make_effective(record, "RT-COATED-DISC", 1)
    assert [finding.path for finding in refused.value.findings] == ["SP-LIALO2-200", "SP-LIALO2-300"]
    bring_into_effect(database, people, TEXTS["SP-LIALO2-200"], TEXTS["SP-LIALO2-300"])
    with database.write(people["quentin"]) as record:
        make_effective(record, "RT-COATED-DISC", 1)
    assert status(database, document_id="RT-COATED-DISC") is Status.EFFECTIVE


def test_where_a_recipe_is_used_is_told(database: Database, engineer: Actor) -> None:
    with database.write(engineer) as record:
        row = create_draft(record, recipe())
        create_draft(record, recipe(document_id="SP-LIALO2-300") | {"parent": f"{SPUTTER_ID}/1"})
        create_draft(record, TEXTS["RT-COATED-DISC"])
        run = begin_activity(record, ActivityKind.SPUTTER_RUN, work_master=row.work_master).serial
    with database.read() as record:
        assert where_used(record, SPUTTER_ID) == [
            Use("route", "RT-COATED-DISC/1", "draft"),
            Use("child", "SP-LIALO2-300/1", "draft"),
            Use("activity", run, ""),
        ]


def test_a_parent_must_exist(database: Database, engineer: Actor) -> None:
    with pytest.raises(InvalidRecipe, match="parent"), database.write(engineer) as record:
        create_draft(record, recipe() | {"parent": "GENERAL-LIALO2/1"})


def test_an_import_says_exactly_what_it_would_change_and_then_does_just_that(
    database: Database, engineer: Actor
) -> None:
    with database.write(engineer) as record:
        create_draft(record, TEXTS["PR-PELLET-240"])
        create_draft(record, recipe(rf_power_w=110))
    with database.read() as record:
        plan = plan_import(record, LIBRARY)
    actions = {line.reference: line.action for line in plan}
    assert actions.pop("PR-PELLET-240/1") is ImportAction.UNCHANGED
    assert actions.pop("SP-LIALO2-200/1") is ImportAction.REVISE
    assert set(actions.values()) == {ImportAction.CREATE}
    revised = next(line for line in plan if line.action is ImportAction.REVISE)
    assert revised.words == ("formula parameters rf_power_w target changes from 110 W to 120 W.",)
    with database.write(engineer) as record:
        assert import_library(record, LIBRARY, expected=plan) == plan
    with database.read() as record:
        assert {row.content_sha256 for row in list_versions(record)} == {d.content_hash() for d in LIBRARY}
        assert {line.action for line in plan_import(record, LIBRARY)} == {ImportAction.UNCHANGED}


def test_an_import_that_was_overtaken_or_meets_a_used_version_changes_nothing(
    database: Database, people: dict[str, Actor]
) -> None:
    with database.read() as record:
        plan = plan_import(record, LIBRARY)
    bring_into_effect(database, people, recipe(rf_power_w=110))
    with pytest.raises(StaleVersion), database.write(people["emil"]) as record:
        import_library(record, LIBRARY, expected=plan)
    with pytest.raises(Refused) as refused, database.write(people["emil"]) as record:
        import_library(record, LIBRARY)
    assert [finding.path for finding in refused.value.findings] == [f"{SPUTTER_ID}/1"]
    with database.read() as record:
        assert len(list_versions(record)) == 1


def test_the_difference_between_two_versions_is_told_in_words() -> None:
    new = recipe(2, rf_power_w=110)
    new["procedure"][0]["phases"][3]["timeout_s"] = 30000
    del new["materials_in"][1]
    new["description"] = "Another."
    words = diff(read_document(TEXTS[SPUTTER_ID]), read_document(new))
    assert "formula parameters rf_power_w target changes from 120 W to 110 W." in words
    assert "procedure evacuate phases hivac timeout_s changes from 28800 to 30000." in words
    assert any(word.startswith("materials_in witness is removed") for word in words)
    assert len(words) == 4
    assert diff(read_document(TEXTS[SPUTTER_ID]), read_document(recipe(2))) == []


def test_all_three_kinds_share_one_life(database: Database, people: dict[str, Actor]) -> None:
    bring_into_effect(database, people, TEXTS["PT-SYM-01-01"])
    with database.read() as record:
        row = effective(record, "PT-SYM-01-01")
        assert read_content(record, row) == read_document(TEXTS["PT-SYM-01-01"])
        with pytest.raises(NotRunnable, match="no master recipe"):
            read_master_version(record, row)
