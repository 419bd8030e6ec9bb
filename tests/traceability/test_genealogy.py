"""What became of what: traced both ways, never a cycle, never changed."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import orjson
import pytest
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel, select

from tests.traceability.line import LINE, Thread, define_materials, make_cell, receive
from traceability.activities import ActivityKind, begin_activity
from traceability.audit import AuditEvent
from traceability.database import Database
from traceability.errors import Refused
from traceability.genealogy import (
    TRACE_BACK,
    TRACE_FORWARD,
    EdgeKind,
    GenealogyEdge,
    edges_among,
    link,
    recall,
    trace_back,
    trace_forward,
)
from traceability.holds import HOLDS_ON
from traceability.items import find_item


@pytest.fixture
def thread(database: Database) -> Thread:
    return Thread(database)


def test_a_cell_traces_back_to_everything_in_it(database: Database, thread: Thread) -> None:
    with database.read() as record:
        cell = find_item(record, thread.cell)
    with database.connect() as connection:
        nodes = trace_back(connection, cell.key)
        edges = edges_among(connection, [node.item_id for node in nodes])
    depths = {node.serial: node.depth for node in nodes}
    assert nodes[0].serial == thread.cell
    assert {depths[serial] for serial in thread.coated} == {1}
    assert {depths[serial] for serial in thread.discs} == {2}
    assert depths[thread.lithium] == 3
    assert depths[thread.powder] == 2
    assert depths[thread.target] == 2
    assert len(nodes) == 10
    assert sorted(edge.kind for edge in edges).count(EdgeKind.TRANSFORMED) == 2
    assert len(edges) == 11
    (powder,) = [edge for edge in edges if edge.unit == "mg"]
    assert str(powder.quantity) == "150"


def test_a_powder_lot_traces_forward_to_every_cell(database: Database, thread: Thread) -> None:
    with database.write(LINE) as record:
        second = make_cell(record, thread.powder, [])
    with database.read() as record:
        found = recall(record, thread.powder)
    assert {node.serial for node in found.cells} == {thread.cell, second.serial}
    assert found.nodes[0].depth == 0


def test_a_cycle_is_refused_and_nothing_of_it_kept(database: Database, thread: Thread) -> None:
    with pytest.raises(Refused) as refusal, database.write(LINE) as record:
        source, result = find_item(record, thread.cell), find_item(record, thread.lithium)
        link(record, source.key, result.key, EdgeKind.RECOVERED, begin_activity(record, ActivityKind.PREPARATION))
    (finding,) = refusal.value.findings
    assert finding.code == "genealogy_cycle"
    assert thread.lithium in finding.message
    with database.read() as record:
        assert len(record.exec(select(GenealogyEdge).where(GenealogyEdge.kind == EdgeKind.RECOVERED)).all()) == 0
        (refused,) = record.exec(select(AuditEvent).where(AuditEvent.kind == "act.refused")).all()
    event = orjson.loads(refused.body)
    assert {thread.cell, thread.lithium} <= set(event["items"])
    assert event["detail"]["findings"] == [["genealogy_cycle", finding.message, thread.cell]]


def test_a_thing_can_not_be_made_of_itself(database: Database, thread: Thread) -> None:
    with pytest.raises(Refused, match="can't go into"), database.write(LINE) as record:
        item = find_item(record, thread.cell)
        link(record, item.key, item.key, EdgeKind.REWORKED, begin_activity(record, ActivityKind.PREPARATION))


def test_two_writers_at_once_can_not_close_a_cycle_together(database: Database) -> None:
    define_materials(database)
    with database.write(LINE) as record:
        one, other = receive(record, "LGPS", "1", "mg").item_id, receive(record, "LGPS", "1", "mg").item_id
    both_begun = Barrier(2, timeout=0.5)

    def write(pair: tuple[int, int]) -> str:
        try:
            with database.write(LINE) as record:
                activity = begin_activity(record, ActivityKind.PREPARATION)
                if record.dialect == "postgresql":
                    both_begun.wait()
                link(record, *pair, EdgeKind.RECOVERED, activity)
        except Refused:
            return "refused"
        return "kept"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(write, [(one, other), (other, one)]))
    assert outcomes == ["kept", "refused"]


def test_the_database_itself_refuses_to_change_the_genealogy(database: Database, thread: Thread) -> None:
    for table, column in (("genealogy_edges", "src"), ("items", "serial")):
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            with pytest.raises(DBAPIError, match="append-only"), database.engine.begin() as connection:
                connection.execute(text(statement))


def _grow(connection: Connection, count: int) -> None:
    """A graph of many units, each made of three earlier ones, written straight into the tables."""
    rng, tables, now = random.Random(7), SQLModel.metadata.tables, datetime(2026, 1, 1, tzinfo=UTC)
    connection.execute(
        tables["activities"].insert(),
        {"id": 1, "serial": "ACT-1", "kind": "assembly", "person": "x", "started_at": now, "detail": {},
         "equipment": "", "work_master": "", "simulated": False},
    )  # fmt: skip
    numbers = range(1, count + 1)
    connection.execute(
        tables["items"].insert(),
        [{"id": number, "serial": f"S{number}", "kind": "cell", "created_at": now} for number in numbers],
    )
    connection.execute(
        tables["genealogy_edges"].insert(),
        [
            {"src": rng.randrange(max(1, number - 200), number), "dst": number, "kind": "incorporated",
             "activity_id": 1, "unit": "", "at": now}
            for number in numbers[1:]
            for _ in range(3)
        ],
    )  # fmt: skip
    connection.execute(
        tables["holds"].insert(),
        [
            {"serial": f"H{number}", "item_id": number, "reason": "r", "placed_by": "x", "placed_at": now,
             "released_by": "", "release_reason": "", "version": 1}
            for number in numbers[:50]
        ],
    )  # fmt: skip


def test_no_trace_reads_the_edge_table_into_a_bloom_filter(database: Database) -> None:
    with database.engine.begin() as connection:
        _grow(connection, 4000)
        connection.execute(text("ANALYZE"))
    for statement, values in (
        (TRACE_BACK, {"item_id": 4000}),
        (TRACE_FORWARD, {"item_id": 1}),
        (HOLDS_ON, {"serials": ["S4000", "S3999"]}),
    ):
        explain = "EXPLAIN QUERY PLAN" if database.engine.dialect.name == "sqlite" else "EXPLAIN"
        explained = text(f"{explain} {statement.text}").bindparams(
            *(bindparam(name, value, expanding=isinstance(value, list)) for name, value in values.items())
        )
        with database.connect() as connection:
            plan = "\n".join(str(row[-1]) for row in connection.execute(explained))
        if database.engine.dialect.name == "sqlite":
            assert "BLOOM" not in plan
            assert "SEARCH edge USING COVERING INDEX" in plan
        else:
            assert "Seq Scan on genealogy_edges" not in plan


def test_a_trace_reaches_what_a_walk_over_the_edges_reaches(database: Database) -> None:
    with database.engine.begin() as connection:
        _grow(connection, 300)
    with database.connect() as connection:
        edges = connection.execute(text("SELECT src, dst FROM genealogy_edges")).all()
        for trace, here, there in ((trace_back, 1, 0), (trace_forward, 0, 1)):
            depths, frontier = {150: 0}, {150}
            for depth in itertools.count(1):
                frontier = {edge[there] for edge in edges if edge[here] in frontier} - depths.keys()
                if not frontier:
                    break
                depths |= dict.fromkeys(frontier, depth)
            assert {node.item_id: node.depth for node in trace(connection, 150)} == depths
