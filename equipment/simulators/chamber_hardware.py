"""The simulated chamber as a machine: vacuum, plasma, crystal, shutter, carrier and services under one interlock.

`enforce` is the hard-wired safety of the tool: it holds whatever order requests come in, and no request can lift
it. The hardware knows no job and no recipe.
"""

from __future__ import annotations

import math
from random import Random

from equipment.simulators.chamber import ChamberPhysics, film_density_g_per_cm3, growth_nm_per_min
from equipment.simulators.chamber_crystal import Crystal
from equipment.simulators.chamber_plasma import PlasmaSource
from equipment.simulators.chamber_vacuum import VacuumSystem
from equipment.simulators.glovebox import Glovebox

WATER_L_PER_MIN = 4.0
WATER_SWITCH_L_PER_MIN = 2.0
O2_LIMIT_PPM = 1.0
H2O_LIMIT_PPM = 10.0
SHUTTER_S = 0.5
SHUTTER_LOST_S = 1.0


class Shutter:
    """A shutter with two end switches. `stuck` freezes it; `lying` makes the switches follow the command."""

    def __init__(self) -> None:
        self.command_open = False
        self.position = 0.0
        self.stuck = False
        self.lying = False
        self.unknown_s = 0.0

    @property
    def reads_open(self) -> bool:
        """The open end switch is made."""
        return self.command_open if self.lying else self.position >= 1.0

    @property
    def reads_closed(self) -> bool:
        """The closed end switch is made."""
        return not self.command_open if self.lying else self.position <= 0.0

    @property
    def lost(self) -> bool:
        """The commanded end was not reported within a second."""
        return self.unknown_s >= SHUTTER_LOST_S

    def step(self, dt_s: float) -> None:
        """Travel for `dt_s`."""
        if not self.stuck:
            goal = 1.0 if self.command_open else 0.0
            way = goal - self.position
            self.position += math.copysign(min(abs(way), dt_s / SHUTTER_S), way)
        there = self.reads_open if self.command_open else self.reads_closed
        self.unknown_s = 0.0 if there else self.unknown_s + dt_s


class ChamberHardware:
    """All parts of the chamber, stepped together; `growth_nm_per_min` and `film_density` are hidden truth."""

    def __init__(self, physics: ChamberPhysics, tool: Random) -> None:
        self.physics = physics
        self.vacuum = VacuumSystem(physics, tool)
        self.plasma = PlasmaSource(physics)
        self.crystal = Crystal(physics, tool)
        self.shutter = Shutter()
        self.glovebox = Glovebox()
        self.water_l_per_min = WATER_L_PER_MIN
        self.water_fault_l_per_min: float | None = None
        self.lithium_inside = False
        self.lithium_hazard = False
        self.rotation_setpoint_rpm = 0.0
        self.rotation_rpm = 0.0
        self.holder_c = physics.ambient_c
        self.disc_c = physics.ambient_c
        self.holder_reading_c = self.disc_reading_c = physics.ambient_c
        self.overheat_k = 0.0
        self.rate_factor = 1.0
        self.growth_nm_per_min = 0.0
        self.film_density = physics.density_g_per_cm3

    @property
    def water_ok(self) -> bool:
        """The flow switch is made."""
        return self.water_l_per_min >= WATER_SWITCH_L_PER_MIN

    @property
    def transfer_locked(self) -> bool:
        """The glovebox is outside its limits."""
        return self.glovebox.o2_ppm > O2_LIMIT_PPM or self.glovebox.h2o_ppm > H2O_LIMIT_PPM

    def rf_permit(self) -> str:
        """Why RF may not be on, or ""."""
        if not self.water_ok:
            return "RF needs cooling water"
        if not self.vacuum.door_closed:
            return "RF needs the transfer door closed"
        if self.shutter.lost:
            return "RF needs a shutter at a known end"
        if not self.vacuum.sputter_mode:
            return "RF needs the chamber in sputter mode"
        return ""

    @property
    def interlock_ok(self) -> bool:
        """Water, door, shutter and glovebox are as a run needs them."""
        return self.water_ok and self.vacuum.door_closed and not self.shutter.lost and not self.lithium_hazard

    def rf_on(self, power_w: float, random: Random) -> str:
        """Switch RF on to strike."""
        refusal = self.rf_permit()
        if not refusal:
            self.plasma.switch_on(power_w, self.vacuum.pressure_pa, random)
        return refusal

    def rf_off(self) -> None:
        """Switch RF off; always allowed."""
        self.plasma.switch_off()

    def move_shutter(self, *, to_open: bool) -> None:
        """Command the shutter."""
        if self.shutter.command_open != to_open:
            self.shutter.command_open = to_open
            self.crystal.forget()
            self.plasma.retune()

    def enforce(self) -> None:
        """The hard-wired interlock: whatever was asked, no RF without its permit, and no venting on a hazard."""
        flow = self.water_fault_l_per_min
        self.water_l_per_min = WATER_L_PER_MIN if flow is None else flow
        if not self.water_ok and self.lithium_inside:
            self.lithium_hazard = True
        if self.lithium_hazard:
            self.vacuum.vent_open = False
        if self.plasma.rf_on and self.rf_permit():
            self.rf_off()
            self.shutter.command_open = False
        if not self.vacuum.turbo_drive_ok:
            self.vacuum.turbo_on = False
        if not self.water_ok:
            self.vacuum.turbo_on = False

    def step(self, dt_s: float, random: Random) -> None:
        """Advance everything by `dt_s`."""
        self.enforce()
        self.vacuum.step(dt_s, random)
        self.enforce()
        self.plasma.step(dt_s, self.vacuum.pressure_pa, random)
        self.shutter.step(dt_s)
        self._step_film(dt_s, random)
        self._step_carrier(dt_s, random)
        self.glovebox.step(dt_s, random)

    def _step_film(self, dt_s: float, random: Random) -> None:
        plasma, shutter = self.plasma, self.shutter
        target = plasma.target
        growth = 0.0
        if plasma.plasma and target is not None and shutter.position > 0.0:
            physics = self.physics
            growth = growth_nm_per_min(physics, plasma.net_w, self.vacuum.pressure_pa, target.energy_kwh)
            growth *= target.rate_factor * self.rate_factor * shutter.position
            if target.cracked:
                growth *= 1.0 - physics.crack_rate_loss
            self.film_density = film_density_g_per_cm3(physics, self.vacuum.pressure_pa)
        self.growth_nm_per_min = growth
        self.crystal.step(dt_s, growth, self.film_density, shutter.position, random)

    def _step_carrier(self, dt_s: float, random: Random) -> None:
        physics = self.physics
        load = self.plasma.net_w / physics.power_w
        goal = physics.ambient_c + (physics.holder_rise_k + self.overheat_k) * load
        lag = physics.holder_lag_s if self.overheat_k == 0.0 else physics.holder_lag_s / 6.0
        self.holder_c = goal + (self.holder_c - goal) * math.exp(-dt_s / lag)
        disc_goal = self.holder_c + physics.disc_rise_k * load * self.shutter.position
        self.disc_c = disc_goal + (self.disc_c - disc_goal) * math.exp(-dt_s / physics.disc_lag_s)
        self.holder_reading_c = self.holder_c + 0.02 * random.gauss(0.0, 1.0)
        self.disc_reading_c = self.disc_c + 0.05 * random.gauss(0.0, 1.0)
        way = self.rotation_setpoint_rpm - self.rotation_rpm
        self.rotation_rpm += math.copysign(min(abs(way), 2.0 * dt_s), way)
