"""The one byte form of a value: what is hashed, chained and compared.

The form is RFC 8785 (JSON Canonicalization Scheme) restricted so that orjson with sorted keys already writes it:
ASCII keys, integers below 2^53, and no floats: decimals, floats and times are strings. Text stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import TypeAlias
from uuid import UUID

import orjson

from traceability.errors import InvalidInput
from traceability.quantities import plain

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

_SAFE_INTEGER = 2**53


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with six decimals and `Z`.

    Raises:
        ValueError: The time has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def canonical_value(value: object) -> JsonValue:
    """A value as JSON that has exactly one byte form.

    Raises:
        TypeError: The value is of a kind that has none.
        InvalidInput: A key is not ASCII.
    """
    if isinstance(value, Enum):
        return canonical_value(value.value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < _SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, date | UUID):
        return str(value)
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest(), "size": len(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not (isinstance(key, str) and key.isascii()):
                raise InvalidInput(f"The name {key!r} is not ASCII text; use plain letters, digits and underscores.")
        return {key: canonical_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical_value(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((canonical_value(item) for item in value), key=repr)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def canonical_bytes(value: object) -> bytes:
    """The canonical JSON of a value, UTF-8.

    Raises:
        InvalidInput: A text in it holds half a character (a lone surrogate).
    """
    try:
        return orjson.dumps(canonical_value(value), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidInput(f"This can't be written down: {error}.") from error


def sha256_hex(content: bytes) -> str:
    """SHA-256 as 64 lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()


def content_hash(value: object) -> str:
    """SHA-256 of the canonical JSON of a value, 64 lower-case hex digits."""
    return sha256_hex(canonical_bytes(value))
