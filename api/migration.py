"""Bringing a database's schema up to date, and telling whether it is."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from traceability.database import Database
from traceability.errors import RecordError

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(7261)")
_FOLDER = Path(__file__).parent / "migrations"


class SchemaOutdated(RecordError):
    """The database was made by another version of the service."""

    recorded = False


def migrate(database: Database) -> tuple[str | None, str]:
    """Upgrade the schema to the newest revision, all in one transaction.

    Returns:
        The revision before (None for an empty database) and the one now.

    Raises:
        SchemaOutdated: A newer version of the service made the schema.
    """
    with database.connect() as connection:
        connection.execution_options(argonaut_write=True)
        if connection.dialect.name == "postgresql":
            # Two services that start at once migrate one after the other; on SQLite the transaction sees to it.
            connection.execute(_ONE_AT_A_TIME)
        before = _revision(connection)
        config = _config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SchemaOutdated(
                f"The database is at revision {before}, which this version does not know; start the one that made it."
            ) from error
        connection.commit()
        return before, newest_revision()


def newest_revision() -> str:
    """The revision that this version of the service needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("there are no migrations")
    return head


def require_newest_schema(database: Database) -> None:
    """Check that the database's schema is the one this service was written for.

    Raises:
        SchemaOutdated: It is not; the message says what to run.
    """
    with database.connect() as connection:
        found = _revision(connection)
    if found != newest_revision():
        state = "empty" if found is None else f"at revision {found}"
        raise SchemaOutdated(
            f"The database is {state} and this service needs {newest_revision()}: "
            "back it up and run `argonaut migrate`."
        )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config
