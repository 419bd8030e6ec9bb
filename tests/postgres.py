"""Databases on the PostgreSQL server of the tests: empty ones, and clean copies of the schema that are used again.

Creating and dropping a database writes out the whole server each time, so a database with the schema is emptied
after a test and given to the next. One whose tables or triggers a test has changed is dropped instead.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from traceability.audit import GENESIS

NAMED = os.environ.get("ARGONAUT_TEST_POSTGRES")  # noqa: TID251 - tests have no settings of their own
"""The server that somebody named: then it must answer, and nothing may be left out."""

# Nothing here outlives a crash of the server, so no commit need wait for the disk.
_OPTIONS = "options=-csynchronous_commit%3Doff"

_SHAPE = """
    SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
        SELECT relname || relkind::text AS part FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT tgrelid::regclass::text || tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT attrelid::regclass::text || attname || atttypid::text FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND NOT attisdropped
        UNION ALL
        SELECT conrelid::regclass::text || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    ) AS parts"""


def find_server() -> str | None:
    """The server to test on: `ARGONAUT_TEST_POSTGRES`, else a local one that lets us in, else None."""
    address = NAMED or "postgresql://postgres@127.0.0.1:5432/postgres"
    try:
        with psycopg.connect(address, connect_timeout=2):
            return address
    except psycopg.OperationalError:
        if NAMED:
            raise
        return None


class Server:
    """The server, and the databases with the schema that wait to be used again.

    Args:
        address: libpq URL of a database where databases may be created.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._clean: list[str] = []
        self._shape = ""

    def create(self, template: str = "template1") -> str:
        """A fresh database like another one; answers with its name."""
        name = f"argonaut_test_{uuid.uuid4().hex[:12]}"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever still uses it."""
        self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def url(self, name: str) -> str:
        """The SQLAlchemy URL of a database."""
        return urlsplit(self._address)._replace(scheme="postgresql+psycopg", path=f"/{name}", query=_OPTIONS).geturl()

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The URL of a database with nothing in it."""
        name = self.create()
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    @contextmanager
    def database_like(self, template: str) -> Iterator[str]:
        """The URL of a database with the template's schema and no rows."""
        name = self._clean.pop() if self._clean else self.create(template)
        if not self._shape:
            with self._connect(name) as connection:
                self._shape = _shape(connection)
        try:
            yield self.url(name)
        finally:
            if self._empties(name):
                self._clean.append(name)
            else:
                self.drop(name)

    def close(self) -> None:
        """Drop what waits to be used again."""
        while self._clean:
            self.drop(self._clean.pop())

    def _empties(self, name: str) -> bool:
        """Remove all rows; False if the schema is not what it was."""
        with self._connect(name) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if _shape(connection) != self._shape:
                return False
            tables = [
                row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            ]
            filled = sql.SQL(" UNION ALL ").join(
                sql.SQL("SELECT {} WHERE EXISTS (SELECT 1 FROM {})").format(sql.Literal(table), sql.Identifier(table))
                for table in tables
            )
            names = [sql.Identifier(row[0]) for row in connection.execute(filled)]
            # As a replica the server runs no triggers: those that keep tables append-only.
            connection.execute("SET session_replication_role = replica")
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(sql.SQL(", ").join(names)))
            connection.execute("ALTER SEQUENCE serial_numbers RESTART")
            connection.execute("INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, %s)", [GENESIS])
        return True

    def _connect(self, name: str) -> psycopg.Connection:
        return psycopg.connect(
            urlsplit(self._address)._replace(path=f"/{name}", query=_OPTIONS).geturl(), autocommit=True
        )

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(statement)


def _shape(connection: psycopg.Connection) -> str:
    row = connection.execute(_SHAPE).fetchone()
    return str(row[0]) if row else ""
