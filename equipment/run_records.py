"""What is stored of a run: the frozen recipe it executes, what lies in which position, and what was not as planned.

The rows and how to find them, nothing more: planning and following a run is in `runs`, what its end brings about in
`run_completion`, its telemetry in `traces`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, Text, UniqueConstraint
from sqlmodel import Field, SQLModel, col, select

from equipment.orders import WorkOrder
from equipment.states import RunState
from recipes.run_to_run_rows import RunToRunMove
from traceability.columns import CanonicalJson, Choice, ExactDecimal, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import NotFound, StaleVersion
from traceability.items import Item


class Use(StrEnum):
    """What a thing is to a run."""

    DISC = "disc"
    WITNESS = "witness"
    TARGET = "target"
    POWDER = "powder"
    PELLET = "pellet"
    CATHODE = "cathode"
    DIE = "die"
    COLLECTOR = "collector"


class Run(SQLModel, table=True):
    """One control recipe on one tool.

    Attributes:
        serial: `RUN-…`; also the job's id on the tool.
        work_master: `recipe id/version/sha256` as the tool is told it.
        control_recipe: Canonical JSON of the control recipe; never changes.
        control_hash: SHA-256 of `control_recipe`.
        experiment: May use a draft recipe; what it makes says so for ever.
        interrupted: The process was interrupted; stays set for ever.
        started_at, ended_at: By the tool's own stamps, domain time.
        actuals: Results by name, `{value, unit}`, as the tool told them at the end.
        product_serial: Serial that what it makes will have, where the tool is told it before (a pellet).
        epoch: Lease epoch under which it was started.
        move_id: Run-to-run decision that its deposition time rests on; None where there is no film.
        why: Reason of a failed, withdrawn or unknown run.
    """

    __tablename__ = "runs"

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    tool: str = Field(index=True)
    equipment_class: str
    state: RunState = Field(sa_column=Column(Choice(RunState), nullable=False, index=True))
    version: int = 1
    activity_id: int | None = Field(default=None, foreign_key="activities.id", unique=True)
    order_id: int | None = Field(default=None, foreign_key="orders.id", index=True)
    work_master: str
    control_recipe: str = Field(sa_column=Column(Text, nullable=False))
    control_hash: str = Field(max_length=64)
    move_id: int | None = Field(
        default=None, sa_column=Column(Integer, ForeignKey(col(RunToRunMove.id)), nullable=True, unique=True)
    )
    experiment: bool = False
    simulated: bool = False
    interrupted: bool = False
    planned_by: str
    planned_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    intent_id: int | None = None
    epoch: int = 0
    started_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    actuals: dict[str, Any] = Field(default_factory=dict, sa_column=Column(CanonicalJson, nullable=False))
    product_serial: str = ""
    why: str = ""

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the run is not stored yet")
        return self.id

    def actual(self, name: str) -> float | None:
        """A numeric result, None where the tool told none."""
        found = self.actuals.get(name)
        return None if found is None else float(found["value"])


class RunPosition(SQLModel, table=True):
    """A thing in a run.

    Attributes:
        position: Carrier position 1…n, or None.
        quantity: How much of a lot; None for a serialised thing.
        result_serial: What it became at the end; empty until then, or where it became nothing else.
    """

    __tablename__ = "run_positions"
    __table_args__ = (UniqueConstraint("run_id", "item_id"), UniqueConstraint("run_id", "position"))

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", index=True)
    item_id: int | None = Field(default=None, foreign_key="items.id", index=True)
    serial: str
    use: Use = Field(sa_column=Column(Choice(Use), nullable=False))
    position: int | None = None
    quantity: Decimal | None = Field(default=None, sa_column=Column(ExactDecimal))
    unit: str = ""
    result_serial: str = ""

    @property
    def is_unit(self) -> bool:
        """A serialised thing that the run takes for itself; neither a lot, nor the target, nor a die."""
        return self.item_id is not None and self.quantity is None and self.use is not Use.TARGET


class DeviationKind(StrEnum):
    """How a run was not as planned."""

    OUT_OF_TOLERANCE = "out_of_tolerance"
    INTERRUPTION = "interruption"
    HOLD = "hold"
    ALARM = "alarm"
    GAP = "gap"
    INCOMPLETE = "incomplete"
    DOUBTFUL = "doubtful"


class DeviationGrade(StrEnum):
    """How much a deviation matters to the review of what the run made."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class Deviation(SQLModel, table=True):
    """One way in which a run was not as planned.

    Attributes:
        source: What makes it unique within its run: the parameter, alarm or time it is about.
        detail: Numbers behind it: target, tolerance, actual; alarm and times.
    """

    __tablename__ = "deviations"
    __table_args__ = (UniqueConstraint("run_id", "kind", "source"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", index=True)
    kind: DeviationKind = Field(sa_column=Column(Choice(DeviationKind), nullable=False))
    grade: DeviationGrade = Field(sa_column=Column(Choice(DeviationGrade), nullable=False))
    source: str = ""
    message: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(CanonicalJson, nullable=False))
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


def find_run(record: RecordSession, serial: str, expected_version: int | None = None, *, lock: bool = False) -> Run:
    """The run with that serial.

    Args:
        record: Open session.
        serial: `RUN-…`.
        expected_version: Refuse when it has changed since it was read.
        lock: Read it anew and keep others from changing it until this transaction ends.

    Raises:
        NotFound: There is none.
        StaleVersion: It is not at the version expected.
    """
    query = select(Run).where(Run.serial == serial)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    run = record.exec(query).first()
    if run is None:
        raise NotFound(f"There is no run {serial}.")
    if expected_version is not None and run.version != expected_version:
        raise StaleVersion(f"{serial} is at version {run.version}, not {expected_version}; read it again.")
    return run


def positions_of(record: RecordSession, run: Run) -> list[RunPosition]:
    """What lies in the run, in the order in which it was planned."""
    return list(record.exec(select(RunPosition).where(RunPosition.run_id == run.key).order_by(col(RunPosition.id))))


def deviations_of(record: RecordSession, run: Run) -> list[Deviation]:
    """How the run was not as planned, oldest first."""
    return list(record.exec(select(Deviation).where(Deviation.run_id == run.key).order_by(col(Deviation.id))))


def runs_with(record: RecordSession, serial: str) -> list[Run]:
    """Every run that a thing was in or was made by, oldest first."""
    positions = select(RunPosition.run_id).join(Item, col(Item.id) == RunPosition.item_id)
    inside = positions.where((col(Item.serial) == serial) | (RunPosition.result_serial == serial))
    return list(record.exec(select(Run).where(col(Run.id).in_(inside)).order_by(col(Run.id))))


def order_of(record: RecordSession, run: Run) -> WorkOrder | None:
    """The work order that the run belongs to, if it belongs to one."""
    return None if run.order_id is None else record.get(WorkOrder, run.order_id)


def open_runs(record: RecordSession, tool: str) -> list[Run]:
    """Runs of a tool that have not ended, oldest first; also those that are only planned."""
    ended = [state for state in RunState if state.ended]
    query = select(Run).where(Run.tool == tool, col(Run.state).not_in(ended)).order_by(col(Run.id))
    return list(record.exec(query))


def note_deviation(
    record: RecordSession,
    run: Run,
    kind: DeviationKind,
    grade: DeviationGrade,
    message: str,
    *,
    source: str = "",
    detail: dict[str, Any] | None = None,
    at: datetime | None = None,
) -> Deviation:
    """Store a deviation; the same kind and source in the same run is stored once."""
    query = select(Deviation).where(Deviation.run_id == run.key, Deviation.kind == kind, Deviation.source == source)
    found = record.exec(query).first()
    if found is not None:
        return found
    with record.act("run.deviated", run.serial, detail={"kind": kind, "grade": grade, "message": message}):
        row = Deviation(
            run_id=run.key,
            kind=kind,
            grade=grade,
            source=source,
            message=message,
            detail=detail or {},
            at=at or record.clock.now(),
        )
        record.add(row)
    return row
