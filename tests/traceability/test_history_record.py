"""The history record of a cell tells all that is in it, who made it and how, and can be checked as a copy."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlmodel import select

from tests.traceability.line import LINE, Thread
from traceability.activities import ActivityRow
from traceability.acts import Actor, Role
from traceability.attachments import AttachmentStore, attach
from traceability.audit import AuditEvent
from traceability.canonical import JsonValue
from traceability.database import Database, RecordSession
from traceability.errors import InvalidInput, NotPermitted
from traceability.exports.history_record import export_history_record, history_record, is_unaltered
from traceability.holds import place_hold, release_hold
from traceability.layers import add_layer
from traceability.measurements import record_measurement
from traceability.signatures import open_signing
from traceability.verification import AttachmentSeals, verify

Enrol = Callable[..., Actor]


@pytest.fixture
def store(tmp_path: Path) -> AttachmentStore:
    return AttachmentStore(tmp_path / "files")


@pytest.fixture
def thread(database: Database, enrol: Enrol, store: AttachmentStore) -> Thread:
    """A cell with films, a measured thickness with its file, and a hold on its powder that QA released."""
    thread = Thread(database)
    with database.write(LINE) as record:
        run = record.exec(select(ActivityRow).where(ActivityRow.kind == "sputter_run")).one()
        for position, disc in enumerate(thread.coated):
            add_layer(
                record,
                disc,
                activity=run,
                material_code="LALO",
                target_serial=thread.target,
                position=position,
                nominal_thickness_nm=200,
            )
        stored = store.put(io.BytesIO(b"line,nm\n1,203.5\n"))
        attach(record, stored, item_serial=thread.coated[0], file_name="edx.csv", media_type="text/csv")
        record_measurement(
            record,
            item_serial=thread.coated[0],
            quantity_name="film_thickness_nm",
            value=203.5,
            unit="nm",
            uncertainty=2.0,
            instrument="SEM-1",
            method="EDX cross-section",
            measured_at=record.clock.now(),
            attachment_sha256=stored.sha256,
        )
    quentin = enrol("quentin", Role.QA)
    with database.write(quentin) as record:
        hold = place_hold(record, thread.powder, reason="Certificate missing").id
        assert hold is not None
    signing = open_signing(database, quentin, "quentin", "copper kettle seven")
    with database.write(quentin) as record:
        release_hold(record, hold, reason="Certificate came", signing=signing)
    return thread


def _history(database: Database, serial: str) -> dict[str, Any]:
    with database.read() as record:
        return history_record(record, serial)


def test_a_cells_history_reaches_back_to_every_lot_with_the_suppliers(database: Database, thread: Thread) -> None:
    history = _history(database, thread.cell)
    back = {item["serial"] for item in history["genealogy"]["back"]["items"]}
    assert {thread.cell, thread.powder, thread.lithium, thread.target, *thread.discs, *thread.coated} <= back
    assert {lot["serial"] for lot in history["materials"]} >= {thread.powder, thread.lithium}
    assert all("supplier_lot" in lot for lot in history["materials"])
    powder = [edge for edge in history["genealogy"]["back"]["edges"] if edge["from"] == thread.powder]
    assert [(edge["quantity"], edge["unit"]) for edge in powder] == [("150", "mg")]
    assert [activity["kind"] for activity in history["activities"]].count("press_run") == 1
    assert history["identity"]["status"] == "available"


def test_it_holds_films_measurements_files_holds_and_signatures(database: Database, thread: Thread) -> None:
    history = _history(database, thread.cell)
    bases = {film["item"]: film["thickness"]["basis"] for film in history["layers"]}
    assert bases == {thread.coated[0]: "measured", thread.coated[1]: "nominal"}
    (measurement,) = history["measurements"]
    assert (measurement["item"], measurement["value"], measurement["corrected"]) == (thread.coated[0], "203.5", False)
    assert [file["file_name"] for file in history["attachments"]] == ["edx.csv"]
    (hold,) = history["holds"]["holds"]
    assert (hold["item"], hold["release_reason"]) == (thread.powder, "Certificate came")
    (signature,) = history["signatures"]
    assert (signature["printed_name"], signature["meaning"]) == ("Q. Person", "released")
    assert set(history["exposure"]) >= {thread.cell, *thread.coated}


def test_it_lists_the_audit_events_that_concern_it_in_order(database: Database, thread: Thread) -> None:
    events = _history(database, thread.cell)["audit_events"]
    kinds = [event["kind"] for event in events]
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    assert {"lot.received", "unit.created", "hold.placed", "hold.released", "measurement.recorded"} <= set(kinds)
    assert "user.created" not in kinds
    with database.read() as record:
        hashes = dict(record.exec(select(AuditEvent.seq, AuditEvent.hash)).all())
    assert all(hashes[event["seq"]] == event["hash"] for event in events)


def test_a_lots_history_goes_forward_to_every_cell(database: Database, thread: Thread) -> None:
    history = _history(database, thread.powder)
    assert thread.cell in {item["serial"] for item in history["genealogy"]["forward"]["items"]}
    assert history["kind"] == "lot"
    assert history["identity"]["quantity"] == "850"


def test_a_copy_that_was_changed_no_longer_fits_its_hash(database: Database, thread: Thread) -> None:
    copy = orjson.loads(orjson.dumps(_history(database, thread.cell)))
    assert is_unaltered(copy)
    copy["layers"][0]["nominal_thickness_nm"] = "100.0"
    assert not is_unaltered(copy)


class _Weather:
    name = "weather"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        return {"things": len(item_ids), "activities": len(activity_ids)}


def test_packages_above_add_sections_of_their_own(database: Database, thread: Thread) -> None:
    with database.read() as record:
        history: dict[str, Any] = history_record(record, thread.cell, [_Weather()])
        with pytest.raises(ValueError, match="two sections"):
            history_record(record, thread.cell, [_Weather(), _Weather()])
    assert history["weather"] == {
        "things": len(history["genealogy"]["back"]["items"]),
        "activities": len(history["activities"]),
    }


def test_giving_a_history_out_is_an_act_on_the_trail(
    database: Database, thread: Thread, qa: Actor, operator: Actor
) -> None:
    document = export_history_record(database, qa, thread.cell.lower())
    with database.read() as record:
        body = record.exec(select(AuditEvent.body).where(AuditEvent.kind == "history.exported")).one()
    assert orjson.loads(body)["detail"] == {"sha256": document["sha256"]}
    with pytest.raises(NotPermitted):
        export_history_record(database, operator, thread.cell)
    with pytest.raises(InvalidInput):
        export_history_record(database, qa, "CEL-000001-!")


def test_the_whole_thread_is_verified_down_to_the_attached_bytes(
    database: Database, thread: Thread, store: AttachmentStore, tmp_path: Path
) -> None:
    seals = [AttachmentSeals(store)]
    report = verify(database, sealed=seals)
    assert report.discrepancies == []
    assert report.sealed == 1
    (file,) = (path for path in (tmp_path / "files").rglob("*") if path.is_file())
    file.chmod(0o640)
    file.write_bytes(b"line,nm\n1,250.0\n")
    assert [found.kind for found in verify(database, sealed=seals).discrepancies] == ["content_changed"]
    file.unlink()
    assert [found.kind for found in verify(database, sealed=seals).discrepancies] == ["content_missing"]


@pytest.mark.parametrize(
    ("table", "statement", "column"),
    [
        ("lots", "UPDATE lots SET quantity = '851' WHERE quantity = '850'", "quantity"),
        ("layers", "UPDATE layers SET nominal_thickness_nm = 201 WHERE number = 1", "nominal_thickness_nm"),
        ("genealogy_edges", "UPDATE genealogy_edges SET quantity = '15' WHERE quantity = '150'", "quantity"),
        ("measurements", "UPDATE measurements SET value = 203.4", "value"),
        ("signatures", "UPDATE signatures SET printed_name = 'Nobody'", "printed_name"),
    ],
)
def test_any_table_of_the_record_that_is_edited_by_hand_is_named(
    database: Database, thread: Thread, table: str, statement: str, column: str
) -> None:
    with database.engine.begin() as connection:
        if database.engine.dialect.name == "sqlite":
            connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_update"))
        else:
            connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_append_only ON {table}"))
        connection.execute(text(statement))
    found = verify(database).discrepancies
    assert {(row.kind, row.table, row.column) for row in found} == {("row_changed", table, column)}
