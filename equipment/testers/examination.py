"""What a tester's file says, read before anything is written: layout, preamble, figures, verdict, or why it can't be.

It knows the file and the cell's own area and mass, which come from the record; what the file itself claims of them
is never used. No database is open here: a large file takes seconds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from equipment.testers.cycling import CannotAnalyse, specific_capacity_mah_g
from equipment.testers.file_errors import ResultFileError
from equipment.testers.handoff_records import Handoff
from equipment.testers.land import PARSER, PARSER_VERSION, read_land
from equipment.testers.lifetime import FailureCriteria
from equipment.testers.records import Polarity
from equipment.testers.verdicts import CellAnalysis, analyse
from recipes.protocols import CyclingBody


@dataclass(frozen=True, slots=True)
class Examination:
    """A file as it was read.

    Attributes:
        problem: Why it could not be read or analysed; None where it could.
        preamble: What it says about itself.
        profile: The layout that fits; "" where none does.
        analysis: What it says about the cell; None with a problem.
        areal: The figures per area and per mass of that very cell.
    """

    problem: str | None
    preamble: Mapping[str, str] = field(default_factory=dict)
    profile: str = ""
    analysis: CellAnalysis | None = None
    areal: Mapping[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, object] | None:
        """For storing."""
        if self.analysis is None:
            return None
        reader = {"parser": PARSER, "parser_version": PARSER_VERSION, "profile": self.profile}
        return {**self.analysis.to_json(), "areal": dict(self.areal), "reader": reader}


class _Named(io.BufferedReader):
    """A stored file under the name that it had at the tester."""

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        super().__init__(raw)
        self._name = name

    @property
    def name(self) -> str:
        """As the tester called it."""
        return self._name


def examine(
    stored: io.BufferedReader,
    file_name: str,
    handoff: Handoff,
    *,
    is_final: bool,
    criteria: FailureCriteria | None = None,
) -> Examination:
    """Read and analyse a file.

    Args:
        stored: The raw file; closed afterwards.
        file_name: As the tester called it.
        handoff: Whose result it is said to be.
        is_final: The tester says that the test is over.
        criteria: When a symmetric cell counts as failed; None for the default version.
    """
    body = CyclingBody.model_validate(handoff.body.protocol.body)
    limit_v = float(body.voltage_limit_v)
    stream = _Named(stored.detach(), file_name)
    try:
        found = read_land(stream)
        analysis = analyse(
            found.batches(),
            kind=handoff.body.cell_kind,
            is_final=is_final,
            polarity=Polarity.NORMAL if handoff.body.polarity == "normal" else Polarity.REVERSED,
            criteria=criteria,
            cut_off_v=limit_v,
        )
    except (ResultFileError, CannotAnalyse) as error:
        return Examination(error.message)
    finally:
        stream.close()
    if analysis.n_records == 0:
        return Examination("The file holds no records.", found.preamble, found.profile.name)
    return Examination(
        None,
        found.preamble,
        found.profile.name,
        analysis,
        areal_figures(analysis, handoff.area_cm2, handoff.active_mg),
    )


def areal_figures(analysis: CellAnalysis, area_cm2: Decimal, active_mg: Decimal | None) -> Mapping[str, float | None]:
    """Figures per area of an electrode and per mass of active material; None where there is nothing to say.

    Raises:
        CannotAnalyse: The mass is not a positive number.
    """
    area = float(area_cm2)
    halves = analysis.half_cycles
    whole = ~halves.partial & np.isfinite(halves.overpotential_v)
    hours = (halves.end_s - halves.start_s) / 3600.0
    with np.errstate(divide="ignore", invalid="ignore"):
        current_a = np.where(hours > 0, halves.capacity_ah / hours, np.nan)
        resistance = halves.overpotential_v * area / current_a
    whole &= np.isfinite(resistance)
    discharged_ah = analysis.cycles.discharge_capacity_ah[~analysis.cycles.partial]
    specific = None
    if active_mg is not None and len(discharged_ah):
        specific = float(specific_capacity_mah_g(discharged_ah, float(active_mg) / 1e3).max())
    return {
        "area_specific_resistance_ohm_cm2": _median(resistance[whole]),
        "current_density_ma_cm2": _median(1e3 * current_a[whole] / area),
        "areal_capacity_mah_cm2": _median(1e3 * halves.capacity_ah[whole] / area),
        "charge_passed_mah_cm2": 1e3 * float(halves.capacity_ah.sum()) / area,
        "specific_capacity_mah_g": specific,
    }


def _median(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    return float(np.median(values)) if len(values) else None
