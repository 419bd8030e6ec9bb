"""What wears out and what falls due: the life of targets, the calibration of tools, and notices of both.

Wear is counted from what each run used, and is asked about before the next run is started. What a target is made of
and where it came from is the record's; how it ages the rate is run-to-run control's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from equipment.utilisation import find_tool, tools
from traceability.acts import system_actor
from traceability.canonical import timestamp
from traceability.columns import ExactDecimal, UtcDateTime
from traceability.database import Database, RecordSession
from traceability.errors import Conflict, Finding, InvalidInput, NotFound, Refused, Severity
from traceability.items import ItemKind, find_item
from traceability.jobs import Job
from traceability.quantities import plain
from traceability.units import Unit, UnitStatus

TARGET_LIFE_KWH = Decimal(20)
"""Energy after which a 76.2 mm target is taken out (engineering judgement)."""

CALIBRATION_WARNING = timedelta(days=7)
"""How long before it runs out a calibration is asked for."""

LIFE_WARNING = Decimal("0.9")
"""Part of its life from which on a target is warned about."""

_GONE = (UnitStatus.CONSUMED, UnitStatus.SCRAPPED)
_HOUSEKEEPER = system_actor("maintenance")


class Target(SQLModel, table=True):
    """The wear of a target.

    Attributes:
        energy_kwh: RF energy it has seen.
        life_kwh: Energy at which it is used up.
        runs: How many runs it was in.
    """

    __tablename__ = "targets"

    item_id: int = Field(primary_key=True, foreign_key="items.id", sa_column_kwargs={"autoincrement": False})
    serial: str = Field(unique=True)
    energy_kwh: Decimal = Field(sa_column=Column(ExactDecimal, nullable=False))
    life_kwh: Decimal = Field(sa_column=Column(ExactDecimal, nullable=False))
    runs: int = 0
    version: int = 1

    @property
    def used(self) -> Decimal:
        """Part of its life that is used; above 1 when it is overdue."""
        return self.energy_kwh / self.life_kwh


class MaintenanceNotice(SQLModel, table=True):
    """That something is due; it stands until it was seen to.

    Attributes:
        subject: Serial of a target, or `tool: instrument`.
        code: As of the finding that it repeats.
    """

    __tablename__ = "maintenance_notices"

    id: int | None = Field(default=None, primary_key=True)
    subject: str = Field(index=True)
    code: str
    message: str
    action: str = ""
    raised_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    cleared_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, index=True))


class Calibration(SQLModel, table=True):
    """A calibration of an instrument of a tool; the last one of each instrument counts."""

    __tablename__ = "calibrations"

    id: int | None = Field(default=None, primary_key=True)
    tool_id: int = Field(foreign_key="tools.id", index=True)
    instrument: str
    certificate: str = ""
    done_by: str
    done_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    due_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


def register_target(
    record: RecordSession, serial: str, *, life_kwh: Decimal = TARGET_LIFE_KWH, energy_kwh: Decimal = Decimal(0)
) -> Target:
    """Begin to count the wear of a target.

    Args:
        record: Open write session.
        serial: A unit of kind target.
        life_kwh: Energy at which it is used up.
        energy_kwh: Energy that it has seen before.

    Raises:
        NotFound: Nothing has that serial.
        Conflict: Its wear is counted already.
        InvalidInput: The life is not above zero, or it is no target.
    """
    with record.act("target.registered", serial):
        item = find_item(record, serial)
        if item.kind is not ItemKind.TARGET:
            raise InvalidInput(f"{item.serial} is a {item.kind}, not a target.")
        if life_kwh <= 0 or energy_kwh < 0:
            raise InvalidInput(f"A target has a life above 0 kWh, not {life_kwh} kWh with {energy_kwh} kWh used.")
        if record.get(Target, item.key) is not None:
            raise Conflict(f"The wear of {item.serial} is counted already.")
        target = Target(item_id=item.key, serial=item.serial, energy_kwh=energy_kwh, life_kwh=life_kwh)
        record.add(target)
    return target


def find_target(record: RecordSession, serial: str) -> Target:
    """The wear of a target.

    Raises:
        NotFound: Its wear is not counted.
    """
    target = record.exec(select(Target).where(Target.serial == serial).with_for_update()).first()
    if target is None:
        raise NotFound(f"No wear is counted for a target {serial}; enter it first.")
    return target


def count_wear(record: RecordSession, serial: str, energy_kwh: Decimal) -> Target:
    """Add what a run used.

    Raises:
        NotFound: Its wear is not counted.
        InvalidInput: The energy is negative.
    """
    if energy_kwh < 0:
        raise InvalidInput(f"A run can't use {energy_kwh} kWh.")
    with record.act("target.worn", serial, detail={"energy_kwh": energy_kwh}):
        target = find_target(record, serial)
        target.energy_kwh += energy_kwh
        target.runs += 1
        target.version += 1
        record.add(target)
    return target


def target_findings(target: Target) -> list[Finding]:
    """Whether a target may be used: an error at the end of its life, a warning near it."""
    used = f"{plain(target.energy_kwh)} of {plain(target.life_kwh)} kWh"
    if target.used >= 1:
        return [Finding("target_used_up", f"{target.serial} has seen {used}.", "Change the target.", target.serial)]
    if target.used >= LIFE_WARNING:
        message, action = f"{target.serial} has seen {used}.", "Have the next target ready."
        return [Finding("target_nearly_used_up", message, action, target.serial, Severity.WARNING)]
    return []


def record_calibration(
    record: RecordSession, tool: str, instrument: str, *, due_at: datetime, certificate: str = ""
) -> Calibration:
    """Store that an instrument of a tool was calibrated, and until when that holds.

    Raises:
        NotFound: The line has no such tool.
        Refused: It would be due before it was done.
    """
    now = record.clock.now()
    with record.act("tool.maintained", tool, detail={"instrument": instrument, "due_at": due_at}):
        found = find_tool(record, tool)
        if due_at <= now:
            message = f"The calibration of {instrument} would be due at {timestamp(due_at)}, which is past."
            raise Refused(message, [Finding("due_in_the_past", message, "Give the date of the next one.", "due_at")])
        row = Calibration(
            tool_id=found.key,
            instrument=instrument,
            certificate=certificate,
            done_by=record.actor.name,
            done_at=now,
            due_at=due_at,
        )
        record.add(row)
    return row


def calibrations(record: RecordSession, tool: str) -> list[Calibration]:
    """The last calibration of each instrument of a tool."""
    found = find_tool(record, tool)
    rows = record.exec(select(Calibration).where(Calibration.tool_id == found.key).order_by(col(Calibration.id)))
    return list({row.instrument: row for row in rows}.values())


def calibration_findings(record: RecordSession, tool: str) -> list[Finding]:
    """Instruments of a tool whose calibration has run out."""
    now = record.clock.now()
    return [
        Finding(
            "calibration_due",
            f"The calibration of {row.instrument} on {tool} ran out at {timestamp(row.due_at)}.",
            "Calibrate it and record that.",
            tool,
        )
        for row in calibrations(record, tool)
        if row.due_at <= now
    ]


def due_soon(record: RecordSession) -> list[Finding]:
    """Targets near or past the end of their life, and calibrations that ran out or soon will, of the whole line."""
    used_up = [unit.item_id for unit in record.exec(select(Unit).where(col(Unit.status).in_(_GONE)))]
    found = [
        finding
        for target in record.exec(select(Target).order_by(col(Target.item_id)))
        if target.item_id not in used_up
        for finding in target_findings(target)
    ]
    soon = record.clock.now() + CALIBRATION_WARNING
    for tool in tools(record):
        for row in calibrations(record, tool.name):
            if row.due_at <= soon:
                message = f"{row.instrument} of {tool.name} is to be calibrated by {timestamp(row.due_at)}."
                subject = f"{tool.name}: {row.instrument}"
                found.append(Finding("calibration_due", message, "Calibrate it.", subject, Severity.WARNING))
    return found


def update_notices(record: RecordSession) -> list[MaintenanceNotice]:
    """Raise a notice for what has become due and clear those that were seen to; answers with those that stand."""
    due = {(finding.path, finding.code): finding for finding in due_soon(record)}
    standing = {(row.subject, row.code): row for row in standing_notices(record)}
    raised, cleared = due.keys() - standing.keys(), standing.keys() - due.keys()
    if raised or cleared:
        with record.act("maintenance.noticed", *sorted({subject for subject, _ in raised | cleared})):
            for key in sorted(cleared):
                standing[key].cleared_at = record.clock.now()
                record.add(standing[key])
            for key in sorted(raised):
                finding = due[key]
                record.add(
                    MaintenanceNotice(
                        subject=finding.path,
                        code=finding.code,
                        message=finding.message,
                        action=finding.action,
                        raised_at=record.clock.now(),
                    )
                )
    return standing_notices(record)


def standing_notices(record: RecordSession) -> list[MaintenanceNotice]:
    """What is due and was not seen to yet, oldest first."""
    query = select(MaintenanceNotice).where(col(MaintenanceNotice.cleared_at).is_(None))
    return list(record.exec(query.order_by(col(MaintenanceNotice.id))))


def maintenance_jobs(database: Database) -> list[Job]:
    """What is to be done by the clock: look for what has become due."""

    def look() -> None:
        with database.write(_HOUSEKEEPER) as record:
            update_notices(record)

    return [Job("maintenance-due", look, every_s=60.0)]
