"""A hand-off from the offer to the verdict, service and endpoint each in a process of its own; both databases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from equipment.testers import handoff_records
from equipment.testers.handoff_records import Handoff, ResultStatus, events_of, results_of
from equipment.testers.outbox_queue import waiting
from tests.system.tester_line import TesterLine, make_line, wait_for
from traceability.measurements import measurements_of
from traceability.verification import verify


@pytest.fixture
def line(database_url: str, tmp_path: Path) -> Iterator[TesterLine]:
    line = make_line(database_url, tmp_path / "line")
    yield line
    line.kill_endpoint()
    line.kill_mes()
    line.database.close()


def results(line: TesterLine, handoff: Handoff) -> list[handoff_records.TesterResult]:
    with line.database.read() as record:
        return results_of(record, handoff)


def sequence(line: TesterLine, handoff: Handoff) -> list[tuple[int, str]]:
    with line.database.read() as record:
        return [(event.seq, event.event) for event in events_of(record, handoff)]


WHOLE = list(enumerate(["accept", "load", "arm", "start", "complete"], 1))


def test_a_cell_goes_from_the_offer_to_the_verdict(line: TesterLine) -> None:
    line.start_mes()
    line.start_endpoint()
    uuid, unknown = line.offer(), line.offer(truth=False)
    line.wait_until(uuid, "running")
    line.wait_until(unknown, "rejected")
    assert "No simulated press has pressed" in line.find(unknown).why
    for hours in (150, 150):
        before = len(results(line, line.find(uuid)))
        line.jump(hours)
        wait_for("a snapshot is in", lambda before=before: len(results(line, line.find(uuid))) > before)
    line.jump(3000)
    line.wait_until(uuid, "ingested")

    handoff = line.find(uuid)
    assert sequence(line, handoff) == WHOLE
    files = results(line, handoff)
    assert {row.status for row in files} == {ResultStatus.INGESTED}
    assert [row.superseded_by is None for row in files] == [False] * (len(files) - 1) + [True]
    assert [row.is_final for row in files] == [False] * (len(files) - 1) + [True]
    analysis = files[-1].analysis
    assert analysis is not None
    # Bare lithium at 0.1 mA/cm² lives some 600 h in the simulator's law and then runs into the voltage limit.
    verdict = analysis["verdict"]
    assert (verdict["outcome"], verdict["criteria_version"]) == ("failed", "symmetric-1")
    assert 450 < float(verdict["time_h"]) < 800
    assert handoff.started_at is not None
    assert handoff.ended_at is not None
    assert float(analysis["summary"]["duration_h"]) == pytest.approx(
        (handoff.ended_at - handoff.started_at).total_seconds() / 3600, abs=0.01
    )
    with line.database.read() as record:
        lifetime = measurements_of(record, [handoff.item_id], "lifetime_h")
    assert [m.simulated for m in lifetime] == [True]
    assert verify(line.database).intact


def test_kill_9_of_either_side_loses_and_doubles_nothing(line: TesterLine) -> None:
    dice = random.Random(4)
    line.start_mes()
    line.start_endpoint()
    uuids = [line.offer(), line.offer()]
    for number in range(6):
        Event().wait(dice.uniform(0.05, 0.6))
        if number % 2:
            line.kill_mes()
            line.start_mes()
        else:
            line.kill_endpoint()
            line.start_endpoint()
        line.jump(100)
    for uuid in uuids:
        line.wait_until(uuid, "running")
    line.jump(3100)
    line.kill_endpoint()
    line.start_endpoint()
    for uuid in uuids:
        line.wait_until(uuid, "ingested")
        handoff = line.find(uuid)
        assert sequence(line, handoff) == WHOLE
        assert [row.is_final for row in results(line, handoff)].count(True) == 1
    with line.database.read() as record:
        assert waiting(record) == []
    with line.endpoint_client as client:
        line.wait_for_endpoint()
        assert sorted(each["uuid"] for each in client.get("/v1/handoffs").json()) == sorted(uuids)
    assert {line.find(uuid).channel for uuid in uuids} == {"1", "2"}


def test_an_endpoint_that_may_not_be_called_fetches_its_handoffs(tmp_path: Path) -> None:
    line = make_line(f"sqlite:///{tmp_path / 'argonaut.db'}", tmp_path / "line", polls=True)
    try:
        line.start_mes()
        line.start_endpoint()
        uuid = line.offer()
        with line.database.read() as record:
            assert waiting(record) == []
        line.wait_until(uuid, "running")
        line.jump(3100)
        line.wait_until(uuid, "ingested")
    finally:
        line.kill_endpoint()
        line.kill_mes()
        line.database.close()
