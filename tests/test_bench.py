"""`make bench` measures something for every figure, says so in JSON, and shows what is short as short."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks.__main__ import BENCHMARKS, main, run, table_of
from tests.benchmarks.bench_audit import sqlite_dump
from tests.benchmarks.figures import Figure

KEYS = ["figure", "value", "unit", "limit", "ratio", "goal", "higher_is_better"]


def shown(*figures: Figure) -> str:
    console = Console(width=130, record=True)
    with console.capture() as capture:
        console.print(table_of(figures))
    return capture.get()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_measures_itself_and_its_raw_limit(name: str, tmp_path: Path) -> None:
    figures = run(name, 0.001, tmp_path)
    assert figures
    for figure in figures:
        assert figure.value > 0
        assert figure.limit > 0
        assert figure.goal > 0
        assert figure.unit
        assert figure.against
        assert figure.figure in shown(figure)


def test_the_figures_are_written_as_a_json_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "var" / "bench.json"
    main(["--only", "genealogy", "--fraction", "0.001", "--out", str(out)])
    figures = json.loads(out.read_text())
    assert [list(figure) for figure in figures] == [KEYS, KEYS]
    printed = capsys.readouterr().out
    for figure in figures:
        assert figure["ratio"] == pytest.approx(figure["value"] / figure["limit"])
        assert figure["figure"] in printed
    assert str(out) in printed.replace("\n", "")


def test_without_the_sqlite3_tool_the_dump_is_made_in_python_and_says_so(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "audit.db")) as connection:
        connection.execute("CREATE TABLE audit_events (seq INTEGER, body TEXT)")
        connection.execute("INSERT INTO audit_events VALUES (1, 'an event')")
        connection.commit()
    measure, against = sqlite_dump(tmp_path / "audit.db", tmp_path / "dump.sql", None)
    assert measure() > 0
    assert "an event" in (tmp_path / "dump.sql").read_text()
    assert "iterdump" in against


def test_a_figure_that_misses_its_goal_is_shown_as_short() -> None:
    slow = Figure("slow", 3.0, "ms", 1.0, goal=2.0, against="nothing")
    slower = Figure("few", 0.1, "requests/s", 1.0, goal=0.2, against="nothing", higher_is_better=True)
    assert "SHORT" in shown(slow)
    assert "SHORT" in shown(slower)


def test_a_figure_on_the_right_side_of_its_goal_is_reached() -> None:
    quick = Figure("quick", 1.5, "ms", 1.0, goal=2.0, against="nothing")
    many = Figure("many", 0.3, "requests/s", 1.0, goal=0.2, against="nothing", higher_is_better=True)
    for figure in (quick, many):
        assert "reached" in shown(figure)
        assert "SHORT" not in shown(figure)
