"""Cursor pages: lists in a fixed order that stay right while rows are added."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement
from sqlmodel.sql.expression import SelectOfScalar

from traceability.database import RecordSession
from traceability.errors import InvalidInput

_LARGEST = 2**63 - 1

Row = TypeVar("Row")
View = TypeVar("View", bound=BaseModel)

Cursor = Annotated[str | None, Query(description="`next` of the page before; leave out for the first page.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Largest number of items on the page.")]


class Page(BaseModel, Generic[View]):
    """One page of a list."""

    items: list[View]
    next: str | None = Field(None, description="Cursor of the next page; null on the last one.")


def page_of(
    record: RecordSession,
    query: SelectOfScalar[Row],
    key: Any,
    view: Callable[[Row], View],
    *,
    cursor: str | None,
    limit: int,
    conditions: Sequence[ColumnElement[bool]] = (),
) -> Page[View]:
    """One page of `query`, newest first.

    Args:
        record: Open read session.
        query: What to list, without order or limit.
        key: Integer column that orders the rows; unique.
        view: Makes what is shown from a row.
        cursor: `next` of the page before.
        limit: Most items on the page.
        conditions: Further filters.
    """
    query = query.where(*conditions).order_by(key.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(key < _decode(cursor))
    rows = list(record.exec(query))
    more = len(rows) > limit
    rows = rows[:limit]
    last = getattr(rows[-1], key.key) if more else None
    return Page(items=[view(row) for row in rows], next=None if last is None else _encode(last))


def _encode(position: int) -> str:
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def _decode(cursor: str) -> int:
    try:
        position = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("That is not a cursor of this service; start again from the first page.") from error
    return max(0, min(position, _LARGEST))
