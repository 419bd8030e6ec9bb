"""Kill the service and the tester at random moments while one disc becomes one cell: nothing is lost or doubled.

The people's side is the generated client: it sends what was cut again under the same idempotency key.
"""

from __future__ import annotations

import asyncio
import csv
import random
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipment.line_config import load_line
from equipment.line_controller import make_driver
from tests.system.generated_client import GeneratedClient, lines_of
from tests.system.line_fixture import ADMIN, PASSWORD, WholeLine, make_whole_line, wait_for

SPUTTER_FACTOR = 500.0
"""Domain seconds a real second: the run lasts some twenty real seconds, long enough to be killed in."""
PRESS_FACTOR = 120.0
LONGEST_HOLE_S = 2.0
"""Real time."""

VICTIMS: dict[str, tuple[tuple[str, float], ...]] = {
    "sputtering": (("service", 3.0), ("service", 3.0), ("service", 3.0)),
    "pressing": (("service", 3.0),),
    "handing over": (("tester", 0.5), ("service", 0.5)),
    "testing": (("service", 2.0), ("tester", 2.0)),
}
"""Who dies while what goes on, and within how many seconds."""


@pytest.fixture
def line(database_url: str, tmp_path: Path) -> Iterator[WholeLine]:
    line = make_whole_line(database_url, tmp_path / "line")
    yield line
    line.stop()


class Killer:
    """Kills processes of a line at random moments and starts them again, while the client works on.

    Attributes:
        killed: Who died when, in domain time.
    """

    def __init__(self, line: WholeLine, seed: int) -> None:
        self._line = line
        self._moments = random.Random(seed)
        self.killed: list[tuple[str, datetime]] = []

    def kill(self, victims: Sequence[tuple[str, float]]) -> None:
        for name, within_s in victims:
            threading.Event().wait(self._moments.uniform(0.0, within_s))
            self._line.kill(name)
            self.killed.append((name, self._line.clock.now()))
            self._line.start(name)
            if name == "service":
                wait_for("the service answers again", self._line.answers)


Trace = Mapping[str, set[datetime]]
"""The times of the samples of a run's trace, by signal."""


def trace_of(line: WholeLine, run: str) -> Trace:
    """The trace as anybody can take it away."""
    with httpx.Client(base_url=f"{line.url}/api/v1", trust_env=False, timeout=30) as client:
        session = client.post("/sessions", json={"name": ADMIN, "password": PASSWORD}).json()
        headers = {"Authorization": f"Bearer {session['token']}"}
        exported = client.get(f"/runs/{run}/trace/export", params={"format": "csv"}, headers=headers)
    assert exported.status_code == 200, exported.text
    found: dict[str, set[datetime]] = defaultdict(set)
    for row in csv.DictReader(exported.text.splitlines()):
        found[row["signal"]].add(datetime.fromisoformat(row["time"]))
    return found


def longest_hole_s(trace: Trace, start: datetime, end: datetime) -> float:
    """The longest time of a run in which its trace has no sample of anything, domain seconds."""
    times = sorted({start, end, *(at for signal in trace.values() for at in signal if start < at < end)})
    return max((after - before).total_seconds() for before, after in pairwise(times))


def missing(line: WholeLine, trace: Trace, start: datetime, end: datetime) -> int:
    """How many values the sputter tool remembers of a run that are not in its trace."""
    driver = make_driver(load_line(line.settings["line_file"]).tools[0])

    async def remembered() -> Trace:
        await driver.connect()
        try:
            return {
                tag.name: {sample.source_time for sample in await driver.history(tag.name, start, end)}
                for tag in driver.tags.traced
            }
        finally:
            await driver.disconnect()

    values = asyncio.run(remembered())
    assert sum(map(len, values.values())) > 1000
    return sum(len(times - trace[name]) for name, times in values.items())


@pytest.mark.timeout(240)
def test_kill_9_of_the_service_and_the_tester_at_any_moment_loses_and_doubles_nothing(
    line: WholeLine, tmp_path: Path
) -> None:
    for name in ("tools", "tester", "service"):
        line.start(name)
    wait_for("the service answers", line.answers)
    published = httpx.get(f"{line.url}/api/v1/openapi.json", trust_env=False)
    client = GeneratedClient(published.content, tmp_path / "generated")
    killer = Killer(line, seed=7)
    found: dict[str, Any] = {}
    with client.start(line.url, PASSWORD) as process:
        for said in lines_of(process):
            now = said.get("now", "")
            line.clock.run({"sputtering": SPUTTER_FACTOR, "pressing": PRESS_FACTOR}.get(now, 1.0))
            killer.kill(VICTIMS.get(now, ()))
            if now == "testing":
                line.let_the_test_pass()
            found = said.get("result", found)

    run, handoff = found["run"], found["handoff"]
    assert (run["state"], run["interrupted"]) == ("completed", False)
    assert line.jobs_on("RH450") == [run["serial"]]
    start, end = datetime.fromisoformat(run["started_at"]), datetime.fromisoformat(run["ended_at"])
    killed = [name for name, _ in killer.killed]
    assert (killed.count("service"), killed.count("tester")) == (6, 2)
    assert sum(start < at < end for _, at in killer.killed) >= 2
    trace = trace_of(line, run["serial"])
    assert found["gaps"] == []
    assert longest_hole_s(trace, start, end) / SPUTTER_FACTOR < LONGEST_HOLE_S
    assert missing(line, trace, start, end) == 0
    assert len(set(line.jobs_on("PR1"))) == len(line.jobs_on("PR1")) == 2
    assert [result["is_final"] for result in found["results"]].count(True) == 1
    events = [event["event"] for event in handoff["events"]]
    assert events == ["accept", "load", "arm", "start", "complete"]
    assert handoff["state"] == "ingested"
    assert found["verification"]["intact"] is True
