"""Sputter targets wear: how much energy each has taken, of how much it may.

A target lasts over many runs; what was sputtered from it hangs on it by genealogy. Each use is one row that never
changes, so the wear is their sum. What pre-sputtering a target needs after a vent is the recipes' business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, UniqueConstraint
from sqlmodel import Field, SQLModel, col, select

from traceability.activities import ActivityRow
from traceability.append_only import make_append_only
from traceability.columns import UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, Refused
from traceability.items import ItemKind
from traceability.units import Unit, find_unit

EROSION_LIMIT = "erosion_limit_kwh"
"""Property of a target unit: the energy after which it must not be used, kWh."""


class TargetUse(SQLModel, table=True):
    """What one run took from a target. The row never changes."""

    __tablename__ = "target_uses"
    __table_args__ = (UniqueConstraint("item_id", "activity_id"),)

    id: int | None = Field(default=None, primary_key=True)
    item_id: int = Field(foreign_key="items.id")
    activity_id: int = Field(foreign_key="activities.id")
    energy_kwh: float
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


make_append_only(SQLModel.metadata.tables["target_uses"])


@dataclass(frozen=True, slots=True)
class TargetLife:
    """Where a target stands.

    Attributes:
        used_kwh: Energy it has taken.
        limit_kwh: Its erosion limit; None if it has none.
    """

    serial: str
    used_kwh: float
    limit_kwh: float | None

    @property
    def left_kwh(self) -> float | None:
        """Energy it may still take, never below zero; None without a limit."""
        return None if self.limit_kwh is None else max(0.0, self.limit_kwh - self.used_kwh)


def wear_target(record: RecordSession, serial: str, *, energy_kwh: float, activity: ActivityRow) -> TargetUse:
    """Count what a run took from a target; once for each run.

    Raises:
        InvalidInput: The serial is none, or the energy is below zero.
        NotFound: There is no such unit.
        Refused: It is no target, or this run was counted already.
    """
    with record.act("target.worn", serial, activity.serial, detail={"energy_kwh": energy_kwh}):
        unit = _target(record, serial)
        if not (math.isfinite(energy_kwh) and energy_kwh >= 0):
            raise InvalidInput(f"{energy_kwh} kWh is no energy; it must be a number not below zero.")
        uses = select(TargetUse).where(TargetUse.item_id == unit.item_id)
        if record.exec(uses.where(TargetUse.activity_id == activity.key)).first():
            message = f"{activity.serial} was counted for {unit.serial} already."
            finding = Finding("target_use_counted", message, "Nothing is left to do.", unit.serial)
            raise Refused("A run wears a target once.", [finding])
        use = TargetUse(item_id=unit.item_id, activity_id=activity.key, energy_kwh=energy_kwh, at=record.clock.now())
        record.add(use)
    return use


def target_life(record: RecordSession, serial: str) -> TargetLife:
    """Where a target stands.

    Raises:
        InvalidInput: The serial is none.
        NotFound: There is no such unit.
        Refused: It is no target.
    """
    unit = _target(record, serial)
    uses: Sequence[TargetUse] = record.exec(
        select(TargetUse).where(TargetUse.item_id == unit.item_id).order_by(col(TargetUse.id))
    ).all()
    limit = unit.properties.get(EROSION_LIMIT)
    return TargetLife(
        serial=unit.serial,
        used_kwh=math.fsum(use.energy_kwh for use in uses),
        limit_kwh=None if limit is None else float(limit),
    )


def target_findings(record: RecordSession, serial: str, energy_kwh: float = 0.0) -> list[Finding]:
    """Why a target can't give a run that much more energy.

    Raises:
        InvalidInput: The serial is none.
        NotFound: There is no such unit.
        Refused: It is no target.
    """
    life = target_life(record, serial)
    if life.limit_kwh is None or life.used_kwh + energy_kwh <= life.limit_kwh:
        return []
    message = (
        f"{life.serial} has taken {life.used_kwh:.2f} kWh; with {energy_kwh:.2f} kWh more it would pass its "
        f"limit of {life.limit_kwh:.2f} kWh."
    )
    return [Finding("target_worn", message, "Mount another target.", life.serial)]


def _target(record: RecordSession, serial: str) -> Unit:
    unit = find_unit(record, serial)
    if unit.kind is not ItemKind.TARGET:
        message = f"{unit.serial} is a {unit.kind.replace('_', ' ')}, not a target."
        finding = Finding("wrong_kind", message, "Give the target's serial.", unit.serial)
        raise Refused(f"{unit.serial} is no target.", [finding])
    return unit
