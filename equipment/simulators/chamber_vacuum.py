"""Pumps, valves, gauge and gas of the simulated chamber, with the permissives that are wired into them.

Solves `V dp/dt = Q_gas + Q_out + Q_leak − S·p` exactly over each step (Q and S held), so no step is too long to
be stable. It knows nothing of plasma, film or sequence.
"""

from __future__ import annotations

import math
from random import Random

from equipment.simulators.chamber import SCCM_PA_M3_PER_S, ChamberPhysics

ROUGHED_PA = 10.0
CROSSOVER_AT_SPEED_PA = 5.0
GATE_SPEED = 0.80
VENT_SPEED = 0.20
TRANSFER_PA = 100.0
OUTGASSING_PA = 1000.0
OUTGASSING_FROM_S = 100.0


class MassFlow:
    """A mass-flow controller: dead time, first-order lag, and a calibration error that its reading hides."""

    def __init__(self, physics: ChamberPhysics, gain_error: float) -> None:
        self._physics = physics
        self._gain = 1.0 + gain_error
        self._dead_s = 0.0
        self.setpoint_sccm = 0.0
        self.flow_sccm = 0.0
        self.reading_sccm = 0.0
        self.stuck_sccm: float | None = None

    def set(self, setpoint_sccm: float) -> None:
        """Ask for a flow; it starts to move after the dead time."""
        if setpoint_sccm != self.setpoint_sccm:
            self.setpoint_sccm = setpoint_sccm
            self._dead_s = self._physics.flow_dead_s

    def step(self, dt_s: float, random: Random) -> None:
        """Move the valve for `dt_s`; a stuck one stays."""
        if self.stuck_sccm is not None:
            self.flow_sccm = self.stuck_sccm
        else:
            waited = min(self._dead_s, dt_s)
            self._dead_s -= waited
            left = math.exp(-(dt_s - waited) / self._physics.flow_lag_s)
            self.flow_sccm = self.setpoint_sccm + (self.flow_sccm - self.setpoint_sccm) * left
        self.reading_sccm = self.flow_sccm * (1.0 + 0.001 * random.gauss(0.0, 1.0)) if self.flow_sccm > 1e-6 else 0.0

    @property
    def throughput_pa_m3_per_s(self) -> float:
        """What really flows into the chamber."""
        return self.flow_sccm * self._gain * SCCM_PA_M3_PER_S


class VacuumSystem:
    """Chamber pressure with its pumps and valves; each act answers with why it is refused, or ""."""

    def __init__(self, physics: ChamberPhysics, tool: Random) -> None:
        self._physics = physics
        self.argon = MassFlow(physics, tool.uniform(-physics.flow_error, physics.flow_error))
        self.oxygen = MassFlow(physics, tool.uniform(-physics.flow_error, physics.flow_error))
        self.pressure_pa = physics.box_pressure_pa
        self.reading_pa = self.pressure_pa
        self.gauge_gain = 1.0
        self.gauge_drift_per_min = 0.0
        self.throttle = 1.0
        self.pressure_setpoint_pa = 0.0
        self.turbo_on = False
        self.turbo_drive_ok = True
        self.turbo_speed = 0.0
        self.backing_on = True
        self.rough_open = False
        self.gate_open = False
        self.vent_open = False
        self.door_closed = True
        self.wet = False
        self.leak_pa_m3_per_s = 0.0
        self.pumped_s = 0.0

    # -- acts -----------------------------------------------------------------------------------------------------

    def open_rough(self) -> str:
        """Open the roughing valve."""
        if not self.door_closed or self.vent_open or self.gate_open:
            return "roughing needs the door, the vent valve and the gate closed"
        self.rough_open = True
        return ""

    def start_turbo(self, *, water_ok: bool) -> str:
        """Start the turbo pump."""
        if self.pressure_pa > ROUGHED_PA or not self.backing_on or not water_ok:
            return f"the turbo pump needs a chamber below {ROUGHED_PA:g} Pa, its backing pump and water"
        if not self.turbo_drive_ok:
            return "the drive of the turbo pump has tripped"
        self.turbo_on = True
        return ""

    def open_gate(self) -> str:
        """Open the gate; a fast rotor must never meet a burst of gas."""
        if not self.door_closed or self.vent_open:
            return "the gate needs the door and the vent valve closed"
        limit = CROSSOVER_AT_SPEED_PA if self.turbo_speed > GATE_SPEED else ROUGHED_PA
        if self.pressure_pa > limit:
            return f"the gate needs a chamber below {limit:g} Pa at this turbo speed"
        self.rough_open = False
        self.gate_open = True
        return ""

    def close_gate(self) -> None:
        """Close the gate; closing is always allowed, and gas without a pump is shut off with it."""
        self.gate_open = False
        self.gas_off()

    def gas_on(self, argon_sccm: float, oxygen_sccm: float, pressure_pa: float) -> str:
        """Let gas in and hold `pressure_pa` with the throttle."""
        if not self.sputter_mode:
            return "gas needs an open gate, the turbo pump above 80 % and door and vent closed"
        self.argon.set(argon_sccm)
        self.oxygen.set(oxygen_sccm)
        if pressure_pa != self.pressure_setpoint_pa:
            self.pressure_setpoint_pa = pressure_pa
            wanted = (argon_sccm + oxygen_sccm) * SCCM_PA_M3_PER_S / pressure_pa
            self.throttle = min(1.0, max(0.005, wanted / self._physics.turbo_speed_m3_per_s))
        return ""

    def gas_off(self) -> None:
        """Shut the gas and open the throttle."""
        self.argon.set(0.0)
        self.oxygen.set(0.0)
        self.pressure_setpoint_pa = 0.0
        self.throttle = 1.0

    def stop_turbo(self) -> None:
        """Close the gate and let the turbo pump coast down."""
        self.close_gate()
        self.turbo_on = False

    def open_vent(self, *, lithium_hazard: bool) -> str:
        """Vent with argon."""
        if lithium_hazard:
            return "no venting: water was lost with lithium inside"
        if self.turbo_speed >= VENT_SPEED or self.gate_open or self.rough_open:
            return "venting needs the turbo pump below 20 % and gate and roughing valve closed"
        self.vent_open = True
        return ""

    def open_door(self, *, transfer_locked: bool, rf_on: bool) -> str:
        """Open the transfer door to the glovebox."""
        if transfer_locked:
            return "transfers are locked by the glovebox"
        if rf_on or self.rough_open or self.gate_open:
            return "the door needs RF off and all pump valves closed"
        if abs(self.box_difference_pa) >= TRANSFER_PA:
            return f"the door needs less than {TRANSFER_PA:g} Pa between chamber and glovebox"
        self.vent_open = False
        self.door_closed = False
        return ""

    def close_door(self) -> None:
        """Close the transfer door; closing is always allowed."""
        self.door_closed = True

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def box_difference_pa(self) -> float:
        """Chamber less glovebox pressure."""
        return self.pressure_pa - self._physics.box_pressure_pa

    @property
    def sputter_mode(self) -> bool:
        """Pumped by a fast turbo through an open gate, everything else shut: gas may flow."""
        return self.gate_open and self.turbo_speed >= GATE_SPEED and self.door_closed and not self.vent_open

    @property
    def foreline_pa(self) -> float:
        """Pressure between turbo and backing pump."""
        if self.rough_open:
            return self.pressure_pa
        flow = self.argon.throughput_pa_m3_per_s + self.oxygen.throughput_pa_m3_per_s
        return self._physics.rough_ultimate_pa + flow / self._physics.rough_speed_m3_per_s

    @property
    def gauge_mismatch(self) -> float:
        """Logarithm of what flow and throttle say the pressure is over what the gauge says; 0 while they agree."""
        flow = (self.argon.reading_sccm + self.oxygen.reading_sccm) * SCCM_PA_M3_PER_S
        pumped = self._pumping_speed() * self.reading_pa
        return math.log(flow / pumped) if flow > 0.0 and pumped > 0.0 else 0.0

    def step(self, dt_s: float, random: Random) -> None:
        """Integrate turbo, gas, throttle and pressure over `dt_s`, then read the gauge."""
        physics = self._physics
        self._step_turbo(dt_s)
        if self.turbo_speed < GATE_SPEED and self.argon.setpoint_sccm + self.oxygen.setpoint_sccm > 0.0:
            self.gas_off()
        self.argon.step(dt_s, random)
        self.oxygen.step(dt_s, random)
        if not self.door_closed:
            self.pressure_pa = physics.box_pressure_pa
            self.pumped_s = 0.0
        else:
            self._step_pressure(dt_s)
        self.gauge_gain += self.gauge_drift_per_min * dt_s / 60.0
        self.reading_pa = self.pressure_pa * self.gauge_gain * (1.0 + 0.002 * random.gauss(0.0, 1.0))
        if self.pressure_setpoint_pa > 0.0:
            # Pressure goes as 1/S, so stepping ln S by the error's ln is a loop of constant lag at any pressure.
            error = math.log(max(1e-6, self.pressure_pa * self.gauge_gain) / self.pressure_setpoint_pa)
            gain = -math.expm1(-dt_s / physics.throttle_loop_s)
            self.throttle = min(1.0, max(0.005, self.throttle * math.exp(gain * max(-0.5, min(0.5, error)))))

    def _step_turbo(self, dt_s: float) -> None:
        if not self.turbo_drive_ok:
            self.turbo_on = False
        if self.turbo_on:
            lag = self._physics.turbo_run_up_s / math.log(10.0)
            self.turbo_speed = 1.0 - (1.0 - self.turbo_speed) * math.exp(-dt_s / lag)
        else:
            self.turbo_speed *= math.exp(-dt_s / self._physics.turbo_coast_s)

    def _pumping_speed(self) -> float:
        physics = self._physics
        speed = physics.rough_speed_m3_per_s if self.rough_open and self.backing_on else 0.0
        if self.gate_open:
            speed += self.throttle * max(0.02 * self.backing_on, self.turbo_speed) * physics.turbo_speed_m3_per_s
        return speed

    def _step_pressure(self, dt_s: float) -> None:
        physics = self._physics
        self.pumped_s = self.pumped_s + dt_s if self.pressure_pa < OUTGASSING_PA else 0.0
        dose = physics.pressure_after_1h_pa * (physics.wet_factor if self.wet else 1.0)
        outgassing = physics.turbo_speed_m3_per_s * dose * 3600.0 / max(OUTGASSING_FROM_S, self.pumped_s)
        leak = physics.turbo_speed_m3_per_s * physics.ultimate_pressure_pa + self.leak_pa_m3_per_s
        gain = outgassing + leak + self.argon.throughput_pa_m3_per_s + self.oxygen.throughput_pa_m3_per_s
        loss = self._pumping_speed()
        if self.rough_open:
            gain += physics.rough_speed_m3_per_s * physics.rough_ultimate_pa
        if self.vent_open:
            gain += physics.vent_conductance_m3_per_s * physics.vent_supply_pa
            loss += physics.vent_conductance_m3_per_s
        if loss > 0.0:
            settled = gain / loss
            self.pressure_pa = settled + (self.pressure_pa - settled) * math.exp(-loss * dt_s / physics.volume_m3)
        elif self.pressure_pa < physics.box_pressure_pa:
            # Isolated: a leak can lift the chamber to the box, no further.
            risen = self.pressure_pa + gain * dt_s / physics.volume_m3
            self.pressure_pa = min(risen, physics.box_pressure_pa)
        if self.vent_open and self.pressure_pa >= physics.box_pressure_pa:
            self.pressure_pa = physics.box_pressure_pa
            self.vent_open = False
