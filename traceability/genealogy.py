"""What became of what: a directed acyclic graph over the items, to which edges are only ever added.

An edge runs from what went in (`src`) to what came out (`dst`) and names the activity that did it. Traces are one
prebuilt recursive query each, run on a plain connection: about a microsecond for every thing reached. What the
items are, and whether they may be used, is not known here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Column, Connection, Index, Integer, String, TextClause, bindparam, column, text
from sqlmodel import Field, SQLModel

from traceability.activities import ActivityRow
from traceability.append_only import make_append_only
from traceability.columns import Choice, ExactDecimal, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, Refused
from traceability.items import Item, ItemKind, find_item
from traceability.quantities import Quantity


class EdgeKind(StrEnum):
    """How one thing became, or became part of, another."""

    TRANSFORMED = "transformed"
    INCORPORATED = "incorporated"
    SPLIT = "split"
    MERGED = "merged"
    RECOVERED = "recovered"
    REWORKED = "reworked"
    DESTROYED = "destroyed"


SAME_MATTER = (EdgeKind.TRANSFORMED, EdgeKind.SPLIT, EdgeKind.MERGED, EdgeKind.RECOVERED, EdgeKind.REWORKED)
"""Edges along which the same body of matter goes on, so that what happened to its surface before still counts."""


class GenealogyEdge(SQLModel, table=True):
    """One step from a thing to what it became. The row never changes.

    Attributes:
        quantity: How much of the source went in, in `unit`; None for a serialised thing.
    """

    __tablename__ = "genealogy_edges"
    __table_args__ = (Index("ix_genealogy_src_dst", "src", "dst"), Index("ix_genealogy_dst_src", "dst", "src"))

    id: int | None = Field(default=None, primary_key=True)
    src: int = Field(foreign_key="items.id")
    dst: int = Field(foreign_key="items.id")
    kind: EdgeKind = Field(sa_column=Column(Choice(EdgeKind), nullable=False))
    activity_id: int = Field(foreign_key="activities.id")
    quantity: Decimal | None = Field(default=None, sa_column=Column(ExactDecimal))
    unit: str = ""
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


make_append_only(SQLModel.metadata.tables["genealogy_edges"])


class TraceNode(NamedTuple):
    """A thing that a trace reached; `depth` is its least distance in edges, 0 for the start itself."""

    item_id: int
    serial: str
    kind: ItemKind
    depth: int


class TraceEdge(NamedTuple):
    """An edge between two things of a trace."""

    src: int
    dst: int
    kind: EdgeKind
    activity_id: int
    quantity: Decimal | None
    unit: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Recall:
    """Everything that a thing went into, wherever it now is.

    Attributes:
        start: The suspect thing.
        nodes: It and all that was made of it, nearest first.
        cells: Those of them that are cells.
    """

    start: Item
    nodes: tuple[TraceNode, ...]

    @property
    def cells(self) -> tuple[TraceNode, ...]:
        """The cells among them."""
        return tuple(node for node in self.nodes if node.kind is ItemKind.CELL)


# CROSS JOIN fixes the order of the loops on SQLite: the few things reached outside, the index inside. Left to its
# statistics, its planner may read the whole edge table into a Bloom filter first.
TRACE_BACK = text(
    """
    WITH RECURSIVE reached (item_id, depth) AS (
        SELECT CAST(:item_id AS INTEGER), 0
        UNION
        SELECT edge.src, reached.depth + 1
        FROM reached CROSS JOIN genealogy_edges AS edge WHERE edge.dst = reached.item_id
    ), nearest (item_id, depth) AS (
        SELECT item_id, MIN(depth) FROM reached GROUP BY item_id
    )
    SELECT nearest.item_id, items.serial, items.kind, nearest.depth
    FROM nearest CROSS JOIN items WHERE items.id = nearest.item_id
    ORDER BY nearest.depth, nearest.item_id"""
)

TRACE_FORWARD = text(
    """
    WITH RECURSIVE reached (item_id, depth) AS (
        SELECT CAST(:item_id AS INTEGER), 0
        UNION
        SELECT edge.dst, reached.depth + 1
        FROM reached CROSS JOIN genealogy_edges AS edge WHERE edge.src = reached.item_id
    ), nearest (item_id, depth) AS (
        SELECT item_id, MIN(depth) FROM reached GROUP BY item_id
    )
    SELECT nearest.item_id, items.serial, items.kind, nearest.depth
    FROM nearest CROSS JOIN items WHERE items.id = nearest.item_id
    ORDER BY nearest.depth, nearest.item_id"""
)

_REACHES = text(
    """
    WITH RECURSIVE reached (item_id) AS (
        SELECT CAST(:start AS INTEGER)
        UNION
        SELECT edge.dst FROM reached CROSS JOIN genealogy_edges AS edge WHERE edge.src = reached.item_id
    )
    SELECT 1 FROM reached WHERE item_id = :goal LIMIT 1"""
)

_EDGES_INTO = (
    text(
        """
        SELECT src, dst, kind, activity_id, quantity, unit, at FROM genealogy_edges
        WHERE dst IN :item_ids ORDER BY id"""
    )
    .bindparams(bindparam("item_ids", expanding=True))
    .columns(
        column("src", Integer),
        column("dst", Integer),
        column("kind", Choice(EdgeKind)),
        column("activity_id", Integer),
        column("quantity", ExactDecimal),
        column("unit", String),
        column("at", UtcDateTime),
    )
)

_KINDS = {kind.value: kind for kind in ItemKind}

# Any fixed number does; it names the genealogy among PostgreSQL's advisory locks.
_GENEALOGY_LOCK = 0x47454E45

# SQLite takes 32 766 parameters in a statement, PostgreSQL 65 535.
_CHUNK = 10_000


def trace_back(source: Connection | RecordSession, item_id: int) -> list[TraceNode]:
    """A thing and everything that is in it, nearest first."""
    return _trace(source, TRACE_BACK, item_id)


def trace_forward(source: Connection | RecordSession, item_id: int) -> list[TraceNode]:
    """A thing and everything that was made of it, nearest first."""
    return _trace(source, TRACE_FORWARD, item_id)


def edges_among(source: Connection | RecordSession, item_ids: Sequence[int]) -> list[TraceEdge]:
    """The edges both ends of which are among the given things, oldest first."""
    connection = _connection(source)
    among = set(item_ids)
    edges: list[TraceEdge] = []
    for start in range(0, len(item_ids), _CHUNK):
        rows = connection.execute(_EDGES_INTO, {"item_ids": item_ids[start : start + _CHUNK]})
        edges += [TraceEdge(*row) for row in rows if row.src in among]
    return edges


def matter_edges(source: Connection | RecordSession, item_id: int) -> list[TraceEdge]:
    """The edges by which the body of matter that a thing is came to be it: disc to coated disc, lot to sublot."""
    into: dict[int, list[TraceEdge]] = defaultdict(list)
    for edge in edges_among(source, [node.item_id for node in trace_back(source, item_id)]):
        if edge.kind in SAME_MATTER:
            into[edge.dst].append(edge)
    found: list[TraceEdge] = []
    pending, seen = [item_id], {item_id}
    while pending:
        edges = into[pending.pop()]
        found += edges
        sources = {edge.src for edge in edges} - seen
        pending += sources
        seen |= sources
    return found


def recall(record: RecordSession, serial: str) -> Recall:
    """Where a thing went.

    Raises:
        InvalidInput: The serial is none.
        NotFound: Nothing has it.
    """
    item = find_item(record, serial)
    return Recall(item, tuple(trace_forward(record, item.key)))


def link(
    record: RecordSession,
    source_id: int,
    result_id: int,
    kind: EdgeKind,
    activity: ActivityRow,
    quantity: Quantity | None = None,
) -> GenealogyEdge:
    """Add an edge between two things that both exist already.

    Raises:
        Refused: The source was made of the result: the edge would close a cycle.
    """
    source, result = record.get_one(Item, source_id), record.get_one(Item, result_id)
    with record.act("genealogy.linked", source.serial, result.serial):
        if record.dialect == "postgresql":
            # Two transactions that don't see each other's edges could close a cycle together.
            record.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _GENEALOGY_LOCK})
        if record.connection().execute(_REACHES, {"start": result_id, "goal": source_id}).first():
            message = f"{source.serial} is itself made of {result.serial}."
            if source_id == result_id:
                message = f"{source.serial} can't be made of itself."
            action = "Check which serial is the source and which the result."
            raise Refused(
                f"{source.serial} can't go into {result.serial}.",
                [Finding("genealogy_cycle", message, action, source.serial)],
            )
        return link_new(record, source_id, result_id, kind, activity, quantity)


def link_new(
    record: RecordSession,
    source_id: int,
    result_id: int,
    kind: EdgeKind,
    activity: ActivityRow,
    quantity: Quantity | None = None,
) -> GenealogyEdge:
    """Add an edge to a thing that this transaction itself made, within the act that made it.

    Nobody else sees such a thing yet and nothing was made of it, so that no cycle can arise and no lock is needed.
    """
    edge = GenealogyEdge(
        src=source_id,
        dst=result_id,
        kind=kind,
        activity_id=activity.key,
        quantity=quantity.value if quantity else None,
        unit=quantity.unit if quantity else "",
        at=record.clock.now(),
    )
    record.add(edge)
    return edge


def _trace(source: Connection | RecordSession, statement: TextClause, item_id: int) -> list[TraceNode]:
    rows = _connection(source).execute(statement, {"item_id": item_id})
    return [TraceNode(found, serial, _KINDS[kind], depth) for found, serial, kind, depth in rows]


def _connection(source: Connection | RecordSession) -> Connection:
    if not isinstance(source, RecordSession):
        return source
    source.flush()
    return source.connection()
