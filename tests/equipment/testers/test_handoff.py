"""What a hand-off may and may not do, on both databases."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from equipment.testers import handoff as handoffs
from equipment.testers.contract import EventReport, Offer
from equipment.testers.handoff_records import events_of, find_handoff
from equipment.testers.handoff_states import HANDOFF_STATES, HandoffEvent, HandoffState
from equipment.testers.outbox_queue import Message, waiting
from tests.equipment.testers.cells import CALLBACK, PROTOCOL, SYSTEM, TESTER, Cells, codes
from traceability.activities import ActivityKind, Outcome, find_activity
from traceability.acts import Actor, Role
from traceability.audit import AuditEvent
from traceability.canonical import content_hash
from traceability.errors import Conflict, InvalidInput, NotPermitted, Refused
from traceability.holds import place_hold
from traceability.units import UnitStatus, find_unit
from traceability.verification import verify

_E, _S = HandoffEvent, HandoffState


def refusal(cells: Cells, cell: str, **changes: object) -> set[str]:
    asked = {"cell_serial": cell, "tester": TESTER, "protocol": PROTOCOL, "callback": CALLBACK, "experiment": True}
    with pytest.raises(Refused) as caught, cells.database.write(SYSTEM) as record:
        handoffs.offer(record, **(asked | changes))  # type: ignore[arg-type]
    return codes(caught.value.findings)


def unit_status(cells: Cells, uuid: str) -> UnitStatus:
    with cells.database.read() as record:
        return find_unit(record, find_handoff(record, uuid).cell_serial).status


def test_an_offer_carries_what_the_genealogy_knows_of_that_very_cell(cells: Cells) -> None:
    cell = cells.cell()
    row = cells.find(cells.offer(cell))
    offer = row.body
    assert offer.cell_serial == cell
    assert offer.cell_kind == "symmetric"
    assert offer.area_cm2 == Decimal("0.7854")
    assert offer.masses_mg == {"electrolyte": Decimal(150)}
    electrodes = [part for part in offer.traveller.parts if part.role == "electrode"]
    assert [part.kind for part in electrodes] == ["disc", "disc"]
    assert all(part.was[0].startswith("LOT-") for part in electrodes)
    assert set(offer.parts) == {part.serial for part in offer.traveller.parts}
    assert offer.traveller.measurements["ocv_v"] == "0.001 V"


def test_an_offer_read_back_is_the_same_to_the_last_byte(cells: Cells) -> None:
    row = cells.find(cells.offer(cells.cell()))
    assert row.body.hash() == row.offer_sha256 == content_hash(row.offer)
    assert Offer.model_validate_json(row.body.model_dump_json()) == row.body
    assert row.body.protocol.sha256 == content_hash(row.body.protocol.body)


def test_an_offered_cell_is_the_testers_and_its_offer_waits_to_be_sent(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    assert unit_status(cells, uuid) is UnitStatus.ON_TEST
    with cells.database.read() as record:
        assert [(row.message, handoff.uuid) for row, handoff in waiting(record)] == [(Message.OFFER, uuid)]


def test_all_that_forbids_an_offer_is_said_at_once(cells: Cells) -> None:
    cell = cells.cell(screened=False, diameter_mm="12")
    with cells.database.write(SYSTEM) as record:
        place_hold(record, cell, reason="dropped")
    impedance = TESTER.model_copy(update={"capabilities": ("impedance",)})
    assert refusal(cells, cell, tester=impedance) == {"not_screened", "held", "capability_missing", "area_differs"}
    assert refusal(cells, cell, protocol="PT-NONE") == {"not_screened", "held", "protocol_unknown"}
    assert unit_status_of(cells, cell) is UnitStatus.AVAILABLE


def test_a_protocol_that_is_not_effective_is_for_experiments_alone(cells: Cells) -> None:
    assert refusal(cells, cells.cell(), experiment=False) == {"recipe_not_effective"}


def test_a_cell_is_handed_to_one_tester_at_a_time(cells: Cells) -> None:
    cell = cells.cell()
    cells.offer(cell)
    assert refusal(cells, cell) == {"handed_over"}


def test_a_pellet_is_not_handed_to_a_tester(cells: Cells) -> None:
    row = cells.find(cells.offer(cells.cell()))
    pellet = next(part.serial for part in row.body.traveller.parts if part.kind == "pellet")
    assert refusal(cells, pellet) == {"not_a_cell"}


def test_a_full_cell_is_not_put_on_a_protocol_for_symmetric_ones(cells: Cells) -> None:
    assert refusal(cells, cells.cell(active_mg="12.5")) == {"wrong_cell_kind"}


def test_a_test_runs_from_its_start_to_its_end_on_record(cells: Cells) -> None:
    uuid = cells.running()
    began = cells.find(uuid).started_at
    cells.let_pass(10)
    cells.report(uuid, _E.PAUSE, _E.RESUME, _E.COMPLETE)
    row = cells.find(uuid)
    assert row.state is _S.COMPLETED
    with cells.database.read() as record:
        assert row.activity_id is not None
        activity = find_activity(record, row.activity_id)
        assert [event.seq for event in events_of(record, row)] == list(range(1, 8))
    assert (activity.kind, activity.equipment, activity.outcome) == (ActivityKind.TEST, "LAND1", Outcome.COMPLETED)
    assert activity.started_at == began
    assert activity.ended_at is not None
    assert activity.ended_at - activity.started_at == timedelta(hours=10)
    assert activity.simulated
    assert activity.work_master.startswith("PT-SYM-01-01/1/")


@pytest.mark.parametrize("end", [_E.REJECT, _E.CANCEL])
def test_a_cell_that_was_not_tested_comes_back(cells: Cells, end: HandoffEvent) -> None:
    uuid = cells.offer(cells.cell())
    cells.report(uuid, end, reason="no channel is free")
    assert cells.find(uuid).why == "no channel is free"
    assert unit_status(cells, uuid) is UnitStatus.AVAILABLE
    cells.offer(cells.find(uuid).cell_serial)


def test_the_same_report_again_changes_nothing(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    news = EventReport(seq=1, event=_E.ACCEPT, at=cells.database.clock.now(), tester_serial="A")
    for _ in range(2):
        with cells.database.write(SYSTEM) as record:
            handoffs.report(record, "LAND1", uuid, news)
    with cells.database.read() as record:
        assert len(events_of(record, find_handoff(record, uuid))) == 1
    with pytest.raises(Conflict), cells.database.write(SYSTEM) as record:
        handoffs.report(record, "LAND1", uuid, news.model_copy(update={"tester_serial": "B"}))


def test_a_report_before_which_one_is_missing_is_refused_and_names_it(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    cells.report(uuid, _E.ACCEPT)
    news = EventReport(seq=3, event=_E.ARM, at=cells.database.clock.now())
    with pytest.raises(Refused) as caught, cells.database.write(SYSTEM) as record:
        handoffs.report(record, "LAND1", uuid, news)
    (finding,) = caught.value.findings
    assert (finding.code, finding.path) == ("event_gap", "2")


def test_a_report_that_the_state_does_not_allow_is_refused(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    with pytest.raises(Refused) as caught:
        cells.report(uuid, _E.START)
    assert codes(caught.value.findings) == {"wrong_state"}
    for event in (_E.INGEST, _E.LOSE):
        with pytest.raises(InvalidInput):
            cells.report(uuid, event)


def test_a_second_cell_on_a_channel_is_refused(cells: Cells) -> None:
    first = cells.running(channel="3")
    second = cells.offer(cells.cell())
    cells.report(second, _E.ACCEPT)
    with pytest.raises(Refused) as caught:
        cells.report(second, _E.LOAD, channel="3")
    assert codes(caught.value.findings) == {"channel_taken"}
    cells.report(second, _E.LOAD, channel="4")
    assert cells.find(first).channel == "3"


def test_the_database_itself_refuses_two_cells_on_a_channel_and_two_handoffs_of_a_cell(cells: Cells) -> None:
    first, second = cells.running(channel="3"), cells.running(channel="4")
    with cells.database.connect() as connection:
        with pytest.raises(IntegrityError):
            connection.execute(text("UPDATE handoffs SET channel = '3' WHERE uuid = :uuid"), {"uuid": second})
        connection.rollback()
        other = cells.find(first).item_id
        with pytest.raises(IntegrityError):
            connection.execute(
                text("UPDATE handoffs SET item_id = :other WHERE uuid = :uuid"), {"other": other, "uuid": second}
            )


def test_an_old_lease_of_a_channel_is_out_of_date(cells: Cells) -> None:
    first = cells.offer(cells.cell())
    cells.report(first, _E.ACCEPT)
    cells.report(first, _E.LOAD, channel="5", channel_lease=9)
    cells.report(first, _E.CANCEL)
    second = cells.offer(cells.cell())
    cells.report(second, _E.ACCEPT)
    with pytest.raises(Refused) as caught:
        cells.report(second, _E.LOAD, channel="5", channel_lease=9)
    assert codes(caught.value.findings) == {"stale_lease"}
    cells.report(second, _E.LOAD, channel="5", channel_lease=10)


def test_loading_another_cell_than_the_handed_over_one_is_refused(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    cells.report(uuid, _E.ACCEPT)
    with pytest.raises(Refused) as caught:
        cells.report(uuid, _E.LOAD, cell_barcode=cells.cell())
    assert codes(caught.value.findings) == {"wrong_barcode"}


def test_an_unknown_state_is_left_only_by_evidence_or_a_person(cells: Cells) -> None:
    uuid = cells.running()
    with cells.database.write(SYSTEM) as record:
        handoffs.answered(record, uuid, _E.LOSE, "the endpoint does not know it")
    assert cells.find(uuid).state is _S.UNKNOWN
    engineer = Actor(name="emil", roles=frozenset({Role.ENGINEER}), terminal="test")
    with pytest.raises(InvalidInput), cells.database.write(engineer) as record:
        handoffs.resolve(record, uuid, _E.ABORT, reason=" ")
    with cells.database.write(engineer) as record:
        handoffs.resolve(record, uuid, _E.ABORT, reason="the channel is empty")
    assert cells.find(uuid).state is _S.ABORTED
    with pytest.raises(Refused), cells.database.write(engineer) as record:
        handoffs.resolve(record, uuid, _E.ABORT, reason="again")
    other = cells.running(channel="2")
    with cells.database.write(SYSTEM) as record:
        handoffs.answered(record, other, _E.LOSE, "the endpoint does not know it")
    cells.report(other, _E.RESUME)
    assert cells.find(other).state is _S.RUNNING


def test_a_running_test_is_not_cancelled(cells: Cells) -> None:
    uuid = cells.running()
    with pytest.raises(Refused), cells.database.write(SYSTEM) as record:
        handoffs.cancel(record, uuid, reason="not wanted any more")


def test_a_tester_that_fetches_its_handoffs_is_sent_nothing(cells: Cells) -> None:
    uuid = cells.offer(cells.cell(), tester=TESTER.model_copy(update={"polls": True}))
    with cells.database.write(SYSTEM) as record:
        assert handoffs.cancel(record, uuid, reason="the wrong cell").cancel_requested
    with cells.database.read() as record:
        assert waiting(record) == []


def test_a_wish_to_cancel_that_came_too_late_is_dropped_when_the_test_starts(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    cells.report(uuid, _E.ACCEPT, _E.LOAD, _E.ARM)
    with cells.database.write(SYSTEM) as record:
        handoffs.cancel(record, uuid, reason="the wrong cell")
    cells.report(uuid, _E.START)
    assert not cells.find(uuid).cancel_requested


def test_a_completed_test_is_released_only_with_its_result_and_a_failed_one_with_a_reason(cells: Cells) -> None:
    completed, failed = cells.running(channel="1"), cells.running(channel="2")
    cells.report(completed, _E.COMPLETE)
    cells.report(failed, _E.FAIL, reason="cable off")
    with pytest.raises(Refused), cells.database.write(SYSTEM) as record:
        handoffs.release(record, completed, reason="done")
    with pytest.raises(InvalidInput), cells.database.write(SYSTEM) as record:
        handoffs.release(record, failed)
    with cells.database.write(SYSTEM) as record:
        handoffs.release(record, failed, reason="no file was written")
    assert unit_status(cells, failed) is UnitStatus.TESTED


def test_a_token_speaks_for_its_own_tester_alone(cells: Cells) -> None:
    uuid = cells.offer(cells.cell())
    news = EventReport(seq=1, event=_E.ACCEPT, at=cells.database.clock.now())
    roles = frozenset({Role.OPERATOR})
    wrong = Actor("token:land2", roles=roles, scopes=tuple(handoffs.tester_scopes("LAND2")))
    with pytest.raises(NotPermitted), cells.database.write(wrong) as record:
        handoffs.report(record, "LAND1", uuid, news)
    right = Actor("token:land1", roles=roles, scopes=tuple(handoffs.tester_scopes("LAND1")))
    with pytest.raises(NotPermitted), cells.database.write(right) as record:
        handoffs.cancel(record, uuid, reason="not its business")
    with cells.database.write(right) as record:
        assert handoffs.report(record, "LAND1", uuid, news).state is _S.ACCEPTED


def test_a_refused_offer_is_on_the_trail_and_the_record_stays_true(cells: Cells) -> None:
    refusal(cells, cells.cell(screened=False))
    cells.running()
    with cells.database.read() as record:
        refused = [event for event in record.exec(select(AuditEvent)) if event.kind == "act.refused"]
        assert "not_screened" in refused[-1].body
    report = verify(cells.database)
    assert report.intact, report.discrepancies


def test_before_the_test_a_handoff_can_be_cancelled_and_afterwards_it_can_not() -> None:
    can = {state for state in _S if _E.CANCEL in HANDOFF_STATES.events_from(state)}
    assert can == {_S.OFFERED, _S.ACCEPTED, _S.LOADED, _S.ARMED, _S.UNKNOWN}


def unit_status_of(cells: Cells, cell: str) -> UnitStatus:
    with cells.database.read() as record:
        return find_unit(record, cell).status
