"""How fast a film grows in the sputter chamber, and how dense it is: closed formulas and their constants.

The one place with the numbers of the simulated tool. They are engineering judgement, to be calibrated on a real
one, except where a formula's source is named. It knows no time, no sequence and no noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SCCM_PA_M3_PER_S = 1.81e-3
"""One standard cubic centimetre a minute of gas at 293 K, in Pa·m³/s."""


@dataclass(frozen=True, slots=True)
class ChamberPhysics:
    """Constants of chamber, pumps, plasma, crystal and carrier. Defaults describe the simulated RH450."""

    # rate of growth on the carrier's circle
    rate_nm_per_min: float = 2.0
    power_w: float = 120.0
    power_exponent: float = 1.0
    pressure_pa: float = 0.5
    distance_mm: float = 80.0
    thermalisation_pa_m: float = 0.12
    erosion_radius_mm: float = 23.0
    carrier_radius_mm: float = 22.0
    wear_loss: float = 0.15
    burn_in_gain: float = 0.03
    burn_in_kwh: float = 0.6
    target_life_kwh: float = 20.0
    target_spread: float = 0.04
    run_noise: float = 0.01
    run_walk: float = 0.003
    position_spread: float = 0.01
    # film
    density_g_per_cm3: float = 2.4
    density_loss_per_pa: float = 0.03
    # vacuum
    volume_m3: float = 0.065
    box_pressure_pa: float = 101_625.0
    rough_speed_m3_per_s: float = 0.006
    rough_ultimate_pa: float = 1.0
    turbo_speed_m3_per_s: float = 0.200
    turbo_run_up_s: float = 180.0
    turbo_coast_s: float = 240.0
    pressure_after_1h_pa: float = 1e-4
    ultimate_pressure_pa: float = 2e-5
    wet_factor: float = 10.0
    vent_conductance_m3_per_s: float = 0.001
    vent_supply_pa: float = 120_000.0
    throttle_loop_s: float = 2.0
    # gas
    flow_dead_s: float = 0.1
    flow_lag_s: float = 0.5
    flow_error: float = 0.01
    # plasma
    match_lag_s: float = 1.5
    retune_s: float = 5.0
    residual_reflection: float = 0.005
    bias_v: float = 250.0
    arcs_per_min: float = 0.1
    arc_factor: float = 10.0
    new_target_kwh: float = 0.05
    crack_rate_loss: float = 0.05
    # carrier
    ambient_c: float = 25.0
    holder_rise_k: float = 25.0
    holder_lag_s: float = 3600.0
    disc_rise_k: float = 1.5
    disc_lag_s: float = 4.8
    # crystal
    crystal_spread: float = 0.01
    crystal_noise_hz: float = 0.5
    crystal_reading_hz: float = 4.0
    crystal_heat_hz: float = 15.0
    crystal_heat_s: float = 20.0


def keller_simmons(pressure_distance_pa_m: float, thermalisation_pa_m: float) -> float:
    """Share of sputtered atoms that arrive through the gas: `(1 − e^(−x/x0)) / (x/x0)`, 1 in vacuum.

    Keller and Simmons, IBM J. Res. Dev. 23 (1979) 24: `x` is pressure times throw in Pa·m, `x0` a constant of
    gas and target in Pa·m.
    """
    ratio = pressure_distance_pa_m / thermalisation_pa_m
    if ratio < 1e-9:
        return 1.0
    return -math.expm1(-ratio) / ratio


def ring_source(radius_mm: float, distance_mm: float, ring_mm: float) -> float:
    """Flux in 1/mm² (to a constant) of a ring of radius `ring_mm` at a plane `distance_mm` away.

    `radius_mm` is how far off the axis the flux is taken. The erosion groove of a planar magnetron is nearly
    such a ring, emitting by the cosine law.
    """
    off_axis = (radius_mm / distance_mm) ** 2
    ring = (ring_mm / distance_mm) ** 2
    spread = ((1.0 - off_axis + ring) ** 2 + 4.0 * off_axis) ** 1.5
    return float((1.0 + off_axis + ring) / spread / distance_mm**2)


def non_uniformity(diameter_mm: float, distance_mm: float, ring_mm: float, rings: int = 400) -> float:
    """Standard deviation over mean, weighted by area, of a film on a fixed disc centred on the axis."""
    mean = square = 0.0
    for index in range(rings):
        radius = diameter_mm / 2.0 * math.sqrt((index + 0.5) / rings)
        flux = ring_source(radius, distance_mm, ring_mm)
        mean += flux / rings
        square += flux * flux / rings
    return math.sqrt(max(0.0, square - mean * mean)) / mean


def erosion(energy_kwh: float, physics: ChamberPhysics) -> float:
    """Relative yield of a target that has seen `energy_kwh`: burn-in first, then slow loss with the groove."""
    return (
        1.0
        - physics.wear_loss * energy_kwh / physics.target_life_kwh
        + physics.burn_in_gain * math.exp(-energy_kwh / physics.burn_in_kwh)
    )


def growth_nm_per_min(
    physics: ChamberPhysics,
    power_w: float,
    pressure_pa: float,
    energy_kwh: float = 0.0,
    distance_mm: float | None = None,
    radius_mm: float | None = None,
) -> float:
    """Mean growth in nm/min on a circle of `radius_mm` (the carrier's unless given) under true power and pressure."""
    distance = physics.distance_mm if distance_mm is None else distance_mm
    radius = physics.carrier_radius_mm if radius_mm is None else radius_mm
    reference = physics.pressure_pa * physics.distance_mm / 1000.0
    through_gas = keller_simmons(pressure_pa * distance / 1000.0, physics.thermalisation_pa_m) / keller_simmons(
        reference, physics.thermalisation_pa_m
    )
    geometry = ring_source(radius, distance, physics.erosion_radius_mm) / ring_source(
        physics.carrier_radius_mm, physics.distance_mm, physics.erosion_radius_mm
    )
    power = (power_w / physics.power_w) ** physics.power_exponent
    worn = erosion(energy_kwh, physics) / erosion(0.0, physics)
    return float(physics.rate_nm_per_min * power * through_gas * geometry * worn)


def film_density_g_per_cm3(physics: ChamberPhysics, pressure_pa: float) -> float:
    """Density of a film grown at `pressure_pa`: 2.4 at the reference pressure (92 % of bulk γ-LiAlO₂, 2.615)."""
    return physics.density_g_per_cm3 * (1.0 - physics.density_loss_per_pa * (pressure_pa - physics.pressure_pa))
