"""Every pellet that the simulated press has ever pressed, by serial: the hidden truth, kept over restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from random import Random

from pydantic import TypeAdapter

from equipment.press import die_area_mm2
from equipment.simulators.press_powder import Pellet, PowderPhysics
from equipment.simulators.press_recipe import PressRecipe

_PELLETS = TypeAdapter(dict[str, Pellet])


class PelletShelf:
    """Pellets by serial. A pellet's own scatter follows from the seed and its serial alone."""

    def __init__(self, seed: int, physics: PowderPhysics, die_diameter_mm: float) -> None:
        self._seed = seed
        self._physics = physics
        self._area_mm2 = die_area_mm2(die_diameter_mm)
        self._pellets: dict[str, Pellet] = {}

    def broken(self, serial: str) -> bool:
        """A stroke broke this pellet."""
        return serial in self._pellets and self._pellets[serial].fractured

    def take(self, recipe: PressRecipe) -> Pellet:
        """The pellet that the recipe names, as its last stroke left it; a first stroke fills it afresh."""
        serial = recipe.pellet_serial
        if serial not in self._pellets:
            scatter = Random(f"{self._seed}:pellet:{serial}").gauss(0.0, self._physics.noise)
            density = recipe.theoretical_density_g_per_cm3
            self._pellets[serial] = Pellet(recipe.powder_mass_mg, density, filling=1.0 + scatter)
        return self._pellets[serial]

    def truth(self) -> dict[str, dict[str, object]]:
        """What each pellet really is, as JSON: its state, and density and thickness with the load gone."""
        records: dict[str, dict[str, object]] = {}
        for serial, pellet in self._pellets.items():
            relative = pellet.free_density(self._physics)
            records[serial] = {
                **asdict(pellet),
                "relative_density": relative,
                "density_g_per_cm3": relative * pellet.theoretical_density_g_per_cm3,
                "thickness_mm": pellet.thickness_mm(self._area_mm2, 0.0, self._physics),
            }
        return records

    def restore(self, truth: Mapping[str, object]) -> None:
        """Take up what `truth` gave.

        Raises:
            ValueError: A record is not one of a pellet.
        """
        self._pellets = _PELLETS.validate_python(truth)
