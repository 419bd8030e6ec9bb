"""Units are made of what may be used, once, and everything about it happens in one transaction."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlmodel import select

from tests.traceability.line import LINE, Thread, receive, sputter
from traceability.activities import ActivityKind, begin_activity
from traceability.clock import ManualClock
from traceability.database import Database
from traceability.errors import Refused
from traceability.genealogy import EdgeKind
from traceability.holds import place_hold
from traceability.items import Item, ItemKind
from traceability.materials import find_lot
from traceability.quantities import Quantity
from traceability.units import (
    Source,
    UnitEvent,
    UnitStatus,
    advance_unit,
    create_unit,
    find_unit,
    serialise_lot,
)
from traceability.usability import Wanted, use_findings


@pytest.fixture
def thread(database: Database) -> Thread:
    return Thread(database)


def test_making_a_cell_uses_up_its_parts_and_draws_from_its_lots(database: Database, thread: Thread) -> None:
    with database.read() as record:
        assert find_lot(record, thread.powder).quantity == 850
        assert find_lot(record, thread.lithium).quantity == 18
        assert {find_unit(record, serial).status for serial in thread.coated} == {UnitStatus.CONSUMED}
        assert find_unit(record, thread.target).status is UnitStatus.AVAILABLE
        assert find_unit(record, thread.cell).status is UnitStatus.AVAILABLE


def test_a_disc_used_twice_is_refused(database: Database, thread: Thread) -> None:
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        sputter(record, thread.discs[0], thread.target)
    assert [(finding.code, finding.path) for finding in refusal.value.findings] == [("unit_used", thread.discs[0])]


def test_every_reason_against_every_source_is_named_at_once(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        held = serialise_lot(record, thread.lithium, 1, ItemKind.DISC)[0].serial
        place_hold(record, held, reason="scratched")
        waiting = receive(record, "LGPS", "1", "g", released=False).serial
        before = len(record.exec(select(Item)).all())
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        create_unit(
            record,
            ItemKind.CELL,
            activity=begin_activity(record, ActivityKind.ASSEMBLY),
            sources=[
                Source("CEL-000001-X"),
                Source("DSC-9-9"),
                Source(held),
                Source(thread.coated[0]),
                Source(waiting, quantity=Quantity(Decimal(2), "g")),
                Source(thread.powder),
                Source(thread.target),
            ],
        )
    found = [(finding.code, finding.path) for finding in refusal.value.findings]
    assert found == [
        ("bad_serial", "CEL-000001-X"),
        ("bad_serial", "DSC-9-9"),
        ("unit_used", thread.coated[0]),
        ("lot_in_quarantine", waiting),
        ("lot_insufficient", waiting),
        ("quantity_missing", thread.powder),
        ("wrong_kind", thread.target),
        ("held", held),
    ]
    assert all(finding.action for finding in refusal.value.findings)
    with database.read() as record:
        assert len(record.exec(select(Item)).all()) == before


def test_a_source_listed_twice_is_refused(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        disc = serialise_lot(record, thread.lithium, 1, ItemKind.DISC)[0].serial
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        activity = begin_activity(record, ActivityKind.ASSEMBLY)
        create_unit(record, ItemKind.CELL, activity=activity, sources=[Source(disc), Source(disc.lower())])
    assert [finding.code for finding in refusal.value.findings] == ["listed_twice"]


def test_more_pieces_than_the_lot_has_are_not_serialised(database: Database, thread: Thread) -> None:
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        serialise_lot(record, thread.lithium, 19, ItemKind.CELL)
    assert [finding.code for finding in refusal.value.findings] == ["lot_insufficient", "wrong_kind"]
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        serialise_lot(record, thread.powder, 1, ItemKind.DISC)
    assert [finding.code for finding in refusal.value.findings] == ["wrong_unit"]


def test_a_unit_that_a_simulator_made_says_so_and_so_does_all_that_is_made_of_it(
    database: Database, thread: Thread
) -> None:
    with database.write(LINE) as record:
        disc = serialise_lot(record, thread.lithium, 1, ItemKind.DISC)[0]
        run = begin_activity(record, ActivityKind.SPUTTER_RUN, simulated=True)
        coated = sputter(record, disc.serial, thread.target, run)
        assembly = begin_activity(record, ActivityKind.ASSEMBLY)
        cell = create_unit(record, ItemKind.CELL, activity=assembly, sources=[Source(coated.serial)])
    assert (disc.simulated, coated.simulated, cell.simulated) == (False, True, True)


def test_a_tested_cell_may_be_taken_apart_but_not_built_in(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        advance_unit(record, thread.cell, UnitEvent.HAND_OVER)
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        create_unit(
            record,
            ItemKind.PELLET,
            activity=begin_activity(record, ActivityKind.PREPARATION),
            sources=[Source(thread.cell, EdgeKind.RECOVERED)],
        )
    assert [finding.code for finding in refusal.value.findings] == ["unit_on_test"]
    with database.write(LINE) as record:
        advance_unit(record, thread.cell, UnitEvent.FINISH_TEST)
        activity = begin_activity(record, ActivityKind.PREPARATION)
        for kind in (ItemKind.PELLET, ItemKind.COATED_DISC):
            create_unit(record, kind, activity=activity, sources=[Source(thread.cell, EdgeKind.RECOVERED)])


def test_a_status_that_the_table_does_not_know_is_refused(database: Database, thread: Thread) -> None:
    with pytest.raises(Refused, match="finish_test is not possible"), database.write(LINE) as record:
        advance_unit(record, thread.cell, UnitEvent.FINISH_TEST)


def test_dispatch_hears_all_reasons_without_touching_anything(
    database: Database, thread: Thread, clock: ManualClock
) -> None:
    with database.write(LINE) as record:
        disc = serialise_lot(record, thread.lithium, 1, ItemKind.DISC)[0].serial
    clock.advance(hours=8, seconds=1)
    wanted = [
        Wanted(disc, frozenset({ItemKind.DISC})),
        Wanted(thread.powder, material_code="LI-10", quantity=Quantity(Decimal(1), "kg")),
        Wanted(thread.cell, frozenset({ItemKind.DISC})),
        Wanted("nonsense"),
    ]
    with database.read() as record:
        found = {(finding.code, finding.path) for finding in use_findings(record, wanted)}
    assert found == {
        ("queue_time_exceeded", disc),
        ("lot_insufficient", thread.powder),
        ("other_material", thread.powder),
        ("wrong_kind", thread.cell),
        ("bad_serial", "nonsense"),
    }
