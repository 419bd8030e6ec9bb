"""From a document that may be wrong anywhere to the parts of it that can be understood.

Validation is to tell *all* findings at once, so a wrong type in one place must not hide a wrong limit in another:
each part is read by itself, and what can't be read becomes a finding with its path.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recipes.documents import Document, Frozen
from recipes.errors import InvalidRecipe, UnreadableDocument
from recipes.formula import Formula, Parameter
from recipes.limits import EquipmentClass
from recipes.master import Material
from recipes.procedure import Phase
from traceability.errors import Finding, Severity

Read = TypeVar("Read", bound=Document)
Part = TypeVar("Part", bound=Frozen)


@dataclass(frozen=True)
class Report(Generic[Read]):
    """What a dry run found.

    Attributes:
        document: The document as it would be stored; None where a finding is an error.
        findings: All of them, in the order of the document.
    """

    document: Read | None
    findings: tuple[Finding, ...]

    @classmethod
    def judged(cls, document: Read | None, findings: Iterable[Finding]) -> Self:
        """The report on a document that could be read as text; an error among the findings withholds it."""
        found = tuple(findings)
        refused = any(finding.severity is Severity.ERROR for finding in found)
        return cls(None if refused else document, found)

    @classmethod
    def unreadable(cls, error: UnreadableDocument) -> Self:
        """The report on a text that is no document at all."""
        return cls(None, (Finding(error.code, error.message, "Correct the text."),))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def accepted(self) -> Read:
        """The document, if nothing forbids it.

        Raises:
            InvalidRecipe: With all findings, where one is an error.
        """
        if self.document is None:
            count = len(self.errors)
            raise InvalidRecipe(
                f"The document has {count} error{'s' if count != 1 else ''}; nothing was stored.", self.findings
            )
        return self.document


@dataclass(frozen=True)
class MasterParts:
    """What could be read of a master recipe.

    Attributes:
        equipment_class: None where it is missing or unknown.
        formula: The parameters and choices that could be read.
        named: Names of all parameters and choices that stand in the document, readable or not.
        phases: The phases that could be read, each with its path.
        phases_whole: No phase was unreadable.
        materials_in: Those that could be read.
    """

    equipment_class: EquipmentClass | None
    formula: Formula
    named: frozenset[str]
    phases: tuple[tuple[str, Phase], ...]
    phases_whole: bool
    materials_in: tuple[Material, ...]


def read_whole(kind: type[Read], document: Mapping[str, Any]) -> tuple[Read | None, list[Finding]]:
    """The whole document, or what is wrong with its shape."""
    try:
        return kind.model_validate(document), []
    except ValidationError as error:
        return None, [_finding(detail, kind) for detail in error.errors()]


def read_master_parts(document: Mapping[str, Any]) -> MasterParts:
    """The parts of a master recipe that can be understood; never raises."""
    found = document.get("equipment_class")
    formula = _mapping(document.get("formula"))
    parameters = _mapping(formula.get("parameters"))
    choices = _mapping(formula.get("choices"))
    read_parameters = {name: _part(Parameter, value) for name, value in parameters.items()}
    phases: list[tuple[str, Phase]] = []
    whole = isinstance(document.get("procedure"), list | tuple)
    for i, operation in enumerate(_sequence(document.get("procedure"))):
        inner = _mapping(operation).get("phases")
        whole = whole and isinstance(inner, list | tuple)
        for j, value in enumerate(_sequence(inner)):
            phase = _part(Phase, value)
            whole = whole and phase is not None
            if phase is not None:
                phases.append((f"procedure.{i}.phases.{j}", phase))
    return MasterParts(
        equipment_class=EquipmentClass(found) if found in list(EquipmentClass) else None,
        formula=Formula.model_construct(
            parameters={name: value for name, value in read_parameters.items() if value is not None},
            choices={name: value for name, value in choices.items() if isinstance(value, str)},
        ),
        named=frozenset(parameters) | frozenset(choices),
        phases=tuple(phases),
        phases_whole=whole,
        materials_in=tuple(
            material for value in _sequence(document.get("materials_in")) if (material := _part(Material, value))
        ),
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name, or at all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known are {', '.join(names)}."


def _part(kind: type[Part], value: object) -> Part | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()


def _finding(detail: ErrorDetails, kind: type[Document]) -> Finding:
    path = ".".join(str(step) for step in detail["loc"])
    match detail["type"]:
        case "missing":
            return Finding("missing_field", f"{path} is missing.", "Add it.", path)
        case "extra_forbidden":
            known = kind.model_fields if len(detail["loc"]) == 1 else ()
            hint = did_you_mean(str(detail["loc"][-1]), known) if known else "Remove it or correct its name."
            return Finding("unknown_field", f"{path} is no field of this document.", hint, path)
        case "value_error":
            message = detail["msg"].removeprefix("Value error, ")
            return Finding("invalid_value", f"{path}: {message}.", "Correct it.", path)
        case _:
            given = repr(detail["input"])
            shown = given if len(given) <= 60 else given[:57] + "…"
            return Finding("invalid_value", f"{path} can't be {shown}.", f"{detail['msg'].rstrip('.')}.", path)
