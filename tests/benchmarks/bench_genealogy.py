"""Traces through a record of a million genealogy edges, against sqlite3 running the bare recursive query.

The graph is that of a real line: from lots of discs and powder over coated discs and pellets to symmetric cells, so
that everything in a cell makes nine things and a lot of discs has gone into 12 000.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from api.service import ACTS
from tests.benchmarks.figures import Figure, Scale, medians, seconds_of
from traceability.clock import SystemClock
from traceability.database import Database
from traceability.genealogy import trace_back, trace_forward

FORWARD_GOAL = 1.5
"""Serials, kinds, distances and our own objects may add half to what the bare query takes a node."""
BACK_GOAL = 10.0
"""On a few nodes what counts is the fixed cost of a statement: far below that of loading rows as objects (40)."""
_EDGES_A_CELL = 10
_THINGS_A_CELL = 6
_THINGS_OF_DISC_LOT_A_CELL = 5
_MOMENT = "2026-01-01 00:00:00.000000"

_BARE = """
    WITH RECURSIVE reached (item_id) AS (
        SELECT ?
        UNION
        SELECT edge.{there} FROM reached CROSS JOIN genealogy_edges AS edge WHERE edge.{here} = reached.item_id
    )
    SELECT items.id, items.serial, items.kind FROM reached CROSS JOIN items WHERE items.id = reached.item_id"""
_BARE_BACK = _BARE.format(here="dst", there="src")
_BARE_FORWARD = _BARE.format(here="src", there="dst")


@dataclass(frozen=True, slots=True)
class _Line:
    """A grown record; a lot of discs and a cell made of it, by id."""

    disc_lot: int
    cell: int


def measure(scale: Scale) -> Iterator[Figure]:
    """Forward trace of a lot of discs, back trace of a cell."""
    path = scale.folder / "genealogy.db"
    cells_a_lot = scale.size(12_000, 200) // _THINGS_OF_DISC_LOT_A_CELL
    lots = max(1, scale.size(1_000_000, 2_000) // _EDGES_A_CELL // cells_a_lot)
    database = Database(f"sqlite:///{path}", SystemClock(), ACTS)
    database.create_schema()
    line = _grow(path, lots, cells_a_lot)
    bare = sqlite3.connect(path)
    with database.connect() as connection:
        reached = len(trace_forward(connection, line.disc_lot))
        ours_s, limit_s = medians(
            15,
            seconds_of(lambda: trace_forward(connection, line.disc_lot)),
            seconds_of(lambda: bare.execute(_BARE_FORWARD, (line.disc_lot,)).fetchall()),
        )
        yield Figure(
            f"forward trace, {_rounded(reached)} nodes",
            ours_s / reached * 1e6,
            "µs/node",
            limit_s / reached * 1e6,
            goal=FORWARD_GOAL,
            against="sqlite3: bare CTE, without distances",
        )
        reached = len(trace_back(connection, line.cell))
        ours_s, limit_s = medians(
            15,
            seconds_of(lambda: trace_back(connection, line.cell), 200),
            seconds_of(lambda: bare.execute(_BARE_BACK, (line.cell,)).fetchall(), 200),
        )
    yield Figure(
        f"back trace, {reached} nodes",
        ours_s * 1e6,
        "µs",
        limit_s * 1e6,
        goal=BACK_GOAL,
        against="sqlite3: bare CTE, without distances",
    )
    bare.close()
    database.close()


def _rounded(count: int) -> str:
    return f"{round(count, -3) or count:,}".replace(",", " ")


def _grow(path: Path, lots: int, cells_a_lot: int) -> _Line:
    """Fill an empty record, past the service: what is measured is reading."""
    bare = sqlite3.connect(path)
    bare.execute("PRAGMA synchronous = OFF")
    bare.execute(
        "INSERT INTO activities (id, serial, kind, equipment, person, work_master, started_at, simulated, detail) "
        "VALUES (1, 'ACT-1', 'assembly', '', 'bench', '', ?, 1, '{}')",
        (_MOMENT,),
    )
    bare.executemany(
        "INSERT INTO items (id, serial, kind, created_at) VALUES (?, ?, ?, ?)", _items(lots, cells_a_lot)
    )
    bare.executemany(
        "INSERT INTO genealogy_edges (src, dst, kind, activity_id, unit, at) VALUES (?, ?, ?, 1, '', ?)",
        _edges(lots, cells_a_lot),
    )
    bare.commit()
    bare.execute("ANALYZE")
    bare.commit()
    bare.close()
    middle = lots // 2 * (3 + _THINGS_A_CELL * cells_a_lot)
    return _Line(disc_lot=middle + 2, cell=middle + 3 + _THINGS_A_CELL)


def _items(lots: int, cells_a_lot: int) -> Iterator[tuple[int, str, str, str]]:
    kinds = ("disc", "disc", "coated_disc", "coated_disc", "pellet", "cell")
    number = 0
    for _ in range(lots):
        for kind in ("lot", "lot", "target", *(kinds * cells_a_lot)):
            number += 1
            yield number, f"{kind[:3].upper()}-{number:08d}", kind, _MOMENT


def _edges(lots: int, cells_a_lot: int) -> Iterator[tuple[int, int, str, str]]:
    first = 0
    for _ in range(lots):
        powder, discs, target = first + 1, first + 2, first + 3
        for one in range(first + 4, first + 4 + _THINGS_A_CELL * cells_a_lot, _THINGS_A_CELL):
            pellet, cell = one + 4, one + 5
            for disc in (one, one + 1):
                coated = disc + 2
                yield discs, disc, "split", _MOMENT
                yield disc, coated, "transformed", _MOMENT
                yield target, coated, "incorporated", _MOMENT
                yield coated, cell, "incorporated", _MOMENT
            yield powder, pellet, "incorporated", _MOMENT
            yield pellet, cell, "incorporated", _MOMENT
        first += 3 + _THINGS_A_CELL * cells_a_lot
