"""What every test may use: a manual clock, both databases through one fixture, people with each role."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

import equipment.acts
import recipes.acts
import traceability.acts
from traceability.acts import Actor, Role
from traceability.clock import Clock, ManualClock
from traceability.database import Database
from traceability.users import actor_of, create_user

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ALL_ACTS = (*traceability.acts.ACTS, *recipes.acts.ACTS, *equipment.acts.ACTS)


def _postgres_address() -> str | None:
    """The server to test on: `ARGONAUT_TEST_POSTGRES`, else a local one that lets us in, else None."""
    named = os.environ.get("ARGONAUT_TEST_POSTGRES")  # noqa: TID251
    address = named or "postgresql://postgres@127.0.0.1:5432/postgres"
    try:
        with psycopg.connect(address, connect_timeout=2):
            return address
    except psycopg.OperationalError:
        if named:
            raise
        return None


POSTGRES = _postgres_address()


DATABASES = (
    "databases: SQLite and PostgreSQL; nothing was left out"
    if POSTGRES
    else "databases: SQLite alone. LEFT OUT: every test on PostgreSQL "
    "(start one and set ARGONAUT_TEST_POSTGRES=postgresql://user@host/database)"
)


def pytest_report_header() -> str:
    return DATABASES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(DATABASES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        metafunc.parametrize("database_kind", ["sqlite", *(["postgresql"] if POSTGRES else [])], scope="session")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@contextmanager
def postgres_database(template: str = "template1") -> Iterator[str]:
    """The URL of a database of its own on the server, made like another one."""
    assert POSTGRES is not None
    name = f"argonaut_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield urlsplit(POSTGRES)._replace(scheme="postgresql+psycopg", path=f"/{name}").geturl()
    finally:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of its own."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'argonaut.db'}"
        return
    with postgres_database() as url:
        yield url


@pytest.fixture(scope="session")
def schema_template(database_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database with the schema of the whole product, made once and copied for each test."""
    # The tables are those of the modules that are imported: here, of all of them.
    import api.app

    assert api.app.ROUTERS
    with contextlib.ExitStack() as stack:
        if database_kind == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('template') / 'template.db'}"
        else:
            url = stack.enter_context(postgres_database())
        database = Database(url, ManualClock(START), ALL_ACTS)
        database.create_schema()
        database.close()
        yield url


@pytest.fixture
def schema_url(database_kind: str, schema_template: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of its own with the schema, nothing in it."""
    if database_kind == "sqlite":
        copy = tmp_path / "argonaut.db"
        shutil.copyfile(schema_template.removeprefix("sqlite:///"), copy)
        yield f"sqlite:///{copy}"
        return
    with postgres_database(urlsplit(schema_template).path.removeprefix("/")) as url:
        yield url


@pytest.fixture
def database(schema_url: str, clock: Clock) -> Iterator[Database]:
    """A database with the schema, nothing in it."""
    database = Database(schema_url, clock, ALL_ACTS)
    yield database
    database.close()


def person(name: str, *roles: Role) -> Actor:
    """An actor with roles, without a user row behind it."""
    return Actor(name=name, full_name=name.title(), roles=frozenset(roles), terminal="test")


@pytest.fixture
def operator() -> Actor:
    return person("olga", Role.OPERATOR)


@pytest.fixture
def engineer() -> Actor:
    return person("emil", Role.ENGINEER)


@pytest.fixture
def qa() -> Actor:
    return person("quentin", Role.QA)


@pytest.fixture
def admin() -> Actor:
    return person("ada", Role.ADMIN)


@pytest.fixture
def enrol(database: Database, admin: Actor) -> Callable[..., Actor]:
    """`enrol("quentin", Role.QA)` adds a real user who can sign; the password is "copper kettle seven"."""

    def enrol(name: str, *roles: Role, temporary: bool = False) -> Actor:
        password = "copper kettle seven"
        with database.write(admin) as record:
            user = create_user(
                record, name=name, full_name="Q. Person", password=password, roles=roles, temporary=temporary
            )
            record.flush()
            return actor_of(user, "tablet-1")

    return enrol


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
