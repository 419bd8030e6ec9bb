"""A target's wear is the sum of its runs, each counted once."""

from __future__ import annotations

import pytest

from tests.traceability.line import LINE, define_materials, receive
from traceability.activities import ActivityKind, begin_activity
from traceability.database import Database
from traceability.errors import InvalidInput, Refused
from traceability.items import ItemKind
from traceability.targets import EROSION_LIMIT, target_findings, target_life, wear_target
from traceability.units import change_properties, serialise_lot


@pytest.fixture
def target(database: Database) -> str:
    define_materials(database)
    with database.write(LINE) as record:
        serial = serialise_lot(record, receive(record, "LALO", "1", "piece").serial, 1, ItemKind.TARGET)[0].serial
        change_properties(record, serial, {EROSION_LIMIT: "10"}, reason="maker's limit")
    return serial


def test_wear_adds_up_to_the_limit_and_no_run_counts_twice(database: Database, target: str) -> None:
    for energy in (2.5, 4.0):
        with database.write(LINE) as record:
            run = begin_activity(record, ActivityKind.SPUTTER_RUN)
            wear_target(record, target, energy_kwh=energy, activity=run)
    with pytest.raises(Refused, match="once"), database.write(LINE) as record:
        wear_target(record, target, energy_kwh=1, activity=run)
    with database.read() as record:
        life = target_life(record, target)
        assert (life.used_kwh, life.limit_kwh, life.left_kwh) == (6.5, 10.0, 3.5)
        assert target_findings(record, target, 3.5) == []
        (finding,) = target_findings(record, target, 3.6)
    assert (finding.code, finding.path) == ("target_worn", target)


def test_only_a_target_wears_and_only_by_a_real_energy(database: Database, target: str) -> None:
    with database.write(LINE) as record:
        disc = serialise_lot(record, receive(record, "LI-10", "1", "piece").serial, 1, ItemKind.DISC)[0].serial
    with pytest.raises(Refused, match="no target"), database.write(LINE) as record:
        wear_target(record, disc, energy_kwh=1, activity=begin_activity(record, ActivityKind.SPUTTER_RUN))
    with pytest.raises(InvalidInput, match="kWh"), database.write(LINE) as record:
        wear_target(record, target, energy_kwh=-1, activity=begin_activity(record, ActivityKind.SPUTTER_RUN))
