"""What happened: runs, press strokes, tests, measurements and every other activity, in one table.

Genealogy edges and measurements name the activity they belong to, and tables of the packages above point down to
it. What an activity did in detail (setpoints, traces, results) is not known here.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Column, Sequence
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field, SQLModel

from traceability.columns import CanonicalJson, Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import NotFound
from traceability.identifiers import make_identifier


class ActivityKind(StrEnum):
    """What sort of thing was done."""

    RECEIPT = "receipt"
    SPUTTER_RUN = "sputter_run"
    PRESS_RUN = "press_run"
    ASSEMBLY = "assembly"
    PREPARATION = "preparation"
    MEASUREMENT = "measurement"
    TEST = "test"
    LOGISTICS = "logistics"


class Outcome(StrEnum):
    """How an activity ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    ABORTED = "aborted"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ActivityRow(SQLModel, table=True):
    """One activity.

    Attributes:
        serial: `ACT-…`, or the serial of what it is in the packages above (`RUN-…`).
        equipment: Name of the tool or tester; empty for manual work.
        person: Name of who did or started it.
        work_master: `recipe id/version/sha256`, or empty.
        simulated: The equipment declared itself a simulator.
    """

    __tablename__ = "activities"

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    kind: ActivityKind = Field(sa_column=Column(Choice(ActivityKind), nullable=False, index=True))
    equipment: str = ""
    person: str
    work_master: str = ""
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    outcome: Outcome | None = Field(default=None, sa_column=Column(Choice(Outcome)))
    simulated: bool = False
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(CanonicalJson, nullable=False))

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the activity is not stored yet")
        return self.id


def begin_activity(
    record: RecordSession,
    kind: ActivityKind,
    *,
    serial: str | None = None,
    equipment: str = "",
    work_master: str = "",
    simulated: bool = False,
    started_at: datetime | None = None,
    detail: dict[str, Any] | None = None,
) -> ActivityRow:
    """Store that something began.

    Args:
        record: Open write session.
        kind: What sort of thing.
        serial: Its identifier; one is made if left out.
        equipment: Name of the tool or tester.
        work_master: Reference of the recipe with its hash.
        simulated: Declared by the equipment.
        started_at: Domain time; now if left out.
        detail: More, JSON-able.
    """
    with record.act("activity.started") as act:
        row = ActivityRow(
            serial=serial or "",
            kind=kind,
            equipment=equipment,
            person=record.actor.name,
            work_master=work_master,
            started_at=started_at or record.clock.now(),
            simulated=simulated,
            detail=detail or {},
        )
        if not serial:
            row.serial = next_serial(record, "ACT")
        record.add(row)
        record.flush()
        act.items.append(row.serial)
        act.detail["kind"] = kind
    return row


def end_activity(
    record: RecordSession,
    activity: ActivityRow,
    outcome: Outcome = Outcome.COMPLETED,
    *,
    ended_at: datetime | None = None,
    detail: dict[str, Any] | None = None,
) -> ActivityRow:
    """Store how and when an activity ended; `detail` is merged into what it has."""
    with record.act("activity.ended", activity.serial, detail={"outcome": outcome}):
        activity.outcome = outcome
        activity.ended_at = ended_at or record.clock.now()
        if detail:
            activity.detail = {**activity.detail, **detail}
        record.add(activity)
    return activity


def find_activity(record: RecordSession, activity_id: int) -> ActivityRow:
    """The activity with that id.

    Raises:
        NotFound: There is none.
    """
    row = record.get(ActivityRow, activity_id)
    if row is None:
        raise NotFound(f"There is no activity number {activity_id}.")
    return row


class SerialCounter(SQLModel, table=True):
    """The last number given out; used on SQLite, where a transaction is the only writer anyway."""

    __tablename__ = "serial_counter"
    __unaudited__: ClassVar[str] = "a counter; the serials it gave stand in the rows themselves"

    id: int = Field(default=1, primary_key=True)
    last: int = 0


# PostgreSQL counts outside the transaction: a locked counter row would let two writers deadlock over it.
SERIAL_NUMBERS = Sequence("serial_numbers", metadata=SQLModel.metadata)


def next_serial(record: RecordSession, prefix: str) -> str:
    """A fresh identifier for the prefix (`LOT`, `DSC`, `RUN` …), unique in the database, with check character.

    All prefixes share one count. A rolled-back transaction may leave a gap in it.
    """
    connection = record.connection()
    if record.dialect == "postgresql":
        number = connection.execute(SERIAL_NUMBERS.next_value().select()).scalar_one()
    else:
        counters = SQLModel.metadata.tables["serial_counter"]
        upsert = insert(counters).values(id=1, last=1)
        upsert = upsert.on_conflict_do_update(index_elements=["id"], set_={"last": counters.c.last + 1})
        number = connection.execute(upsert.returning(counters.c.last)).scalar_one()
    return make_identifier(prefix, number)
