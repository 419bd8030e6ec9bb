"""The procedure of a recipe: operations made of phases (ISA-88).

A phase says what it sets, when it is complete, after how long that is too late, and what is safe when it is held.
The tool runs the phases by its own sequence; the procedure is what people approve and what actuals are set against.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from recipes.documents import ByName, Frozen, Name, Number, Text, Title
from recipes.formula import Formula


class SafeAction(StrEnum):
    """What the tool does to be safe when a phase is held."""

    STAY = "stay"
    ISOLATE = "isolate"
    GAS_OFF = "gas_off"
    RF_OFF_SHUTTER_CLOSED = "rf_off_shutter_closed"
    HOLD_FORCE = "hold_force"
    UNLOAD_RAM = "unload_ram"


class When(StrEnum):
    """What completes a phase."""

    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    ELAPSED = "elapsed"
    ENDPOINT = "endpoint"
    CONFIRMED = "confirmed"


SIGNAL_CONDITIONS = frozenset({When.AT_MOST, When.AT_LEAST})
VALUE_CONDITIONS = SIGNAL_CONDITIONS | {When.ELAPSED}


class Setting(Frozen):
    """A value: a parameter of the formula by name, or a number with its unit."""

    parameter: Name | None = None
    """Parameter of the formula whose target is meant."""
    value: Number | None = None
    """A number, where no parameter is meant."""
    unit: Annotated[str, Field(max_length=16)] = ""
    """UCUM symbol of `value`."""

    def resolve(self, formula: Formula) -> tuple[Decimal, str] | None:
        """The number and its unit; None where the parameter is missing or nothing was given."""
        if self.parameter is not None:
            found = formula.parameters.get(self.parameter)
            return None if found is None else (found.target, found.unit)
        return None if self.value is None else (self.value, self.unit)


class Setpoint(Setting):
    """What a phase sets a signal to."""

    rate: Name | None = None
    """Parameter that says how fast, where the signal is ramped."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.parameter is None) == (self.value is None):
            raise ValueError("a setpoint names either a parameter or a value")
        return self


class Completion(Setting):
    """When a phase is complete."""

    when: When
    """`at_most` and `at_least` compare a signal; `elapsed` waits; `endpoint` is the formula's; a person confirms."""
    signal: Name | None = None
    """The signal that is compared."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.when in SIGNAL_CONDITIONS) != (self.signal is not None):
            raise ValueError("at_most and at_least need a signal; the others have none")
        given = (self.parameter is not None) + (self.value is not None)
        if given != (1 if self.when in VALUE_CONDITIONS else 0):
            raise ValueError("at_most, at_least and elapsed need a parameter or a value; the others have none")
        return self


class Phase(Frozen):
    """The smallest step that the tool reports."""

    phase: Name
    """One of the equipment class's phases."""
    setpoints: ByName[Setpoint] = Field(default_factory=dict)
    """What it sets, by signal."""
    completion: Completion
    """When it is complete."""
    timeout_s: Annotated[Number, Field(gt=0, le=200_000)]
    """Seconds after which it is too late and the run is held."""
    held: SafeAction
    """What is safe when it is held."""


class Operation(Frozen):
    """Phases that belong together."""

    operation: Name
    """What they do together, e.g. `evacuate`."""
    title: Title
    """For people."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=50)]
    """In the order in which they run."""
    note: Text = ""
    """The author's own note."""


Procedure = Annotated[tuple[Operation, ...], Field(min_length=1, max_length=50)]
