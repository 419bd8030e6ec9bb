"""What the service says to a tester endpoint, and what follows from the answers; the endpoint is a real process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from equipment.testers import handoff as handoffs
from equipment.testers.handoff_records import find_handoff
from equipment.testers.handoff_states import HandoffEvent, HandoffState
from equipment.testers.outbox import Outbox
from equipment.testers.outbox_queue import MessageState, OutboxRow, messages_of, waiting_counts
from equipment.testers.polling import ask_testers
from tests.equipment.testers.cells import SYSTEM
from tests.system.tester_line import TesterLine, make_line, wait_for
from traceability.clock import wall_now
from traceability.units import UnitStatus, find_unit

_S = HandoffState


@pytest.fixture
def line(database_url: str, tmp_path: Path) -> Iterator[TesterLine]:
    """The service's side is this process; the endpoint finds nobody to report to."""
    line = make_line(database_url, tmp_path / "line")
    yield line
    line.kill_endpoint()
    line.database.close()


def deliver(line: TesterLine) -> int:
    """Try once all that waits, whether it is due or not."""

    async def once() -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await Outbox(line.database, [line.tester]).deliver(client)

    with line.database.write(SYSTEM) as record:
        for row in record.exec(select(OutboxRow)):
            row.next_at = wall_now()
            record.add(row)
    return asyncio.run(once())


def messages(line: TesterLine, uuid: str) -> list[OutboxRow]:
    with line.database.read() as record:
        return list(messages_of(record, find_handoff(record, uuid)))


def waiting_of(line: TesterLine) -> dict[str, int]:
    with line.database.read() as record:
        return waiting_counts(record)


def test_what_a_tester_that_is_away_should_hear_waits_and_is_shown(line: TesterLine) -> None:
    uuid = line.offer()
    for attempts in (1, 2):
        assert deliver(line) == 0
        (row,) = messages(line, uuid)
        assert (row.state, row.attempts) == (MessageState.WAITING, attempts)
        assert "Connect" in row.problem
        assert row.next_at > wall_now()
    assert waiting_of(line) == {"LAND1": 1}
    line.start_endpoint()
    line.wait_for_endpoint()
    assert deliver(line) == 1
    assert waiting_of(line) == {}
    with line.endpoint_client as client:
        assert [each["uuid"] for each in client.get("/v1/handoffs").json()] == [uuid]


def test_another_body_under_the_same_uuid_is_a_conflict_that_a_person_sees(line: TesterLine) -> None:
    line.start_endpoint()
    line.wait_for_endpoint()
    uuid = line.offer()
    other = line.find(uuid).body.model_copy(update={"cell_serial": "CEL-999999-X"})
    with line.endpoint_client as client:
        put = client.put(f"/v1/handoffs/{uuid}", json=other.model_dump(mode="json"))
        assert put.status_code == 201, put.text
    assert deliver(line) == 1
    row = line.find(uuid)
    assert row.state is _S.UNKNOWN
    assert "409" in row.why
    assert messages(line, uuid)[0].state is MessageState.REFUSED


def test_an_offer_that_the_tester_can_not_take_brings_the_cell_back(line: TesterLine) -> None:
    line.endpoint_settings = replace(line.endpoint_settings, mes_url="http://127.0.0.1:9")
    line.start_endpoint()
    line.wait_for_endpoint()
    cell = line.cells.cell()
    uuid = line.cells.offer(cell, tester=line.tester, callback="http://127.0.0.1:10/api/v1")
    assert deliver(line) == 1
    assert line.find(uuid).state is _S.REJECTED
    with line.database.read() as record:
        assert find_unit(record, cell).status is UnitStatus.AVAILABLE


def test_a_wrong_token_makes_the_offer_wait_and_not_fail(line: TesterLine) -> None:
    line.start_endpoint()
    line.wait_for_endpoint()
    (line.folder / "token").write_text("not it")
    uuid = line.offer()
    assert deliver(line) == 0
    assert line.find(uuid).state is _S.OFFERED
    assert "401" in messages(line, uuid)[0].problem


def test_a_cancelled_offer_is_offered_first_and_then_cancelled(line: TesterLine) -> None:
    # All channels are taken, so the cell waits at the tester.
    line.endpoint_settings = replace(line.endpoint_settings, channels=1)
    first, second = line.offer(), line.offer()
    line.start_endpoint()
    line.wait_for_endpoint()
    deliver(line)
    with line.endpoint_client as client:

        def state(uuid: str) -> str:
            return str(client.get(f"/v1/handoffs/{uuid}").json()["state"])

        wait_for("one runs and one waits", lambda: (state(first), state(second)) == ("running", "accepted"))
        line.cells.report(second, HandoffEvent.ACCEPT)
        with line.database.write(SYSTEM) as record:
            handoffs.cancel(record, second, reason="the wrong cell")
            handoffs.cancel(record, first, reason="not wanted")
        assert deliver(line) == 2
        assert (state(first), state(second)) == ("running", "cancelled")
    # The service believes what the tester reports: the one runs on, and the other is back when the tester says so.
    assert messages(line, first)[1].state is MessageState.REFUSED
    assert not line.find(first).cancel_requested
    assert "409" in line.find(first).why
    assert line.find(second).cancel_requested


def test_a_tester_that_forgot_a_cell_makes_its_state_unknown_and_one_that_is_silent_does_not(
    line: TesterLine,
) -> None:
    uuid = line.offer()
    line.cells.report(uuid, HandoffEvent.ACCEPT)
    assert ask_testers(line.database, [line.tester]) == []
    assert line.find(uuid).state is _S.ACCEPTED
    line.start_endpoint()
    line.wait_for_endpoint()
    assert ask_testers(line.database, [line.tester]) == [uuid]
    assert line.find(uuid).state is _S.UNKNOWN
