"""What a figure is, and how two ways of doing the same are timed against each other.

Every figure stands beside its raw limit: the least that does the same work without the product, measured in the same
run, turn by turn (A B A B …), so that a busy machine slows both alike. A goal is a bound on the ratio of the two.
What is measured is not known here.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Measure: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        figure: What was measured.
        value: What the product reached, in `unit`.
        limit: What its raw limit reached in the same run, in `unit`.
        goal: Bound on `value / limit`: from above, or from below where higher is better.
        against: What the raw limit is, for the table.
    """

    figure: str
    value: float
    unit: str
    limit: float
    goal: float
    against: str
    higher_is_better: bool = False

    @property
    def ratio(self) -> float:
        """Value over limit."""
        return self.value / self.limit

    @property
    def reached(self) -> bool:
        """The ratio is on the right side of the goal."""
        return self.ratio >= self.goal if self.higher_is_better else self.ratio <= self.goal

    def as_json(self) -> dict[str, str | float | bool]:
        """As it stands in `bench.json`."""
        return {
            "figure": self.figure,
            "value": self.value,
            "unit": self.unit,
            "limit": self.limit,
            "ratio": self.ratio,
            "goal": self.goal,
            "higher_is_better": self.higher_is_better,
        }


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        fraction: Of the full size; 1 is what the figures are meant for.
        folder: Empty folder for databases; each benchmark makes its own files in it.
    """

    fraction: float
    folder: Path

    def size(self, full: int, least: int) -> int:
        """So many things instead of `full`, but never fewer than `least`."""
        return max(least, round(full * self.fraction))

    def seconds(self, full: float) -> float:
        """So long instead of `full` seconds, but never under 0.1 s."""
        return max(0.1, full * self.fraction)


Benchmark: TypeAlias = Callable[[Scale], Iterator[Figure]]


def seconds_of(work: Callable[[], object], times: int = 1) -> Measure:
    """Measures the seconds that `work` takes: of one call, taken over `times` calls."""

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - start) / times

    return measure


def medians(repetitions: int, ours: Measure, limit: Measure) -> tuple[float, float]:
    """Measure both in turns, after each has been warmed up, and take the median of each."""
    ours(), limit()
    pairs = []
    for _ in range(repetitions):
        with quiet():
            pairs.append((ours(), limit()))
    gc.unfreeze()
    ours_s, limit_s = zip(*pairs, strict=True)
    return statistics.median(ours_s), statistics.median(limit_s)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of what is timed: it runs before, over what is new, and not within."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
