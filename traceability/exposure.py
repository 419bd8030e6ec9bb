"""What the air did to a thing: where it was, for how long, and the dose of water and oxygen that it took there.

A dose is partial pressure times time, in Pa·s: an hour at 0.1 ppm and 1 bar is 36 Pa·s. A thing keeps the doses of
what it was transformed or split from, up to that moment; of several such parents the worst counts. Sensors are not
known here: who has their history counts the doses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Column, Index
from sqlmodel import Field, SQLModel, col, select

from traceability.append_only import make_append_only
from traceability.canonical import timestamp
from traceability.columns import Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, Refused
from traceability.genealogy import TraceEdge, matter_edges
from traceability.items import Item, ItemKind, find_item
from traceability.materials import Lot, lock_lots
from traceability.units import Unit, lock_units


class Atmosphere(StrEnum):
    """What surrounds a thing."""

    SEALED = "sealed"
    GLOVEBOX = "glovebox"
    ANTECHAMBER = "antechamber"
    CHAMBER = "chamber"
    PRESS = "press"
    AIR = "air"


class Move(SQLModel, table=True):
    """A thing came to a place. The row never changes."""

    __tablename__ = "moves"
    __table_args__ = (Index("ix_moves_item_at", "item_id", "at"),)

    id: int | None = Field(default=None, primary_key=True)
    item_id: int = Field(foreign_key="items.id")
    atmosphere: Atmosphere = Field(sa_column=Column(Choice(Atmosphere), nullable=False))
    location: str
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    person: str


class Dose(SQLModel, table=True):
    """What a thing took up between two moments. The row never changes.

    Attributes:
        water_pa_s: Partial pressure of water × time.
        oxygen_pa_s: Partial pressure of oxygen × time.
    """

    __tablename__ = "doses"
    __table_args__ = (Index("ix_doses_item_start", "item_id", "started_at"),)

    id: int | None = Field(default=None, primary_key=True)
    item_id: int = Field(foreign_key="items.id")
    atmosphere: Atmosphere = Field(sa_column=Column(Choice(Atmosphere), nullable=False))
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    ended_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    water_ppm: float
    oxygen_ppm: float
    pressure_pa: float
    water_pa_s: float
    oxygen_pa_s: float


for _table in ("moves", "doses"):
    make_append_only(SQLModel.metadata.tables[_table])


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a thing has been exposed to, with what it was transformed from.

    Attributes:
        water_pa_s: Dose of water, Pa·s.
        oxygen_pa_s: Dose of oxygen, Pa·s.
        seconds_in: Time spent in each atmosphere by its moves.
        since: When the thing itself came to be: its queue time runs from then.
        until: When this was asked.
    """

    water_pa_s: float
    oxygen_pa_s: float
    seconds_in: Mapping[Atmosphere, float]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class ExposureLimits:
    """What a thing may take up before its next step; None for no limit.

    Attributes:
        water_pa_s: Dose of water, Pa·s.
        oxygen_pa_s: Dose of oxygen, Pa·s.
        queue_time: Time since it came to be.
    """

    water_pa_s: float | None = None
    oxygen_pa_s: float | None = None
    queue_time: timedelta | None = None


# Starting values; a lab sets its own.
DEFAULT_LIMITS: Mapping[ItemKind, ExposureLimits] = {
    ItemKind.DISC: ExposureLimits(water_pa_s=500.0, queue_time=timedelta(hours=8)),
    ItemKind.COATED_DISC: ExposureLimits(water_pa_s=5000.0, queue_time=timedelta(hours=48)),
}


def dose_pa_s(ppm: float, pressure_pa: float, seconds: float) -> float:
    """Partial pressure × time for a content in ppm by volume."""
    return ppm * 1e-6 * pressure_pa * seconds


def move(
    record: RecordSession, serial: str, atmosphere: Atmosphere, location: str, at: datetime | None = None
) -> Move:
    """Say where a lot or unit now is.

    Args:
        record: Open write session.
        serial: What was moved.
        atmosphere: What surrounds it there.
        location: Where.
        at: Domain time, not in the future; now if left out. A late entry may lie before other moves.

    Raises:
        InvalidInput: The serial is none, there is no location, or the time lies in the future.
        NotFound: Nothing has the serial.
    """
    item = find_item(record, serial)
    with record.act("lot.moved" if item.kind is ItemKind.LOT else "unit.moved", item.serial):
        now = record.clock.now()
        at = at or now
        if not location.strip():
            raise InvalidInput("A move needs a location.")
        if at > now:
            raise InvalidInput(f"{item.serial} can't be moved in the future ({timestamp(at)}).")
        later = record.exec(select(Move).where(Move.item_id == item.key).where(Move.at > at).limit(1)).first()
        row = Move(
            item_id=item.key, atmosphere=atmosphere, location=location.strip(), at=at, person=record.actor.name
        )
        record.add(row)
        if later is None:
            things: list[Lot | Unit] = [*lock_lots(record, [item.key]).values()]
            things += lock_units(record, [item.key]).values()
            for thing in things:
                thing.location = row.location
                thing.version += 1
                record.add(thing)
    return row


def count_dose(
    record: RecordSession,
    serial: str,
    atmosphere: Atmosphere,
    start: datetime,
    end: datetime,
    water_ppm: float,
    oxygen_ppm: float,
    pressure_pa: float,
) -> Dose:
    """Count what a thing took up between two moments, from the mean contents and pressure around it.

    Args:
        record: Open write session.
        serial: What was exposed.
        atmosphere: Where.
        start: Domain time.
        end: Later than `start`.
        water_ppm: Water by volume, mean.
        oxygen_ppm: Oxygen by volume, mean.
        pressure_pa: Total pressure, mean.

    Raises:
        InvalidInput: The times or numbers can't be.
        NotFound: Nothing has the serial.
        Refused: Part of that time was counted already (`counted_until` says up to when).
    """
    with record.act("exposure.recorded", serial):
        item = find_item(record, serial)
        if start >= end:
            raise InvalidInput("An exposure must end after it starts.")
        for name, value in (("water", water_ppm), ("oxygen", oxygen_ppm), ("pressure", pressure_pa)):
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{value} is no {name}; it must be a number not below zero.")
        overlapping = select(Dose).where(Dose.item_id == item.key).where(Dose.started_at < end)
        if record.exec(overlapping.where(Dose.ended_at > start).limit(1)).first():
            message = f"The exposure of {item.serial} in that time was counted already."
            finding = Finding("exposure_counted", message, "Count from where the last one ended.", item.serial)
            raise Refused("The exposure can't be counted twice.", [finding])
        seconds = (end - start).total_seconds()
        row = Dose(
            item_id=item.key,
            atmosphere=atmosphere,
            started_at=start,
            ended_at=end,
            water_ppm=water_ppm,
            oxygen_ppm=oxygen_ppm,
            pressure_pa=pressure_pa,
            water_pa_s=dose_pa_s(water_ppm, pressure_pa, seconds),
            oxygen_pa_s=dose_pa_s(oxygen_ppm, pressure_pa, seconds),
        )
        record.add(row)
    return row


def counted_until(record: RecordSession, serial: str) -> datetime | None:
    """Up to when the exposure of a thing is counted; None if it never was."""
    item = find_item(record, serial)
    query = select(Dose).where(Dose.item_id == item.key).order_by(col(Dose.ended_at).desc()).limit(1)
    last = record.exec(query).first()
    return last.ended_at if last else None


def exposure_of(record: RecordSession, serial: str) -> Exposure:
    """What a thing has been exposed to up to now.

    Raises:
        InvalidInput: The serial is none.
        NotFound: Nothing has it.
    """
    return _exposure(record, find_item(record, serial))


def exposure_findings(
    record: RecordSession, serial: str, limits: Mapping[ItemKind, ExposureLimits] = DEFAULT_LIMITS
) -> list[Finding]:
    """Every limit that a thing has passed, by its kind.

    Raises:
        InvalidInput: The serial is none.
        NotFound: Nothing has it.
    """
    item = find_item(record, serial)
    limit = limits.get(item.kind)
    if limit is None:
        return []
    found = _exposure(record, item)
    findings: list[Finding] = []
    for name, dose, most in (
        ("water", found.water_pa_s, limit.water_pa_s),
        ("oxygen", found.oxygen_pa_s, limit.oxygen_pa_s),
    ):
        if most is not None and dose > most:
            message = f"{item.serial} has taken {dose:.0f} Pa·s of {name}; at most {most:.0f} is allowed."
            findings.append(
                Finding(f"{name}_dose_exceeded", message, "Use another, or ask QA for a disposition.", item.serial)
            )
    waited = found.until - found.since
    if limit.queue_time is not None and waited > limit.queue_time:
        hours, most = waited.total_seconds() / 3600, limit.queue_time.total_seconds() / 3600
        message = f"{item.serial} has waited {hours:.1f} h; at most {most:.0f} h is allowed."
        findings.append(
            Finding("queue_time_exceeded", message, "Use another, or ask QA for a disposition.", item.serial)
        )
    return findings


@dataclass(slots=True)
class _Sum:
    water_pa_s: float = 0.0
    oxygen_pa_s: float = 0.0
    seconds_in: dict[Atmosphere, float] = field(default_factory=dict)

    def raise_to(self, other: _Sum) -> None:
        """Take the larger of each number."""
        self.water_pa_s = max(self.water_pa_s, other.water_pa_s)
        self.oxygen_pa_s = max(self.oxygen_pa_s, other.oxygen_pa_s)
        for atmosphere, seconds in other.seconds_in.items():
            self.seconds_in[atmosphere] = max(self.seconds_in.get(atmosphere, 0.0), seconds)


class _Ledger:
    """The moves and doses of a thing and of what it came from, read at once."""

    def __init__(self, record: RecordSession, item_id: int) -> None:
        self._into: dict[int, list[TraceEdge]] = defaultdict(list)
        edges = matter_edges(record, item_id)
        for edge in edges:
            self._into[edge.dst].append(edge)
        ids = {item_id, *(edge.src for edge in edges)}
        self._doses: dict[int, list[Dose]] = defaultdict(list)
        for dose in record.exec(select(Dose).where(col(Dose.item_id).in_(ids))):
            self._doses[dose.item_id].append(dose)
        self._moves: dict[int, list[Move]] = defaultdict(list)
        for row in record.exec(select(Move).where(col(Move.item_id).in_(ids)).order_by(col(Move.at), col(Move.id))):
            self._moves[row.item_id].append(row)
        self._known: dict[tuple[int, datetime], _Sum] = {}

    def total(self, item_id: int, until: datetime) -> _Sum:
        """What a thing took up until a moment, with the worst of what it came from."""
        if (item_id, until) in self._known:
            return self._known[item_id, until]
        total = _Sum()
        for edge in self._into[item_id]:
            if edge.at <= until:
                total.raise_to(self.total(edge.src, edge.at))
        for dose in self._doses[item_id]:
            share = _share(dose, until)
            total.water_pa_s += dose.water_pa_s * share
            total.oxygen_pa_s += dose.oxygen_pa_s * share
        moves = [row for row in self._moves[item_id] if row.at < until]
        ends = [*(row.at for row in moves), until][1:]
        for row, end in zip(moves, ends, strict=True):
            seconds = (end - row.at).total_seconds()
            total.seconds_in[row.atmosphere] = total.seconds_in.get(row.atmosphere, 0.0) + seconds
        self._known[item_id, until] = total
        return total


def _share(dose: Dose, until: datetime) -> float:
    """Which part of a counted interval lies before a moment."""
    if dose.ended_at <= until:
        return 1.0
    return max(0.0, (until - dose.started_at) / (dose.ended_at - dose.started_at))


def _exposure(record: RecordSession, item: Item) -> Exposure:
    until = record.clock.now()
    total = _Ledger(record, item.key).total(item.key, until)
    return Exposure(total.water_pa_s, total.oxygen_pa_s, total.seconds_in, item.created_at, until)
