"""Column types that keep exactness on both databases.

Each stores a value so that what is read back equals what was written, to the last digit and microsecond; the
audit verification depends on it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

import orjson
from sqlalchemy import DateTime, Dialect, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from traceability.canonical import canonical_bytes
from traceability.quantities import plain

Choice_ = TypeVar("Choice_", bound=StrEnum)


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware moment, kept in UTC to the microsecond."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """`timestamptz` on PostgreSQL; on SQLite ISO text without zone, in UTC."""
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; naive times are refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Back with the zone UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal number kept as its plain text, so that no digit is lost on either database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        """The plain form without exponent."""
        return None if value is None else plain(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        """The same number."""
        return None if value is None else Decimal(value)


class CanonicalJson(TypeDecorator[Any]):
    """A JSON value kept as its canonical text; decimals and times inside come back as strings."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """The canonical text."""
        return None if value is None else canonical_bytes(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Plain lists and dicts."""
        return None if value is None else orjson.loads(value)


class Choice(TypeDecorator[Choice_]):
    """A member of a `StrEnum`, kept as its value."""

    impl = String
    cache_ok = True

    def __init__(self, choices: type[Choice_]) -> None:
        super().__init__()
        self.choices = choices

    def process_bind_param(self, value: Choice_ | None, dialect: Dialect) -> str | None:
        """The member's value; a plain string must be one of them."""
        return None if value is None else self.choices(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> Choice_ | None:
        """The member."""
        return None if value is None else self.choices(value)
