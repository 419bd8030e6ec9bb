"""Doses add up, follow the matter and stop it where a limit is passed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.traceability.line import LINE, Thread, sputter
from traceability.clock import ManualClock
from traceability.database import Database
from traceability.errors import InvalidInput, Refused
from traceability.exposure import (
    Atmosphere,
    count_dose,
    counted_until,
    dose_pa_s,
    exposure_findings,
    exposure_of,
    move,
)
from traceability.items import ItemKind
from traceability.materials import find_lot
from traceability.quantities import Quantity
from traceability.stock import split_lot
from traceability.units import find_unit, serialise_lot

BAR = 1e5


@pytest.fixture
def thread(database: Database) -> Thread:
    return Thread(database)


@pytest.fixture
def disc(database: Database, thread: Thread) -> str:
    with database.write(LINE) as record:
        return serialise_lot(record, thread.lithium, 1, ItemKind.DISC)[0].serial


def test_an_hour_at_a_tenth_of_a_ppm_and_one_bar_is_36_pa_s() -> None:
    assert dose_pa_s(0.1, BAR, 3600) == pytest.approx(36.0)


def test_doses_of_a_disc_go_on_with_the_coated_disc_up_to_the_coating(
    database: Database, thread: Thread, disc: str, clock: ManualClock
) -> None:
    start = clock.now()
    clock.advance(hours=2)
    with database.write(LINE) as record:
        count_dose(record, disc, Atmosphere.GLOVEBOX, start, clock.now(), 0.1, 0.2, BAR)
        coated = sputter(record, disc, thread.target).serial
    clock.advance(hours=1)
    with database.write(LINE) as record:
        count_dose(record, coated, Atmosphere.GLOVEBOX, clock.now() - timedelta(hours=1), clock.now(), 1, 0, BAR)
        # What is counted for the disc after it became something else does not concern the coated disc.
        count_dose(record, disc, Atmosphere.AIR, clock.now() - timedelta(hours=1), clock.now(), 1e4, 2e5, BAR)
        found = exposure_of(record, coated)
    assert found.water_pa_s == pytest.approx(72 + 360)
    assert found.oxygen_pa_s == pytest.approx(144)
    assert found.until - found.since == timedelta(hours=1)


def test_a_sublot_keeps_the_dose_of_its_lot_before_the_split_and_no_later_one(
    database: Database, thread: Thread, clock: ManualClock
) -> None:
    start = clock.now()
    clock.advance(hours=1)
    with database.write(LINE) as record:
        (part,) = split_lot(record, thread.powder, [Quantity.parse(10, "mg")])
    clock.advance(hours=1)
    with database.write(LINE) as record:
        count_dose(record, thread.powder, Atmosphere.GLOVEBOX, start, clock.now(), 0.1, 0, BAR)
        assert exposure_of(record, part.serial).water_pa_s == pytest.approx(36)
        assert exposure_of(record, thread.powder).water_pa_s == pytest.approx(72)


def test_time_is_counted_by_atmosphere_from_moves_even_late_ones(
    database: Database, disc: str, clock: ManualClock
) -> None:
    start = clock.now()
    with database.write(LINE) as record:
        move(record, disc, Atmosphere.GLOVEBOX, "GB-1")
    clock.advance(minutes=90)
    with database.write(LINE) as record:
        move(record, disc, Atmosphere.CHAMBER, "RH450")
        move(record, disc, Atmosphere.ANTECHAMBER, "load lock", start + timedelta(minutes=80))
    clock.advance(minutes=30)
    with database.read() as record:
        assert exposure_of(record, disc).seconds_in == {
            Atmosphere.GLOVEBOX: 4800,
            Atmosphere.ANTECHAMBER: 600,
            Atmosphere.CHAMBER: 1800,
        }
        assert find_unit(record, disc).location == "RH450"


def test_a_lot_can_be_moved_but_not_into_the_future(database: Database, thread: Thread, clock: ManualClock) -> None:
    with database.write(LINE) as record:
        move(record, thread.powder, Atmosphere.SEALED, "shelf 3")
    with pytest.raises(InvalidInput, match="future"), database.write(LINE) as record:
        move(record, thread.powder, Atmosphere.AIR, "bench", clock.now() + timedelta(seconds=1))
    with database.read() as record:
        assert find_lot(record, thread.powder).location == "shelf 3"


def test_nothing_is_counted_twice(database: Database, disc: str, clock: ManualClock) -> None:
    start = clock.now()
    clock.advance(hours=1)
    with database.write(LINE) as record:
        assert counted_until(record, disc) is None
        count_dose(record, disc, Atmosphere.GLOVEBOX, start, clock.now(), 1, 1, BAR)
        assert counted_until(record, disc) == clock.now()
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        late = clock.now() - timedelta(seconds=1)
        count_dose(record, disc, Atmosphere.GLOVEBOX, late, late + timedelta(hours=1), 1, 1, BAR)
    assert [finding.code for finding in refusal.value.findings] == ["exposure_counted"]
    with database.write(LINE) as record:
        count_dose(record, disc, Atmosphere.GLOVEBOX, clock.now(), clock.now() + timedelta(hours=1), 1, 1, BAR)


@pytest.mark.parametrize(("ppm", "pressure"), [(-0.1, BAR), (float("nan"), BAR), (0.1, -1.0), (0.1, float("inf"))])
def test_a_reading_that_can_not_be_is_refused(
    database: Database, disc: str, clock: ManualClock, ppm: float, pressure: float
) -> None:
    with pytest.raises(InvalidInput), database.write(LINE) as record:
        count_dose(record, disc, Atmosphere.AIR, clock.now() - timedelta(hours=1), clock.now(), ppm, 0, pressure)


def test_bare_lithium_may_take_500_pa_s_and_a_coated_disc_5000(
    database: Database, thread: Thread, disc: str, clock: ManualClock
) -> None:
    clock.advance(hours=5)
    with database.write(LINE) as record:
        count_dose(record, disc, Atmosphere.GLOVEBOX, clock.now() - timedelta(hours=5), clock.now(), 0.25, 0, BAR)
        assert exposure_findings(record, disc) == []
        clock.advance(hours=1)
        count_dose(record, disc, Atmosphere.GLOVEBOX, clock.now() - timedelta(hours=1), clock.now(), 0.25, 0, BAR)
        (finding,) = exposure_findings(record, disc)
        coated = sputter(record, disc, thread.target).serial
        assert exposure_findings(record, coated) == []
    assert finding.code == "water_dose_exceeded"
    assert "540 Pa·s" in finding.message
    clock.advance(hours=49)
    with database.write(LINE) as record:
        count_dose(record, coated, Atmosphere.AIR, clock.now() - timedelta(hours=1), clock.now(), 1e3, 0, BAR)
        codes = [finding.code for finding in exposure_findings(record, coated)]
    assert codes == ["water_dose_exceeded", "queue_time_exceeded"]
