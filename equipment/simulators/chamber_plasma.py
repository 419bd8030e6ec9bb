"""Generator, match and plasma of the simulated cathode: striking, bias, reflected power, arcs, target wear.

It is told the true pressure and never asks whether RF may be on: that is the hardware's interlock.
"""

from __future__ import annotations

import math
from random import Random

from equipment.simulators.chamber import ChamberPhysics

DARK_REFLECTION = 0.6
STRUCK_REFLECTION = 0.3
RETUNE_REFLECTION = 0.04
STRIKE_DELAY_S = 1.5
LOWEST_PLASMA_W = 10.0
PLASMA_PRESSURES_PA = (0.08, 20.0)
ARC_WINDOW_S = 60.0


class Target:
    """A target by its serial: the energy it has seen and its own rate, which only the truth knows."""

    def __init__(self, serial: str, rate_factor: float, energy_kwh: float = 0.0, *, cracked: bool = False) -> None:
        self.serial = serial
        self.rate_factor = rate_factor
        self.energy_kwh = energy_kwh
        self.cracked = cracked


class PlasmaSource:
    """RF into a target. Powers in W, bias as a magnitude in V, arcs counted since the job began."""

    def __init__(self, physics: ChamberPhysics) -> None:
        self._physics = physics
        self.target: Target | None = None
        self.rf_on = False
        self.plasma = False
        self.power_setpoint_w = 0.0
        self.ramp_goal_w = 0.0
        self.ramp_w_per_s = math.inf
        self.forward_w = 0.0
        self.reflected_w = 0.0
        self.forward_reading_w = 0.0
        self.reflected_reading_w = 0.0
        self.bias_v = 0.0
        self.mismatch = 0.0
        self.detuned: float | None = None
        self.no_strike_chance: float | None = None
        self.arc_rate_per_min: float | None = None
        self.arcs = 0
        self.arc_times: list[float] = []
        self._will_strike_in_s = math.inf
        self._next_arc = 1.0
        self._clock_s = 0.0

    def begin_job(self, target: Target, random: Random) -> None:
        """Put the job's target in and start its counts."""
        self.target = target
        self.arcs = 0
        self.arc_times.clear()
        self._next_arc = random.expovariate(1.0)

    def switch_on(self, power_w: float, pressure_pa: float, random: Random) -> None:
        """Switch RF on to strike; whether it will, and after how long, is drawn here."""
        self.rf_on = True
        self.power_setpoint_w = self.ramp_goal_w = power_w
        self.ramp_w_per_s = math.inf
        strikes = random.random() >= self._no_strike_chance(pressure_pa)
        self._will_strike_in_s = random.expovariate(1.0 / STRIKE_DELAY_S) if strikes else math.inf

    def switch_off(self) -> None:
        """Switch RF off at once."""
        self.rf_on = False
        self.plasma = False
        self.power_setpoint_w = self.ramp_goal_w = 0.0
        self.forward_w = self.reflected_w = self.bias_v = 0.0
        self.forward_reading_w = self.reflected_reading_w = 0.0

    def ramp(self, goal_w: float, w_per_min: float) -> None:
        """Move the power setpoint to `goal_w` at a rate."""
        self.ramp_goal_w = goal_w
        self.ramp_w_per_s = w_per_min / 60.0

    @property
    def net_w(self) -> float:
        """Power that reaches the plasma."""
        return self.forward_w - self.reflected_w if self.plasma else 0.0

    @property
    def reflected_share(self) -> float:
        """Reflected over forward power as read, 0 to 1; 0 without power."""
        return self.reflected_reading_w / self.forward_reading_w if self.forward_reading_w > 1.0 else 0.0

    def arcs_within(self, seconds: float) -> int:
        """Arcs in the last `seconds`."""
        since = self._clock_s - seconds
        return sum(1 for moment in self.arc_times if moment >= since)

    @property
    def new_target(self) -> bool:
        """The target has hardly been sputtered yet."""
        return self.target is not None and self.target.energy_kwh < self._physics.new_target_kwh

    def step(self, dt_s: float, pressure_pa: float, random: Random) -> None:
        """Integrate generator, match, plasma, arcs and wear over `dt_s`."""
        self._clock_s += dt_s
        if not self.rf_on:
            return
        way = self.ramp_goal_w - self.power_setpoint_w
        self.power_setpoint_w += math.copysign(min(abs(way), self.ramp_w_per_s * dt_s), way)
        self.forward_w = self.power_setpoint_w
        self._step_plasma(dt_s, pressure_pa)
        self._step_match(dt_s)
        noise = random.gauss
        self.forward_reading_w = max(0.0, self.forward_w + 0.1 * noise(0.0, 1.0))
        self.reflected_reading_w = max(0.0, self.reflected_w + 0.02 * noise(0.0, 1.0))
        if self.plasma:
            spread = math.sqrt(self.net_w / self._physics.power_w) * (pressure_pa / self._physics.pressure_pa) ** -0.1
            self.bias_v = self._physics.bias_v * spread + 0.5 * noise(0.0, 1.0)
            self._step_arcs(dt_s, random)
            if self.target is not None:
                self.target.energy_kwh += self.net_w * dt_s / 3.6e6
        else:
            self.bias_v = abs(2.0 * noise(0.0, 1.0))

    def _no_strike_chance(self, pressure_pa: float) -> float:
        if self.no_strike_chance is not None:
            return self.no_strike_chance
        chance = 0.02 + 0.25 * max(0.0, 2.0 - pressure_pa)
        return min(1.0, chance + (0.10 if self.new_target else 0.0))

    def _step_plasma(self, dt_s: float, pressure_pa: float) -> None:
        low, high = PLASMA_PRESSURES_PA
        can_burn = low < pressure_pa < high and self.forward_w >= LOWEST_PLASMA_W
        if self.plasma:
            self.plasma = can_burn
            return
        self._will_strike_in_s -= dt_s
        if can_burn and self._will_strike_in_s <= 0.0:
            self.plasma = True
            self.mismatch = STRUCK_REFLECTION

    def _step_match(self, dt_s: float) -> None:
        if not self.plasma:
            share = DARK_REFLECTION
        else:
            self.mismatch *= math.exp(-dt_s / self._physics.match_lag_s)
            share = self._physics.residual_reflection + self.mismatch
            if self.detuned is not None:
                share = max(share, self.detuned)
        self.reflected_w = self.forward_w * min(1.0, share)

    def retune(self) -> None:
        """The load has moved (a shutter, a pressure step): the match hunts for some seconds."""
        if self.plasma:
            self.mismatch = max(self.mismatch, RETUNE_REFLECTION)

    def _step_arcs(self, dt_s: float, random: Random) -> None:
        rate = self._physics.arcs_per_min if self.arc_rate_per_min is None else self.arc_rate_per_min
        if self.arc_rate_per_min is None and (self.new_target or (self.target is not None and self.target.cracked)):
            rate *= self._physics.arc_factor
        # A Poisson process by rescaled time: the next arc is due when the summed rate reaches an Exp(1) draw.
        self._next_arc -= rate * dt_s / 60.0
        while self._next_arc <= 0.0:
            self._next_arc += random.expovariate(1.0)
            self.arcs += 1
            self.arc_times.append(self._clock_s)
        horizon = self._clock_s - 10.0 * ARC_WINDOW_S
        if self.arc_times and self.arc_times[0] < horizon:
            self.arc_times = [moment for moment in self.arc_times if moment >= horizon]
