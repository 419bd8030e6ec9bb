"""The device history record of one cell, unit or lot: everything that is known of it, in one JSON document.

The document is composed of sections. This module knows what a thing's history reaches; the record's own sections
stand in `record_sections`, and the packages above plug in theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlmodel import col, select

from traceability.activities import ActivityRow
from traceability.acts import Actor
from traceability.canonical import JsonValue, canonical_value, content_hash
from traceability.database import Database, RecordSession
from traceability.exports.record_sections import (
    RECORD_SECTIONS,
    RecordSection,
    fields,
    rows_in,
)
from traceability.genealogy import TraceEdge, TraceNode, edges_among, trace_back, trace_forward
from traceability.items import find_item
from traceability.layers import Layer
from traceability.materials import Lot
from traceability.measurements import Measurement
from traceability.units import Unit

FORMAT = "argonaut-history-record/1"


def history_record(
    record: RecordSession, serial: str, sections: Sequence[RecordSection] = ()
) -> dict[str, JsonValue]:
    """All that is known of one thing.

    Args:
        record: Open session.
        serial: Of a cell, another unit or a lot.
        sections: What the packages above have to say.

    Returns:
        A canonical JSON object (decimals, floats and times are strings). `sha256` is the content hash of all the
        rest, so that a copy can be checked.

    Raises:
        InvalidInput: The serial is none.
        NotFound: Nothing has it.
    """
    item = find_item(record, serial)
    back, forward = trace_back(record, item.key), trace_forward(record, item.key)
    item_ids = [node.item_id for node in back]
    activity_ids = _activities(record, item_ids)
    document: dict[str, JsonValue] = {
        "format": FORMAT,
        "serial": item.serial,
        "kind": item.kind.value,
        "made_at": canonical_value(item.created_at),
        "told_at": canonical_value(record.clock.now()),
        "identity": _identity(record, item.key),
        "genealogy": {"back": _graph(record, back), "forward": _graph(record, forward)},
    }
    for section in (*RECORD_SECTIONS, *sections):
        if section.name in document:
            raise ValueError(f"two sections are called {section.name}")
        document[section.name] = canonical_value(section.collect(record, item_ids, activity_ids))
    document["sha256"] = content_hash(document)
    return document


def export_history_record(
    database: Database, actor: Actor, serial: str, sections: Sequence[RecordSection] = ()
) -> dict[str, JsonValue]:
    """Give a history record out; that it was, and its hash, go on the trail.

    Raises:
        NotPermitted: The actor may not export it.
        NotFound: Nothing has the serial.
    """
    with database.read() as record:
        document = history_record(record, serial, sections)
    detail = {"sha256": document["sha256"]}
    with database.write(actor) as record, record.act("history.exported", str(document["serial"]), detail=detail):
        pass
    return document


def is_unaltered(document: dict[str, JsonValue]) -> bool:
    """Whether a copy of a history record still has the content that its hash was taken of."""
    return document.get("sha256") == content_hash({key: value for key, value in document.items() if key != "sha256"})


def _identity(record: RecordSession, item_id: int) -> JsonValue:
    row: Unit | Lot | None = record.get(Unit, item_id) or record.get(Lot, item_id)
    return None if row is None else fields(row, leave_out=("item_id",))


def _activities(record: RecordSession, item_ids: Sequence[int]) -> list[int]:
    """Everything that was done to the things: what made them, coated them and measured them, oldest first."""
    ids = {edge.activity_id for edge in edges_among(record, item_ids)}
    ids |= {layer.activity_id for layer in rows_in(record, Layer, "item_id", item_ids)}
    measured = rows_in(record, Measurement, "item_id", item_ids)
    ids |= {row.activity_id for row in measured if row.activity_id is not None}
    query = select(ActivityRow.id).where(col(ActivityRow.id).in_(ids))
    return [key for key in record.exec(query.order_by(col(ActivityRow.started_at), col(ActivityRow.id))) if key]


def _graph(record: RecordSession, nodes: Sequence[TraceNode]) -> JsonValue:
    serials = {node.item_id: node.serial for node in nodes}
    edges = edges_among(record, list(serials))
    runs = {row.key: row.serial for row in rows_in(record, ActivityRow, "id", [edge.activity_id for edge in edges])}
    return {
        "items": [{"serial": node.serial, "kind": node.kind.value, "depth": node.depth} for node in nodes],
        "edges": [_edge(edge, serials, runs) for edge in edges],
    }


def _edge(edge: TraceEdge, serials: dict[int, str], runs: dict[int, str]) -> dict[str, Any]:
    return {
        "from": serials[edge.src],
        "to": serials[edge.dst],
        "kind": edge.kind.value,
        "activity": runs[edge.activity_id],
        "quantity": canonical_value(edge.quantity),
        "unit": edge.unit,
        "at": canonical_value(edge.at),
    }
