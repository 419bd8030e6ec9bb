"""The sequence of a sputter job, from loading to unloading: what each step does, what ends it, how long it may take.

It works the hardware through its permissives only. What a fault means to the job is decided by the watch and the
plant; the sequence tells them when a step can't go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random

from equipment.simulators.chamber_crystal import CrystalSettings
from equipment.simulators.chamber_hardware import ChamberHardware
from equipment.simulators.sputter_forecast import LEAST_POWER_W, TRANSFER_S, RunForecast
from equipment.simulators.sputter_recipe import SputterRecipe
from equipment.sputter import Endpoint, SputterPhase

STRUCK_BIAS_V = 50.0
STRIKE_TRY_S = 10.0
STRIKE_TRIES = 3
STRIKE_STEP_PA = 0.5
ROUGH_TO_PA = 4.0
PRESPUTTER_AGAIN_S = 120.0
PUMP_AGAIN_S = 600.0
RISE_TRIES = 3
TIMEOUT_S: Mapping[SputterPhase, float] = {
    SputterPhase.ROUGH: 900.0,
    SputterPhase.TURBO: 600.0,
    SputterPhase.HIVAC: 8 * 3600.0,
    SputterPhase.GAS: 60.0,
    SputterPhase.SETTLE: 120.0,
    SputterPhase.VENT: 3600.0,
}


class SputterSequence:
    """One job's way through the phases. `step` answers with the alarm that must hold the job, or ""."""

    def __init__(self, hardware: ChamberHardware, random: Random) -> None:
        self._hardware = hardware
        self._random = random
        self._recipe: SputterRecipe | None = None
        self.phase = SputterPhase.IDLE
        self.elapsed_s = 0.0
        self.refusal = ""
        self._clear()

    def _clear(self) -> None:
        self.strikes = 0
        self.deposit_elapsed_s = 0.0
        self.film_by_crystal_nm = 0.0
        self.endpoint_reached = ""
        self.base_pressure_pa = math.nan
        self.rate_of_rise_pa_per_min = math.nan
        self._tries = 0
        self._rise_tries = 0
        self._rise_from: tuple[float, float] | None = None
        self._wait_s = 0.0
        self._steady_s = 0.0
        self._presputtered = False
        self._shutting_down = False

    # -- requests -------------------------------------------------------------------------------------------------

    @property
    def recipe(self) -> SputterRecipe:
        """The job's numbers.

        Raises:
            LookupError: No job was begun yet.
        """
        if self._recipe is None:
            raise LookupError("the sequence has no job")
        return self._recipe

    def begin(self, recipe: SputterRecipe, random: Random) -> None:
        """Start a job at LOAD."""
        self._clear()
        self._recipe = recipe
        self._random = random
        self._enter(SputterPhase.LOAD)

    def make_safe(self) -> None:
        """RF off and shutter closed, vacuum and gas as they are."""
        self._hardware.rf_off()
        self._hardware.move_shutter(to_open=False)

    def go_on(self) -> None:
        """Continue a job that was made safe, from the step that brings it back to where it was."""
        vacuum = self._hardware.vacuum
        phase = self.phase
        if SputterPhase.TURBO <= phase <= SputterPhase.DEPOSIT and not (
            vacuum.gate_open and vacuum.turbo_speed > 0.8
        ):
            vacuum.close_gate()
            self._enter(SputterPhase.ROUGH)
        elif SputterPhase.GAS <= phase <= SputterPhase.DEPOSIT:
            self._enter(SputterPhase.GAS)
        elif phase is SputterPhase.RAMP_DOWN:
            self._enter(SputterPhase.COOL)
        else:
            self._enter(phase)

    def shut_down(self) -> None:
        """Leave the recipe's way for the safe end: ramp down, cool, vent, unload, as far as each is needed."""
        if self._shutting_down or self.phase in (SputterPhase.IDLE, SputterPhase.UNLOAD):
            return
        self._shutting_down = True
        self._hardware.move_shutter(to_open=False)
        if self.phase >= SputterPhase.COOL:
            return
        if self.phase is SputterPhase.LOAD:
            self._enter(SputterPhase.UNLOAD)
        elif self._hardware.plasma.plasma:
            self._enter(SputterPhase.RAMP_DOWN)
        else:
            self._hardware.rf_off()
            self._enter(SputterPhase.COOL)

    # -- time -----------------------------------------------------------------------------------------------------

    def longest_step_s(self) -> float:
        """How far may be integrated before this step ends by its clock."""
        match self.phase:
            case SputterPhase.PRESPUTTER:
                return self._presputter_s() - self.elapsed_s
            case SputterPhase.DEPOSIT:
                return self._deposit_limit_s() - self.deposit_elapsed_s
            case _:
                return math.inf

    def step(self, dt_s: float) -> str:
        """Let the present phase work after the hardware has moved by `dt_s`."""
        if self.phase is SputterPhase.IDLE:
            return ""
        self.elapsed_s += dt_s
        alarm = _RUN[self.phase](self, dt_s)
        if not alarm and self.elapsed_s > TIMEOUT_S.get(self.phase, math.inf):
            alarm = "base_pressure_not_reached" if self.phase is SputterPhase.HIVAC else "phase_timeout"
        return alarm

    def phase_remaining_s(self) -> float:
        """Predicted seconds left in this phase."""
        if self._recipe is None:
            return 0.0
        return max(0.0, self._forecast().phase_s(self.phase) - self.elapsed_s)

    def run_remaining_s(self) -> float:
        """Predicted seconds left in this run."""
        if self._recipe is None or self.phase is SputterPhase.IDLE:
            return 0.0
        forecast = self._forecast()
        return self.phase_remaining_s() + sum(forecast.phase_s(phase) for phase in SputterPhase if phase > self.phase)

    def _forecast(self) -> RunForecast:
        into_film_s = self.elapsed_s if self.phase is SputterPhase.DEPOSIT else 0.0
        return RunForecast(
            self.recipe,
            self._hardware.physics,
            presputter_s=self._presputter_s(),
            deposit_s=self.recipe.deposit_time_s - self.deposit_elapsed_s + into_film_s,
            holder_c=self._hardware.holder_c,
            now=self.phase,
            elapsed_s=self.elapsed_s,
        )

    def _presputter_s(self) -> float:
        return PRESPUTTER_AGAIN_S if self._presputtered else self.recipe.presputter_s

    def _deposit_limit_s(self) -> float:
        """The time that ends the film: the recipe's, or the longest allowed while the crystal decides alone."""
        recipe = self.recipe
        by_crystal = recipe.endpoint is Endpoint.QCM and self._hardware.crystal.ok
        return recipe.max_deposit_time_s if by_crystal else recipe.deposit_time_s

    # -- phases ---------------------------------------------------------------------------------------------------

    def _enter(self, phase: SputterPhase) -> None:
        self.phase = phase
        self.elapsed_s = 0.0
        self._steady_s = 0.0
        self._wait_s = 0.0
        self._rise_from = None
        self.refusal = ""
        entry = _ENTER.get(phase)
        if entry is not None:
            entry(self)

    def _steady(self, dt_s: float, good: bool) -> float:
        self._steady_s = self._steady_s + dt_s if good else 0.0
        return self._steady_s

    def _transfer(self, dt_s: float) -> bool:
        """Work through the open door until the transfer is done; wait while it may not be open."""
        hardware = self._hardware
        if hardware.vacuum.door_closed:
            self.refusal = hardware.vacuum.open_door(
                transfer_locked=hardware.transfer_locked, rf_on=hardware.plasma.rf_on
            )
        elif hardware.transfer_locked:
            hardware.vacuum.close_door()
        else:
            self._wait_s += dt_s
        if self._wait_s < TRANSFER_S:
            return False
        hardware.vacuum.close_door()
        return True

    def _run_load(self, dt_s: float) -> str:
        if self._transfer(dt_s):
            self._hardware.lithium_inside = True
            self._enter(SputterPhase.ROUGH)
        return ""

    def _enter_rough(self) -> None:
        vacuum = self._hardware.vacuum
        vacuum.close_gate()
        self.refusal = vacuum.open_rough()

    def _run_rough(self, _dt_s: float) -> str:
        vacuum = self._hardware.vacuum
        if vacuum.reading_pa <= ROUGH_TO_PA:
            vacuum.rough_open = False
            self._enter(SputterPhase.TURBO)
        return ""

    def _enter_turbo(self) -> None:
        hardware = self._hardware
        self.refusal = hardware.vacuum.open_gate() or hardware.vacuum.start_turbo(water_ok=hardware.water_ok)

    def _run_turbo(self, _dt_s: float) -> str:
        if self.refusal:
            return "phase_timeout"
        if self._hardware.vacuum.turbo_speed >= 0.90:
            self._enter(SputterPhase.HIVAC)
        return ""

    def _run_hivac(self, dt_s: float) -> str:
        vacuum, recipe = self._hardware.vacuum, self.recipe
        if self._rise_from is None:
            self._wait_s -= dt_s
            if vacuum.reading_pa <= recipe.base_pressure_pa and self._wait_s <= 0.0:
                self._rise_from = (vacuum.reading_pa, self.elapsed_s)
                vacuum.close_gate()
            return ""
        start_pa, since_s = self._rise_from
        waited_s = self.elapsed_s - since_s
        if waited_s < recipe.rate_of_rise_s:
            return ""
        self._rise_from = None
        self.base_pressure_pa = start_pa
        self.rate_of_rise_pa_per_min = 60.0 * (vacuum.reading_pa - start_pa) / waited_s
        self.refusal = vacuum.open_gate()
        if self.refusal:
            return "rate_of_rise_high"
        if self.rate_of_rise_pa_per_min <= recipe.rate_of_rise_pa_per_min:
            self._enter(SputterPhase.GAS)
            return ""
        self._rise_tries += 1
        self._wait_s = PUMP_AGAIN_S
        return "rate_of_rise_high" if self._rise_tries % RISE_TRIES == 0 else ""

    def _enter_gas(self) -> None:
        recipe = self.recipe
        self._tries = 0
        self._hardware.rotation_setpoint_rpm = recipe.rotation_rpm
        self._let_gas_in(recipe.strike_pressure_pa)

    def _let_gas_in(self, pressure_pa: float) -> None:
        recipe = self.recipe
        self.refusal = self._hardware.vacuum.gas_on(recipe.argon_flow_sccm, recipe.oxygen_flow_sccm, pressure_pa)

    def _pressure_is(self, within: float) -> bool:
        vacuum = self._hardware.vacuum
        wanted = vacuum.pressure_setpoint_pa
        return wanted > 0.0 and abs(vacuum.reading_pa - wanted) <= within * wanted

    def _run_gas(self, dt_s: float) -> str:
        if self._steady(dt_s, self._pressure_is(0.05)) >= 3.0:
            self._enter(SputterPhase.STRIKE)
        return ""

    def _enter_strike(self) -> None:
        self._tries += 1
        self.strikes += 1
        self.refusal = self._hardware.rf_on(self.recipe.strike_power_w, self._random)

    def _run_strike(self, dt_s: float) -> str:
        plasma = self._hardware.plasma
        if self._steady(dt_s, plasma.rf_on and plasma.bias_v >= STRUCK_BIAS_V) >= 1.0:
            self._enter(SputterPhase.SETTLE)
        elif plasma.rf_on and self.elapsed_s >= STRIKE_TRY_S:
            self._hardware.rf_off()
            if self._tries >= STRIKE_TRIES:
                return "no_strike"
            self._let_gas_in(self.recipe.strike_pressure_pa + STRIKE_STEP_PA * self._tries)
        elif not plasma.rf_on and self.elapsed_s >= STRIKE_TRY_S + 5.0:
            self._enter(SputterPhase.STRIKE)
        return ""

    def _enter_settle(self) -> None:
        self._let_gas_in(self.recipe.working_pressure_pa)

    def _run_settle(self, dt_s: float) -> str:
        tuned = self._hardware.plasma.reflected_share < self.recipe.reflected_warn_share
        if self._steady(dt_s, tuned and self._pressure_is(0.02)) >= 3.0:
            self._enter(SputterPhase.RAMP)
        return ""

    def _enter_ramp(self) -> None:
        self._hardware.plasma.ramp(self.recipe.rf_power_w, self.recipe.power_ramp_up_w_per_min)

    def _run_ramp(self, _dt_s: float) -> str:
        if self._hardware.plasma.power_setpoint_w == self.recipe.rf_power_w:
            self._enter(SputterPhase.PRESPUTTER)
        return ""

    def _run_presputter(self, _dt_s: float) -> str:
        if self.elapsed_s >= self._presputter_s() - 1e-6:
            self._presputtered = True
            self._enter(SputterPhase.DEPOSIT)
        return ""

    def _enter_deposit(self) -> None:
        hardware, recipe = self._hardware, self.recipe
        if self.deposit_elapsed_s == 0.0:
            hardware.crystal.settings = CrystalSettings(
                recipe.film_density_g_per_cm3, recipe.qcm_z_ratio, recipe.qcm_tooling_factor
            )
            hardware.crystal.zero()
        hardware.move_shutter(to_open=True)

    def _run_deposit(self, dt_s: float) -> str:
        hardware, recipe = self._hardware, self.recipe
        if hardware.plasma.plasma and hardware.shutter.position > 0.0:
            self.deposit_elapsed_s += dt_s
        if hardware.crystal.ok:
            self.film_by_crystal_nm = hardware.crystal.thickness_nm
        crystal_ends = recipe.endpoint is not Endpoint.TIME and hardware.crystal.ok
        if crystal_ends and self.film_by_crystal_nm >= recipe.thickness_nm:
            self.endpoint_reached = "qcm"
        elif self.deposit_elapsed_s >= self._deposit_limit_s() - 1e-6:
            self.endpoint_reached = "max_time" if recipe.endpoint is Endpoint.QCM and crystal_ends else "time"
        if self.endpoint_reached:
            self._enter(SputterPhase.RAMP_DOWN)
        return ""

    def _enter_ramp_down(self) -> None:
        self._hardware.move_shutter(to_open=False)
        self._hardware.plasma.ramp(LEAST_POWER_W, self.recipe.power_ramp_down_w_per_min)

    def _run_ramp_down(self, _dt_s: float) -> str:
        plasma = self._hardware.plasma
        if not plasma.plasma or plasma.power_setpoint_w == LEAST_POWER_W:
            self._enter(SputterPhase.COOL)
        return ""

    def _enter_cool(self) -> None:
        self._hardware.rf_off()
        self._hardware.vacuum.gas_off()
        self._hardware.vacuum.rough_open = False

    def _run_cool(self, _dt_s: float) -> str:
        if self._hardware.disc_reading_c < self.recipe.cool_to_c and not self._hardware.lithium_hazard:
            self._enter(SputterPhase.VENT)
        return ""

    def _enter_vent(self) -> None:
        self._hardware.vacuum.stop_turbo()
        self._hardware.rotation_setpoint_rpm = 0.0

    def _run_vent(self, _dt_s: float) -> str:
        vacuum = self._hardware.vacuum
        if not vacuum.vent_open and vacuum.box_difference_pa < -100.0:
            self.refusal = vacuum.open_vent(lithium_hazard=self._hardware.lithium_hazard)
        elif not vacuum.vent_open:
            self._enter(SputterPhase.UNLOAD)
        return ""

    def _run_unload(self, dt_s: float) -> str:
        if self._transfer(dt_s):
            self._hardware.lithium_inside = False
            self._enter(SputterPhase.IDLE)
        return ""


_ENTER: Mapping[SputterPhase, Callable[[SputterSequence], None]] = {
    SputterPhase.ROUGH: SputterSequence._enter_rough,
    SputterPhase.TURBO: SputterSequence._enter_turbo,
    SputterPhase.GAS: SputterSequence._enter_gas,
    SputterPhase.STRIKE: SputterSequence._enter_strike,
    SputterPhase.SETTLE: SputterSequence._enter_settle,
    SputterPhase.RAMP: SputterSequence._enter_ramp,
    SputterPhase.DEPOSIT: SputterSequence._enter_deposit,
    SputterPhase.RAMP_DOWN: SputterSequence._enter_ramp_down,
    SputterPhase.COOL: SputterSequence._enter_cool,
    SputterPhase.VENT: SputterSequence._enter_vent,
}
_RUN: Mapping[SputterPhase, Callable[[SputterSequence, float], str]] = {
    SputterPhase.LOAD: SputterSequence._run_load,
    SputterPhase.ROUGH: SputterSequence._run_rough,
    SputterPhase.TURBO: SputterSequence._run_turbo,
    SputterPhase.HIVAC: SputterSequence._run_hivac,
    SputterPhase.GAS: SputterSequence._run_gas,
    SputterPhase.STRIKE: SputterSequence._run_strike,
    SputterPhase.SETTLE: SputterSequence._run_settle,
    SputterPhase.RAMP: SputterSequence._run_ramp,
    SputterPhase.PRESPUTTER: SputterSequence._run_presputter,
    SputterPhase.DEPOSIT: SputterSequence._run_deposit,
    SputterPhase.RAMP_DOWN: SputterSequence._run_ramp_down,
    SputterPhase.COOL: SputterSequence._run_cool,
    SputterPhase.VENT: SputterSequence._run_vent,
    SputterPhase.UNLOAD: SputterSequence._run_unload,
}
