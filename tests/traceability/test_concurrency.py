"""Several writers at once, and what a database can't take: each gets an answer that says what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from traceability.activities import ActivityKind, ActivityRow, begin_activity
from traceability.acts import Actor, Role
from traceability.audit import AuditEvent
from traceability.database import Database
from traceability.errors import ArgonautError, Conflict, InvalidInput
from traceability.materials import MaterialKind, define_material
from traceability.users import change_user
from traceability.verification import verify


def test_of_two_who_store_the_same_name_at_once_one_is_told_so(database: Database, engineer: Actor) -> None:
    together = threading.Barrier(4)

    def define(_: int) -> ArgonautError | None:
        together.wait(10)
        try:
            with database.write(engineer) as record:
                define_material(record, "LGPS", "LGPS powder", MaterialKind.ELECTROLYTE_POWDER, "mg")
        except Conflict as error:
            return error
        return None

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(define, range(4)))
    assert answers.count(None) == 1
    assert verify(database).intact


def test_a_name_that_is_taken_behind_the_domains_back_is_a_conflict(database: Database, operator: Actor) -> None:
    with database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY, serial="RUN-1")
    with pytest.raises(Conflict, match="same at this very moment"), database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY, serial="RUN-1")


def test_what_the_database_itself_forbids_is_no_conflict_but_a_mistake_of_the_code(
    database: Database, operator: Actor
) -> None:
    with pytest.raises(IntegrityError), database.write(operator) as record:
        record.connection().execute(text("INSERT INTO genealogy_edges DEFAULT VALUES"))


@pytest.mark.parametrize("wrong", ["\ud800", 2**70])
def test_a_value_that_has_no_place_in_the_database_is_invalid_input(
    database: Database, operator: Actor, wrong: str | int
) -> None:
    column = "serial" if isinstance(wrong, str) else "id"
    question = text(f"SELECT id FROM activities WHERE {column} = :wrong")
    if isinstance(wrong, int) and database.engine.dialect.name == "postgresql":
        question = text("SELECT id FROM activities WHERE id = CAST(:wrong AS bigint)")
    with pytest.raises(InvalidInput, match="can't be stored"), database.connect() as connection:
        connection.execute(question, {"wrong": wrong})


def test_changes_of_one_row_at_once_are_all_kept_and_verify(
    database: Database, admin: Actor, enrol: Callable[..., Actor]
) -> None:
    enrol("ada", Role.ADMIN)
    enrol("olga", Role.OPERATOR)

    def change(number: int) -> None:
        with database.write(admin) as record:
            change_user(record, "olga", full_name=f"Olga {number}", reason="renamed")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(12)))
    with database.read() as record:
        assert record.connection().execute(text("SELECT version FROM users WHERE name = 'olga'")).scalar_one() == 13
    assert verify(database).intact


def test_a_row_changed_twice_in_one_act_verifies(database: Database, operator: Actor) -> None:
    with database.write(operator) as record:
        row = begin_activity(record, ActivityKind.ASSEMBLY)
        key = row.key
    with database.write(operator) as record, record.act("activity.ended") as act:
        again = record.get(ActivityRow, key)
        assert again is not None
        again.equipment = "first"
        record.flush()
        again.equipment = "second"
        again.person = "somebody"
        record.flush()
        again.equipment = "third"
    assert [change["new"] for change in act.changes] == [
        {"equipment": "first"},
        {"equipment": "second", "person": "somebody"},
        {"equipment": "third"},
    ]
    assert verify(database).intact


def test_readers_are_not_kept_waiting_by_a_writer(database: Database, operator: Actor) -> None:
    with database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
        with database.connect() as connection:
            assert connection.execute(text("SELECT COUNT(*) FROM activities")).scalar_one() == 0
    with database.read() as other:
        assert len(other.exec(select(AuditEvent)).all()) == 1
