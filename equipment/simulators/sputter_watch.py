"""What the sputter tool notices by itself: its alarms from instrument readings, and what each asks of the job.

It reads only what an instrument shows; hidden truth never enters. An alarm either follows its condition or is
latched until a person resumes or ends the job.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from equipment.simulators.chamber_hardware import ChamberHardware
from equipment.simulators.sputter_recipe import SputterRecipe
from equipment.sputter import SPUTTER, SputterPhase

HOLD_TEMP_C = 80.0
TRIP_TEMP_C = 100.0
LIFE_WARN_PERCENT = 30.0
LIFE_BLOCK_PERCENT = 50.0
GAUGE_MISMATCH = 0.03
CLOSED_GROWTH_NM_PER_MIN = 0.5
CRACK_RATE_LOSS = 0.03
CRACK_ARCS = 4
BASELINE_MIN = 5


class Response(IntEnum):
    """What an alarm asks of a running job; the greater wins."""

    NONE = 0
    HOLD = 1
    TRIP = 2


RESPONSES = {
    "water_flow_low": Response.TRIP,
    "shutter_stuck": Response.TRIP,
    "turbo_trip": Response.TRIP,
    "reflected_power_trip": Response.TRIP,
    "arc_rate_trip": Response.TRIP,
    "substrate_temp_trip": Response.TRIP,
    "substrate_temp_hold": Response.HOLD,
    "argon_flow_deviation": Response.HOLD,
    "arc_rate_high": Response.HOLD,
    "target_cracked": Response.HOLD,
    "no_strike": Response.HOLD,
    "base_pressure_not_reached": Response.HOLD,
    "rate_of_rise_high": Response.HOLD,
    "phase_timeout": Response.HOLD,
}
BARS_RESUMING = (
    "water_flow_low",
    "shutter_stuck",
    "substrate_temp_high",
    "argon_flow_deviation",
    "arc_rate_high",
)
_PLASMA_PHASES = range(SputterPhase.SETTLE, SputterPhase.RAMP_DOWN + 1)
_AT_SPEED = range(SputterPhase.HIVAC, SputterPhase.COOL + 1)


class SputterWatch:
    """Alarms of the tool: `live` ones follow their condition now, latched ones stand until `release`."""

    def __init__(self, hardware: ChamberHardware) -> None:
        self._hardware = hardware
        self._since: dict[str, float] = {}
        self._latched: dict[str, None] = {}
        self.live: dict[str, None] = {}
        self._minute_s = 0.0
        self._minute_start_nm = 0.0
        self._growth: list[float] = []

    @property
    def standing(self) -> dict[str, None]:
        """Names of the alarms that stand, latched ones first."""
        return self._latched | self.live

    @property
    def pending(self) -> bool:
        """A delay runs that ends in an alarm: time wants to be looked at closely."""
        return any(name not in self.live for name in self._since)

    def latch(self, alarm: str) -> None:
        """Let an alarm stand until the job is resumed or ended."""
        self._latched[alarm] = None

    def release(self) -> None:
        """A person has taken note: latched alarms go, and rates are learned afresh."""
        self._latched.clear()
        self._since.clear()
        self._growth.clear()
        self._minute_s = 0.0

    def table(self) -> dict[str, bool]:
        """Each alarm of the tag table by name."""
        standing = self.standing
        return {alarm.name: alarm.name in standing for alarm in SPUTTER.alarms}

    def step(self, dt_s: float, phase: SputterPhase, recipe: SputterRecipe | None) -> list[str]:
        """Look at every instrument; the alarms that stand, if any asks something of the job, worst first."""
        live: dict[str, None] = {}
        for name, condition, delay_s in self._conditions(phase, recipe):
            if not condition:
                self._since.pop(name, None)
                continue
            waited = self._since.get(name, -dt_s) + dt_s
            self._since[name] = waited
            if waited >= delay_s - 1e-6:
                live[name] = None
        self.live = live
        if phase is SputterPhase.DEPOSIT and recipe is not None:
            self._watch_growth(dt_s)
        elif phase not in (SputterPhase.DEPOSIT, SputterPhase.IDLE):
            self._growth.clear()
            self._minute_s = 0.0
        asking = [name for name in self.standing if RESPONSES.get(name, Response.NONE)]
        return sorted(asking, key=lambda name: -RESPONSES[name])

    def _conditions(self, phase: SputterPhase, recipe: SputterRecipe | None) -> Iterator[tuple[str, bool, float]]:
        """Alarm, whether its condition is met now, and the seconds it must stay so."""
        hardware = self._hardware
        vacuum, plasma, crystal, shutter = hardware.vacuum, hardware.plasma, hardware.crystal, hardware.shutter
        yield "water_flow_low", not hardware.water_ok or hardware.lithium_hazard, 0.0
        yield "shutter_stuck", shutter.lost or self._grows_when_closed(), 0.0
        yield "glovebox_excursion", hardware.transfer_locked, 0.0
        yield "qcm_fail", not crystal.ok, 0.0
        life = crystal.life_percent
        yield "qcm_life_low", life > LIFE_WARN_PERCENT, 0.0
        yield "qcm_life_end", life > LIFE_BLOCK_PERCENT, 0.0
        target = plasma.target
        yield "target_life_end", target is not None and target.energy_kwh >= hardware.physics.target_life_kwh, 0.0
        yield "turbo_trip", phase in _AT_SPEED and vacuum.turbo_speed < 0.80, 0.0
        asked, flows = vacuum.argon.setpoint_sccm, vacuum.argon.reading_sccm
        yield "argon_flow_deviation", abs(flows - asked) > max(0.05 * asked, 0.25), 5.0
        # The wait lets a storm of arcs show itself as one before the job holds for the lesser reason.
        yield "arc_rate_high", plasma.arcs_within(60.0) > 10, 3.0
        yield "arc_rate_trip", plasma.arcs_within(12.0) > 10, 0.0
        if recipe is None:
            return
        share, watts = plasma.reflected_share, plasma.reflected_reading_w
        burning = plasma.rf_on and phase in _PLASMA_PHASES
        yield "reflected_power_high", burning and share > recipe.reflected_warn_share, 10.0
        tripping = share > recipe.reflected_trip_share or watts > recipe.reflected_trip_w
        yield "reflected_power_trip", burning and tripping, 2.0
        steady = vacuum.pressure_setpoint_pa > 0.0 and phase in _PLASMA_PHASES
        yield "gauge_drift", steady and abs(vacuum.gauge_mismatch) > GAUGE_MISMATCH, 10.0
        disc_c = hardware.disc_reading_c
        yield "substrate_temp_high", disc_c > recipe.substrate_temp_c, 2.0
        yield "substrate_temp_hold", disc_c > HOLD_TEMP_C, 2.0
        yield "substrate_temp_trip", disc_c > TRIP_TEMP_C, 2.0

    def _grows_when_closed(self) -> bool:
        """The crystal grows for half a minute although the shutter says it is closed."""
        hardware = self._hardware
        if hardware.shutter.command_open or not hardware.plasma.plasma or not hardware.crystal.ok:
            return False
        slope = hardware.crystal.slope_nm_per_min(30.0)
        return slope is not None and slope > CLOSED_GROWTH_NM_PER_MIN

    def _watch_growth(self, dt_s: float) -> None:
        """Growth by the minute: a fall against the film's own beginning, with many arcs, is a cracked target."""
        hardware = self._hardware
        if not hardware.crystal.ok or not hardware.plasma.plasma:
            return
        if self._minute_s == 0.0:
            self._minute_start_nm = hardware.crystal.thickness_nm
        self._minute_s += dt_s
        if self._minute_s < 60.0 - 1e-6:
            return
        self._growth.append((hardware.crystal.thickness_nm - self._minute_start_nm) / self._minute_s)
        self._minute_s = 0.0
        # The first two minutes hold the crystal's own warming.
        if len(self._growth) < 2 + 2 * BASELINE_MIN:
            return
        baseline = sum(self._growth[2 : 2 + BASELINE_MIN])
        lately = sum(self._growth[-BASELINE_MIN:])
        many_arcs = hardware.plasma.arcs_within(600.0) >= CRACK_ARCS
        if many_arcs and lately < (1.0 - CRACK_RATE_LOSS) * baseline:
            self.latch("target_cracked")
