"""How fast a film grows and how dense a pellet becomes: the laws that recipes predict with.

Sputter rate after Keller and Simmons (gas scattering) with the flux of a ring source and a wear law of the target;
pellet density after Heckel. The constants are engineering judgement, to be calibrated on the real tool; run-to-run
control learns what they miss. What the plant of a simulator does is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SputterRateModel:
    """`R = R0·(W/W0)^n·K(p·d)/K(p0·d0)·G(d)/G(d0)·η(E)/η(0)`.

    Attributes:
        reference_rate_nm_per_min: R0, at the reference power, pressure and distance with an unused target.
        reference_power_w, reference_pressure_pa, reference_distance_mm: W0, p0, d0.
        power_exponent: n.
        scattering_pa_m: x0 of Keller and Simmons, `K(x) = (1 − e^(−x/x0))/(x/x0)`.
        ring_radius_mm: s, radius of the erosion groove.
        circle_radius_mm: r, radius of the circle on which the discs lie.
        wear: a, rate lost over the target's life.
        burn_in, burn_in_kwh: b and E_b, gain of a fresh target and how fast it goes.
        target_life_kwh: E_life.
    """

    reference_rate_nm_per_min: float = 2.0
    reference_power_w: float = 120.0
    reference_pressure_pa: float = 0.5
    reference_distance_mm: float = 80.0
    power_exponent: float = 1.0
    scattering_pa_m: float = 0.12
    ring_radius_mm: float = 23.0
    circle_radius_mm: float = 22.0
    wear: float = 0.15
    burn_in: float = 0.03
    burn_in_kwh: float = 0.6
    target_life_kwh: float = 20.0

    def rate_nm_per_min(
        self, power_w: float, pressure_pa: float, target_energy_kwh: float = 0.0, distance_mm: float | None = None
    ) -> float:
        """Growth on the discs in nm/min.

        Raises:
            ValueError: Power or pressure is not positive, or the energy negative.
        """
        if power_w <= 0 or pressure_pa <= 0 or target_energy_kwh < 0:
            raise ValueError(f"no rate at {power_w} W, {pressure_pa} Pa, {target_energy_kwh} kWh")
        distance = self.reference_distance_mm if distance_mm is None else distance_mm
        return (
            self.reference_rate_nm_per_min
            * math.pow(power_w / self.reference_power_w, self.power_exponent)
            * self.transmission(pressure_pa, distance)
            / self.transmission(self.reference_pressure_pa, self.reference_distance_mm)
            * self.geometry(distance)
            / self.geometry(self.reference_distance_mm)
            * self.yield_factor(target_energy_kwh)
            / self.yield_factor(0.0)
        )

    def transmission(self, pressure_pa: float, distance_mm: float) -> float:
        """Keller–Simmons factor K, 0 to 1: what the gas lets through."""
        x = pressure_pa * distance_mm / 1000.0 / self.scattering_pa_m
        return -math.expm1(-x) / x

    def geometry(self, distance_mm: float) -> float:
        """Flux of a ring source on the circle of the discs, in 1/mm² up to a constant."""
        across = (self.circle_radius_mm / distance_mm) ** 2
        ring = (self.ring_radius_mm / distance_mm) ** 2
        return (1 + across + ring) / math.pow((1 - across + ring) ** 2 + 4 * across, 1.5) / distance_mm**2

    def yield_factor(self, target_energy_kwh: float) -> float:
        """η: 1 for a mean target, less with wear, more while it burns in."""
        worn = self.wear * target_energy_kwh / self.target_life_kwh
        return 1.0 - worn + self.burn_in * math.exp(-target_energy_kwh / self.burn_in_kwh)


@dataclass(frozen=True, slots=True)
class HeckelModel:
    """`ln(1/(1 − D)) = K·P + A` for the relative density D at the highest pressure P so far.

    Attributes:
        slope_per_mpa: K.
        intercept: A.
        full_density_g_per_cm3: Of the electrolyte without pores.
    """

    slope_per_mpa: float = 0.0033
    intercept: float = 0.85
    full_density_g_per_cm3: float = 2.04

    def relative_density(self, pressure_mpa: float) -> float:
        """Density under pressure over full density, 0 to 1."""
        return -math.expm1(-(self.slope_per_mpa * pressure_mpa + self.intercept))

    def thickness_mm(self, mass_mg: float, pressure_mpa: float, die_diameter_mm: float) -> float:
        """Thickness of the pellet under pressure in mm."""
        full_mm = mass_mg / self.full_density_g_per_cm3 / die_area_mm2(die_diameter_mm)
        return full_mm / self.relative_density(pressure_mpa)


def die_area_mm2(die_diameter_mm: float) -> float:
    """Area of a round die in mm²; 78.54 for 10 mm."""
    return math.pi / 4 * die_diameter_mm**2


def force_kn(pressure_mpa: float, die_diameter_mm: float) -> float:
    """The force in kN that puts a pressure on a round die; 28.27 for 360 MPa on 10 mm."""
    return pressure_mpa * die_area_mm2(die_diameter_mm) / 1000.0
