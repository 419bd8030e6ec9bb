"""Where recipes, routes and protocols are kept: their versions, and each content once, by its hash.

A content row is never changed or deleted, so what any run used can be shown for ever. How a version moves through
its life is decided in `recipes.authoring`; here it is stored, found, checked against its hash and its signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Column, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel, col, select

from recipes.errors import NotRunnable
from recipes.kinds import AnyDocument, DocumentKind, from_canonical
from recipes.lifecycle import EXPERIMENTAL, Status
from recipes.master import MasterRecipe
from recipes.routes import Route
from traceability.activities import ActivityRow
from traceability.append_only import make_append_only
from traceability.canonical import sha256_hex
from traceability.columns import CanonicalJson, Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, NotFound, StorageFailed
from traceability.signatures import Meaning, signatures_of


class RecipeContent(SQLModel, table=True):
    """The canonical JSON of a document, by its SHA-256. The database refuses to change it."""

    __tablename__ = "recipe_contents"

    sha256: str = Field(primary_key=True, max_length=64)
    content: str = Field(sa_column=Column(Text, nullable=False))


make_append_only(SQLModel.metadata.tables["recipe_contents"])


class RecipeVersion(SQLModel, table=True):
    """One version of one document.

    Attributes:
        kind: Master recipe, route or protocol.
        document_id: The same for all versions.
        number: 1, 2, 3 …; the version of the document.
        content_sha256: Its content now; only a draft's may change.
        authors: User names of all who wrote in it; none of them may approve it.
        reason: Why it was written.
        approved_by, approved_at, effective_at, ended_at: Domain times and who; None before.
        version: Of the row; goes up with each change (optimistic concurrency).
    """

    __tablename__ = "recipe_versions"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("document_id", "number"),
        Index(
            "one_effective_version",
            "document_id",
            unique=True,
            sqlite_where=text("status = 'effective'"),
            postgresql_where=text("status = 'effective'"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    kind: DocumentKind = Field(sa_column=Column(Choice(DocumentKind), nullable=False))
    document_id: str
    number: int
    title: str
    status: Status = Field(default=Status.DRAFT, sa_column=Column(Choice(Status), nullable=False, index=True))
    content_sha256: str = Field(sa_column=Column(String(64), ForeignKey("recipe_contents.sha256"), nullable=False))
    authors: list[str] = Field(default_factory=list, sa_column=Column(CanonicalJson, nullable=False))
    reason: str = ""
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    approved_by: str | None = None
    approved_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    effective_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    version: int = 1

    @property
    def reference(self) -> str:
        """`id/version`."""
        return f"{self.document_id}/{self.number}"

    @property
    def work_master(self) -> str:
        """`id/version/sha256` of its content now."""
        return f"{self.reference}/{self.content_sha256}"


@dataclass(frozen=True, slots=True)
class Use:
    """A place where a document is used.

    Attributes:
        kind: "route", "child" (a recipe that refines it) or "activity".
        name: `id/version` of the document, or the activity's serial.
        status: Of the version; "" for an activity.
    """

    kind: str
    name: str
    status: str


def find_version(record: RecordSession, document_id: str, number: int) -> RecipeVersion:
    """One version of one document.

    Raises:
        NotFound: There is none.
    """
    row = record.exec(
        select(RecipeVersion).where(RecipeVersion.document_id == document_id, RecipeVersion.number == number)
    ).first()
    if row is None:
        raise NotFound(f"There is no version {number} of {document_id}.")
    return row


def versions_of(record: RecordSession, document_id: str) -> Sequence[RecipeVersion]:
    """All versions of one document, oldest first; empty where there is none."""
    return record.exec(
        select(RecipeVersion).where(RecipeVersion.document_id == document_id).order_by(col(RecipeVersion.number))
    ).all()


def list_versions(
    record: RecordSession, *, kind: DocumentKind | None = None, status: Status | None = None
) -> Sequence[RecipeVersion]:
    """Versions of all documents by id and number, of one kind or status where given."""
    query = select(RecipeVersion).order_by(col(RecipeVersion.document_id), col(RecipeVersion.number))
    if kind is not None:
        query = query.where(RecipeVersion.kind == kind)
    if status is not None:
        query = query.where(RecipeVersion.status == status)
    return record.exec(query).all()


def effective(record: RecordSession, document_id: str) -> RecipeVersion:
    """The version that product runs use.

    Raises:
        NotFound: There is no such document.
        NotRunnable: None of its versions is effective.
    """
    versions = versions_of(record, document_id)
    if not versions:
        raise NotFound(f"There is no recipe, route or protocol {document_id}.")
    for row in versions:
        if row.status is Status.EFFECTIVE:
            return row
    newest = versions[-1]
    raise NotRunnable(
        f"{document_id} has no effective version.",
        [
            Finding(
                "recipe_not_effective",
                f"{newest.reference} is {newest.status}.",
                "Have it approved and made effective, or run it as an experiment.",
                document_id,
            )
        ],
    )


def runnable(
    record: RecordSession, document_id: str, *, number: int | None = None, experiment: bool = False
) -> RecipeVersion:
    """The version that a run may use, its content and its approval checked.

    Args:
        record: Open session.
        document_id: Which document.
        number: Which version; the effective one where None.
        experiment: The run may use a version that is not effective, and says so everywhere.

    Raises:
        NotFound: There is no such document or version.
        NotRunnable: The version may not be used, or its approval does not cover its content.
    """
    row = effective(record, document_id) if number is None else find_version(record, document_id, number)
    allowed = EXPERIMENTAL if experiment else {Status.EFFECTIVE}
    if row.status not in allowed:
        raise NotRunnable(
            f"{row.reference} is {row.status} and can't be run.",
            [
                Finding(
                    "recipe_not_effective",
                    f"{row.reference} is {row.status}.",
                    "Take the effective version."
                    if experiment
                    else "Take the effective version, or run it as an experiment.",
                    row.reference,
                )
            ],
        )
    read_content(record, row)
    if row.status is Status.EFFECTIVE and not _approval_covers(record, row):
        raise NotRunnable(
            f"The approval of {row.reference} does not cover its content.",
            [
                Finding(
                    "approval_broken",
                    f"No approving signature of {row.approved_by or 'anybody'} was given for this content.",
                    "Call QA; verify the audit trail.",
                    row.reference,
                )
            ],
        )
    return row


def read_content(record: RecordSession, row: RecipeVersion) -> AnyDocument:
    """The document of a version, checked against its hash.

    Raises:
        StorageFailed: The stored content is not what its hash says.
    """
    content = record.get(RecipeContent, row.content_sha256)
    if content is None or sha256_hex(content.content.encode()) != row.content_sha256:
        raise StorageFailed(
            f"The stored content of {row.reference} is not what its hash says. Call QA; verify the audit trail."
        )
    return from_canonical(row.kind, content.content)


def read_master_version(record: RecordSession, row: RecipeVersion) -> MasterRecipe:
    """The master recipe of a version.

    Raises:
        NotRunnable: The version is a route or a protocol.
        StorageFailed: The stored content is not what its hash says.
    """
    document = read_content(record, row)
    if not isinstance(document, MasterRecipe):
        raise NotRunnable(f"{row.reference} is no master recipe; a tool can't run it.")
    return document


def keep_content(record: RecordSession, document: AnyDocument) -> str:
    """Store the content of a document if it is not there yet; its SHA-256."""
    content = document.canonical_json()
    sha256 = sha256_hex(content)
    if record.get(RecipeContent, sha256) is None:
        record.add(RecipeContent(sha256=sha256, content=content.decode()))
        record.flush()
    return sha256


def where_used(record: RecordSession, document_id: str) -> list[Use]:
    """Routes that name a document, recipes that refine it and activities that ran it, in that order."""
    routes: list[Use] = []
    children: list[Use] = []
    for row in list_versions(record):
        document = read_content(record, row)
        if isinstance(document, Route) and document_id in document.uses():
            routes.append(Use("route", row.reference, row.status))
        elif isinstance(document, MasterRecipe) and (document.parent or "").startswith(f"{document_id}/"):
            children.append(Use("child", row.reference, row.status))
    activities = record.exec(
        select(ActivityRow.serial)
        .where(col(ActivityRow.work_master).startswith(f"{document_id}/", autoescape=True))
        .order_by(col(ActivityRow.id))
    )
    return [*routes, *children, *(Use("activity", serial, "") for serial in activities)]


def used_by_runs(record: RecordSession, row: RecipeVersion) -> list[str]:
    """Serials of the activities that ran this version, whatever its content was."""
    return list(
        record.exec(
            select(ActivityRow.serial)
            .where(col(ActivityRow.work_master).startswith(f"{row.reference}/", autoescape=True))
            .order_by(col(ActivityRow.id))
        )
    )


def _approval_covers(record: RecordSession, row: RecipeVersion) -> bool:
    return any(
        signature.meaning == Meaning.APPROVED and signature.name == row.approved_by
        for signature in signatures_of(record, row.content_sha256)
    )
