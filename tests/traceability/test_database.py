"""A write is one act on the record: whole, chained, attributed; or nothing but its refusal."""

from __future__ import annotations

import itertools
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import select

from tests.conftest import ALL_ACTS
from traceability.activities import ActivityKind, ActivityRow, Outcome, begin_activity, end_activity
from traceability.acts import Actor
from traceability.audit import GENESIS, AuditEvent, SealedEvent
from traceability.canonical import sha256_hex
from traceability.clock import ManualClock
from traceability.database import Database
from traceability.errors import NotPermitted, Refused, StorageFailed


def _events(database: Database) -> list[AuditEvent]:
    with database.read() as record:
        return list(record.exec(select(AuditEvent).order_by(AuditEvent.seq)))


def test_an_act_leaves_one_chained_event_with_old_and_new_values(database: Database, operator: Actor) -> None:
    with database.write(operator) as record:
        activity = begin_activity(record, ActivityKind.ASSEMBLY)
        serial = activity.serial
    with database.write(operator) as record:
        row = record.exec(select(ActivityRow).where(ActivityRow.serial == serial)).one()
        end_activity(record, row, Outcome.COMPLETED)
    first, second = _events(database)
    started, ended = orjson.loads(first.body), orjson.loads(second.body)
    assert started["prev"] == GENESIS
    assert ended["prev"] == first.hash == sha256_hex(first.body.encode())
    assert started["changes"][0]["old"] is None
    assert started["changes"][0]["new"]["serial"] == serial
    assert ended["changes"][0]["old"] == {"ended_at": None, "outcome": None}
    assert ended["changes"][0]["new"]["outcome"] == "completed"
    assert ended["actor"] == "olga"


def test_a_refused_write_leaves_nothing_but_its_refusal(database: Database, operator: Actor) -> None:
    with pytest.raises(Refused), database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
        raise Refused("The lot is on hold.")
    with database.read() as record:
        assert record.exec(select(ActivityRow)).all() == []
    (event,) = _events(database)
    assert event.kind == "act.refused"
    assert orjson.loads(event.body)["detail"]["attempted"] == "activity.started"


def test_an_act_without_the_role_is_refused_and_recorded(database: Database, qa: Actor) -> None:
    with pytest.raises(NotPermitted, match="quentin may not"), database.write(qa) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    assert [event.kind for event in _events(database)] == ["act.refused"]


def test_a_change_outside_an_act_is_a_mistake_of_the_code(database: Database, operator: Actor) -> None:
    with pytest.raises(RuntimeError, match="outside an act"), database.write(operator) as record:
        record.add(ActivityRow(serial="X", kind=ActivityKind.ASSEMBLY, person="x", started_at=record.clock.now()))
        record.flush()


def test_the_database_itself_refuses_to_change_the_trail(database: Database, operator: Actor) -> None:
    with database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    for statement in ("UPDATE audit_events SET actor = 'x'", "DELETE FROM audit_events"):
        with pytest.raises(DBAPIError, match="append-only"), database.engine.begin() as connection:
            connection.execute(text(statement))


def test_writers_at_once_make_one_unbroken_chain(database: Database, operator: Actor) -> None:
    def write(_: int) -> None:
        with database.write(operator) as record:
            begin_activity(record, ActivityKind.ASSEMBLY)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    events = _events(database)
    assert [event.seq for event in events] == list(range(1, 41))
    assert all(orjson.loads(b.body)["prev"] == a.hash for a, b in itertools.pairwise(events))
    assert len({tuple(orjson.loads(event.body)["items"]) for event in events}) == 40


def test_events_are_published_only_after_commit(database: Database, operator: Actor) -> None:
    heard: list[SealedEvent] = []
    database.publisher.subscribe(heard.extend)
    with database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
        assert heard == []
    assert [event.kind for event in heard] == ["activity.started"]


def test_a_full_disk_keeps_nothing_and_says_so(tmp_path: Path, clock: ManualClock, operator: Actor) -> None:
    database = Database(f"sqlite:///{tmp_path / 'small.db'}", clock, ALL_ACTS)
    database.create_schema()
    with database.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    # SQLite itself refuses to grow the file, with the error that a full disk gives.
    @event.listens_for(database.engine, "connect")
    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    database.engine.dispose()
    kept = 0
    with pytest.raises(StorageFailed, match="disk is full"):
        while kept < 1000:
            with database.write(operator) as record:
                begin_activity(record, ActivityKind.ASSEMBLY, detail={"note": "x" * 500})
            kept += 1
    assert len(_events(database)) == kept
    with database.read() as record:
        assert len(record.exec(select(ActivityRow)).all()) == kept
    database.close()
