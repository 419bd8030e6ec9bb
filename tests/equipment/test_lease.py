"""Exactly one holder a tool, whatever they all try, and a holder knows by itself when it may no longer send."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import text

from equipment.lease import (
    Answer,
    Grant,
    LeaseKeeper,
    LeaseLost,
    Work,
    lease_of,
    release_lease,
    renew_lease,
    require_lease,
    take_lease,
)
from tests.system.press_line import until
from traceability.acts import system_actor
from traceability.database import Database
from traceability.errors import StorageFailed

ACTOR = system_actor("test")
TOOL = "RH450"


def take(database: Database, holder: str, ttl_s: float = 30.0) -> Grant | None:
    with database.write(ACTOR) as record:
        return take_lease(record, TOOL, holder, ttl_s)


def taken(database: Database, holder: str, ttl_s: float = 30.0) -> Grant:
    grant = take(database, holder, ttl_s)
    assert grant is not None
    return grant


def test_a_lease_that_is_held_is_not_given_to_another(database: Database) -> None:
    assert taken(database, "one").epoch == 1
    assert take(database, "other") is None
    assert take(database, "one") is None


def test_each_taking_has_an_epoch_of_its_own(database: Database) -> None:
    first = taken(database, "one")
    with database.write(ACTOR) as record:
        release_lease(record, first)
    assert taken(database, "other").epoch == 2


def test_a_lease_that_ran_out_can_be_taken_and_its_holder_can_do_nothing_any_more(database: Database) -> None:
    late = taken(database, "late", ttl_s=0.0)
    heir = taken(database, "heir")
    assert heir.epoch == late.epoch + 1
    with database.write(ACTOR) as record:
        assert not renew_lease(record, late)
        release_lease(record, late)
    with pytest.raises(LeaseLost), database.write(ACTOR) as record:
        require_lease(record, late)
    with database.write(ACTOR) as record:
        require_lease(record, heir)
    with database.read() as record:
        row = lease_of(record, TOOL)
    assert row is not None
    assert (row.holder, row.epoch) == ("heir", 2)


def test_a_lease_that_ran_out_untaken_is_renewed_under_its_epoch(database: Database) -> None:
    late = taken(database, "late", ttl_s=0.0)
    with database.write(ACTOR) as record:
        assert renew_lease(record, late)
    assert take(database, "other") is None


def test_of_many_who_ask_at_once_one_gets_it(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        grants = list(pool.map(lambda number: take(database, f"holder-{number}"), range(24)))
    assert [grant.epoch for grant in grants if grant is not None] == [1]


def test_a_process_that_sleeps_in_a_transaction_keeps_its_locks_no_longer_than_can_be_helped(
    database: Database,
) -> None:
    if database.engine.dialect.name == "sqlite":
        with database.write(ACTOR) as record:
            take_lease(record, TOOL, "sleeper")
            file = database.engine.url.database or ""
            with (
                closing(sqlite3.connect(file, timeout=0.05)) as other,
                pytest.raises(sqlite3.OperationalError, match="locked"),
            ):
                other.execute("BEGIN IMMEDIATE")
        return
    with pytest.raises(StorageFailed), database.write(ACTOR) as record:
        connection = record.connection()
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "5s"
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 50"))
        time.sleep(0.2)
        take_lease(record, TOOL, "sleeper")
    assert taken(database, "other").epoch == 1


class Line:
    """Runs transactions in a thread, and can be cut off from the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.refuses = False

    def run(self, work: Work[Answer]) -> Awaitable[Answer]:
        return asyncio.to_thread(self._run, work)

    def _run(self, work: Work[Answer]) -> Answer:
        if self.refuses:
            raise StorageFailed("The database does not answer.")
        with self.database.write(ACTOR) as record:
            return work(record)


@pytest.mark.anyio
async def test_a_keeper_that_cannot_renew_fences_itself_before_anybody_may_take_over(database: Database) -> None:
    line = Line(database)
    keeper = LeaseKeeper(TOOL, "keeper", line.run, ttl_s=1.0)
    keeping = asyncio.create_task(keeper.keep())
    grant = await asyncio.wait_for(keeper.taken(), 5)
    assert keeper.check() == grant
    line.refuses = True
    while take(database, "other") is None:
        fenced_before = not keeper.held
        await asyncio.sleep(0.01)
    assert fenced_before
    with pytest.raises(LeaseLost):
        keeper.check()
    assert keeper.grant == grant
    line.refuses = False
    await asyncio.wait_for(keeper.lost(grant), 5)
    assert keeper.grant is None
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.anyio
async def test_a_keeper_that_was_cut_off_goes_on_under_its_epoch_when_nobody_took_over(database: Database) -> None:
    line = Line(database)
    keeper = LeaseKeeper(TOOL, "keeper", line.run, ttl_s=0.5)
    keeping = asyncio.create_task(keeper.keep())
    grant = await asyncio.wait_for(keeper.taken(), 5)
    line.refuses = True
    await until(lambda: not keeper.held)
    line.refuses = False
    await until(lambda: keeper.held)
    assert keeper.check() == grant
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert taken(database, "next").epoch == grant.epoch + 1
