"""Transactions on the record, on SQLite or PostgreSQL.

A write is one transaction under one actor: domain code takes the session and never commits; here the acts are
sealed into the audit trail, the transaction is committed and only then is it published. A write that ends in an
`ArgonautError` is rolled back whole and its refusal is recorded in a second transaction. Which tables exist is
not known here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.orm import UOWTransaction
from sqlmodel import Session, SQLModel

from traceability.acts import Act, Actor, ActTable
from traceability.audit import GENESIS, PendingAct, seal
from traceability.canonical import JsonValue, canonical_value
from traceability.clock import Clock, wall_now
from traceability.errors import ArgonautError, Conflict, InvalidInput, StorageFailed
from traceability.events import Publisher

_log = structlog.get_logger(__name__)

_WRITE = "argonaut_write"

IDLE_TRANSACTION_MS = 5_000
"""How long a transaction on PostgreSQL may wait for its own process before the server ends it."""


class RecordSession(Session):
    """A session on the record under one actor.

    Attributes:
        clock: Tells domain time.
        actor: Who acts.
        dialect: "sqlite" or "postgresql".
    """

    def __init__(self, engine: Engine, clock: Clock, actor: Actor | None, acts: ActTable) -> None:
        super().__init__(engine, expire_on_commit=False, autoflush=actor is not None)
        self.clock = clock
        self.dialect = engine.dialect.name
        self.sealed_acts: list[PendingAct] = []
        self._actor = actor
        self._acts = acts
        self._stack: list[PendingAct] = []
        self._steps = 0

    @property
    def actor(self) -> Actor:
        """Who acts; a session opened for reading has nobody."""
        if self._actor is None:
            raise RuntimeError("this session was opened for reading; nobody acts in it")
        return self._actor

    @contextmanager
    def act(
        self, kind: str, *items: str, reason: str = "", detail: dict[str, Any] | None = None
    ) -> Iterator[PendingAct]:
        """Do something on the record: every change of a row happens inside an act.

        Args:
            kind: A kind that a package defines in its `acts.py`.
            items: Serials of the things concerned.
            reason: Why, in the actor's words.
            detail: More, JSON-able; may be added to while the act runs.

        Raises:
            NotPermitted: The actor may not do it. Only the outermost act is checked.
        """
        act = PendingAct(kind, list(items), reason, dict(detail or {}))
        if self._stack:
            self._acts.known(kind)
        self.sealed_acts.append(act)
        if not self._stack:
            self._acts.require(self.actor, kind)
        self.flush()
        self._stack.append(act)
        try:
            yield act
            self.flush()
        finally:
            self._stack.pop()

    def record_changes(self, changes: list[dict[str, Any]]) -> None:
        """Put flushed row changes, numbered through the transaction, under the innermost act."""
        if not changes:
            return
        if not self._stack:
            tables = sorted({change["table"] for change in changes})
            raise RuntimeError(f"{', '.join(tables)} changed outside an act")
        for change in changes:
            self._steps += 1
            change["step"] = self._steps
        self._stack[-1].changes.extend(changes)


class Database:
    """The record's database.

    Args:
        url: SQLAlchemy URL, `sqlite:///…` or `postgresql+psycopg://…`.
        clock: Tells domain time.
        acts: Every kind of act that may happen.
    """

    def __init__(self, url: str, clock: Clock, acts: Iterable[Act]) -> None:
        self.url = url
        self.clock = clock
        self.acts = ActTable(acts)
        self.engine = make_engine(url)
        self._closed = False
        event.listen(self.engine, "checkin", self._close_late_comer)
        self.publisher = Publisher()

    @contextmanager
    def write(self, actor: Actor, *, asked: str = "") -> Iterator[RecordSession]:
        """One transaction that changes the record.

        Args:
            actor: Who acts.
            asked: What a refusal says was attempted if it comes before the first act.

        Raises:
            StorageFailed: The database can't take the write (disk full, unreachable, locked for too long).
            Conflict: Somebody else stored the same name at this very moment.
            InvalidInput: A value is one that the database has no place for.
        """
        session = RecordSession(self.engine, self.clock, actor, self.acts)
        try:
            with _explaining():
                session.connection(execution_options={_WRITE: True})
                yield session
                session.flush()
                sealed = seal(session, session.sealed_acts, actor, self.clock.now(), wall_now())
                session.commit()
        except ArgonautError as error:
            session.rollback()
            if error.recorded:
                self._record_refusal(actor, asked, session.sealed_acts, error)
            raise
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()
        self.publisher.publish(sealed)

    @contextmanager
    def read(self) -> Iterator[RecordSession]:
        """One transaction that only reads; a change in it is an error of the code."""
        session = RecordSession(self.engine, self.clock, None, self.acts)
        try:
            with _explaining():
                yield session
        finally:
            session.close()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A plain connection for hot reads with prebuilt SQL."""
        with _explaining(), self.engine.connect() as connection:
            yield connection

    def create_schema(self) -> None:
        """Create all tables of all imported packages, triggers and the chain's first link, if they are missing."""
        with self.engine.connect().execution_options(**{_WRITE: True}) as connection:
            SQLModel.metadata.create_all(connection)
            heads = SQLModel.metadata.tables["audit_head"]
            if connection.execute(heads.select()).first() is None:
                connection.execute(heads.insert().values(id=1, seq=0, hash=GENESIS))
            connection.commit()

    def close(self) -> None:
        """Give all connections back; one that a thread still uses is closed when it comes back."""
        self._closed = True
        self.engine.dispose()

    def _close_late_comer(self, connection: Any, _: object) -> None:
        if self._closed and connection is not None:
            connection.close()

    def record_refusal(self, actor: Actor, attempted: str, items: Iterable[str], error: ArgonautError) -> None:
        """Put a refusal on the audit trail: of a write, or of an act that never reached one."""
        session = RecordSession(self.engine, self.clock, actor, self.acts)
        try:
            session.connection(execution_options={_WRITE: True})
            refusal = PendingAct(
                "act.refused",
                list(items),
                "",
                {
                    "attempted": attempted,
                    "code": error.code,
                    "message": error.message,
                    "findings": [[f.code, f.message, f.path] for f in error.findings],
                },
            )
            sealed = seal(session, [refusal], actor, self.clock.now(), wall_now())
            session.commit()
        except OperationalError:
            # The caller's own error is the one to show; that the trail could not take it goes to the log.
            session.rollback()
            _log.exception("refusal_not_recorded", attempted=attempted, refused=error.message)
            return
        finally:
            session.close()
        self.publisher.publish(sealed)

    def _record_refusal(self, actor: Actor, asked: str, acts: list[PendingAct], error: ArgonautError) -> None:
        attempted = acts[0].kind if acts else asked
        items = [item for act in acts for item in act.items]
        self.record_refusal(actor, attempted, items, error)


# As many connections as the service has threads for requests, and some for its own. The values of a statement are
# kept out of error texts: they may be secrets, and error texts are logged.
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 40, "hide_parameters": True}


def make_engine(url: str) -> Engine:
    """An engine whose connections are set up for the record.

    Raises:
        InvalidInput: The URL names no database.
    """
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        # The URL itself may hold a password and is not repeated.
        raise InvalidInput(
            "The database's URL can't be understood; write sqlite:///file or postgresql+psycopg://user@host/database."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, **_POOL, connect_args={"timeout": 20.0, "check_same_thread": False})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _tell_errors_alike, retval=True)
        return engine
    # A process that is stopped in the middle of a transaction must not keep its locks from all others.
    give_up = f"-c idle_in_transaction_session_timeout={IDLE_TRANSACTION_MS}"
    engine = create_engine(parsed, **_POOL, pool_pre_ping=True, connect_args={"options": give_up})
    event.listen(engine, "handle_error", _tell_errors_alike, retval=True)
    return engine


def _tell_errors_alike(context: ExceptionContext) -> BaseException | None:
    """One class for one kind of error, whatever its driver gives it.

    A connection that the server has ended and a file that is no database, or a damaged one, are an
    `OperationalError`; a value that can't be stored is a `DataError`.
    """
    cause = context.original_exception
    damaged = type(cause) is sqlite3.DatabaseError
    if damaged or (context.is_disconnect and not isinstance(context.sqlalchemy_exception, OperationalError)):
        return OperationalError(context.statement, None, cause)
    if isinstance(cause, OverflowError | UnicodeEncodeError):
        return DataError(context.statement, None, cause)
    return None


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own transaction handling is off: it would begin late and deadlock two upgrading readers.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 20000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _explaining() -> Iterator[None]:
    """What the database can't take leaves as an error that says what to do."""
    try:
        yield
    except OperationalError as error:
        raise _storage_failed(error) from error
    except NoConnectionLeft as error:
        _log.error("no_connection_left")
        raise StorageFailed("The database is asked too much at once; nothing was kept. Try again.") from error
    except DataError as error:
        raise InvalidInput(f"A value can't be stored ({_first_line(error.orig)}); nothing was kept.") from error
    except IntegrityError as error:
        if not _is_duplicate(error):
            raise
        raise Conflict(
            "Somebody else stored the same at this very moment; nothing was kept. Look again, then decide anew."
        ) from error
    except StatementError as error:
        # A column type that refuses a value says so itself.
        if isinstance(error.orig, ArgonautError):
            raise error.orig from error
        raise


def _is_duplicate(error: IntegrityError) -> bool:
    if isinstance(error.orig, sqlite3.IntegrityError):
        return error.orig.sqlite_errorname in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}
    return getattr(error.orig, "sqlstate", None) == "23505"


def _first_line(cause: object) -> str:
    return (str(cause).strip().splitlines() or ["no reason given"])[0]


def _storage_failed(error: OperationalError) -> StorageFailed:
    cause = _first_line(error.orig or "the database does not answer")
    _log.error("storage_failed", cause=cause)
    if "full" in cause:
        return StorageFailed(f"The disk is full ({cause}); nothing was kept. Free some room and try again.")
    return StorageFailed(f"The database did not take it ({cause}); nothing was kept. Try again.")


def _row_values(row: SQLModel) -> dict[str, JsonValue]:
    state = inspect(row)
    return {attribute.key: canonical_value(attribute.value) for attribute in state.attrs}


@event.listens_for(RecordSession, "before_flush")
def _refuse_changes_while_reading(session: RecordSession, context: UOWTransaction, _: object) -> None:
    if session._actor is None and (session.new or session.dirty or session.deleted):
        raise RuntimeError("this session was opened for reading")


@event.listens_for(RecordSession, "after_flush")
def _collect_changes(session: RecordSession, context: UOWTransaction) -> None:
    """Turn what was flushed into changes `{table, key, old, new}` under the innermost act."""
    changes: list[dict[str, Any]] = []
    for row in session.new:
        if not hasattr(row, "__unaudited__"):
            changes.append(_change(row, None, _row_values(row)))
    for row in session.dirty:
        if hasattr(row, "__unaudited__") or not session.is_modified(row):
            continue
        old, new = {}, {}
        for attribute in inspect(row).attrs:
            history = attribute.history
            if history.has_changes():
                old[attribute.key] = canonical_value(history.deleted[0]) if history.deleted else None
                new[attribute.key] = canonical_value(attribute.value)
        changes.append(_change(row, old, new))
    for row in session.deleted:
        if not hasattr(row, "__unaudited__"):
            changes.append(_change(row, _row_values(row), None))
    session.record_changes(changes)


def _change(row: SQLModel, old: dict[str, JsonValue] | None, new: dict[str, JsonValue] | None) -> dict[str, Any]:
    mapper = inspect(type(row))
    key = [canonical_value(getattr(row, mapper.get_property_by_column(c).key)) for c in mapper.primary_key]
    return {"table": mapper.local_table.name, "key": key, "old": old, "new": new}
