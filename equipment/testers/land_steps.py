"""Counts what an export does not number: steps, cycles, and the time since a step began.

It knows states and times only, and goes on from one block of a file to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipment.testers.records import StepState


@dataclass
class StepCounter:
    """Counts steps and cycles from the states, and step time from test time, where a layout has none.

    A step begins where the state changes. A cycle begins with each step of the direction that the test
    began with.
    """

    _state: int | None = None
    _first_direction: int | None = None
    _step: int = 0
    _cycle: int = 0
    _step_began_s: float = 0.0
    _step_index: int | None = None

    def complete(self, columns: dict[str, NDArray[Any]]) -> None:
        """Add `step_index`, `cycle_count` and `step_time_second` to the columns of a block that lacks them."""
        state: NDArray[np.int8] = columns["state"]
        if "step_index" not in columns or "cycle_count" not in columns:
            begins = np.empty(len(state), bool)
            begins[0] = self._state is None or state[0] != self._state
            begins[1:] = state[1:] != state[:-1]
            self._state = int(state[-1])
            moving = state[state != StepState.REST]
            if self._first_direction is None and len(moving):
                self._first_direction = int(moving[0])
            steps = self._step + np.cumsum(begins)
            cycles = self._cycle + np.cumsum(begins & (state == self._first_direction))
            self._step, self._cycle = int(steps[-1]), int(cycles[-1])
            columns.setdefault("step_index", steps)
            columns.setdefault("cycle_count", np.maximum(cycles, 1))
        if "step_time_second" not in columns:
            self._add_step_time(columns)

    def _add_step_time(self, columns: dict[str, NDArray[Any]]) -> None:
        step, time_s = columns["step_index"], columns["test_time_second"]
        begins = np.empty(len(step), bool)
        begins[0] = step[0] != self._step_index
        begins[1:] = step[1:] != step[:-1]
        began = np.where(begins, time_s, -np.inf)
        if not begins[0]:
            began[0] = self._step_began_s
        began = np.maximum.accumulate(began)
        self._step_index, self._step_began_s = int(step[-1]), float(began[-1])
        columns["step_time_second"] = time_s - began
