"""The glovebox around a simulated tool: oxygen and water in its argon, and how an excursion comes and goes.

It knows gas only; which limit locks which tool is that tool's business.
"""

from __future__ import annotations

import math
from random import Random

QUIET_PPM = 0.1
EXCURSION_PPM = 50.0
RISE_S = 60.0
RECOVERY_S = 600.0


class Glovebox:
    """Oxygen and water in ppm by volume, with the analyser's noise of 2 %."""

    def __init__(self) -> None:
        self.excursion_ppm: float | None = None
        self.true_o2_ppm = QUIET_PPM
        self.true_h2o_ppm = QUIET_PPM
        self.o2_ppm = QUIET_PPM
        self.h2o_ppm = QUIET_PPM

    def step(self, dt_s: float, random: Random) -> None:
        """Let the regenerator, or a leak, work for `dt_s` and read the analysers."""
        goal = QUIET_PPM if self.excursion_ppm is None else self.excursion_ppm
        left = math.exp(-dt_s / (RECOVERY_S if self.excursion_ppm is None else RISE_S))
        self.true_o2_ppm = goal + (self.true_o2_ppm - goal) * left
        self.true_h2o_ppm = goal + (self.true_h2o_ppm - goal) * left
        self.o2_ppm = max(0.0, self.true_o2_ppm * (1.0 + 0.02 * random.gauss(0.0, 1.0)))
        self.h2o_ppm = max(0.0, self.true_h2o_ppm * (1.0 + 0.02 * random.gauss(0.0, 1.0)))
