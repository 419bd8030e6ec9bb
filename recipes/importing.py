"""Bringing a set of documents into the store: first exactly what would change, then just that.

Imported documents become drafts; approval stays with people. Nothing that is approved or used is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from recipes.authoring import create_draft, revise
from recipes.diff import diff
from recipes.kinds import AnyDocument, DocumentKind, kind_of
from recipes.lifecycle import Status
from recipes.store import read_content, used_by_runs, versions_of
from traceability.database import RecordSession
from traceability.errors import Finding, Refused, StaleVersion


class ImportAction(StrEnum):
    """What an import does with one document."""

    CREATE = "create"
    REVISE = "revise"
    UNCHANGED = "unchanged"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ImportLine:
    """What an import does with one document.

    Attributes:
        reference: `id/version`.
        content_sha256: Of the document to import.
        action: Create a draft, revise a draft, nothing, or refuse the whole import.
        words: The differences, or why it is refused; whole sentences.
    """

    kind: DocumentKind
    reference: str
    title: str
    content_sha256: str
    action: ImportAction
    words: tuple[str, ...]


def plan_import(record: RecordSession, documents: Sequence[AnyDocument]) -> list[ImportLine]:
    """What importing the documents would change; changes nothing."""
    return [_plan(record, document) for document in documents]


def import_library(
    record: RecordSession, documents: Sequence[AnyDocument], *, expected: Sequence[ImportLine] | None = None
) -> list[ImportLine]:
    """Import documents as drafts: all, or none.

    Args:
        record: Open write session.
        documents: Parents before children.
        expected: The plan that a person has agreed to.

    Raises:
        Refused: A document can't be imported; all reasons at once.
        StaleVersion: The store has changed since `expected` was planned.
    """
    with record.act("recipe.imported") as act:
        plan = plan_import(record, documents)
        if expected is not None and list(expected) != plan:
            raise StaleVersion("The recipes have changed since this import was planned; plan it again.")
        refused = [line for line in plan if line.action is ImportAction.REFUSE]
        if refused:
            raise Refused(
                f"{len(refused)} of {len(plan)} documents can't be imported; nothing was imported.",
                [
                    Finding("not_importable", " ".join(line.words), "Give it the next version.", line.reference)
                    for line in refused
                ],
            )
        for line, document in zip(plan, documents, strict=True):
            if line.action is ImportAction.CREATE:
                create_draft(record, document, reason="imported")
            elif line.action is ImportAction.REVISE:
                revise(record, document, reason="imported")
        act.items.extend(line.reference for line in plan)
        act.detail["actions"] = {line.reference: line.action for line in plan}
    return plan


def _plan(record: RecordSession, document: AnyDocument) -> ImportLine:
    def line(action: ImportAction, *words: str) -> ImportLine:
        return ImportLine(
            kind=kind_of(document),
            reference=f"{document.document_id}/{document.version}",
            title=document.title,
            content_sha256=document.content_hash(),
            action=action,
            words=words,
        )

    rows = versions_of(record, document.document_id)
    for row in rows:
        if row.number != document.version:
            continue
        if row.content_sha256 == document.content_hash():
            return line(ImportAction.UNCHANGED)
        if row.kind is not kind_of(document):
            return line(ImportAction.REFUSE, f"{row.reference} is a {row.kind} here.")
        words = diff(read_content(record, row), document)
        if row.status is Status.DRAFT and not used_by_runs(record, row):
            return line(ImportAction.REVISE, *words)
        return line(ImportAction.REFUSE, f"{row.reference} is {row.status} here with other content.", *words)
    following = rows[-1].number + 1 if rows else 1
    if document.version != following:
        return line(ImportAction.REFUSE, f"The next version here would be {following}.")
    if not rows:
        return line(ImportAction.CREATE, f"{document.title} is added.")
    return line(ImportAction.CREATE, *diff(read_content(record, rows[-1]), document))
