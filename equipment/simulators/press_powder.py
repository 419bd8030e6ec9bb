"""How a powder becomes a pellet: Heckel's law, elastic springback, slow creep under load.

Constants describe Li₁₀GeP₂S₁₂ and are engineering judgement, to be calibrated. It knows pressure and density and
no press.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FORGETTING = 40


@dataclass(frozen=True, slots=True)
class PowderPhysics:
    """Constants of one powder. Density in g/cm³, Heckel's slope in 1/MPa."""

    theoretical_density_g_per_cm3: float = 2.04
    heckel_per_mpa: float = 0.0033
    heckel_offset: float = 0.85
    springback: float = 0.01
    springback_at_reference: float = 0.006
    springback_reference_mpa: float = 360.0
    creep: float = 0.003
    creep_s: float = 10.0
    noise: float = 0.01


def relative_density(peak_mpa: float, physics: PowderPhysics, filling: float = 1.0) -> float:
    """Density under load over theoretical, 0 to 1, by the highest pressure so far.

    Heckel, Trans. Metall. Soc. AIME 221 (1961) 671: `ln(1/(1 − D)) = K·P + A`. `filling` is the pellet's own
    scatter in D.
    """
    return min(1.0, -math.expm1(-(physics.heckel_per_mpa * peak_mpa + physics.heckel_offset)) * filling)


def springback(peak_mpa: float, physics: PowderPhysics) -> float:
    """Relative growth in height when the load goes, by the highest pressure so far."""
    return physics.springback + physics.springback_at_reference * peak_mpa / physics.springback_reference_mpa


def creep_gain(dwell_s: float, physics: PowderPhysics) -> float:
    """Relative density gained by creep in `dwell_s` under load."""
    return physics.creep * math.log1p(dwell_s / physics.creep_s)


def loose_thickness_mm(mass_mg: float, area_mm2: float, density_g_per_cm3: float) -> float:
    """Height in mm of a body of given mass, area and density."""
    return mass_mg / (area_mm2 * density_g_per_cm3)


@dataclass(slots=True)
class Pellet:
    """A pellet through all its strokes: the highest pressure, and the longest dwell there, decide its density.

    The creep that counts is that at the highest pressure: a later, weaker stroke adds nothing.
    """

    mass_mg: float
    theoretical_density_g_per_cm3: float
    filling: float
    peak_mpa: float = 0.0
    dwell_s: float = 0.0
    fractured: bool = False

    def load(self, pressure_mpa: float, dt_s: float) -> None:
        """Hold `pressure_mpa` for `dt_s`; creep time counts near the peak and is forgotten as the peak rises."""
        if pressure_mpa > self.peak_mpa:
            self.dwell_s *= (self.peak_mpa / pressure_mpa) ** FORGETTING
            self.peak_mpa = pressure_mpa
        if pressure_mpa >= 0.95 * self.peak_mpa:
            self.dwell_s += dt_s

    def loaded_density(self, physics: PowderPhysics) -> float:
        """Relative density under the highest load so far."""
        pressed = relative_density(self.peak_mpa, physics, self.filling)
        return min(1.0, pressed + creep_gain(self.dwell_s, physics))

    def free_density(self, physics: PowderPhysics) -> float:
        """Relative density once the load is gone."""
        return self.loaded_density(physics) / (1.0 + springback(self.peak_mpa, physics))

    def thickness_mm(self, area_mm2: float, pressure_mpa: float, physics: PowderPhysics) -> float:
        """Height in the die under `pressure_mpa`: springback comes back in proportion to the load taken off."""
        dense = loose_thickness_mm(self.mass_mg, area_mm2, self.theoretical_density_g_per_cm3)
        pressed = dense / self.loaded_density(physics)
        released = 1.0 - min(1.0, pressure_mpa / self.peak_mpa) if self.peak_mpa > 0.0 else 0.0
        return pressed * (1.0 + released * springback(self.peak_mpa, physics))
