"""The audit trail as a file: every event or a chosen part, as NDJSON or CSV, streamed whatever its length.

An NDJSON line holds the event's own bytes, so its hash can be recomputed from the file; CSV is for people and
spreadsheets. How a bundle proves itself is known to `bundle`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlmodel import SQLModel

from traceability.acts import Actor
from traceability.audit import AuditEvent, AuditEventItem
from traceability.canonical import canonical_value
from traceability.database import Database, RecordSession

_FETCH = 500
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS = (
    "seq",
    "at",
    "wall_at",
    "actor",
    "full_name",
    "terminal",
    "kind",
    "items",
    "reason",
    "detail",
    "changes",
    "prev",
    "hash",
)


class ExportFormat(StrEnum):
    """What the file is."""

    NDJSON = "ndjson"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        """For HTTP."""
        return {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}[self.value]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events; everything that is None or empty lets all pass.

    Attributes:
        since: From this domain time on.
        until: Before this domain time.
        actor: Name of who acted.
        item: Serial of a thing concerned.
        kind: Kind of act, or with a star at its end all that begin so (`lot.*`).
        last_seq: Up to this event.
    """

    since: datetime | None = None
    until: datetime | None = None
    actor: str = ""
    item: str = ""
    kind: str = ""
    last_seq: int | None = None

    @property
    def everything(self) -> bool:
        """Whether no event up to the last is left out, so that the chain can be followed from its beginning."""
        return not (self.since or self.until or self.actor or self.item or self.kind)

    def as_json(self) -> dict[str, Any]:
        """The filter as it stands on the trail and in manifests; only what is set."""
        parts = {
            "since": canonical_value(self.since),
            "until": canonical_value(self.until),
            "actor": self.actor,
            "item": self.item,
            "kind": self.kind,
            "last_seq": self.last_seq,
        }
        return {name: value for name, value in parts.items() if value not in (None, "")}


@dataclass(frozen=True, slots=True)
class AuditExport:
    """An export that is ready to be streamed.

    Attributes:
        format: What it is.
        filter: Which events; `last_seq` is set.
        count: How many.
        chunks: The file's bytes; to be read once.
    """

    format: ExportFormat
    filter: AuditFilter
    count: int
    chunks: Iterator[bytes]


def count_events(record: RecordSession, chosen: AuditFilter) -> int:
    """How many events an export would have."""
    return int(record.connection().execute(_where(select(func.count()), chosen)).scalar_one())


def export_audit_trail(
    database: Database, actor: Actor, chosen: AuditFilter, export_format: ExportFormat, *, reason: str = ""
) -> AuditExport:
    """Record that the trail is exported, then give it out up to the event before that.

    Raises:
        NotPermitted: The actor may not export.
    """
    chosen, count = record_export(database, actor, chosen, export_format.value, reason)
    make = ndjson_chunks if export_format is ExportFormat.NDJSON else csv_chunks
    return AuditExport(export_format, chosen, count, make(database, chosen))


def record_export(
    database: Database, actor: Actor, chosen: AuditFilter, form: str, reason: str
) -> tuple[AuditFilter, int]:
    """Put an export on the trail before its first byte leaves.

    Returns:
        The filter, ending at the last event before, and the number of events it lets pass.
    """
    events = SQLModel.metadata.tables["audit_events"]
    with database.write(actor) as record, record.act("audit.exported", reason=reason) as act:
        last = record.connection().execute(select(func.coalesce(func.max(events.c.seq), 0))).scalar_one()
        chosen = replace(chosen, last_seq=last if chosen.last_seq is None else min(last, chosen.last_seq))
        count = count_events(record, chosen)
        act.detail.update(filter=chosen.as_json(), format=form, count=count)
    return chosen, count


def ndjson_chunks(database: Database, chosen: AuditFilter) -> Iterator[bytes]:
    """Lines `{"hash":"…","event":…}` in the order of the chain; the event is its stored bytes, not written anew."""
    events = SQLModel.metadata.tables["audit_events"]
    line = literal('{"hash":"') + events.c.hash + literal('","event":') + events.c.body + literal("}\n")
    for rows in _partitions(database, _where(select(line, events.c.seq), chosen)):
        yield "".join([row[0] for row in rows]).encode()


def csv_chunks(database: Database, chosen: AuditFilter) -> Iterator[bytes]:
    """RFC 4180 with a header; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    events = SQLModel.metadata.tables["audit_events"]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for rows in _partitions(database, _where(select(events.c.body, events.c.hash, events.c.seq), chosen)):
        writer.writerows(_cells(body, digest) for body, digest, _ in rows)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cells(body: str, digest: str) -> list[str]:
    event = orjson.loads(body)
    return [
        str(event["seq"]),
        event["at"],
        event["wall_at"],
        _plain_text(event["actor"]),
        _plain_text(event["full_name"]),
        _plain_text(event["terminal"]),
        event["kind"],
        _plain_text(" ".join(event["items"])),
        _plain_text(event["reason"]),
        orjson.dumps(event["detail"]).decode(),
        orjson.dumps(event["changes"]).decode(),
        event["prev"],
        digest,
    ]


def _plain_text(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _partitions(database: Database, statement: Select[Any]) -> Iterator[Sequence[Any]]:
    """The rows of a statement that selects `seq` last, in the order of the chain.

    No transaction stays open from one part to the next: who takes the file may be slow, or gone. What was read
    before can't change, so nothing is missed and nothing comes twice.
    """
    seq = SQLModel.metadata.tables["audit_events"].c.seq
    statement, last = statement.order_by(seq).limit(_FETCH), 0
    while True:
        with database.connect() as connection:
            rows = connection.execute(statement.where(seq > last)).all()
        if rows:
            yield rows
            last = rows[-1].seq
        if len(rows) < _FETCH:
            return


def _where(statement: Select[Any], chosen: AuditFilter) -> Select[Any]:
    events = SQLModel.metadata.tables[str(AuditEvent.__tablename__)]
    items = SQLModel.metadata.tables[str(AuditEventItem.__tablename__)]
    conditions: list[ColumnElement[bool]] = []
    if chosen.since is not None:
        conditions.append(events.c.at >= chosen.since)
    if chosen.until is not None:
        conditions.append(events.c.at < chosen.until)
    if chosen.actor:
        conditions.append(events.c.actor == chosen.actor)
    if chosen.kind.endswith("*"):
        conditions.append(events.c.kind.startswith(chosen.kind[:-1], autoescape=True))
    elif chosen.kind:
        conditions.append(events.c.kind == chosen.kind)
    if chosen.item:
        conditions.append(events.c.seq.in_(select(items.c.seq).where(items.c.item == chosen.item)))
    if chosen.last_seq is not None:
        conditions.append(events.c.seq <= chosen.last_seq)
    return statement.select_from(events).where(*conditions)
