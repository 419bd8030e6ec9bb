"""What the cells on a simulated tester really are: the truth of the plants that made their parts, by serial.

The simulated tools keep it in their state files; here it is looked up by the serials of a hand-off. Nothing is taken
from a recipe: a part that no plant knows is bare lithium, or the cell can't be simulated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from equipment.errors import EquipmentError
from equipment.simulators.cell_law import CellTruth
from equipment.testers.contract import Offer, Part
from traceability.errors import Finding


class NoTruth(EquipmentError):
    """No simulated tool knows what a part of the cell really is."""


class PlantTruth:
    """The truth that lies in a folder of state files of simulated tools; read anew each time.

    Args:
        folder: Holds `*.json`, each with `plant.truth` (a tool server's state) or `truth` by serial.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, offer: Offer) -> CellTruth:
        """What a cell is.

        Raises:
            NoTruth: Some part is not known, or there are not two electrodes and a pellet.
        """
        known = self._by_serial()
        parts = offer.traveller.parts
        electrodes = [part for part in parts if part.role == "electrode"]
        pellets = [part for part in parts if part.role == "electrolyte"]
        findings: list[Finding] = []
        films = [_film(part, known, findings) for part in electrodes]
        densities = [_density(part, known, findings) for part in pellets]
        if len(films) != 2 or len(densities) != 1:
            message = f"{offer.cell_serial} has {len(films)} electrodes and {len(densities)} pellets, not 2 and 1."
            findings.append(Finding("not_modelled", message, "Only symmetric cells are simulated.", "parts"))
        if findings:
            raise NoTruth("; ".join(finding.message for finding in findings), findings)
        return CellTruth(
            film_thickness_nm=(films[0][0], films[1][0]),
            interruptions=max(interruptions for _, interruptions in films),
            exposure_pa_s=max(float(part.water_pa_s) for part in electrodes),
            pellet_relative_density=densities[0],
            kind=offer.cell_kind,
            area_cm2=float(offer.area_cm2),
        )

    def _by_serial(self) -> Mapping[str, Mapping[str, Any]]:
        return {serial: facts for path in sorted(self._folder.glob("*.json")) for serial, facts in _truth_in(path)}


def _truth_in(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    state = json.loads(path.read_bytes())
    truth = state.get("plant", state).get("truth", {}) if isinstance(state, dict) else {}
    yield from truth.items()


def _film(part: Part, known: Mapping[str, Mapping[str, Any]], findings: list[Finding]) -> tuple[float, int]:
    """Thickness in nm and interruptions of all that was ever put on this body of lithium."""
    grown = [known[serial] for serial in (part.serial, *part.was) if "thickness_nm" in known.get(serial, {})]
    if not grown and part.kind != "disc":
        message = f"No simulated tool has coated {part.serial} or what it was before ({', '.join(part.was)})."
        findings.append(
            Finding("no_truth", message, "Coat it on a simulated tool, or use a real tester.", part.serial)
        )
    return sum(float(film["thickness_nm"]) for film in grown), sum(int(film["interruptions"]) for film in grown)


def _density(part: Part, known: Mapping[str, Mapping[str, Any]], findings: list[Finding]) -> float:
    """Relative density of the pellet, after its last stroke."""
    for serial in (part.serial, *part.was, part.made_in):
        density = known.get(serial, {}).get("relative_density")
        if density is not None:
            return float(density)
    message = f"No simulated press has pressed {part.serial}."
    findings.append(Finding("no_truth", message, "Press it on a simulated tool, or use a real tester.", part.serial))
    return 0.0
