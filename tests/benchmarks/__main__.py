"""`python -m tests.benchmarks`: measure, print the table, write `var/bench.json`.

Which benchmarks there are is known here; what a figure is, in `figures`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from tests.benchmarks import bench_audit, bench_genealogy, bench_http, bench_opcua, bench_traces
from tests.benchmarks.figures import Benchmark, Figure, Scale

BENCHMARKS: Mapping[str, Benchmark] = {
    "genealogy": bench_genealogy.measure,
    "audit": bench_audit.measure,
    "traces": bench_traces.measure,
    "http": bench_http.measure,
    "opcua": bench_opcua.measure,
}
QUICK = 0.05
_WIDTH = 130
"""Of the table; a narrower terminal breaks its lines by itself."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    options = _options(arguments)
    console = Console()
    console.width = max(console.width, _WIDTH)
    fraction = QUICK if options.quick else options.fraction
    begun, figures = time.monotonic(), list[Figure]()
    with tempfile.TemporaryDirectory(prefix="argonaut-bench-") as folder, console.status("") as status:
        for name in options.only or BENCHMARKS:
            status.update(f"measuring {name} …")
            figures += run(name, fraction, Path(folder))
    console.print(table_of(figures))
    short = [figure.figure for figure in figures if not figure.reached]
    if fraction < 1:
        console.print(f"Measured at {fraction:g} of the full size: a try-out, not the figures themselves.")
    console.print(f"{len(figures) - len(short)} of {len(figures)} reached; {time.monotonic() - begun:.0f} s.")
    if short:
        console.print(f"[bold red]Short:[/] {'; '.join(short)}.")
    write(figures, options.out)
    console.print(f"Written to {options.out}.")


def run(name: str, fraction: float, folder: Path) -> list[Figure]:
    """The figures of one benchmark, in a folder of its own below `folder`."""
    own = folder / name
    own.mkdir()
    return list(BENCHMARKS[name](Scale(fraction, own)))


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([figure.as_json() for figure in figures], indent=2, ensure_ascii=False) + "\n")


def table_of(figures: Sequence[Figure]) -> Table:
    """The figures for people; what each is measured against stands below it."""
    table = Table(title="Against the raw limit, in one run", title_style="bold", show_lines=True)
    for heading in ("figure", "value", "limit", "unit", "ratio", "goal", ""):
        table.add_column(heading, justify="right" if heading in {"value", "limit", "ratio", "goal"} else "left")
    for figure in figures:
        table.add_row(
            f"{figure.figure}\n[dim]limit: {figure.against}[/]",
            _number(figure.value),
            _number(figure.limit),
            figure.unit,
            _number(figure.ratio, 3),
            f"{'≥' if figure.higher_is_better else '≤'} {_number(figure.goal, 3)}",
            "[green]reached[/]" if figure.reached else "[bold white on red] SHORT [/]",
        )
    return table


def _number(number: float, digits: int = 4) -> str:
    """A number to so many digits, without an exponent."""
    places = max(0, digits - 1 - math.floor(math.log10(abs(number)))) if number else 0
    return f"{number:,.{places}f}".replace(",", " ")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=list(BENCHMARKS), metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--quick", action="store_true", help=f"at {QUICK:g} of the full size, to try it out")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the full size")
    parser.add_argument("--out", type=Path, default=Path("var/bench.json"), help="where the JSON goes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    main()
