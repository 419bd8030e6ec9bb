"""What recipes add to the history record of a cell: each recipe that made it, as signed.

Composed into exports by the service through the record's section protocol; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import orjson
from sqlmodel import col, select

from recipes.store import RecipeContent, RecipeVersion
from traceability.activities import ActivityRow
from traceability.canonical import JsonValue, sha256_hex, timestamp
from traceability.database import RecordSession
from traceability.signatures import Signature


class RecipeSection:
    """The recipes that the activities of a record ran, with content, hash check and signatures."""

    name: ClassVar[str] = "recipes"

    def collect(self, record: RecordSession, item_ids: Sequence[int], activity_ids: Sequence[int]) -> JsonValue:
        """One entry a recipe content, sorted by reference.

        Args:
            record: Open session.
            item_ids: Not needed; recipes hang on activities.
            activity_ids: Of everything that made the items.
        """
        activities = record.exec(
            select(ActivityRow)
            .where(col(ActivityRow.id).in_(activity_ids), ActivityRow.work_master != "")
            .order_by(col(ActivityRow.id))
        ).all()
        runs: dict[str, list[JsonValue]] = {}
        for activity in activities:
            runs.setdefault(activity.work_master, []).append(activity.serial)
        return [_entry(record, work_master, runs[work_master]) for work_master in sorted(runs)]


def _entry(record: RecordSession, work_master: str, activities: list[JsonValue]) -> JsonValue:
    document_id, number, sha256 = work_master.split("/")
    row = record.exec(
        select(RecipeVersion).where(RecipeVersion.document_id == document_id, RecipeVersion.number == int(number))
    ).first()
    content = record.get(RecipeContent, sha256)
    signatures = record.exec(
        select(Signature).where(Signature.content_sha256 == sha256).order_by(col(Signature.id))
    ).all()
    return {
        "work_master": work_master,
        "title": row.title if row else None,
        "status": row.status.value if row else None,
        "authors": list(row.authors) if row else [],
        "activities": activities,
        "content_intact": content is not None and sha256_hex(content.content.encode()) == sha256,
        "content": orjson.loads(content.content) if content else None,
        "signatures": [
            {
                "name": signature.name,
                "printed_name": signature.printed_name,
                "meaning": signature.meaning,
                "signed_at": timestamp(signature.signed_at),
                "content_sha256": signature.content_sha256,
            }
            for signature in signatures
        ],
    }
