"""What is made of a held thing is held, whenever it is made; only a signature lifts a hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.traceability.line import LINE, Thread, make_cell
from traceability.acts import Actor, Role
from traceability.database import Database
from traceability.errors import InvalidInput, NotPermitted, Refused, SignatureRefused
from traceability.holds import covered_by, find_hold, holds_on, place_hold, release_content, release_hold
from traceability.materials import LotStatus, find_lot
from traceability.nonconformance import Disposition, dispose, find_nonconformance, open_nonconformance
from traceability.signatures import SigningSession, open_signing, signatures_of
from traceability.units import UnitStatus, find_unit

PASSWORD = "copper kettle seven"  # the one that `enrol` gives

Enrol = Callable[..., Actor]


@pytest.fixture
def thread(database: Database) -> Thread:
    return Thread(database)


@pytest.fixture
def quality(database: Database, enrol: Enrol) -> Actor:
    return enrol("quentin", Role.QA)


def _signing(database: Database, person: Actor) -> SigningSession:
    return open_signing(database, person, person.name, PASSWORD)


def test_a_hold_on_a_powder_lot_holds_the_cell_made_of_it_before(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        hold = place_hold(record, thread.powder, reason="moist")
    with database.read() as record:
        found = holds_on(record, [thread.cell, thread.powder, thread.coated[0]])
        covered = {node.serial for node in covered_by(record, hold)}
    assert [(on.serial, on.origin, on.inherited) for on in found] == [
        (thread.powder, thread.powder, False),
        (thread.cell, thread.powder, True),
    ]
    assert all(on.hold_serial == hold.serial and "moist" in on.finding.message for on in found)
    assert {thread.powder, thread.cell} < covered
    assert thread.coated[0] not in covered


def test_a_held_part_can_not_be_used_for_anything(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        place_hold(record, thread.powder, reason="moist")
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        make_cell(record, thread.powder, [])
    assert [finding.code for finding in refusal.value.findings] == ["held"]


def test_a_hold_covers_what_is_made_later_of_a_thing_further_down(database: Database, thread: Thread) -> None:
    """The cell exists; a hold on its disc's lot, which is placed now, reaches it over three edges."""
    with database.write(LINE) as record:
        place_hold(record, thread.target, reason="cracked")
        assert [on.origin for on in holds_on(record, [thread.cell])] == [thread.target]


def test_only_qa_lifts_a_hold_and_signs_for_it(
    database: Database, thread: Thread, quality: Actor, enrol: Enrol, operator: Actor
) -> None:
    with database.write(operator) as record:
        hold = place_hold(record, thread.powder, reason="moist")
    assert hold.id is not None
    olena = enrol("olena", Role.OPERATOR)
    hers, his = _signing(database, olena), _signing(database, quality)
    with pytest.raises(NotPermitted), database.write(olena) as record:
        release_hold(record, hold.id, reason="dry", signing=hers)
    with pytest.raises(SignatureRefused), database.write(quality) as record:
        release_hold(record, hold.id, reason="dry", signing=hers)
    with pytest.raises(InvalidInput), database.write(quality) as record:
        release_hold(record, hold.id, reason=" ", signing=his)
    with database.read() as record:
        assert holds_on(record, [thread.cell])
    with database.write(quality) as record:
        release_hold(record, hold.id, reason="dry", signing=his)
    with database.read() as record:
        assert holds_on(record, [thread.cell, thread.powder]) == []
        released = find_hold(record, hold.serial)
        (signature,) = signatures_of(record, release_content(record, released, "dry"))
    assert (released.released_by, released.signature_id) == ("quentin", signature.id)
    with pytest.raises(Refused, match="released already"), database.write(quality) as record:
        release_hold(record, hold.id, reason="again", signing=his)


def test_use_as_is_lifts_the_holds_of_the_report_and_no_other(
    database: Database, thread: Thread, quality: Actor, operator: Actor
) -> None:
    with database.write(operator) as record:
        report = open_nonconformance(record, thread.cell, title="Torque too high")
        other = place_hold(record, thread.cell, reason="label missing")
        assert len(holds_on(record, [thread.cell])) == 2
    signing = _signing(database, quality)
    with database.write(quality) as record:
        dispose(record, report.serial, Disposition.USE_AS_IS, reason="within the screw's range", signing=signing)
    with database.read() as record:
        assert [on.hold_serial for on in holds_on(record, [thread.cell])] == [other.serial]
        assert find_nonconformance(record, report.serial).disposition is Disposition.USE_AS_IS
    with pytest.raises(Refused, match="is decided"), database.write(quality) as record:
        dispose(record, report.serial, Disposition.SCRAP, reason="no", signing=signing)


def test_scrapping_ends_the_thing_and_leaves_what_was_made_of_it_held(
    database: Database, thread: Thread, quality: Actor, operator: Actor
) -> None:
    with database.write(operator) as record:
        reports = [open_nonconformance(record, serial, title="Wet").serial for serial in (thread.powder, thread.cell)]
    for report in reports:
        signing = _signing(database, quality)
        with database.write(quality) as record:
            dispose(record, report, Disposition.SCRAP, reason="wet", signing=signing)
    with database.read() as record:
        assert find_lot(record, thread.powder).status is LotStatus.SCRAPPED
        assert find_unit(record, thread.cell).status is UnitStatus.SCRAPPED
        assert {on.origin for on in holds_on(record, [thread.cell])} == {thread.powder, thread.cell}
