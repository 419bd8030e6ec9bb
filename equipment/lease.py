"""Only one process drives a tool: a lease in the database with a fencing epoch.

A row a tool says who holds it, until when, and with which epoch. Taking it over adds one to the epoch; the epoch
goes with every command, so a tool refuses whoever was overtaken. Everything here is real time. What the holder does
with the lease is not known here. Why a row and no lock: `docs/decisions/lease.md`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Protocol, TypeVar

import structlog
from sqlalchemy import Column, ColumnElement, CursorResult, Executable, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, SQLModel

from equipment.errors import EquipmentError
from traceability.clock import wall_now
from traceability.columns import UtcDateTime
from traceability.database import RecordSession
from traceability.errors import StorageFailed

_log = structlog.get_logger(__name__)

TTL_S = 5.0
"""How long a lease lasts after its last renewal, real time."""

_RENEWALS_PER_TTL = 5.0
_FENCE_FRACTION = 0.7

Answer = TypeVar("Answer")
Work = Callable[[RecordSession], Answer]


class LeaseLost(EquipmentError):
    """This process no longer may send to the tool: its lease ran out, or somebody else has taken it."""


class ToolLease(SQLModel, table=True):
    """Who may drive a tool.

    Attributes:
        tool: Name of the tool.
        holder: Name of the process; empty when it was given back.
        epoch: Grows by one with each taking; the fencing token.
        expires_at: Real time after which anybody may take it.
    """

    __tablename__ = "tool_leases"
    __unaudited__: ClassVar[str] = "who drives now; every command carries the epoch and is itself on the record"

    tool: str = Field(primary_key=True)
    holder: str = ""
    epoch: int = 0
    expires_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


_LEASES = SQLModel.metadata.tables["tool_leases"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as its holder got it."""

    tool: str
    holder: str
    epoch: int


def take_lease(record: RecordSession, tool: str, holder: str, ttl_s: float = TTL_S) -> Grant | None:
    """Take a tool's lease if nobody holds it.

    Args:
        record: Open write session.
        tool: Name of the tool.
        holder: Name of this process, unique among all that ever run at once.
        ttl_s: How long it shall last, seconds of real time.

    Returns:
        The grant with its fresh epoch, or None while somebody holds the lease.
    """
    now = _database_now(record)
    insert = postgresql.insert if record.dialect == "postgresql" else sqlite.insert
    first = insert(_LEASES).values(tool=tool, holder="", epoch=0, expires_at=now).on_conflict_do_nothing()
    record.connection().execute(first)
    taken = _changed(
        record,
        update(_LEASES)
        .where(_LEASES.c.tool == tool, (_LEASES.c.holder == "") | (_LEASES.c.expires_at <= now))
        .values(holder=holder, epoch=_LEASES.c.epoch + 1, expires_at=now + timedelta(seconds=ttl_s)),
    )
    if not taken:
        return None
    epoch = record.connection().execute(select(_LEASES.c.epoch).where(_LEASES.c.tool == tool)).scalar_one()
    return Grant(tool, holder, epoch)


def renew_lease(record: RecordSession, grant: Grant, ttl_s: float = TTL_S) -> bool:
    """Hold on for another `ttl_s` seconds; False when somebody else has taken over since.

    A lease that ran out while nobody took it is good again, with the same epoch.
    """
    expires_at = _database_now(record) + timedelta(seconds=ttl_s)
    return _changed(record, update(_LEASES).where(*_is(grant)).values(expires_at=expires_at))


def release_lease(record: RecordSession, grant: Grant) -> None:
    """Give the lease back, so that the next one need not wait; does nothing when it is lost already."""
    _changed(record, update(_LEASES).where(*_is(grant)).values(holder="", expires_at=_database_now(record)))


def require_lease(record: RecordSession, grant: Grant) -> None:
    """Check inside a transaction that nobody has taken over, and let nobody until it ends.

    Raises:
        LeaseLost: Somebody has; nothing of this transaction may stand.
    """
    row = record.connection().execute(select(_LEASES.c.tool).where(*_is(grant)).with_for_update(read=True)).first()
    if row is None:
        raise LeaseLost(f"epoch {grant.epoch} of {grant.tool} is over: somebody else drives it")


def lease_of(record: RecordSession, tool: str) -> ToolLease | None:
    """Who drives a tool, for people; None before anybody ever did."""
    return record.get(ToolLease, tool, populate_existing=True)


def elapsed_s() -> float:
    """Seconds on a clock that nobody sets and that goes on while the process, or the machine, is stopped."""
    return time.clock_gettime(_ELAPSED_CLOCK)


_ELAPSED_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class RunWork(Protocol):
    """Runs a transaction somewhere off the event loop."""

    def __call__(self, work: Work[Answer], /) -> Awaitable[Answer]:
        """Run `work` in one write transaction and answer with its result."""


class LeaseKeeper:
    """Takes the lease of one tool, renews it, and knows by its own clock when it may no longer be trusted.

    The holder fences itself at 0.7 of the TTL after it *asked for* the last renewal that succeeded, well before
    anybody may take over. While the database can't be asked the lease is fenced but not lost; once it answers, it
    is renewed under the same epoch or found to be lost.

    Args:
        tool: Name of the tool.
        holder: Name of this process.
        run: Runs a transaction.
        ttl_s: How long a lease lasts without renewal, real time.
    """

    def __init__(self, tool: str, holder: str, run: RunWork, ttl_s: float = TTL_S) -> None:
        self.tool = tool
        self.holder = holder
        self.ttl_s = ttl_s
        self._run = run
        self._grant: Grant | None = None
        self._good_until_s = 0.0
        self._changed = asyncio.Event()

    @property
    def grant(self) -> Grant | None:
        """The lease, also while it is fenced; None when it was never taken or is lost."""
        return self._grant

    @property
    def held(self) -> bool:
        """This process may send to the tool, now."""
        return self._grant is not None and elapsed_s() < self._good_until_s

    def check(self) -> Grant:
        """The grant, if it may be used this very moment.

        Raises:
            LeaseLost: It may not.
        """
        if self._grant is None or not self.held:
            raise LeaseLost(f"the lease of {self.tool} may no longer be used: it was not renewed in time")
        return self._grant

    async def taken(self) -> Grant:
        """Wait until this process has the lease, fenced or not."""
        while self._grant is None:
            self._changed.clear()
            await self._changed.wait()
        return self._grant

    async def lost(self, grant: Grant) -> None:
        """Wait until somebody else has taken over from `grant`."""
        while self._grant == grant:
            self._changed.clear()
            await self._changed.wait()

    async def keep(self) -> None:
        """Take and renew until cancelled; then give back."""
        try:
            while True:
                try:
                    await self._beat()
                except StorageFailed as error:
                    _log.warning("lease_not_renewed", tool=self.tool, cause=error.message)
                await asyncio.sleep(self.ttl_s / _RENEWALS_PER_TTL)
        finally:
            await self._give_back()

    async def _beat(self) -> None:
        asked_s = elapsed_s()
        grant = self._grant
        if grant is None:
            grant = await self._run(lambda record: take_lease(record, self.tool, self.holder, self.ttl_s))
            if grant is None:
                return
            _log.info("lease_taken", tool=self.tool, holder=self.holder, epoch=grant.epoch)
            self._set(grant, asked_s)
            return
        held = grant
        if await self._run(lambda record: renew_lease(record, held, self.ttl_s)):
            self._set(held, asked_s)
        else:
            _log.warning("lease_lost", tool=self.tool, epoch=held.epoch)
            self._set(None, asked_s)

    def _set(self, grant: Grant | None, asked_s: float) -> None:
        self._grant = grant
        self._good_until_s = asked_s + self.ttl_s * _FENCE_FRACTION
        self._changed.set()

    async def _give_back(self) -> None:
        grant, self._grant = self._grant, None
        if grant is None:
            return
        given = grant
        try:
            await self._run(lambda record: release_lease(record, given))
        except StorageFailed as error:
            _log.warning("lease_not_released", tool=self.tool, cause=error.message)


def _is(grant: Grant) -> tuple[ColumnElement[bool], ...]:
    return (_LEASES.c.tool == grant.tool, _LEASES.c.holder == grant.holder, _LEASES.c.epoch == grant.epoch)


def _changed(record: RecordSession, statement: Executable) -> bool:
    result = record.connection().execute(statement)
    return isinstance(result, CursorResult) and result.rowcount == 1


def _database_now(record: RecordSession) -> datetime:
    # One clock for all who compete: that of the server, or of the one machine that holds the file.
    if record.dialect == "postgresql":
        now: datetime = record.connection().execute(select(func.clock_timestamp())).scalar_one()
        return now
    return wall_now()
