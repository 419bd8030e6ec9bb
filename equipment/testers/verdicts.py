"""One call from the records of a test to everything that is said about its cell.

It puts the reader's batches, the cycling figures and the verdict together in one pass, and notes which version
of the analysis did it. It knows no file layout, no database and no endpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from equipment.testers.cycling import Cycles, HalfCycles, cycles, half_cycles, summary
from equipment.testers.lifetime import FailureCriteria, Verdict, judge
from equipment.testers.records import CellKind, Polarity, Records

ANALYSIS_VERSION = "1"


@dataclass(frozen=True, slots=True)
class CellAnalysis:
    """What a test says about one cell.

    Attributes:
        kind: Of the cell.
        is_final: The test was over.
        n_records: Records that were read.
        first_unix_s, last_unix_s: The tester's clock at the first and last record, UTC; None where it has none.
        half_cycles, cycles: The measured figures.
        verdict: On the life of a symmetric cell; None for other kinds, which have no criteria.
        summary: The figures that a person asks for first.
    """

    kind: CellKind
    is_final: bool
    n_records: int
    first_unix_s: float | None
    last_unix_s: float | None
    half_cycles: HalfCycles
    cycles: Cycles
    verdict: Verdict | None
    summary: Mapping[str, int | float | None]

    def to_json(self) -> dict[str, object]:
        """All but the single cycles, for storing and showing."""
        return {
            "analysis_version": ANALYSIS_VERSION,
            "cell_kind": self.kind.value,
            "is_final": self.is_final,
            "n_records": self.n_records,
            "first_unix_s": self.first_unix_s,
            "last_unix_s": self.last_unix_s,
            "summary": dict(self.summary),
            "verdict": None if self.verdict is None else asdict(self.verdict),
        }


def analyse(
    batches: Iterable[Records],
    *,
    kind: CellKind,
    is_final: bool,
    polarity: Polarity = Polarity.NORMAL,
    criteria: FailureCriteria | None = None,
    cut_off_v: float = math.inf,
) -> CellAnalysis:
    """Analyse a test in one pass over its records, in bounded memory.

    Args:
        batches: Records in order, as `ResultFile.batches` hands them out; what that raises passes through.
        kind: Of the cell, from the record and not from the file.
        is_final: The test is over.
        polarity: How the cell lay in the channel.
        criteria: When a symmetric cell counts as failed; None for the default version.
        cut_off_v: |voltage| at which the protocol ended the test.
    """
    extent = _Extent()
    halves = half_cycles(extent.passing(batches), polarity=polarity, is_final=is_final)
    of = cycles(halves, kind)
    verdict = judge(halves, criteria or FailureCriteria(), cut_off_v) if kind is CellKind.SYMMETRIC else None
    return CellAnalysis(
        kind, is_final, extent.n_records, extent.first_s, extent.last_s, halves, of, verdict, summary(halves, of)
    )


class _Extent:
    """How many records went by, and between which times."""

    def __init__(self) -> None:
        self.n_records = 0
        self.first_s: float | None = None
        self.last_s: float | None = None

    def passing(self, batches: Iterable[Records]) -> Iterator[Records]:
        """The same batches, counted."""
        for batch in batches:
            self.n_records += len(batch)
            clock_s = batch.unix_time_second
            known = clock_s[~np.isnan(clock_s)]
            if len(known):
                self.first_s = float(known[0]) if self.first_s is None else self.first_s
                self.last_s = float(known[-1])
            yield batch
