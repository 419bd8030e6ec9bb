"""The audit trail: what its chain costs a write, how fast it is verified, and how fast it leaves as a file.

The events are those of real acts: lots received, each with the rows it makes.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from sqlmodel import SQLModel

from api.service import ACTS
from tests.benchmarks.figures import Figure, Measure, Scale, medians, seconds_of
from traceability.acts import system_actor
from traceability.canonical import canonical_bytes
from traceability.clock import SystemClock, wall_now
from traceability.database import Database, RecordSession
from traceability.exports.audit_trail import AuditFilter, ndjson_chunks
from traceability.materials import MaterialKind, define_material, receive_lot
from traceability.quantities import Quantity
from traceability.verification import verify

_ACTOR = system_actor("bench")
_BATCH = 200
CHAIN_GOAL = 1.05
"""A chain is to cost a write three to four hundredths."""
VERIFY_GOAL = 10.0
"""Hashing, parsing and comparing an event may cost ten times reading it."""
EXPORT_GOAL = 1.0
"""No slower than the database's own export."""
_APPENDS = 600
_ADD_EVENTS = SQLModel.metadata.tables["audit_events"].insert()
_ADD_ITEMS = SQLModel.metadata.tables["audit_event_items"].insert()


def measure(scale: Scale) -> Iterator[Figure]:
    """Append, verification, export."""
    path = scale.folder / "audit.db"
    database = _empty(path)
    events = _receive_lots(database, scale.size(10_000, 200))
    yield _verification(database, path, events)
    yield _export(database, path, scale.folder, events)
    yield _append(scale)
    database.close()


def _empty(path: Path) -> Database:
    """A record with one material in it."""
    database = Database(f"sqlite:///{path}", SystemClock(), ACTS)
    database.create_schema()
    with database.write(_ACTOR) as record:
        define_material(record, "LGPS", "Sulfide electrolyte powder", MaterialKind.ELECTROLYTE_POWDER, "mg")
    return database


def _receive_lots(database: Database, count: int) -> int:
    """Put real acts on the record; how many events there are then."""
    for start in range(0, count, _BATCH):
        with database.write(_ACTOR) as record:
            for number in range(start, min(start + _BATCH, count)):
                _receive_lot(record, number)
    return _last_event(database)


def _last_event(database: Database) -> int:
    with database.connect() as connection:
        return int(connection.exec_driver_sql("SELECT seq FROM audit_head").scalar_one())


def _receive_lot(record: RecordSession, number: int) -> None:
    receive_lot(
        record,
        material_code="LGPS",
        quantity=Quantity(Decimal(number % 900 + 100), "mg"),
        supplier="Supplier of powders",
        supplier_lot=f"S-{number}",
        location="glovebox",
    )


def _verification(database: Database, path: Path, events: int) -> Figure:
    bare = sqlite3.connect(path)

    def read_only() -> None:
        for _ in bare.execute("SELECT seq, body, hash FROM audit_events ORDER BY seq"):
            pass

    def verified() -> None:
        report = verify(database, records=False)
        if not report.intact or report.events != events:
            raise RuntimeError(f"the record is not what was written: {report.first}")

    ours_s, limit_s = medians(5, seconds_of(verified), seconds_of(read_only))
    bare.close()
    return Figure(
        f"verify the chain, {events} events",
        ours_s / events * 1e6,
        "µs/event",
        limit_s / events * 1e6,
        goal=VERIFY_GOAL,
        against="sqlite3: the events read once, nothing done with them",
    )


def _export(database: Database, path: Path, folder: Path, events: int) -> Figure:
    def export() -> None:
        with (folder / "export.ndjson").open("wb") as file:
            for chunk in ndjson_chunks(database, AuditFilter(last_seq=events)):
                file.write(chunk)

    dump, against = sqlite_dump(path, folder / "dump.sql", shutil.which("sqlite3"))
    ours_s, limit_s = medians(5, seconds_of(export), seconds_of(dump))
    return Figure(
        "export the trail as NDJSON", ours_s / events * 1e6, "µs/event", limit_s / events * 1e6, EXPORT_GOAL, against
    )


def sqlite_dump(path: Path, target: Path, tool: str | None) -> tuple[Measure, str]:
    """SQLite's own dump of the same table: by its command line tool, or else by Python's copy of it."""
    if tool is not None:
        command = [tool, str(path), ".dump audit_events"]

        def by_tool() -> float:
            with target.open("wb") as file:
                return seconds_of(lambda: subprocess.run(command, stdout=file, check=True))()

        return by_tool, "sqlite3 command line tool: .dump of the same table"
    alone = target.with_suffix(".db")
    source = sqlite3.connect(path)
    source.execute("ATTACH ? AS alone", (str(alone),))
    source.execute("CREATE TABLE alone.audit_events AS SELECT * FROM main.audit_events")
    source.commit()
    source.close()
    dumped = sqlite3.connect(alone)

    def by_python() -> float:
        def write() -> None:
            with target.open("w") as file:
                file.writelines(f"{line}\n" for line in dumped.iterdump())

        return seconds_of(write)()

    return by_python, "Python's iterdump of the same table (no sqlite3 command line tool found)"


def _append(scale: Scale) -> Figure:
    """One lot received a transaction, on disk: with its link in the chain, and with its event as a bare row."""
    chained, bare = (_empty(scale.folder / name) for name in ("chained.db", "bare.db"))
    numbers = itertools.count(_last_event(bare) + 1)

    def append_chained() -> None:
        with chained.write(_ACTOR) as record:
            _receive_lot(record, 1)

    def append_bare() -> None:
        with RecordSession(bare.engine, bare.clock, _ACTOR, bare.acts) as record:
            record.connection(execution_options={"argonaut_write": True})
            _receive_lot(record, 1)
            record.flush()
            _insert_events(record, numbers)
            record.commit()

    ours_s, limit_s = medians(scale.size(_APPENDS, 10), seconds_of(append_chained), seconds_of(append_bare))
    chained.close()
    bare.close()
    return Figure(
        "receive a lot, its event chained",
        ours_s * 1e6,
        "µs/act",
        limit_s * 1e6,
        goal=CHAIN_GOAL,
        against="the same act, its event a row without hash and head",
    )


def _insert_events(record: RecordSession, numbers: Iterator[int]) -> None:
    """The events of a transaction as an ordinary log would keep them."""
    connection, at, wall_at = record.connection(), record.clock.now(), wall_now()
    rows, item_rows = [], []
    for act, seq in zip(record.sealed_acts, numbers, strict=False):
        items = list(dict.fromkeys(act.items))
        body = {
            "seq": seq,
            "at": at,
            "wall_at": wall_at,
            "actor": _ACTOR.name,
            "user_id": _ACTOR.user_id,
            "full_name": _ACTOR.full_name,
            "terminal": _ACTOR.terminal,
            "kind": act.kind,
            "items": items,
            "reason": act.reason,
            "detail": act.detail,
            "changes": act.changes,
        }
        rows.append(
            {
                "seq": seq,
                "at": at,
                "wall_at": wall_at,
                "actor": _ACTOR.name,
                "kind": act.kind,
                "body": canonical_bytes(body).decode(),
                "hash": "",
            }
        )
        item_rows += [{"item": item, "seq": seq} for item in items]
    connection.execute(_ADD_EVENTS, rows)
    connection.execute(_ADD_ITEMS, item_rows)
