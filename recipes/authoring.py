"""How recipes, routes and protocols are written, reviewed, approved, made effective and withdrawn.

Each function is one act on the record. The author of a version never approves it; an approval is a signature over the
content's hash; a version that a run has used is never changed again. Documents are judged in `recipes.kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from recipes.diff import diff
from recipes.errors import InvalidRecipe
from recipes.kinds import AnyDocument, kind_of, read_document
from recipes.lifecycle import LIFECYCLE, LifecycleMove, Status
from recipes.master import MasterRecipe
from recipes.routes import Route
from recipes.store import RecipeVersion, find_version, keep_content, read_content, used_by_runs, versions_of
from traceability.database import RecordSession
from traceability.errors import Conflict, Finding, InvalidInput, NotFound, Refused, StaleVersion
from traceability.signatures import Meaning, SigningSession, require_second_person, sign

DocumentInput = str | bytes | Mapping[str, Any] | AnyDocument


def create_draft(record: RecordSession, document: DocumentInput, *, reason: str = "") -> RecipeVersion:
    """Store the next version of a document as a draft; the actor is its author.

    Args:
        record: Open write session.
        document: YAML, JSON, plain data or a document.
        reason: Why it is written.

    Raises:
        InvalidRecipe: The document has errors, its version is not the next one, or its parent does not exist.
        Conflict: That version exists already.
    """
    with record.act("recipe.drafted", reason=reason) as act:
        content = _read(document)
        act.items.append(content.document_id)
        _require_next(record, content)
        _require_parent(record, content)
        try:
            row = RecipeVersion(
                kind=kind_of(content),
                document_id=content.document_id,
                number=content.version,
                title=content.title,
                content_sha256=keep_content(record, content),
                authors=[record.actor.name],
                reason=reason,
                created_at=record.clock.now(),
            )
            record.add(row)
            record.flush()
        except IntegrityError as error:
            raise Conflict(
                f"{content.document_id} version {content.version} was written by somebody else just now; "
                "read it again."
            ) from error
        act.detail.update(reference=row.reference, content_sha256=row.content_sha256)
    return row


def revise(
    record: RecordSession,
    document: DocumentInput,
    *,
    reason: str = "",
    expected_version: int | None = None,
) -> RecipeVersion:
    """Give a draft other content; the actor becomes one of its authors.

    Raises:
        InvalidRecipe: The document has errors.
        NotFound: There is no such version.
        Refused: The version is no draft any more, or a run has used it.
        StaleVersion: The row was changed since `expected_version`.
    """
    with record.act("recipe.revised", reason=reason) as act:
        content = _read(document)
        row = _locked(record, content.document_id, content.version, expected_version)
        act.items.append(row.document_id)
        if row.kind is not kind_of(content):
            raise Conflict(f"{row.document_id} is a {row.kind}; take another id for this document.")
        _require_unused_draft(record, row)
        _require_parent(record, content)
        words = diff(read_content(record, row), content)
        row.content_sha256 = keep_content(record, content)
        row.title = content.title
        row.authors = [*row.authors, *({record.actor.name} - set(row.authors))]
        _touch(record, row)
        act.detail.update(reference=row.reference, content_sha256=row.content_sha256, changes=words)
    return row


def submit(
    record: RecordSession, document_id: str, number: int, *, expected_version: int | None = None
) -> RecipeVersion:
    """Submit a draft for review.

    Raises:
        NotFound, Refused, StaleVersion: See `revise`.
    """
    return _move(record, "recipe.submitted", document_id, number, LifecycleMove.SUBMIT, "", expected_version)


def send_back(
    record: RecordSession, document_id: str, number: int, *, reason: str, expected_version: int | None = None
) -> RecipeVersion:
    """Return a version in review to its authors, with a reason.

    Raises:
        InvalidInput: No reason is given.
        NotFound, Refused, StaleVersion: See `revise`.
    """
    _require_reason(reason)
    return _move(record, "recipe.returned", document_id, number, LifecycleMove.RETURN, reason, expected_version)


def approve(
    record: RecordSession,
    document_id: str,
    number: int,
    signing: SigningSession,
    *,
    expected_version: int | None = None,
) -> RecipeVersion:
    """Approve a version in review by a signature over the hash of its content.

    Args:
        record: Open write session of the approver.
        document_id: Which document.
        number: Which version.
        signing: The approver's signing session.
        expected_version: Row version that the approver has read.

    Raises:
        SignatureRefused: The approver is one of the authors, or can't sign.
        NotFound, Refused, StaleVersion: See `revise`.
        StorageFailed: The content is not what its hash says.
    """
    with record.act("recipe.approved", document_id) as act:
        row = _locked(record, document_id, number, expected_version)
        row.status = LIFECYCLE.next(row.status, LifecycleMove.APPROVE, row.reference)
        require_second_person(signing, *row.authors)
        read_content(record, row)
        signature = sign(
            record,
            signing,
            meaning=Meaning.APPROVED,
            subject=f"{row.kind} {row.reference}",
            content=row.content_sha256,
        )
        row.approved_by = signature.name
        row.approved_at = signature.signed_at
        _touch(record, row)
        act.detail.update(reference=row.reference, content_sha256=row.content_sha256)
    return row


def make_effective(
    record: RecordSession, document_id: str, number: int, *, expected_version: int | None = None
) -> RecipeVersion:
    """Make an approved version the one that product runs use; the one that was is superseded.

    Raises:
        Refused: It is not approved, or a route names something that is not effective (all findings).
        NotFound, StaleVersion: See `revise`.
    """
    with record.act("recipe.made_effective", document_id) as act:
        row = _locked(record, document_id, number, expected_version)
        status = LIFECYCLE.next(row.status, LifecycleMove.MAKE_EFFECTIVE, row.reference)
        _require_effective_parts(record, row)
        for other in versions_of(record, document_id):
            if other.status is Status.EFFECTIVE:
                with record.act("recipe.superseded", document_id, detail={"reference": other.reference}):
                    other.status = LIFECYCLE.next(other.status, LifecycleMove.SUPERSEDE, other.reference)
                    other.ended_at = record.clock.now()
                    _touch(record, other)
        row.status = status
        row.effective_at = record.clock.now()
        _touch(record, row)
        act.detail.update(reference=row.reference, content_sha256=row.content_sha256)
    return row


def withdraw(
    record: RecordSession, document_id: str, number: int, *, reason: str, expected_version: int | None = None
) -> RecipeVersion:
    """Withdraw a version for good, with a reason; runs that are under way go on.

    Raises:
        InvalidInput: No reason is given.
        NotFound, Refused, StaleVersion: See `revise`.
    """
    _require_reason(reason)
    return _move(record, "recipe.withdrawn", document_id, number, LifecycleMove.WITHDRAW, reason, expected_version)


def _move(
    record: RecordSession,
    kind: str,
    document_id: str,
    number: int,
    move: LifecycleMove,
    reason: str,
    expected_version: int | None,
) -> RecipeVersion:
    with record.act(kind, document_id, reason=reason) as act:
        row = _locked(record, document_id, number, expected_version)
        row.status = LIFECYCLE.next(row.status, move, row.reference)
        if row.status is Status.WITHDRAWN:
            row.ended_at = record.clock.now()
        _touch(record, row)
        act.detail.update(reference=row.reference, content_sha256=row.content_sha256)
    return row


def _read(document: DocumentInput) -> AnyDocument:
    return read_document(document if isinstance(document, str | bytes | Mapping) else document.model_dump())


def _locked(record: RecordSession, document_id: str, number: int, expected_version: int | None) -> RecipeVersion:
    """One version, while all versions of the document are locked against other writers."""
    rows = record.exec(
        select(RecipeVersion)
        .where(RecipeVersion.document_id == document_id)
        .order_by(col(RecipeVersion.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for row in rows:
        if row.number == number:
            if expected_version is not None and row.version != expected_version:
                raise StaleVersion(f"{row.reference} was changed since you read it; read it again and decide anew.")
            return row
    raise NotFound(f"There is no version {number} of {document_id}.")


def _touch(record: RecordSession, row: RecipeVersion) -> None:
    row.version += 1
    record.add(row)
    record.flush()


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidInput("Say why; the reason stands in the record.")


def _require_next(record: RecordSession, content: AnyDocument) -> None:
    rows = versions_of(record, content.document_id)
    if rows and rows[0].kind is not kind_of(content):
        raise Conflict(f"{content.document_id} is a {rows[0].kind}; take another id for this document.")
    if any(row.number == content.version for row in rows):
        raise Conflict(f"{content.document_id} has a version {content.version} already; write the next one.")
    expected = rows[-1].number + 1 if rows else 1
    if content.version != expected:
        raise InvalidRecipe(
            f"The next version of {content.document_id} is {expected}, not {content.version}.",
            [
                Finding(
                    "wrong_version", f"{content.version} is not the next version.", f"Write {expected}.", "version"
                )
            ],
        )


def _require_parent(record: RecordSession, content: AnyDocument) -> None:
    if not isinstance(content, MasterRecipe) or content.parent is None:
        return
    document_id, _, number = content.parent.partition("/")
    try:
        find_version(record, document_id, int(number))
    except NotFound as error:
        raise InvalidRecipe(
            f"The parent {content.parent} does not exist.",
            [Finding("unknown_parent", error.message, "Store the parent first, or leave it out.", "parent")],
        ) from error


def _require_unused_draft(record: RecordSession, row: RecipeVersion) -> None:
    runs = used_by_runs(record, row)
    if row.status is Status.DRAFT and not runs:
        return
    why = f"{', '.join(runs[:3])} used it" if runs else f"it is {row.status}"
    raise Refused(
        f"{row.reference} can't be changed any more: {why}.",
        [Finding("version_in_use", f"{row.reference}: {why}.", f"Write version {row.number + 1}.", row.reference)],
    )


def _require_effective_parts(record: RecordSession, row: RecipeVersion) -> None:
    content = read_content(record, row)
    if not isinstance(content, Route):
        return
    findings = [
        Finding(
            "part_not_effective",
            f"{name} has no effective version.",
            "Make it effective first, or take it out of the route.",
            name,
        )
        for name in sorted(content.uses())
        if not any(other.status is Status.EFFECTIVE for other in versions_of(record, name))
    ]
    if findings:
        raise Refused(f"The route {row.reference} names what is not effective.", findings)
