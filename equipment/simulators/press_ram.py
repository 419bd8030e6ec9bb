"""The ram of the simulated press: its force loop, and the stack of pellet and discs that it meets.

The loop is of second order, well damped, with the lag of a hydraulic cylinder. Interlocks are not its business.
"""

from __future__ import annotations

from random import Random

from equipment.press import die_area_mm2, pressure_mpa
from equipment.simulators.press_powder import Pellet, PowderPhysics

LOOP_S = 0.5
DAMPING = 0.85
FREE_TRAVEL_MM = 40.0
COMPLIANCE_MM_PER_KN = 0.01
FORCE_NOISE_KN = 0.004
POSITION_NOISE_MM = 0.001
RELEASE_KN_PER_S = 100.0


class Ram:
    """Force in kN on a round die; `setpoint_kn` moves to `goal_kn` at `ramp_kn_per_s`."""

    def __init__(self) -> None:
        self.setpoint_kn = 0.0
        self.goal_kn = 0.0
        self.ramp_kn_per_s = 1.0
        self.force_kn = 0.0
        self.reading_kn = 0.0
        self.position_mm = 0.0
        self.stack_mm = 0.0
        self.runaway_kn_per_s = 0.0
        self.gain = 1.0
        self._velocity = 0.0
        self._released = True

    def move(self, goal_kn: float, kn_per_s: float) -> None:
        """Ramp the setpoint."""
        self.goal_kn = goal_kn
        self.ramp_kn_per_s = kn_per_s
        self._released = False

    def release(self) -> None:
        """Open the valve: the force falls away at once, whatever the loop does."""
        self.setpoint_kn = self.goal_kn = 0.0
        self._released = True

    def crack(self, share: float) -> None:
        """What stands under the ram gives way: the force falls by `share`."""
        self.force_kn *= 1.0 - share
        self._velocity = 0.0

    def step(
        self,
        dt_s: float,
        pellet: Pellet | None,
        added_mm: float,
        diameter_mm: float,
        physics: PowderPhysics,
        random: Random,
    ) -> None:
        """Advance force, pellet and position by `dt_s`, then read load cell and position."""
        if self._released:
            self.force_kn = max(0.0, self.force_kn - RELEASE_KN_PER_S * dt_s)
            self._velocity = 0.0
        else:
            way = self.goal_kn - self.setpoint_kn
            most = self.ramp_kn_per_s * dt_s
            self.setpoint_kn += max(-most, min(most, way))
            rate = 1.0 / LOOP_S
            pull = self.gain * self.setpoint_kn - self.force_kn
            self._velocity += (rate * rate * pull - 2.0 * DAMPING * rate * self._velocity) * dt_s
            self.force_kn = max(0.0, self.force_kn + (self._velocity + self.runaway_kn_per_s) * dt_s)
        pressure = pressure_mpa(self.force_kn, diameter_mm)
        pellet_mm = 0.0
        if pellet is not None:
            pellet.load(pressure, dt_s)
            pellet_mm = pellet.thickness_mm(die_area_mm2(diameter_mm), pressure, physics)
        self.stack_mm = pellet_mm + added_mm + POSITION_NOISE_MM * random.gauss(0.0, 1.0)
        self.position_mm = FREE_TRAVEL_MM - self.stack_mm + COMPLIANCE_MM_PER_KN * self.force_kn
        self.reading_kn = self.force_kn
        if self.force_kn > 0.0:
            self.reading_kn = max(0.0, self.force_kn + FORCE_NOISE_KN * random.gauss(0.0, 1.0))
