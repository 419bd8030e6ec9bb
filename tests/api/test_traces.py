"""Traces through the API: thin for a plot, whole as a file, with phases and gaps."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import datetime, timedelta

import pytest

from equipment.press import PRESS as PRESS_TABLE
from equipment.profiles.driver import TagSample
from equipment.run_records import find_run
from equipment.traces import TraceWriter
from tests.api.builders import V1, Lab, problem

SAMPLES = 3000


@pytest.fixture
def start(lab: Lab) -> datetime:
    return lab.service.clock.now().replace(microsecond=0)


@pytest.fixture
def run(lab: Lab, start: datetime) -> str:
    """A run of the press with a trace of 50 minutes: a ramp, one spike, one value that was not to be had, one gap."""
    serial = lab.planned_pellet()
    lab.begin(serial)
    with lab.service.database.read() as record:
        key = find_run(record, serial).key
    writer = TraceWriter(lab.service.database, key, PRESS_TABLE)
    samples = []
    for number in range(SAMPLES):
        at = start + timedelta(seconds=number)
        force = 99.0 if number == 1234 else None if number == 10 else number / 200
        samples.append(TagSample("force_kn", force, at, 0))
        samples.append(TagSample("phase_number", 1 if number < 1000 else 2, at, 0))
    writer.append(samples)
    writer.flush(force=True)
    writer.gap(start + timedelta(seconds=500), start + timedelta(seconds=503), "link cut")
    return serial


def test_a_plot_is_thin_and_keeps_the_spike(lab: Lab, run: str, start: datetime) -> None:
    shown = lab.olga.get(f"{V1}/runs/{run}/trace", params={"tags": "force_kn", "points": 200}).json()
    (signal,) = shown["signals"]
    assert (shown["run"], shown["simulated"], shown["sealed"]) == (run, True, False)
    assert (signal["name"], signal["unit"], signal["stored"]) == ("force_kn", "kN", SAMPLES)
    assert len(signal["values"]) == len(signal["time_unix_s"]) <= 200
    spike = signal["values"].index(99.0)
    assert signal["time_unix_s"][spike] == start.timestamp() + 1234


def test_a_value_that_was_not_to_be_had_is_null_and_says_why(lab: Lab, run: str, start: datetime) -> None:
    times = {"from": start.isoformat(), "to": (start + timedelta(seconds=20)).isoformat()}
    shown = lab.olga.get(f"{V1}/runs/{run}/trace", params={"tags": "force_kn", **times}).json()
    (signal,) = shown["signals"]
    assert signal["stored"] == 20
    assert signal["values"][9:12] == [pytest.approx(0.045), None, pytest.approx(0.055)]
    assert [bool(status) for status in signal["status"][9:12]] == [False, True, False]


def test_a_signal_that_the_trace_has_not_is_named(lab: Lab, run: str) -> None:
    answer = lab.olga.get(f"{V1}/runs/{run}/trace", params={"tags": "force_kn,colour"})
    problem(answer, 422)
    assert "colour" in answer.json()["detail"]
    problem(lab.olga.get(f"{V1}/runs/{run}/trace/export", params={"tags": "colour"}), 422)
    problem(lab.olga.get(f"{V1}/runs/{lab.planned_pellet()}/trace"), 404)


def test_the_whole_trace_comes_as_csv_with_every_value(lab: Lab, run: str, start: datetime) -> None:
    answer = lab.olga.get(f"{V1}/runs/{run}/trace/export", params={"format": "csv", "tags": "force_kn"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == SAMPLES
    assert rows[10]["value"] == ""
    assert [datetime.fromisoformat(row["time"]) for row in rows] == [
        start + timedelta(seconds=number) for number in range(SAMPLES)
    ]
    assert float(rows[1234]["value"]) == 99.0


def test_the_whole_trace_comes_as_ndjson_in_order_of_time(lab: Lab, run: str) -> None:
    answer = lab.olga.get(f"{V1}/runs/{run}/trace/export", params={"format": "ndjson"})
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert len(rows) == 2 * SAMPLES
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    forces = [row["value"] for row in rows if row["signal"] == "force_kn"]
    assert forces[10] is None
    assert math.isclose(forces[200], 1.0)


def test_phases_and_gaps_are_told_by_name_and_time(lab: Lab, run: str, start: datetime) -> None:
    phases = lab.olga.get(f"{V1}/runs/{run}/phases").json()
    assert [(phase["number"], phase["name"]) for phase in phases] == [(1, "preload"), (2, "ramp")]
    assert datetime.fromisoformat(phases[1]["start"]) == start + timedelta(seconds=1000)
    (gap,) = lab.olga.get(f"{V1}/runs/{run}/gaps").json()
    assert gap["reason"] == "link cut"
    assert datetime.fromisoformat(gap["end"]) - datetime.fromisoformat(gap["start"]) == timedelta(seconds=3)
