"""What every test may use: a manual clock, both databases through one fixture, people with each role."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import equipment.acts
import recipes.acts
import traceability.acts
from tests.postgres import NAMED, Server, find_server
from traceability.acts import Actor, Role
from traceability.clock import Clock, ManualClock
from traceability.database import Database
from traceability.users import actor_of, create_user

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ALL_ACTS = (*traceability.acts.ACTS, *recipes.acts.ACTS, *equipment.acts.ACTS)


_ADDRESS = find_server()
POSTGRES = Server(_ADDRESS) if _ADDRESS else None

DATABASES = (
    "databases: SQLite and PostgreSQL; nothing was left out"
    if POSTGRES
    else "databases: SQLite alone. LEFT OUT: every test on PostgreSQL "
    "(start one and set ARGONAUT_TEST_POSTGRES=postgresql://user@host/database)"
)


def pytest_report_header() -> str:
    return DATABASES


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _wrongly_skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(DATABASES)
    if skipped := _wrongly_skipped(config):
        terminalreporter.write_line(
            f"FAILED: {skipped} skipped; where ARGONAUT_TEST_POSTGRES is set, no test may be."
        )


def _wrongly_skipped(config: pytest.Config) -> int:
    """How many tests were skipped, where none may be."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if NAMED and reporter else 0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        metafunc.parametrize("database_kind", ["sqlite", *(["postgresql"] if POSTGRES else [])], scope="session")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of its own."""
    if POSTGRES is None or database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'argonaut.db'}"
        return
    with POSTGRES.empty_database() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema of the whole product."""
    file = tmp_path_factory.mktemp("template") / "template.db"
    _create_schema(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """Name of a PostgreSQL database with the schema of the whole product."""
    assert POSTGRES is not None
    name = POSTGRES.create()
    _create_schema(POSTGRES.url(name))
    yield name
    POSTGRES.close()
    POSTGRES.drop(name)


def _create_schema(url: str) -> None:
    # The tables are those of the modules that are imported: here, of all of them.
    import api.app

    assert api.app.ROUTERS
    database = Database(url, ManualClock(START), ALL_ACTS)
    database.create_schema()
    database.close()


@pytest.fixture
def schema_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database of its own with the schema, nothing in it."""
    if POSTGRES is None or database_kind == "sqlite":
        copy = tmp_path / "argonaut.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), copy)
        yield f"sqlite:///{copy}"
        return
    with POSTGRES.database_like(request.getfixturevalue("postgres_template")) as url:
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
