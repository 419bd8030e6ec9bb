"""What differs between two versions of a document, in words for people.

Lists whose entries have a name (phases, steps, materials) are compared by that name and not by their place; a move
within such a list is told as a move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipes.documents import Document

_NAMES = ("phase", "operation", "step", "use", "name", "since_step")
_UNSAID = frozenset({"version"})


def diff(old: Document, new: Document) -> list[str]:
    """Each difference as one sentence; empty where the content is the same but for the version number."""
    return _mapping("", _plain(old), _plain(new))


def _plain(document: Document) -> dict[str, Any]:
    return {key: value for key, value in document.model_dump(mode="json").items() if key not in _UNSAID}


def _mapping(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        words += _value(_join(path, key), old.get(key), new.get(key), _unit(old, new))
    return words


def _value(path: str, old: Any, new: Any, unit: str) -> list[str]:
    if old == new:
        return []
    if old in (None, "", [], {}):
        return [f"{path} is added: {_say(new, unit)}."]
    if new in (None, "", [], {}):
        return [f"{path} is removed; it was {_say(old, unit)}."]
    if isinstance(old, dict) and isinstance(new, dict):
        return _mapping(path, old, new)
    if isinstance(old, list) and isinstance(new, list) and (key := _shared_name(old, new)):
        words = _mapping(path, {item[key]: item for item in old}, {item[key]: item for item in new})
        kept_old = [item[key] for item in old if any(item[key] == other[key] for other in new)]
        kept_new = [item[key] for item in new if any(item[key] == other[key] for other in old)]
        return words if kept_old == kept_new else [*words, f"{path} is now in the order {', '.join(kept_new)}."]
    return [f"{path} changes from {_say(old, unit)} to {_say(new, unit)}."]


def _shared_name(old: list[Any], new: list[Any]) -> str | None:
    """The key by which every entry of both lists is named once."""
    for key in _NAMES:
        if all(isinstance(item, dict) and isinstance(item.get(key), str) for item in [*old, *new]) and all(
            len({item[key] for item in items}) == len(items) for items in (old, new)
        ):
            return key
    return None


def _unit(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The unit of the numbers in a mapping, where both sides agree on it."""
    unit = old.get("unit")
    return unit if isinstance(unit, str) and unit == new.get("unit") and unit != "1" else ""


def _say(value: Any, unit: str) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_say(item, '')}" for key, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list):
        return "; ".join(_say(item, "") for item in value)
    number = isinstance(value, str) and value.lstrip("-")[:1].isdecimal()
    return f"{value} {unit}" if unit and number else str(value)


def _join(path: str, key: str) -> str:
    return f"{path} {key}" if path else key
