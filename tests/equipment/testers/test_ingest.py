"""What becomes of a tester's files: believed, doubted, superseded, decided; on both databases."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from sqlmodel import select

from equipment.testers import ingest
from equipment.testers.completion import current_result
from equipment.testers.cycling import CannotAnalyse
from equipment.testers.examination import areal_figures, examine
from equipment.testers.handoff_records import ResultStatus, find_handoff, results_of
from equipment.testers.handoff_states import HandoffEvent, HandoffState
from tests.equipment.testers.cells import SYSTEM, Cells, Export, codes
from traceability.attachments import Attachment, attachments_of
from traceability.errors import InvalidInput, Refused
from traceability.measurements import measurements_of
from traceability.units import UnitStatus, find_unit
from traceability.verification import verify

_E, _S = HandoffEvent, HandoffState
HOURS = 59.9


@pytest.fixture
def uuid(cells: Cells) -> str:
    """A test that has run for nearly 60 h: 29 whole cycles and most of the next."""
    uuid = cells.running()
    cells.let_pass(HOURS)
    return uuid


def quarantined(cells: Cells, uuid: str, export: Export, **changes: object) -> set[str]:
    row = cells.send(uuid, export, **changes)
    assert row.status is ResultStatus.QUARANTINED
    assert cells.store.intact(row.blob_sha256)
    assert cells.find(uuid).state is not _S.INGESTED
    return codes(row.findings)


def test_the_last_result_ends_the_handoff_and_its_figures_become_measurements(cells: Cells, uuid: str) -> None:
    export = cells.export(uuid, HOURS, is_final=True)
    cells.report(uuid, _E.COMPLETE)
    row = cells.send(uuid, export)
    assert row.status is ResultStatus.INGESTED
    handoff = cells.find(uuid)
    assert handoff.state is _S.INGESTED
    with cells.database.read() as record:
        assert find_unit(record, handoff.cell_serial).status is UnitStatus.TESTED
        measured = {
            m.quantity_name: m
            for m in measurements_of(record, [handoff.item_id])
            if m.activity_id == handoff.activity_id
        }
        files = attachments_of(record, handoff.cell_serial)
    assert measured["cycle_count"].value == 30
    assert measured["survived_h"].value == pytest.approx(HOURS, abs=0.25)
    assert "censored" in measured["survived_h"].method
    # 200 nm: an overpotential of some 200 mV at 0.1 mA/cm² is some 2000 Ω cm².
    assert measured["area_specific_resistance_ohm_cm2"].value == pytest.approx(2000, rel=0.3)
    assert all(m.simulated for m in measured.values())
    assert all(m.attachment_sha256 == row.blob_sha256 for m in measured.values())
    assert [file.sha256 for file in files] == [row.blob_sha256]
    assert verify(cells.database).intact


def test_the_result_may_come_before_the_news_that_the_test_is_over(cells: Cells, uuid: str) -> None:
    cells.send(uuid, cells.export(uuid, HOURS, is_final=True))
    assert cells.find(uuid).state is _S.RUNNING
    cells.report(uuid, _E.COMPLETE)
    assert cells.find(uuid).state is _S.INGESTED


def test_the_verdict_names_its_criteria_and_the_analysis_its_versions(cells: Cells, uuid: str) -> None:
    row = cells.send(uuid, cells.export(uuid, HOURS))
    assert row.analysis is not None
    assert row.analysis["verdict"]["criteria_version"] == "symmetric-1"
    assert row.analysis["verdict"]["outcome"] == "censored"
    assert row.analysis["reader"] == {"parser": "argonaut-land", "parser_version": "1", "profile": "landt_csv"}


def test_a_later_snapshot_supersedes_an_earlier_one_and_both_stay(cells: Cells, uuid: str) -> None:
    first = cells.send(uuid, cells.export(uuid, 20))
    second = cells.send(uuid, cells.export(uuid, 40))
    with cells.database.read() as record:
        rows = results_of(record, find_handoff(record, uuid))
        current = current_result(record, find_handoff(record, uuid))
    assert [(row.serial, row.superseded_by) for row in rows] == [(first.serial, second.id), (second.serial, None)]
    assert current is not None
    assert current.serial == second.serial
    assert all(cells.store.intact(row.blob_sha256) for row in rows)


def test_an_early_snapshot_that_comes_late_does_not_supersede_a_fuller_one(cells: Cells, uuid: str) -> None:
    early, last = cells.export(uuid, 20), cells.export(uuid, HOURS, is_final=True)
    final = cells.send(uuid, last)
    late = cells.send(uuid, early)
    assert late.status is ResultStatus.INGESTED
    assert late.superseded_by == final.id


def test_the_same_file_again_changes_nothing(cells: Cells, uuid: str) -> None:
    export = cells.export(uuid, 20)
    assert cells.send(uuid, export).serial == cells.send(uuid, export).serial
    with cells.database.read() as record:
        assert len(results_of(record, find_handoff(record, uuid))) == 1


def test_a_later_final_result_corrects_the_measurements(cells: Cells, uuid: str) -> None:
    cells.report(uuid, _E.COMPLETE)
    cells.send(uuid, cells.export(uuid, 39.9, is_final=True))
    cells.send(uuid, cells.export(uuid, HOURS, is_final=True))
    handoff = cells.find(uuid)
    with cells.database.read() as record:
        counts = measurements_of(record, [handoff.item_id], "cycle_count", replaced=True)
    assert [(m.value, m.replaces_id is not None) for m in counts] == [(20.0, False), (30.0, True)]


def test_a_result_for_another_cell_is_quarantined(cells: Cells, uuid: str) -> None:
    assert quarantined(cells, uuid, cells.export(uuid, 20, cell_barcode="CEL-000001-A")) == {"other_cell"}


def test_a_file_that_names_no_cell_is_quarantined(cells: Cells, uuid: str) -> None:
    export = cells.export(uuid, 20)
    lines = [line for line in export.content.split(b"\r\n") if not line.startswith(b"Barcode")]
    assert quarantined(cells, uuid, Export(b"\r\n".join(lines), export.report)) == {"no_barcode"}


def test_a_result_of_another_channel_is_quarantined(cells: Cells, uuid: str) -> None:
    assert quarantined(cells, uuid, cells.export(uuid, 20, channel="2")) == {"other_channel"}
    assert quarantined(cells, uuid, cells.export(uuid, 21), channel="2") == {"other_channel"}
    assert quarantined(cells, uuid, cells.export(uuid, 22), channel_lease=99) == {"stale_lease"}


def test_a_result_of_another_instrument_is_quarantined(cells: Cells, uuid: str) -> None:
    assert quarantined(cells, uuid, cells.export(uuid, 20, tester_serial="CT2001A-8")) == {"other_tester"}
    assert quarantined(cells, uuid, cells.export(uuid, 21), tester_serial="CT2001A-8") == {"other_tester"}


def test_a_result_from_outside_the_time_of_the_test_is_quarantined(cells: Cells, uuid: str) -> None:
    future = cells.export(uuid, HOURS + 1)
    assert quarantined(cells, uuid, future) == {"outside_window"}
    export = cells.export(uuid, 20)
    early = export.report.first_at - timedelta(hours=1)
    assert quarantined(cells, uuid, export, first_at=early) == {"outside_window"}


def test_a_result_of_a_test_that_never_started_is_quarantined(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    cells.report(uuid, _E.ACCEPT)
    assert quarantined(cells, uuid, cells.export(uuid, 20)) == {"never_loaded", "never_started"}


def test_a_wrong_number_of_records_is_quarantined(cells: Cells, uuid: str) -> None:
    assert quarantined(cells, uuid, cells.export(uuid, 20), n_records=5) == {"records_differ"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"Freq,Zre,Zim\n1,2,3\n", "profile"),
        (b"\x00\x01\x02\x03" * 50, ""),
    ],
)
def test_a_foreign_file_is_quarantined_and_kept(cells: Cells, uuid: str, content: bytes, says: str) -> None:
    row = cells.send(uuid, Export(content, cells.export(uuid, 20).report))
    assert row.status is ResultStatus.QUARANTINED
    assert codes(row.findings) == {"unreadable"}
    assert says in row.findings[0]["message"]
    with cells.store.open(row.blob_sha256) as file:
        assert file.read() == content
    with cells.database.read() as record:
        kept = record.exec(select(Attachment).where(Attachment.sha256 == row.blob_sha256)).one()
    assert kept.item_id is None


def test_a_truncated_file_is_quarantined_with_the_place_where_it_stops(cells: Cells, uuid: str) -> None:
    export = cells.export(uuid, 20)
    cut = Export(export.content[: len(export.content) * 2 // 3], export.report)
    row = cells.send(uuid, cut, is_final=True)
    assert codes(row.findings) == {"unreadable"}
    assert "line" in row.findings[0]["message"]
    assert cells.find(uuid).cell_serial in row.findings[0]["message"], "the file is called by its own name"
    whole = cells.send(uuid, cells.export(uuid, 20, is_final=True))
    assert whole.status is ResultStatus.INGESTED


def test_a_binary_file_of_the_tester_is_kept_and_not_read(cells: Cells, uuid: str) -> None:
    row = cells.send(uuid, Export(b"\x01\x02binary", cells.export(uuid, 20).report), file_name="cell.cex")
    assert codes(row.findings) == {"unreadable"}
    assert "export" in row.findings[0]["message"].lower()


def test_a_person_accepts_a_doubted_result(cells: Cells, uuid: str) -> None:
    export = cells.export(uuid, HOURS, is_final=True, cell_barcode="typed wrong")
    cells.report(uuid, _E.COMPLETE)
    row = cells.send(uuid, export)
    with pytest.raises(InvalidInput), cells.database.write(SYSTEM) as record:
        ingest.accept(record, row.serial, cells.stored(row.blob_sha256), reason="")
    with cells.database.write(SYSTEM) as record:
        ingest.accept(record, row.serial, cells.stored(row.blob_sha256), reason="barcode mistyped at the tester")
    handoff = cells.find(uuid)
    assert handoff.state is _S.INGESTED
    with cells.database.read() as record:
        assert [file.sha256 for file in attachments_of(record, handoff.cell_serial)] == [row.blob_sha256]
    with pytest.raises(Refused), cells.database.write(SYSTEM) as record:
        ingest.reject(record, row.serial, reason="changed my mind")


def test_a_rejected_result_stays_and_counts_for_nothing(cells: Cells, uuid: str) -> None:
    row = cells.send(uuid, cells.export(uuid, 20, cell_barcode="CEL-000001-A"))
    with cells.database.write(SYSTEM) as record:
        rejected = ingest.reject(record, row.serial, reason="of another cell")
    assert (rejected.status, rejected.decision) == (ResultStatus.REJECTED, "of another cell")
    with cells.database.read() as record:
        assert current_result(record, find_handoff(record, uuid)) is None
    assert cells.store.intact(row.blob_sha256)


def test_what_can_not_be_read_can_not_be_accepted(cells: Cells, uuid: str) -> None:
    row = cells.send(uuid, Export(b"nothing", cells.export(uuid, 20).report))
    with pytest.raises(Refused), cells.database.write(SYSTEM) as record:
        ingest.accept(record, row.serial, cells.stored(row.blob_sha256), reason="looks fine")


def test_the_mass_in_the_file_moves_no_figure(cells: Cells, uuid: str) -> None:
    right, wrong = (cells.export(uuid, 20, typed_mass_mg=mass) for mass in (12.5, 99.0))
    assert right.content != wrong.content
    handoff = cells.find(uuid)
    found = []
    for export in (right, wrong):
        read = examine(cells.store.open(export.report.blob), "a.csv", handoff, is_final=True)
        assert read.analysis is not None
        found.append((read.analysis.to_json(), areal_figures(read.analysis, handoff.area_cm2, handoff.area_cm2)))
    assert found[0] == found[1]
    specific = found[0][1]["specific_capacity_mah_g"]
    # 0.1 mAh/cm² on 0.7854 cm², over 0.7854 mg that the genealogy says.
    assert specific is not None
    assert math.isclose(specific, 100.0, rel_tol=1e-3)
    with pytest.raises(CannotAnalyse):
        assert read.analysis is not None
        areal_figures(read.analysis, handoff.area_cm2, -handoff.area_cm2)
