"""The quartz crystal of the simulated chamber and the formula by which the tool reads thickness from it.

Sauerbrey with the Z-match correction of Lu and Lewis, J. Appl. Phys. 43 (1972) 4385. The crystal feels mass; that
the tool makes nanometres of it with a nominal density is the tool's assumption, not the truth.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from random import Random

from equipment.simulators.chamber import ChamberPhysics

BARE_HZ = 6.0e6
FREQUENCY_CONSTANT_HZ_CM = 1.668e5
QUARTZ_G_PER_CM3 = 2.648
RATE_WINDOW_S = 60.0
CM_PER_NM = 1e-7


@dataclass(frozen=True, slots=True)
class CrystalSettings:
    """What the tool assumes of film and place: density, acoustic ratio, and tooling (carrier over crystal)."""

    density_g_per_cm3: float = 2.4
    z_ratio: float = 1.0
    tooling_factor: float = 1.0


def film_thickness_nm(frequency_hz: float, settings: CrystalSettings) -> float:
    """All film on a crystal of 6 MHz by the Z-match formula, before the tooling factor, in nm."""
    z = settings.z_ratio
    turn = math.tan(math.pi * (BARE_HZ - frequency_hz) / BARE_HZ)
    scale = FREQUENCY_CONSTANT_HZ_CM * QUARTZ_G_PER_CM3
    centimetres = scale / (math.pi * settings.density_g_per_cm3 * z * frequency_hz) * math.atan(z * turn)
    return centimetres / CM_PER_NM


def loaded_frequency_hz(film_g_per_cm2: float) -> float:
    """Frequency of a crystal of 6 MHz under a film of given areal mass (acoustic ratio 1)."""
    scale = FREQUENCY_CONSTANT_HZ_CM * QUARTZ_G_PER_CM3
    return scale * BARE_HZ / (scale + film_g_per_cm2 * BARE_HZ)


class Crystal:
    """One crystal through its life: film, heat, noise, dropouts, and the readings made of them."""

    def __init__(self, physics: ChamberPhysics, tool: Random) -> None:
        self._physics = physics
        self._ratio = 1.0 + physics.crystal_spread * tool.gauss(0.0, 1.0)
        self.settings = CrystalSettings()
        self.film_g_per_cm2 = 0.0
        self.heat_hz = 0.0
        self.dropped_out = False
        self.fail_count = 0
        self.fails_in_a_row = 0
        self.frequency_hz = BARE_HZ
        self._zero_nm = 0.0
        self._history: deque[tuple[float, float]] = deque()
        self._clock_s = 0.0

    @property
    def ok(self) -> bool:
        """The crystal gives a usable frequency; five seconds of bad readings are too many."""
        return self.fails_in_a_row < 20

    @property
    def life_percent(self) -> float:
        """Life used: 100 for each MHz below 6 MHz."""
        return (BARE_HZ - self.frequency_hz) / 1e4

    @property
    def thickness_nm(self) -> float:
        """Film since the last zero, by the reading."""
        film = film_thickness_nm(self.frequency_hz, self.settings)
        return (film - self._zero_nm) * self.settings.tooling_factor

    def zero(self) -> None:
        """Count film from here."""
        self._zero_nm = film_thickness_nm(self.frequency_hz, self.settings)
        self._history.clear()

    def slope_nm_per_min(self, window_s: float = RATE_WINDOW_S) -> float | None:
        """Rate over the last `window_s`; None while the history is shorter."""
        end = self._clock_s
        if not self._history or end - self._history[0][0] < window_s - 1e-6:
            return None
        start_s, start_nm = next(item for item in reversed(self._history) if end - item[0] >= window_s - 1e-6)
        return 60.0 * (self.thickness_nm - start_nm) / (end - start_s)

    def forget(self) -> None:
        """Start the slope afresh, as after a move of the shutter."""
        self._history.clear()

    def step(
        self, dt_s: float, growth_nm_per_min: float, density_g_per_cm3: float, shutter: float, random: Random
    ) -> None:
        """Grow and heat the film on the crystal over `dt_s` (`growth` is the carrier's mean) and read it."""
        physics = self._physics
        self._clock_s += dt_s
        nanometres = growth_nm_per_min * dt_s / 60.0 * self._ratio
        self.film_g_per_cm2 += nanometres * CM_PER_NM * density_g_per_cm3
        goal = physics.crystal_heat_hz if shutter > 0.5 and growth_nm_per_min > 0.0 else 0.0
        self.heat_hz = goal + (self.heat_hz - goal) * math.exp(-dt_s / physics.crystal_heat_s)
        if self.dropped_out:
            readings = max(1, round(physics.crystal_reading_hz * dt_s))
            self.fail_count += readings
            self.fails_in_a_row += readings
            return
        self.fails_in_a_row = 0
        noise = physics.crystal_noise_hz * random.gauss(0.0, 1.0)
        self.frequency_hz = loaded_frequency_hz(self.film_g_per_cm2) - self.heat_hz + noise
        if not self._history or self._clock_s - self._history[-1][0] >= 2.0 - 1e-6:
            self._history.append((self._clock_s, self.thickness_nm))
            if len(self._history) > 2 * RATE_WINDOW_S:
                self._history.popleft()
