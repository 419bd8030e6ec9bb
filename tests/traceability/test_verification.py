"""Whatever is changed behind the service's back, in the trail or in the records, is found and named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlmodel import select

from traceability import replay
from traceability.activities import ActivityKind, ActivityRow, Outcome, begin_activity, end_activity
from traceability.acts import Actor, Role
from traceability.canonical import sha256_hex
from traceability.clock import ManualClock
from traceability.database import Database
from traceability.errors import Refused
from traceability.users import change_user
from traceability.verification import VerificationReport, verify

Enrol = Callable[..., Actor]
ACTIVITIES = 12


@pytest.fixture
def lived_in(database: Database, operator: Actor, admin: Actor, enrol: Enrol, clock: ManualClock) -> Database:
    """A database with users, begun and ended activities, and a refusal."""
    enrol("olaf", Role.OPERATOR)
    enrol("boss", Role.ADMIN)
    with database.write(admin) as record:
        change_user(record, "olaf", trained_for=["sputter"], reason="Course")
    for number in range(ACTIVITIES):
        clock.advance(seconds=1.5)
        with database.write(operator) as record:
            activity = begin_activity(record, ActivityKind.ASSEMBLY, detail={"number": number, "ratio": 0.7})
            if number % 2:
                record.flush()
                end_activity(record, activity, detail={"torque_nm": 0.1})
    with pytest.raises(Refused), database.write(operator) as record:
        begin_activity(record, ActivityKind.TEST)
        raise Refused("No.")
    with database.write(operator) as record:
        row = record.exec(select(ActivityRow).where(ActivityRow.id == 1)).one()
        end_activity(record, row, Outcome.ABORTED)
    return database


def tamper(database: Database, *statements: str, **parameters: Any) -> None:
    """Do what somebody with the database's own rights can do: drop what protects, then change."""
    with database.engine.begin() as connection:
        for table in ("audit_events", "audit_event_items"):
            if database.engine.dialect.name == "sqlite":
                connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_update"))
                connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_delete"))
            else:
                connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_append_only ON {table}"))
        for statement in statements:
            connection.execute(text(statement), parameters)


def found(report: VerificationReport) -> list[tuple[str, int | None]]:
    return [(discrepancy.kind, discrepancy.seq) for discrepancy in report.discrepancies]


def last_seq(database: Database) -> int:
    with database.connect() as connection:
        return int(connection.execute(text("SELECT max(seq) FROM audit_events")).scalar_one())


def test_an_untouched_record_is_intact(lived_in: Database) -> None:
    report = verify(lived_in)
    assert found(report) == []
    assert report.intact
    assert report.first is None
    assert report.events == last_seq(lived_in)
    assert report.tables >= 3


def test_an_empty_record_is_intact(database: Database) -> None:
    assert verify(database).intact


def test_an_edited_event_is_named(lived_in: Database) -> None:
    """21 CFR 11.10(e): the trail can't be changed without showing."""
    tamper(lived_in, "UPDATE audit_events SET body = replace(body, 'olga', 'otto') WHERE seq = 7")
    report = verify(lived_in, records=False)
    assert found(report) == [("event_changed", 7), ("event_columns_changed", 7)]


def test_an_event_rewritten_with_its_own_hash_breaks_the_chain_after_it(lived_in: Database) -> None:
    with lived_in.connect() as connection:
        body = connection.execute(text("SELECT body FROM audit_events WHERE seq = 7")).scalar_one()
    body = body.replace('"reason":""', '"reason":"told to"')
    tamper(
        lived_in,
        "UPDATE audit_events SET body = :body, hash = :hash WHERE seq = 7",
        body=body,
        hash=sha256_hex(body.encode()),
    )
    assert found(verify(lived_in)) == [("chain_broken", 8)]


def test_a_removed_event_is_named(lived_in: Database) -> None:
    tamper(lived_in, "DELETE FROM audit_events WHERE seq = 7")
    first = verify(lived_in).first
    assert first is not None
    assert (first.kind, first.seq) == ("event_missing", 7)


def test_a_cut_tail_shows_in_the_head_and_in_the_records(lived_in: Database) -> None:
    last = last_seq(lived_in)
    tamper(lived_in, f"DELETE FROM audit_events WHERE seq >= {last}")
    report = verify(lived_in)
    assert report.first is not None
    assert (report.first.kind, report.first.seq) == ("head_differs", last - 1)
    kinds = {discrepancy.kind for discrepancy in report.discrepancies}
    assert kinds == {"head_differs", "event_items_changed", "row_changed"}


def test_a_body_that_is_no_event_any_more_is_reported_and_not_fatal(lived_in: Database) -> None:
    tamper(
        lived_in,
        "UPDATE audit_events SET body = 'gone' WHERE seq = 3",
        """UPDATE audit_events SET body = '{"prev": 7}' WHERE seq = 5""",
    )
    assert ("event_unreadable", 3) in found(verify(lived_in))
    assert ("event_unreadable", 5) in found(verify(lived_in))


def test_changes_that_are_none_are_reported_and_not_fatal(lived_in: Database) -> None:
    last = last_seq(lived_in)
    for seq in (4, last):
        tamper(lived_in, f"UPDATE audit_events SET body = replace(body, '\"step\"', '\"stop\"') WHERE seq = {seq}")
    unreadable = [seq for kind, seq in found(verify(lived_in)) if kind == "event_unreadable"]
    assert unreadable == [4, last]


def test_an_act_that_goes_on_after_acts_inside_it_is_replayed_in_the_order_it_happened(
    database: Database, operator: Actor
) -> None:
    with database.write(operator) as record, record.act("activity.ended", reason="outer"):
        activity = begin_activity(record, ActivityKind.ASSEMBLY)
        record.flush()
        activity.equipment = "press-1"
        record.add(activity)
        record.flush()
        end_activity(record, activity)
        activity.person = "emil"
        record.add(activity)
    report = verify(database)
    assert report.discrepancies == []
    tamper(database, "UPDATE activities SET person = 'olga'")
    assert [found.expected for found in verify(database).discrepancies] == ["emil"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'otto' WHERE seq = 7",
        "UPDATE audit_events SET kind = 'lot.moved' WHERE seq = 7",
        "UPDATE audit_events SET at = '2026-01-01 00:00:00.000000' WHERE seq = 7",
    ],
)
def test_a_column_beside_the_body_that_was_changed_is_found(lived_in: Database, statement: str) -> None:
    tamper(lived_in, statement)
    assert found(verify(lived_in)) == [("event_columns_changed", 7)]


def test_an_item_unlisted_from_an_event_is_found(lived_in: Database) -> None:
    tamper(lived_in, "DELETE FROM audit_event_items WHERE seq = 9")
    assert found(verify(lived_in)) == [("event_items_changed", 9)]
    tamper(lived_in, "INSERT INTO audit_event_items (item, seq) VALUES ('LOT-000001-X', 11)")
    assert found(verify(lived_in)) == [("event_items_changed", 9), ("event_items_changed", 11)]


def test_a_row_changed_behind_the_services_back_is_named_with_column_and_event(lived_in: Database) -> None:
    tamper(lived_in, "UPDATE activities SET outcome = 'completed' WHERE id = 1")
    report = verify(lived_in)
    (row,) = report.discrepancies
    assert (row.kind, row.table, row.key, row.column) == ("row_changed", "activities", "[1]", "outcome")
    assert (row.expected, row.found) == ("aborted", "completed")
    assert row.seq == last_seq(lived_in)


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("UPDATE activities SET started_at = '2020-01-01 00:00:00.000000' WHERE id = 3", "started_at"),
        ("UPDATE activities SET detail = '{\"number\": 99}' WHERE id = 3", "detail"),
        ("UPDATE activities SET detail = 'no JSON at all' WHERE id = 3", "detail"),
        ("UPDATE activities SET kind = 'a kind nobody knows' WHERE id = 3", "kind"),
        ("UPDATE activities SET ended_at = '2020-01-01 00:00:00.000000' WHERE id = 3", "ended_at"),
        ("UPDATE users SET password_hash = 'abc' WHERE name = 'olaf'", "password_hash"),
        ("UPDATE users SET roles = '[\"admin\"]' WHERE name = 'olaf'", "roles"),
    ],
)
def test_any_kind_of_column_is_compared_whatever_is_written_into_it(
    lived_in: Database, statement: str, column: str
) -> None:
    tamper(lived_in, statement)
    report = verify(lived_in)
    assert [discrepancy.column for discrepancy in report.discrepancies] == [column]


def test_a_row_inserted_behind_the_services_back_is_found(lived_in: Database) -> None:
    tamper(
        lived_in,
        "INSERT INTO activities (id, serial, kind, equipment, person, work_master, started_at, simulated, detail) "
        "VALUES (900, 'ACT-X', 'test', '', 'olga', '', '2026-03-02 08:00:00.000000', false, '{}')",
    )
    (row,) = verify(lived_in).discrepancies
    assert (row.kind, row.table, row.key, row.seq) == ("row_inserted", "activities", "[900]", None)


def test_a_row_deleted_behind_the_services_back_is_found(lived_in: Database) -> None:
    tamper(lived_in, "DELETE FROM activities WHERE id = 4")
    (row,) = verify(lived_in).discrepancies
    assert (row.kind, row.table, row.key) == ("row_missing", "activities", "[4]")
    assert row.seq is not None


def test_a_table_that_is_gone_is_named(lived_in: Database) -> None:
    tamper(lived_in, "DROP TABLE audit_checkpoints")
    assert [(row.kind, row.table) for row in verify(lived_in).discrepancies] == [
        ("table_missing", "audit_checkpoints")
    ]


def test_a_changed_row_that_the_service_then_wrote_over_is_still_found(lived_in: Database, operator: Actor) -> None:
    tamper(lived_in, "UPDATE activities SET outcome = 'completed' WHERE id = 1")
    with lived_in.write(operator) as record:
        row = record.exec(select(ActivityRow).where(ActivityRow.id == 1)).one()
        end_activity(record, row, Outcome.FAILED)
    (between,) = verify(lived_in).discrepancies
    assert (between.kind, between.expected, between.found) == ("row_changed_between", "aborted", "completed")
    assert between.seq == last_seq(lived_in)


def test_a_row_whose_key_was_given_out_twice_is_found(lived_in: Database, operator: Actor) -> None:
    tamper(lived_in, f"DELETE FROM activities WHERE id = {ACTIVITIES}")
    with lived_in.write(operator) as record, record.act("activity.started"):
        now = record.clock.now()
        record.add(ActivityRow(id=ACTIVITIES, serial="ACT-Y", kind=ActivityKind.TEST, person="olga", started_at=now))
    assert [kind for kind, _ in found(verify(lived_in))] == ["row_created_twice"]


def test_the_first_of_many_bad_rows_is_the_one_written_first(lived_in: Database) -> None:
    tamper(lived_in, "UPDATE activities SET person = 'otto' WHERE id IN (1, 2, 3)")
    report = verify(lived_in)
    assert [discrepancy.key for discrepancy in report.discrepancies] == ["[2]", "[3]", "[1]"]


def test_verification_gives_the_same_answers_when_its_memory_is_short(
    lived_in: Database, operator: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_CACHED_ROWS", 2)
    assert verify(lived_in).intact
    tamper(lived_in, f"DELETE FROM activities WHERE id = {ACTIVITIES}")
    with lived_in.write(operator) as record, record.act("activity.started"):
        now = record.clock.now()
        record.add(ActivityRow(id=ACTIVITIES, serial="ACT-Y", kind=ActivityKind.TEST, person="olga", started_at=now))
        record.flush()
    tamper(lived_in, "UPDATE activities SET person = 'otto' WHERE id = 3")
    assert [kind for kind, _ in found(verify(lived_in))] == ["row_created_twice", "row_changed"]


def test_a_verification_sees_one_moment_while_others_write(lived_in: Database, operator: Actor) -> None:
    def write(done: int, total: int) -> None:
        with lived_in.write(operator) as record:
            begin_activity(record, ActivityKind.TEST)

    before = last_seq(lived_in)
    report = verify(lived_in, progress=write)
    assert report.intact
    assert report.events == before
    assert verify(lived_in).events == before + 1


class _Notes:
    """Sealed content in a dict: what an activity's detail says about it."""

    name = "note"

    def __init__(self, notes: dict[str, bytes]) -> None:
        self.notes = notes

    def seals(self, event: Mapping[str, Any]) -> Iterable[tuple[str, str | None]]:
        for change in event["changes"]:
            if change["table"] == "activities" and "note" in change["new"].get("detail", {}):
                yield change["new"]["serial"], change["new"]["detail"]["note"]

    def rehash(self, connection: Connection, key: str) -> str | None:
        note = self.notes.get(key)
        return None if note is None else hashlib.sha256(note).hexdigest()


def test_sealed_content_that_was_changed_or_is_gone_is_named_with_its_event(
    lived_in: Database, operator: Actor
) -> None:
    with lived_in.write(operator) as record:
        serials = [
            begin_activity(record, ActivityKind.TEST, detail={"note": sha256_hex(b"as it was")}).serial
            for _ in range(3)
        ]
    notes = _Notes(dict.fromkeys(serials, b"as it was"))
    report = verify(lived_in, sealed=[notes])
    assert report.intact
    assert report.sealed == 3
    notes.notes[serials[1]] = b"as it is"
    del notes.notes[serials[2]]
    last = last_seq(lived_in)
    assert sorted(found(verify(lived_in, sealed=[notes]))) == [
        ("content_changed", last - 1),
        ("content_missing", last),
    ]
