"""A trace keeps every sample, loses no more than two seconds, and shows any later change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text

from equipment.press import PRESS as PRESS_TABLE
from equipment.profiles.driver import TagSample
from equipment.run_records import DeviationKind, deviations_of, find_run
from equipment.runs import build_order
from equipment.simulators.sputter_plant import SputterPlant
from equipment.sputter import SPUTTER as SPUTTER_TABLE
from equipment.tags import TagValue
from equipment.trace_reading import glances, last_values, mean_of, phases, read_gaps, read_trace
from equipment.traces import FLUSH_AFTER_S, SealedTraces, TraceSeal, TraceWriter
from tests.conftest import START
from tests.equipment.line import COMPLETED, GOOD_FILM, RUNNING, SPUTTER, Line
from traceability.errors import Conflict, InvalidInput, NotFound
from traceability.verification import verify


class Seconds:
    """Real time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def run_id(line: Line) -> int:
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    return line.run(serial).key


def sample(name: str, value: TagValue | None, at_s: float, status: int = 0) -> TagSample:
    return TagSample(name, value, START + timedelta(seconds=at_s), status)


def ramp(count: int, step_s: float = 1.0) -> Iterator[TagSample]:
    for number in range(count):
        at = number * step_s
        yield sample("rf_forward_power_w", 40.0 + number % 7, at)
        yield sample("chamber_pressure_pa", 0.5, at)
        yield sample("phase_number", 10 if number < count // 2 else 11, at)


def read(line: Line, run_id: int, name: str) -> list[tuple[float, float]]:
    with line.database.connect() as connection:
        series = read_trace(connection, run_id, tags=[name])[name].series
    start = START.timestamp()
    return [(t / 1e6 - start, float(v)) for t, v in zip(series.times_us, series.values, strict=True)]


def test_samples_are_stored_after_less_than_two_seconds_and_survive_the_writer(
    line: Line, run_id: int, seconds: Seconds
) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    writer.append([sample("rf_forward_power_w", 41.5, 0.0)])
    assert not writer.flush()
    seconds.now += FLUSH_AFTER_S
    assert FLUSH_AFTER_S < 2.0
    assert writer.flush()
    del writer  # killed: what it still held is gone, what it had flushed is not
    again = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    again.gap(START + timedelta(seconds=1), START + timedelta(seconds=4), "service was down")
    again.append([sample("rf_forward_power_w", 42.5, 4.0)])
    again.seal()
    assert read(line, run_id, "rf_forward_power_w") == [(0.0, 41.5), (4.0, 42.5)]
    with line.database.connect() as connection:
        (gap,) = read_gaps(connection, run_id)
    assert (gap.end - gap.start, gap.reason) == (timedelta(seconds=3), "service was down")


def test_late_and_repeated_samples_find_their_place_when_the_trace_is_sealed(
    line: Line, run_id: int, seconds: Seconds
) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    for batch in ([0.0, 1000.0], [500.0], [500.0, 1300.0]):
        writer.append([sample("rf_forward_power_w", at / 10, at) for at in batch])
        writer.flush(force=True)
    before = read(line, run_id, "rf_forward_power_w")
    writer.seal()
    after = read(line, run_id, "rf_forward_power_w")
    assert [t for t, _ in after] == [0.0, 500.0, 500.0, 1000.0, 1300.0]
    assert after == before
    with line.database.connect() as connection:
        rows = connection.execute(text("SELECT sealed, start_us, end_us FROM trace_chunks ORDER BY start_us")).all()
    assert all(row.sealed for row in rows)
    assert all(row.end_us - row.start_us <= 600_000_000 for row in rows)


def test_a_sample_stamped_a_year_away_is_kept_and_does_not_hold_up_the_sealing(
    line: Line, run_id: int, seconds: Seconds
) -> None:
    year_s = 365.0 * 86_400
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    writer.append([*ramp(20), sample("rf_forward_power_w", 99.0, year_s)])
    writer.seal()
    with line.database.read() as record:
        seal = record.get_one(TraceSeal, run_id)
    assert seal.chunks == 2
    assert read(line, run_id, "rf_forward_power_w")[-1] == (year_s, 99.0)


def test_sealing_again_changes_nothing_and_later_samples_are_counted_not_kept(
    line: Line, run_id: int, seconds: Seconds
) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    writer.append(list(ramp(10)))
    digest = writer.seal()
    assert writer.seal() == digest
    assert TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds).seal() == digest
    writer.append([sample("rf_forward_power_w", 1.0, 99.0)])
    writer.flush(force=True)
    assert writer.dropped == 1
    assert len(read(line, run_id, "rf_forward_power_w")) == 10


def test_the_seal_stands_on_the_audit_trail_and_a_changed_trace_shows(
    line: Line, run_id: int, seconds: Seconds
) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    writer.append(list(ramp(50)))
    digest = writer.seal()
    with line.database.read() as record:
        seal = record.get_one(TraceSeal, run_id)
        assert (seal.hash, seal.samples) == (digest, 150)
    assert verify(line.database, sealed=[SealedTraces()]).intact
    with line.database.connect() as connection:
        (payload,) = connection.execute(text("SELECT payload FROM trace_chunks")).scalars()
        changed = bytes([*payload[:-1], payload[-1] ^ 1])
        connection.execute(text("UPDATE trace_chunks SET payload = :payload"), {"payload": changed})
        connection.commit()
    report = verify(line.database, sealed=[SealedTraces()])
    assert not report.intact
    assert line.run_serial(run_id) in str(report.first)


def test_a_value_the_tool_does_not_vouch_for_is_kept_with_its_status(
    line: Line, run_id: int, seconds: Seconds
) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    writer.append(
        [
            sample("rf_forward_power_w", 40.0, 0.0),
            sample("rf_forward_power_w", None, 1.0, 0x80050000),
            sample("phase_number", None, 1.0),
            sample("rf_forward_power_w", 42.0, 2.0),
        ]
    )
    writer.seal()
    with line.database.connect() as connection:
        trace = read_trace(connection, run_id, tags=["rf_forward_power_w", "phase_number"])
        series = trace["rf_forward_power_w"].series
        assert series.status.tolist() == [0, 0x80050000, 0]
        assert math.isnan(series.values[1])
        assert trace["phase_number"].series.status.tolist() == [0x809B0000]
        assert mean_of(connection, run_id, "rf_forward_power_w") == 41.0


def test_a_trace_is_read_by_time_and_thinned_out_for_a_plot(line: Line, run_id: int, seconds: Seconds) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    values = np.random.default_rng(3).normal(100.0, 1.0, 5000).astype(np.float32)
    values[2500] = 250.0
    writer.append([sample("rf_forward_power_w", float(v), float(t)) for t, v in enumerate(values)])
    writer.seal()
    begin, end = START + timedelta(seconds=1000), START + timedelta(seconds=3000)
    with line.database.connect() as connection:
        whole = read_trace(connection, run_id, tags=["rf_forward_power_w"], start=begin, end=end)[
            "rf_forward_power_w"
        ]
        plot = read_trace(connection, run_id, tags=["rf_forward_power_w"], points=400)["rf_forward_power_w"]
        fewest = read_trace(connection, run_id, tags=["rf_forward_power_w"], points=8)["rf_forward_power_w"]
        with pytest.raises(InvalidInput, match="at least 8"):
            read_trace(connection, run_id, points=7)
        with pytest.raises(InvalidInput, match="no_such_tag"):
            read_trace(connection, run_id, tags=["no_such_tag"])
        with pytest.raises(NotFound):
            read_trace(connection, run_id + 1)
    assert whole.series.values.tolist() == values[1000:3000].tolist()
    assert plot.stored == 5000
    assert len(plot.series) <= 400
    assert 250.0 in fewest.series.values
    assert plot.series.values.max() == 250.0
    assert plot.series.values.min() == values.min()


def test_the_phases_of_a_run_are_read_from_its_trace(line: Line, run_id: int, seconds: Seconds) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    writer.append(list(ramp(10)))
    writer.seal()
    with line.database.connect() as connection:
        spans = phases(connection, run_id)
    at = [START + timedelta(seconds=s) for s in (0, 5, 9)]
    assert [(span.number, span.start, span.end) for span in spans] == [(10, at[0], at[1]), (11, at[1], at[2])]


def test_an_overview_needs_no_values_and_the_newest_are_at_hand(line: Line, run_id: int, seconds: Seconds) -> None:
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    for start in (0, 100):
        writer.append([sample("rf_forward_power_w", float(v), start + v) for v in range(3)])
        writer.flush(force=True)
    with line.database.connect() as connection:
        found = [
            (g.extent.low, g.extent.high, g.extent.mean) for g in glances(connection, run_id, "rf_forward_power_w")
        ]
        newest = last_values(connection, run_id)
    assert found == [(0.0, 2.0, 1.0)] * 2
    assert newest == {"rf_forward_power_w": (START + timedelta(seconds=102), 2.0)}


def test_a_gap_in_the_trace_is_a_deviation_of_the_run(line: Line, run_id: int, seconds: Seconds) -> None:
    serial = line.run_serial(run_id)
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    writer.gap(START, START + timedelta(seconds=12), "link lost")
    line.observe(serial, COMPLETED, GOOD_FILM)
    with line.database.read() as record:
        (deviation,) = deviations_of(record, find_run(record, serial))
    assert (deviation.kind, deviation.grade) == (DeviationKind.GAP, "major")
    assert "12.0 s" in deviation.message


def test_a_trace_begun_with_another_tag_table_is_not_continued(line: Line, run_id: int, seconds: Seconds) -> None:
    TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    with pytest.raises(Conflict, match="another tag table"):
        TraceWriter(line.database, run_id, PRESS_TABLE, seconds)


def test_the_sputter_tools_telemetry_takes_about_a_byte_a_reading(line: Line, run_id: int, seconds: Seconds) -> None:
    plant = SputterPlant(seed=3)
    with line.database.read() as record:
        order = build_order(record, line.run_serial(run_id), 1)
    assert not plant.start(order)
    names = [tag.name for tag in SPUTTER_TABLE.traced]
    writer = TraceWriter(line.database, run_id, SPUTTER_TABLE, seconds)
    last: dict[str, TagValue] = {}
    readings = 0
    for at in range(1, 1801):
        plant.advance(1.0)
        shown = plant.sample()
        readings += len(names)
        writer.append([sample(name, shown[name], at) for name in names if shown[name] != last.get(name)])
        last = dict(shown)
    writer.seal()
    with line.database.read() as record:
        seal = record.get_one(TraceSeal, run_id)
    assert seal.stored_bytes / readings < 1.1
    pressures = read(line, run_id, "chamber_pressure_pa")
    assert pressures[-1][1] == np.float32(last["chamber_pressure_pa"])
