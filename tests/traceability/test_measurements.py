"""A measured number has an origin, is never overwritten, and a witness stands for its siblings."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.traceability.line import LINE, Thread, receive, sputter
from traceability.activities import ActivityKind, ActivityRow, begin_activity
from traceability.acts import Actor
from traceability.attachments import AttachmentStore, attach
from traceability.clock import ManualClock
from traceability.database import Database, RecordSession
from traceability.errors import InvalidInput, Refused
from traceability.film_thickness import Basis, film_thicknesses
from traceability.items import ItemKind, find_item
from traceability.layers import add_layer, layers
from traceability.measurements import Measurement, correct_measurement, measurements_of, record_measurement
from traceability.units import serialise_lot


@pytest.fixture
def thread(database: Database) -> Thread:
    return Thread(database)


def measure(record: RecordSession, serial: str, value: float, **more: Any) -> Measurement:
    facts: dict[str, Any] = {
        "quantity_name": "film_thickness_nm",
        "unit": "nm",
        "uncertainty": 4.0,
        "instrument": "SEM-1",
        "method": "EDX cross-section",
        "measured_at": record.clock.now(),
    }
    return record_measurement(record, item_serial=serial, value=value, **(facts | more))


def test_a_correction_stands_beside_what_it_replaces(database: Database, thread: Thread, operator: Actor) -> None:
    with database.write(operator) as record:
        wrong = measure(record, thread.cell, 20.13)
        right = correct_measurement(record, wrong.serial, value=201.3, reason="digit dropped")
    with database.read() as record:
        item = find_item(record, thread.cell)
        assert [row.value for row in measurements_of(record, [item.key])] == [201.3]
        both = measurements_of(record, [item.key], replaced=True)
    assert [(row.value, row.replaces_id, row.reason) for row in both] == [
        (20.13, None, ""),
        (201.3, wrong.id, "digit dropped"),
    ]
    assert both[1].instrument == "SEM-1"
    assert both[1].operator == "olga"
    with pytest.raises(Refused) as refusal, database.write(operator) as record:
        correct_measurement(record, wrong.serial, value=1, reason="again")
    assert right.serial in refusal.value.findings[0].action
    with pytest.raises(InvalidInput, match="reason"), database.write(operator) as record:
        correct_measurement(record, right.serial, value=1, reason="")


def test_the_database_itself_refuses_to_overwrite_a_measurement(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        measure(record, thread.cell, 1)
    with pytest.raises(DBAPIError, match="append-only"), database.engine.begin() as connection:
        connection.execute(text("UPDATE measurements SET value = 2"))


def test_a_measurement_that_can_not_be_names_all_that_is_wrong(
    database: Database, thread: Thread, clock: ManualClock
) -> None:
    with pytest.raises(InvalidInput) as refusal, database.write(LINE) as record:
        measure(
            record,
            thread.cell,
            float("nan"),
            unit="mm",
            uncertainty=-1.0,
            instrument=" ",
            method="",
            measured_at=clock.now() + timedelta(seconds=1),
            attachment_sha256="0" * 64,
        )
    assert [finding.code for finding in refusal.value.findings] == [
        "wrong_unit",
        "not_finite",
        "bad_uncertainty",
        "instrument_missing",
        "method_missing",
        "in_the_future",
        "raw_file_missing",
    ]
    assert all(finding.action for finding in refusal.value.findings)


@pytest.mark.parametrize(
    ("name", "unit", "fits"),
    [
        ("film_thickness_nm", "um", False),
        ("mass_mg", "mg", True),
        ("mass", "mg", False),
        ("open_circuit_voltage_v", "V", True),
        ("open_circuit_voltage_mv", "V", False),
        ("relative_density", "1", True),
        ("mass_mg", "1", False),
    ],
)
def test_the_name_of_a_quantity_and_its_unit_must_fit(
    database: Database, thread: Thread, name: str, unit: str, fits: bool
) -> None:
    if fits:
        with database.write(LINE) as record:
            measure(record, thread.cell, 1.0, quantity_name=name, unit=unit)
    else:
        with pytest.raises(InvalidInput), database.write(LINE) as record:
            measure(record, thread.cell, 1.0, quantity_name=name, unit=unit)


def test_a_measurement_names_its_raw_file(database: Database, thread: Thread, tmp_path: Path) -> None:
    stored = AttachmentStore(tmp_path / "files").put(io.BytesIO(b"map"))
    with database.write(LINE) as record:
        attach(record, stored, item_serial=thread.cell, file_name="map.tif", media_type="image/tiff")
        row = measure(record, thread.cell, 201.0, attachment_sha256=stored.sha256)
    assert row.attachment_sha256 == stored.sha256


def _coat(record: RecordSession, serial: str, run: ActivityRow, target: str, **more: float) -> None:
    add_layer(
        record,
        serial,
        activity=run,
        material_code="LALO",
        target_serial=target,
        position=1,
        nominal_thickness_nm=200.0,
        **more,
    )


def test_the_witness_of_a_run_tells_the_thickness_of_its_discs(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        coupons = receive(record, "SI", "2", "piece").serial
        witness = serialise_lot(record, coupons, 1, ItemKind.WITNESS)[0].serial
        disc = serialise_lot(record, thread.lithium, 1, ItemKind.DISC)[0].serial
        run = begin_activity(record, ActivityKind.SPUTTER_RUN)
        coated = sputter(record, disc, thread.target, run).serial
        _coat(record, coated, run, thread.target)
        _coat(record, witness, run, thread.target)
        assert [film.basis for film in film_thicknesses(record, coated)] == [Basis.NOMINAL]
        wrong = measure(record, witness, 91.0)
        correct_measurement(record, wrong.serial, value=191.0, reason="digit dropped")
        measure(record, witness, 195.0, uncertainty=6.0)
    with database.read() as record:
        (film,) = film_thicknesses(record, coated)
    assert (film.thickness_nm, film.uncertainty_nm, film.basis) == (193.0, 6.0, Basis.WITNESS)
    with database.write(LINE) as record:
        measure(record, coated, 188.0)
        (film,) = film_thicknesses(record, coated)
    assert (film.thickness_nm, film.basis) == (188.0, Basis.MEASURED)


def test_a_disc_coated_twice_keeps_both_films_through_its_serials(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        serial = serialise_lot(record, thread.lithium, 1, ItemKind.DISC)[0].serial
        for measured in (201.0, 99.0):
            run = begin_activity(record, ActivityKind.SPUTTER_RUN)
            serial = sputter(record, serial, thread.target, run).serial
            _coat(record, serial, run, thread.target, measured_thickness_nm=measured)
    with database.read() as record:
        films = film_thicknesses(record, serial)
        assert [layer.number for layer in layers(record, serial)] == [1, 2]
    assert [(film.thickness_nm, film.basis) for film in films] == [(201.0, Basis.IN_SITU), (99.0, Basis.IN_SITU)]


def test_a_film_on_what_can_not_be_coated_or_from_no_target_is_refused(database: Database, thread: Thread) -> None:
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        _coat(record, thread.cell, begin_activity(record, ActivityKind.SPUTTER_RUN), thread.powder)
    assert [(finding.code, finding.path) for finding in refusal.value.findings] == [
        ("wrong_kind", thread.cell),
        ("wrong_kind", thread.powder),
    ]
