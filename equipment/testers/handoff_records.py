"""The tables of hand-offs: what was offered to which tester, what it reported, and what it sent back.

The database itself refuses a second live cell on a channel and a second open hand-off of a cell. How a row moves is
decided in `handoff`, what becomes of a file in `ingest`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, Index, Integer, UniqueConstraint, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel, col, select

from equipment.testers.contract import Offer
from equipment.testers.handoff_states import ON_CHANNEL, HandoffEvent, HandoffState
from traceability.append_only import make_append_only
from traceability.columns import CanonicalJson, Choice, ExactDecimal, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Conflict, Finding, NotFound
from traceability.items import require_version


def _among(states: list[HandoffState]) -> str:
    return "state IN (" + ", ".join(f"'{state}'" for state in states) + ")"


_CHANNEL_IN_USE = text(f"channel IS NOT NULL AND {_among(list(ON_CHANNEL))}")
_OPEN = text(_among([state for state in HandoffState if state.open]))


class Handoff(SQLModel, table=True):
    """A cell handed, or to be handed, to a tester.

    Attributes:
        uuid: Its name on both sides.
        offer: The body as the tester gets it; never changes.
        channel_lease: Fencing token of the channel: what carries an older one is out of date.
        tester_serial, simulated: As the tester declared when it accepted.
        started_at, ended_at: Domain time of the tester.
        last_seq: Number of the last event taken.
        cancel_requested: The tester was, or is to be, asked to give the cell back.
        why: What was last said about it: reason of a rejection, an abort, or of not knowing.
        activity_id: The test on record, once it has started.
    """

    __tablename__ = "handoffs"
    __table_args__: ClassVar[Any] = (
        Index(
            "one_cell_a_channel",
            "tester",
            "channel",
            unique=True,
            sqlite_where=_CHANNEL_IN_USE,
            postgresql_where=_CHANNEL_IN_USE,
        ),
        Index("one_open_handoff_a_cell", "item_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_handoffs_tester_state", "tester", "state"),
    )

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True, max_length=36)
    item_id: int = Field(foreign_key="items.id", index=True)
    cell_serial: str
    tester: str
    protocol_ref: str
    protocol_sha256: str = Field(max_length=64)
    work_master: str
    experiment: bool = False
    offer: dict[str, Any] = Field(sa_column=Column(CanonicalJson, nullable=False))
    offer_sha256: str = Field(max_length=64)
    area_cm2: Decimal = Field(sa_column=Column(ExactDecimal, nullable=False))
    active_mg: Decimal | None = Field(default=None, sa_column=Column(ExactDecimal))
    state: HandoffState = Field(sa_column=Column(Choice(HandoffState), nullable=False))
    channel: str | None = None
    channel_lease: int | None = Field(default=None, sa_column=Column(BigInteger))
    channel_barcode: str = ""
    ocv_v: float | None = None
    tester_serial: str = ""
    simulated: bool = False
    offered_by: str
    offered_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    last_seq: int = 0
    cancel_requested: bool = False
    why: str = ""
    activity_id: int | None = Field(default=None, foreign_key="activities.id")
    version: int = 1

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the hand-off is not stored yet")
        return self.id

    @property
    def body(self) -> Offer:
        """What was offered."""
        return Offer.model_validate(self.offer)


class TesterEvent(SQLModel, table=True):
    """Something a tester reported. The row never changes; a repeated report is recognised by its number."""

    __tablename__ = "tester_events"
    __table_args__ = (UniqueConstraint("handoff_id", "seq"),)

    id: int | None = Field(default=None, primary_key=True)
    handoff_id: int = Field(foreign_key="handoffs.id", index=True)
    seq: int = Field(sa_column=Column(Integer, nullable=False))
    event: HandoffEvent = Field(sa_column=Column(Choice(HandoffEvent), nullable=False))
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    received_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    detail: dict[str, Any] = Field(sa_column=Column(CanonicalJson, nullable=False))


make_append_only(SQLModel.metadata.tables["tester_events"])


class ResultStatus(StrEnum):
    """What became of a tester's file."""

    INGESTED = "ingested"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


class TesterResult(SQLModel, table=True):
    """A file that a tester sent, and what is said by it.

    Attributes:
        blob_sha256: The raw file in the attachment store.
        first_at, last_at, n_records: As the tester reported; `analysis` has them as they were read.
        profile: The layout by which it was read; empty where none fits.
        analysis: Figures and verdict; None while it could not be read. Numbers are strings.
        findings: Why it went into quarantine, as `{code, message, action, path}`.
        superseded_by: A later file of the same test; both stay.
        decision: What a person said when it left quarantine.
    """

    __tablename__ = "tester_results"
    __table_args__ = (UniqueConstraint("handoff_id", "blob_sha256"),)

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    handoff_id: int = Field(foreign_key="handoffs.id", index=True)
    blob_sha256: str = Field(max_length=64)
    file_name: str
    parser: str
    parser_version: str
    profile: str = ""
    tester_serial: str
    channel: str
    first_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    last_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    n_records: int
    is_final: bool
    received_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    status: ResultStatus = Field(sa_column=Column(Choice(ResultStatus), nullable=False, index=True))
    analysis: dict[str, Any] | None = Field(default=None, sa_column=Column(CanonicalJson))
    findings: list[dict[str, str]] = Field(default_factory=list, sa_column=Column(CanonicalJson, nullable=False))
    superseded_by: int | None = Field(default=None, foreign_key="tester_results.id")
    decided_by: str = ""
    decision: str = ""
    version: int = 1

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the result is not stored yet")
        return self.id


def find_handoff(
    record: RecordSession, uuid: str, expected_version: int | None = None, *, lock: bool = False
) -> Handoff:
    """The hand-off of that name.

    Raises:
        NotFound: There is none.
        StaleVersion: It was changed since it was read.
    """
    query = select(Handoff).where(Handoff.uuid == uuid)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    handoff = record.exec(query).one_or_none()
    if handoff is None:
        raise NotFound(f"There is no hand-off {uuid}.")
    require_version(uuid, handoff.version, expected_version)
    return handoff


def open_handoff(record: RecordSession, item_id: int) -> Handoff | None:
    """The hand-off by which a tester has the cell, or is to get it."""
    states = [state for state in HandoffState if state.open]
    return record.exec(select(Handoff).where(Handoff.item_id == item_id, col(Handoff.state).in_(states))).first()


def on_channel(record: RecordSession, tester: str, channel: str) -> Handoff | None:
    """The hand-off that occupies a channel."""
    return record.exec(
        select(Handoff).where(
            Handoff.tester == tester, Handoff.channel == channel, col(Handoff.state).in_(ON_CHANNEL)
        )
    ).first()


def store(record: RecordSession, handoff: Handoff) -> None:
    """Write a hand-off now, so that what the database forbids is known at once.

    Raises:
        Conflict: The channel or the cell is taken by another hand-off.
    """
    record.add(handoff)
    try:
        record.flush()
    except IntegrityError as error:
        where = f"channel {handoff.channel} of {handoff.tester}" if handoff.channel else handoff.cell_serial
        finding = Finding(
            "taken", f"Another hand-off has {where}.", "Look at the list of open hand-offs.", handoff.uuid
        )
        raise Conflict(f"{where} is taken by another hand-off.", [finding]) from error


def events_of(record: RecordSession, handoff: Handoff) -> list[TesterEvent]:
    """What the tester reported, in order."""
    query = select(TesterEvent).where(TesterEvent.handoff_id == handoff.key).order_by(col(TesterEvent.seq))
    return list(record.exec(query))


def results_of(record: RecordSession, handoff: Handoff) -> list[TesterResult]:
    """The files of a hand-off, oldest first."""
    query = select(TesterResult).where(TesterResult.handoff_id == handoff.key).order_by(col(TesterResult.id))
    return list(record.exec(query))
