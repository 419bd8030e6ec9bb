"""One stroke of the simulated press: where it stands, how long it will take, and what was measured in it.

Only readings of load cell and ram position are kept here, never the pellet's true density.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from equipment.jobs import Parameter
from equipment.press import PRESS, PressPhase, pellet_density_g_per_cm3, pressure_mpa
from equipment.simulators.press_recipe import PressRecipe
from equipment.tags import TagValue

_UNITS = {actual.name: actual.unit for actual in PRESS.job_actuals}


@dataclass(slots=True)
class Stroke:
    """State of a stroke. `recent_kn` holds the two readings before the present one, oldest first."""

    phase: PressPhase = PressPhase.IDLE
    elapsed_s: float = 0.0
    dwell_s: float = 0.0
    dwell_kn_s: float = 0.0
    peak_kn: float = 0.0
    off_s: float = 0.0
    interruptions: int = 0
    stack_mm: float = 0.0
    fractured: bool = False
    recent_kn: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def remaining_s(self, recipe: PressRecipe | None, phase: PressPhase) -> float:
        """Predicted seconds left of one phase; 0 for one that is over."""
        if recipe is None or self.phase is PressPhase.IDLE or phase < self.phase:
            return 0.0
        whole = {
            PressPhase.IDLE: 0.0,
            PressPhase.PRELOAD: recipe.preload_kn / recipe.ramp_kn_per_s + recipe.preload_s,
            PressPhase.RAMP: (recipe.force_kn - recipe.preload_kn) / recipe.ramp_kn_per_s + 2.0,
            PressPhase.DWELL: recipe.dwell_s - self.dwell_s,
            PressPhase.UNLOAD: recipe.force_kn / recipe.unload_kn_per_s + 2.0,
        }[phase]
        spent = self.elapsed_s if phase is self.phase and phase is not PressPhase.DWELL else 0.0
        return max(0.0, whole - spent)

    def run_remaining_s(self, recipe: PressRecipe | None) -> float:
        """Predicted seconds left of the stroke."""
        return sum(self.remaining_s(recipe, phase) for phase in PressPhase)

    def actuals(self, recipe: PressRecipe, stack_now_mm: float) -> tuple[Parameter, ...]:
        """Each actual of the press table; thickness as it stands until the ram is free, then as it was left."""
        stack_mm = self.stack_mm or stack_now_mm
        pellet_mm = max(0.0, stack_mm - recipe.added_thickness_mm)
        density = 0.0
        if pellet_mm > 0.0:
            density = pellet_density_g_per_cm3(recipe.powder_mass_mg, pellet_mm, recipe.die_diameter_mm)
        mean_kn = self.dwell_kn_s / self.dwell_s if self.dwell_s else 0.0
        values: dict[str, TagValue] = {
            "peak_force_kn": self.peak_kn,
            "mean_dwell_force_kn": mean_kn,
            "mean_dwell_pressure_mpa": pressure_mpa(mean_kn, recipe.die_diameter_mm),
            "dwell_s": self.dwell_s,
            "stack_thickness_mm": stack_mm,
            "thickness_mm": pellet_mm,
            "density_g_per_cm3": density,
            "relative_density": density / recipe.theoretical_density_g_per_cm3,
            "fractured": self.fractured,
            "interruption_count": self.interruptions,
        }
        return tuple(Parameter(name, value, _UNITS[name]) for name, value in values.items())
