"""Runs on the record and the telemetry of a real sputter plant for them: what traces are measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from api.service import ACTS
from equipment.profiles.driver import TagSample
from equipment.runs import build_order
from equipment.simulators.sputter_plant import SputterPlant
from equipment.sputter import SPUTTER as SPUTTER_TABLE
from equipment.tags import TagValue
from equipment.traces import TraceWriter
from tests.equipment.line import SPUTTER, Line
from traceability.clock import SystemClock
from traceability.database import Database

PRESSURE = "chamber_pressure_pa"


def open_record(path: Path) -> Database:
    """A new record on SQLite."""
    database = Database(f"sqlite:///{path}", SystemClock(), ACTS)
    database.create_schema()
    return database


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run of the 200 nm recipe."""

    id: int
    serial: str


def plan_runs(database: Database, count: int) -> list[PlannedRun]:
    """Runs on a line with all that they need."""
    line = Line(database)
    serials = [line.plan(SPUTTER, line.film(line.discs(1))) for _ in range(count)]
    return [PlannedRun(line.run(serial).key, serial) for serial in serials]


def telemetry(database: Database, run: PlannedRun, length_s: int, *, every_reading: bool = False) -> list[TagSample]:
    """The traced values of the first seconds of a run, read each second of domain time: what changed, or all."""
    plant = SputterPlant(seed=3)
    with database.read() as record:
        order = build_order(record, run.serial, 1)
    if refusals := plant.start(order):
        raise RuntimeError("; ".join(refusals))
    start = database.clock.now()
    names = [tag.name for tag in SPUTTER_TABLE.traced]
    shown: dict[str, TagValue] = {}
    samples: list[TagSample] = []
    for at_s in range(1, length_s + 1):
        plant.advance(1.0)
        now = start + timedelta(seconds=at_s)
        values = plant.sample()
        taken = [name for name in names if every_reading or values[name] != shown.get(name)]
        samples += [TagSample(name, values[name], now) for name in taken]
        shown = dict(values)
    return samples


def record_trace(database: Database, run_id: int, changes: Sequence[TagSample]) -> None:
    """Store the changes as the run's trace and seal it."""
    writer = TraceWriter(database, run_id, SPUTTER_TABLE)
    writer.append(changes)
    writer.seal()
