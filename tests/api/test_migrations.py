"""The migrations make the very schema that the code describes, on both databases, once, whoever begins."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from api.migration import SchemaOutdated, migrate, newest_revision, require_newest_schema
from api.service import ACTS
from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor
from traceability.clock import Clock
from traceability.database import Database
from traceability.verification import verify

_TRIGGERS = {
    "sqlite": "SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY 1, 2",
    "postgresql": (
        "SELECT c.relname, t.tgname, replace(pg_get_triggerdef(t.oid), current_schema() || '.', '') "
        "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal ORDER BY 1, 2"
    ),
}
_SEQUENCES = {
    "sqlite": "SELECT 'none'",
    "postgresql": "SELECT sequencename, data_type, start_value FROM pg_sequences ORDER BY 1",
}


@pytest.fixture
def empty(database_url: str, clock: Clock) -> Iterator[Database]:
    """A database without any table."""
    database = Database(database_url, clock, ACTS)
    yield database
    database.close()


def schema(database: Database) -> dict[str, Any]:
    """Everything that two schemas can differ in, in an order that says nothing."""
    dialect = database.engine.dialect.name
    with database.connect() as connection:
        inspector = inspect(connection)
        names = [name for name in inspector.get_table_names() if name != "alembic_version"]
        tables = {
            name: {
                "columns": {
                    column["name"]: (str(column["type"]), column["nullable"], column["default"])
                    for column in inspector.get_columns(name)
                },
                "key": inspector.get_pk_constraint(name)["constrained_columns"],
                "foreign": sorted(
                    (key["constrained_columns"], key["referred_table"], key["referred_columns"], key.get("options"))
                    for key in inspector.get_foreign_keys(name)
                ),
                "unique": sorted(key["column_names"] for key in inspector.get_unique_constraints(name)),
                "checks": sorted(check["sqltext"] for check in inspector.get_check_constraints(name)),
                "indexes": sorted(
                    (index["name"], index["column_names"], bool(index["unique"]))
                    for index in inspector.get_indexes(name)
                ),
            }
            for name in names
        }
        triggers = [tuple(row) for row in connection.execute(text(_TRIGGERS[dialect]))]
        sequences = [tuple(row) for row in connection.execute(text(_SEQUENCES[dialect]))]
        head = connection.execute(text("SELECT id, seq, hash FROM audit_head")).one()
    return {"tables": tables, "triggers": triggers, "sequences": sequences, "head": tuple(head)}


def test_migrating_an_empty_database_makes_the_schema_of_the_code(
    database_url: str, empty: Database, clock: Clock
) -> None:
    assert migrate(empty) == (None, newest_revision())
    migrated = schema(empty)
    with empty.engine.connect() as connection:
        connection.execution_options(argonaut_write=True)
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        else:
            connection.execute(text("PRAGMA defer_foreign_keys = ON"))
            for name in inspect(connection).get_table_names():
                connection.execute(text(f"DROP TABLE {name}"))
        connection.commit()
    empty.create_schema()
    described = schema(empty)
    assert migrated["tables"].keys() == described["tables"].keys()
    for name, table in described["tables"].items():
        assert migrated["tables"][name] == table, name
    assert migrated == described


def test_alembic_sees_nothing_left_to_migrate(empty: Database) -> None:
    migrate(empty)
    with empty.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []


def test_a_migrated_record_can_be_written_and_verified_and_guards_its_trail(empty: Database, operator: Actor) -> None:
    migrate(empty)
    with empty.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    assert verify(empty).intact
    with pytest.raises(DBAPIError, match="append-only"), empty.engine.begin() as connection:
        connection.execute(text("UPDATE audit_events SET actor = 'x'"))


def test_migrating_twice_changes_nothing(empty: Database) -> None:
    migrate(empty)
    before = schema(empty)
    assert migrate(empty) == (newest_revision(), newest_revision())
    assert schema(empty) == before


def test_two_services_that_start_at_once_migrate_once(database_url: str, empty: Database, clock: Clock) -> None:
    other = Database(database_url, clock, ACTS)
    try:
        with ThreadPoolExecutor(2) as pool:
            revisions = list(pool.map(migrate, (empty, other)))
    finally:
        other.close()
    assert sorted(revisions, key=str) == sorted([(None, newest_revision()), (newest_revision(),) * 2], key=str)


def test_a_database_without_a_schema_is_told_to_migrate(empty: Database) -> None:
    with pytest.raises(SchemaOutdated, match="argonaut migrate"):
        require_newest_schema(empty)
    migrate(empty)
    require_newest_schema(empty)
