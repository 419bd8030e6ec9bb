"""What still has to be said to tester endpoints: a queue in the database, filled in the transaction of the intent.

A row is written together with the hand-off it is about, so that neither is there without the other; it leaves the
queue only by an answer of the endpoint. How it is delivered is `outbox`'s. Times are real time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import Column, func
from sqlmodel import Field, SQLModel, col, select

from equipment.testers.handoff_records import Handoff
from traceability.clock import wall_now
from traceability.columns import Choice, UtcDateTime
from traceability.database import RecordSession


class Message(StrEnum):
    """What is said."""

    OFFER = "offer"
    CANCEL = "cancel"


class MessageState(StrEnum):
    """Whether it was heard."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"


class OutboxRow(SQLModel, table=True):
    """One request that an endpoint is to get.

    Attributes:
        attempts: How often it was tried.
        next_at: Real time before which it is not tried again.
        problem: What went wrong last.
    """

    __tablename__ = "tester_outbox"
    __unaudited__: ClassVar[str] = "a queue; the intent and its outcome are on the hand-off, which is audited"

    id: int | None = Field(default=None, primary_key=True)
    handoff_id: int = Field(foreign_key="handoffs.id", index=True)
    tester: str
    message: Message = Field(sa_column=Column(Choice(Message), nullable=False))
    state: MessageState = Field(sa_column=Column(Choice(MessageState), nullable=False, index=True))
    attempts: int = 0
    written_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    next_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    answered_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    problem: str = ""


def enqueue(record: RecordSession, handoff: Handoff, message: Message) -> OutboxRow:
    """Let an endpoint be told; call within the transaction that decided it."""
    now = wall_now()
    row = OutboxRow(
        handoff_id=handoff.key,
        tester=handoff.tester,
        message=message,
        state=MessageState.WAITING,
        written_at=now,
        next_at=now,
    )
    record.add(row)
    return row


def waiting(record: RecordSession, tester: str | None = None) -> Sequence[tuple[OutboxRow, Handoff]]:
    """What has not been heard yet, oldest first, each with its hand-off."""
    query = (
        select(OutboxRow, Handoff)
        .join(Handoff, col(Handoff.id) == col(OutboxRow.handoff_id))
        .where(OutboxRow.state == MessageState.WAITING)
        .order_by(col(OutboxRow.id))
    )
    if tester is not None:
        query = query.where(OutboxRow.tester == tester)
    return record.exec(query).all()


def messages_of(record: RecordSession, handoff: Handoff) -> Sequence[OutboxRow]:
    """Everything said, or to be said, about a hand-off, oldest first."""
    return record.exec(select(OutboxRow).where(OutboxRow.handoff_id == handoff.key).order_by(col(OutboxRow.id))).all()


def waiting_counts(record: RecordSession) -> dict[str, int]:
    """How much waits for each tester."""
    query = (
        select(OutboxRow.tester, func.count())
        .where(OutboxRow.state == MessageState.WAITING)
        .group_by(col(OutboxRow.tester))
    )
    return dict(record.exec(query).all())
