"""How long each step of a sputter job takes by the tool's own reckoning, for the remaining time it shows.

Nominal constants only: it sees no fault and no hidden truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from equipment.simulators.chamber import ChamberPhysics
from equipment.simulators.sputter_recipe import SputterRecipe
from equipment.sputter import SputterPhase

TRANSFER_S = 120.0
LEAST_POWER_W = 20.0
ROUGHING_S = 115.0
SHORT_STEP_S = 8.0


@dataclass(frozen=True, slots=True)
class RunForecast:
    """Durations in s of the phases as seen from phase `now`, `elapsed_s` into it.

    `presputter_s` and `deposit_s` are those still due to this run; `holder_c` is the carrier's temperature now.
    """

    recipe: SputterRecipe
    physics: ChamberPhysics
    presputter_s: float
    deposit_s: float
    holder_c: float
    now: SputterPhase
    elapsed_s: float

    def phase_s(self, phase: SputterPhase) -> float:
        """Duration of one phase, from its own beginning."""
        recipe, physics = self.recipe, self.physics
        match phase:
            case SputterPhase.LOAD | SputterPhase.UNLOAD:
                return TRANSFER_S
            case SputterPhase.ROUGH:
                return ROUGHING_S
            case SputterPhase.TURBO:
                return physics.turbo_run_up_s
            case SputterPhase.HIVAC:
                over_pa = recipe.base_pressure_pa - physics.ultimate_pressure_pa
                pumping_s = physics.pressure_after_1h_pa * 3600.0 / over_pa
                return max(0.0, pumping_s - physics.turbo_run_up_s) + recipe.rate_of_rise_s
            case SputterPhase.GAS | SputterPhase.STRIKE | SputterPhase.SETTLE:
                return SHORT_STEP_S
            case SputterPhase.RAMP:
                return 60.0 * abs(recipe.rf_power_w - recipe.strike_power_w) / recipe.power_ramp_up_w_per_min
            case SputterPhase.PRESPUTTER:
                return self.presputter_s
            case SputterPhase.DEPOSIT:
                return self.deposit_s
            case SputterPhase.RAMP_DOWN:
                return 60.0 * max(0.0, recipe.rf_power_w - LEAST_POWER_W) / recipe.power_ramp_down_w_per_min
            case SputterPhase.COOL:
                return self._cooling_s()
            case SputterPhase.VENT:
                return physics.turbo_coast_s * math.log(5.0) + 125.0
            case _:
                return 0.0

    def _cooling_s(self) -> float:
        """Time to the unloading temperature by the carrier's own lag, from where it stands after the film."""
        physics, recipe = self.physics, self.recipe
        rise_k = self.holder_c - physics.ambient_c
        if self.now <= SputterPhase.DEPOSIT:
            full_k = physics.holder_rise_k * recipe.rf_power_w / physics.power_w
            heating_s = self.deposit_s + (self.presputter_s if self.now < SputterPhase.DEPOSIT else -self.elapsed_s)
            rise_k = full_k + (rise_k - full_k) * math.exp(-max(0.0, heating_s) / physics.holder_lag_s)
        elif self.now is SputterPhase.COOL:
            rise_k *= math.exp(self.elapsed_s / physics.holder_lag_s)
        return physics.holder_lag_s * math.log(max(1.0, rise_k / (recipe.cool_to_c - physics.ambient_c)))
