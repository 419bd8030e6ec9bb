"""What every recipe document shares: frozen models, exact numbers, one canonical form, safe reading.

A document is hashed over its canonical JSON: keys sorted, no white space, every number a decimal string in its
shortest form, so that `0.50`, `"0.5"` and `5e-1` are the same signed content. This module knows nothing of what a
document says.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeAlias, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

from recipes.errors import UnreadableDocument
from traceability.canonical import canonical_bytes, sha256_hex
from traceability.quantities import plain

MAX_DOCUMENT_BYTES = 1_000_000
"""A recipe is a few kilobytes; anything of this size is a mistake or an attack."""

MAX_DEPTH = 32
"""Nesting that no recipe reaches."""


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is needed here, not true or false")
    return value


def _shortest(value: Decimal) -> Decimal:
    return Decimal(plain(value))


Number: TypeAlias = Annotated[
    Decimal,
    Field(max_digits=24, decimal_places=12, allow_inf_nan=False),
    BeforeValidator(_no_bool),
    AfterValidator(_shortest),
    PlainSerializer(plain, return_type=str, when_used="json"),
]
"""An exact number: at most 12 digits before the point and 12 after it; a decimal string in JSON."""

Identifier: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9-]{1,47}$")]
"""Identifier of a document or material: upper case letters, digits and hyphens, 2 to 48 of them."""

Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""Name of a parameter, phase or step: lower case letters, digits and underscores."""

Title: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
Text: TypeAlias = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True)]
Version: TypeAlias = Annotated[int, Field(ge=1, le=9999, strict=True)]


Value = TypeVar("Value")

ByName: TypeAlias = Annotated[
    Mapping[Name, Value], AfterValidator(lambda values: MappingProxyType(dict(values))), PlainSerializer(dict)
]
"""A read-only mapping by name; it keeps the order in which it was written, and its hash does not depend on it."""


class Frozen(BaseModel):
    """A part of a document: immutable, and a field it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Sealed(Frozen):
    """A frozen whole with one canonical form and its hash."""

    def canonical_json(self) -> bytes:
        """The bytes that are signed and hashed: UTF-8, keys sorted, decimals as strings."""
        return canonical_bytes(self.model_dump(mode="json"))

    def content_hash(self) -> str:
        """SHA-256 of `canonical_json()`, 64 lower-case hex digits."""
        return sha256_hex(self.canonical_json())

    @classmethod
    def from_canonical(cls, content: str | bytes) -> Self:
        """What `canonical_json()` wrote, read back.

        Raises:
            pydantic.ValidationError: The bytes are something else.
        """
        return cls.model_validate_json(content)


class Document(Sealed, ABC):
    """A document that people write, version and sign."""

    version: Version
    """1, 2, 3 …"""
    title: Title
    """One line for people."""

    @property
    @abstractmethod
    def document_id(self) -> str:
        """The identifier that all versions of the document share."""

    def to_yaml(self) -> str:
        """The document as YAML for people; reading it back gives the same content hash."""
        data = _lean(self.model_dump())
        head = [key for key in data if key == "format" or key.endswith("_id")]
        ordered = {key: data[key] for key in [*head, *(key for key in data if key not in head)]}
        return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Decimals as plain numbers, enumerations as their values; each value written out."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _lean(value: Any) -> Any:
    """The same without what was left empty."""
    if isinstance(value, Mapping):
        lean = {key: _lean(item) for key, item in value.items()}
        return {key: item for key, item in lean.items() if item not in (None, "", [], {})}
    return [_lean(item) for item in value] if isinstance(value, list | tuple) else value


def _decimal_node(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
    text = plain(value)
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


_Dumper.add_representer(Decimal, _decimal_node)
_Dumper.add_multi_representer(StrEnum, lambda dumper, value: dumper.represent_str(str(value)))


class _Loader(yaml.SafeLoader):
    """Plain data only: numbers stay exact, no aliases (no expansion attacks), no key twice, no dates."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not read; write the value out", problem_mark=self.get_mark()
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is not text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands there twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _exact(loader: _Loader, node: yaml.ScalarNode) -> Decimal | str:
    text = loader.construct_scalar(node)
    try:
        return Decimal(text.replace("_", ""))
    except InvalidOperation:
        return text


_Loader.add_constructor("tag:yaml.org,2002:float", _exact)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} stands there twice")
        result[key] = value
    return result


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number that JSON knows")


def read_text(text: str | bytes) -> dict[str, Any]:
    """Read a document written in YAML or JSON into plain data, numbers exact.

    Raises:
        UnreadableDocument: Not UTF-8, not YAML or JSON, too large, too deep, a key twice, an alias, or no mapping.
    """
    if len(text) > MAX_DOCUMENT_BYTES:
        raise UnreadableDocument(f"The document has {len(text)} bytes; at most {MAX_DOCUMENT_BYTES} are read.")
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        if plain.lstrip().startswith("{"):
            data = json.loads(plain, parse_float=Decimal, object_pairs_hook=_unique, parse_constant=_no_constant)
        else:
            data = _Loader(plain).get_single_data()
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"The document is not UTF-8 text (byte {error.start}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableDocument(f"The document is neither YAML nor JSON: {_one_line(error)}.") from error
    if not isinstance(data, dict):
        raise UnreadableDocument("The document is not a mapping of field names to values.")
    return data


def read(document: str | bytes | Mapping[str, Any]) -> dict[str, Any]:
    """The plain data of a document given as text or as a mapping.

    Raises:
        UnreadableDocument: See `read_text`.
    """
    return read_text(document) if isinstance(document, str | bytes) else dict(document)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
