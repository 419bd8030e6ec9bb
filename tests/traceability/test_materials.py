"""Lots: exact amounts that never go below zero, and every reason at once why one can't be used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from tests.traceability.line import LINE, define_materials, receive
from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor
from traceability.clock import ManualClock
from traceability.database import Database
from traceability.errors import InvalidInput, NotFound, NotPermitted, Refused, StaleVersion
from traceability.genealogy import EdgeKind, GenealogyEdge
from traceability.holds import place_hold
from traceability.identifiers import make_identifier
from traceability.items import Item
from traceability.materials import (
    Lot,
    LotStatus,
    find_lot,
    quarantine_lot,
    receive_lot,
    release_lot,
    scrap_lot,
)
from traceability.quantities import Quantity
from traceability.stock import consume, merge_lots, split_lot


def mg(value: str) -> Quantity:
    return Quantity(Decimal(value), "mg")


@pytest.fixture
def stocked(database: Database) -> Database:
    define_materials(database)
    return database


def test_a_lot_starts_in_quarantine_and_qa_releases_it(stocked: Database, operator: Actor, qa: Actor) -> None:
    with stocked.write(operator) as record:
        serial = receive_lot(record, material_code="LGPS", quantity=Quantity(Decimal("1.5"), "g")).serial
    with stocked.read() as record:
        lot = find_lot(record, serial.lower())
        assert (lot.status, lot.quantity, lot.unit) == (LotStatus.QUARANTINE, Decimal(1500), "mg")
    with pytest.raises(NotPermitted), stocked.write(operator) as record:
        release_lot(record, serial, reason="looks good")
    with stocked.write(qa) as record:
        assert release_lot(record, serial, reason="certificate checked").status is LotStatus.RELEASED


def test_an_operator_can_not_release_by_receiving(stocked: Database, operator: Actor) -> None:
    with pytest.raises(NotPermitted), stocked.write(operator) as record:
        receive(record, "LGPS", "1", "mg")
    with stocked.read() as record:
        assert record.exec(select(Lot)).all() == []


def test_a_refusal_names_every_reason_at_once(stocked: Database, clock: ManualClock) -> None:
    with stocked.write(LINE) as record:
        expires = clock.now() + timedelta(hours=1)
        lot = receive_lot(record, material_code="LGPS", quantity=mg("10"), expires_at=expires)
        place_hold(record, lot.serial, reason="spilled")
    clock.advance(hours=1)
    with pytest.raises(Refused) as refusal, stocked.write(LINE) as record:
        consume(record, lot.serial, mg("10.001"), begin_activity(record, ActivityKind.PREPARATION))
    codes = [finding.code for finding in refusal.value.findings]
    assert codes == ["lot_in_quarantine", "lot_expired", "lot_insufficient", "held"]
    assert all(finding.action and finding.path == lot.serial for finding in refusal.value.findings)


@pytest.mark.parametrize(
    ("quantity", "code"),
    [
        (mg("10.000000000000001"), "lot_insufficient"),
        (mg("0"), "quantity_not_positive"),
        (mg("-1"), "quantity_not_positive"),
        (Quantity(Decimal(1), "mL"), "wrong_unit"),
    ],
)
def test_an_amount_that_the_lot_can_not_give_is_refused(stocked: Database, quantity: Quantity, code: str) -> None:
    with stocked.write(LINE) as record:
        lot = receive(record, "LGPS", "10", "mg")
    with pytest.raises(Refused) as refusal, stocked.write(LINE) as record:
        consume(record, lot.serial, quantity, begin_activity(record, ActivityKind.PREPARATION))
    assert [finding.code for finding in refusal.value.findings] == [code]
    with stocked.read() as record:
        assert find_lot(record, lot.serial).quantity == 10


def test_the_last_of_a_lot_consumes_it(stocked: Database) -> None:
    with stocked.write(LINE) as record:
        lot = receive(record, "LGPS", "0.3", "mg")
        activity = begin_activity(record, ActivityKind.PREPARATION)
        consume(record, lot.serial, mg("0.1"), activity)
        consume(record, lot.serial, Quantity(Decimal(200), "ug"), activity)
    assert (lot.quantity, lot.status) == (0, LotStatus.CONSUMED)
    with pytest.raises(Refused, match="can't be used"), stocked.write(LINE) as record:
        consume(record, lot.serial, mg("0.1"), begin_activity(record, ActivityKind.PREPARATION))


def test_a_wrong_serial_is_told_apart_from_an_unknown_one(stocked: Database) -> None:
    with stocked.read() as record:
        with pytest.raises(InvalidInput, match="check character"):
            find_lot(record, "LOT-000099-0")
        with pytest.raises(NotFound, match="no lot"):
            find_lot(record, make_identifier("LOT", 99))


def test_a_lot_that_was_changed_meanwhile_is_not_overwritten(stocked: Database) -> None:
    with stocked.write(LINE) as record:
        lot = receive(record, "LGPS", "10", "mg", released=False)
    with stocked.write(LINE) as record:
        release_lot(record, lot.serial, reason="ok", expected_version=1)
    with pytest.raises(StaleVersion), stocked.write(LINE) as record:
        scrap_lot(record, lot.serial, reason="old", expected_version=1)
    with stocked.write(LINE) as record:
        assert quarantine_lot(record, lot.serial, reason="recheck").status is LotStatus.QUARANTINE
        assert scrap_lot(record, lot.serial, reason="wet").status is LotStatus.SCRAPPED
    with pytest.raises(Refused, match="scrapped; release"), stocked.write(LINE) as record:
        release_lot(record, lot.serial, reason="no")


def test_a_split_keeps_status_expiry_and_sum(stocked: Database, clock: ManualClock) -> None:
    with stocked.write(LINE) as record:
        expires = clock.now() + timedelta(days=1)
        lot = receive_lot(record, material_code="LGPS", quantity=mg("10"), expires_at=expires, supplier="NEI")
        parts = split_lot(record, lot.serial, [mg("2.5"), mg("7.5")])
    assert [part.quantity for part in parts] == [Decimal("2.5"), Decimal("7.5")]
    assert (lot.quantity, lot.status) == (0, LotStatus.CONSUMED)
    assert {(part.status, part.expires_at, part.supplier) for part in parts} == {
        (LotStatus.QUARANTINE, expires, "NEI")
    }
    with stocked.read() as record:
        edges = record.exec(select(GenealogyEdge).order_by(col(GenealogyEdge.id))).all()
    assert [(edge.kind, edge.quantity) for edge in edges] == [
        (EdgeKind.SPLIT, Decimal("2.5")),
        (EdgeKind.SPLIT, Decimal("7.5")),
    ]


def test_a_split_of_more_than_there_is_is_refused_whole(stocked: Database) -> None:
    with stocked.write(LINE) as record:
        lot = receive(record, "LGPS", "10", "mg")
    with pytest.raises(Refused) as refusal, stocked.write(LINE) as record:
        split_lot(record, lot.serial, [mg("6"), mg("6")])
    assert [finding.code for finding in refusal.value.findings] == ["lot_insufficient"]
    with stocked.read() as record:
        assert len(record.exec(select(Item)).all()) == 1


def test_a_merge_refuses_strangers_with_all_findings(stocked: Database) -> None:
    with stocked.write(LINE) as record:
        first = receive(record, "LGPS", "10", "mg")
        other = receive(record, "LI-10", "10", "piece")
        waiting = receive(record, "LGPS", "10", "mg", released=False)
    with pytest.raises(Refused) as refusal, stocked.write(LINE) as record:
        merge_lots(record, [first.serial, other.serial, waiting.serial, "LOT-1"])
    assert [finding.code for finding in refusal.value.findings] == ["bad_serial", "other_material", "other_status"]
    with pytest.raises(Refused, match="can't be merged"), stocked.write(LINE) as record:
        merge_lots(record, [first.serial, first.serial])


def test_people_at_once_can_not_take_more_than_there_is(stocked: Database) -> None:
    with stocked.write(LINE) as record:
        serial = receive(record, "LGPS", "10", "mg").serial

    def take_three(_: int) -> bool:
        try:
            with stocked.write(LINE) as record:
                consume(record, serial, mg("3"), begin_activity(record, ActivityKind.PREPARATION))
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        taken = sum(pool.map(take_three, range(6)))
    with stocked.read() as record:
        assert (taken, find_lot(record, serial).quantity) == (3, 1)


_AMOUNTS = st.decimals(min_value=0, max_value=40, places=6)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("split"), st.integers(0, 99), st.lists(_AMOUNTS, min_size=1, max_size=3)),
        st.tuples(st.just("merge"), st.lists(st.integers(0, 99), min_size=2, max_size=3)),
        st.tuples(st.just("consume"), st.integers(0, 99), _AMOUNTS),
    ),
    max_size=6,
)


@settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS)
def test_any_sequence_of_splits_merges_and_consumptions_conserves_the_quantity(
    stocked: Database, steps: list[tuple[str, ...]]
) -> None:
    with stocked.write(LINE) as record:
        serials = [receive(record, "LGPS", "100", "mg").serial for _ in range(2)]
    consumed = Decimal(0)
    for verb, which, *amounts in steps:
        try:
            with stocked.write(LINE) as record:
                if verb == "split":
                    parts = split_lot(record, serials[which % len(serials)], [Quantity(a, "mg") for a in amounts[0]])
                    made = [part.serial for part in parts]
                elif verb == "merge":
                    made = [merge_lots(record, [serials[one % len(serials)] for one in which]).serial]
                else:
                    activity = begin_activity(record, ActivityKind.PREPARATION)
                    consume(record, serials[which % len(serials)], Quantity(amounts[0], "mg"), activity)
                    made = []
        except Refused:
            continue
        serials += made
        consumed += amounts[0] if verb == "consume" else 0
    with stocked.read() as record:
        lots = record.exec(select(Lot).where(col(Lot.serial).in_(serials))).all()
    assert len(lots) == len(serials)
    assert all(lot.quantity >= 0 for lot in lots)
    assert all((lot.quantity == 0) == (lot.status is LotStatus.CONSUMED) for lot in lots)
    assert sum(lot.quantity for lot in lots) + consumed == 200
