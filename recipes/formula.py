"""The formula of a recipe: what is set, with tolerances and limits (ISA-88).

Parameters are numbers with a unit; choices are words. A limit that the author leaves out is taken from
`recipes.limits` when the document is read, so that a signed recipe carries every limit itself. Whether the numbers
make sense together is judged in `recipes.validation`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from recipes.documents import ByName, Frozen, Name, Number, Text

NonNegative = Annotated[Number, Field(ge=0)]


class Parameter(Frozen):
    """One number of the formula.

    All numbers are in `unit`. `soft_*` outside warns, `hard_*` outside refuses; `tolerance` is the allowed
    deviation of the actual value from the target, to both sides.
    """

    target: Number
    """What is aimed at."""
    unit: Annotated[str, Field(max_length=16)]
    """UCUM symbol; `1` for a plain ratio."""
    tolerance: NonNegative | None = None
    """Allowed deviation of the actual value, to both sides."""
    soft_low: Number | None = None
    """Below it the author is warned."""
    soft_high: Number | None = None
    """Above it the author is warned."""
    hard_low: Number | None = None
    """Below it nothing runs."""
    hard_high: Number | None = None
    """Above it nothing runs."""
    help: Text = ""
    """The author's own note on this parameter."""


class Formula(Frozen):
    """Everything that is set, by name."""

    parameters: ByName[Parameter] = Field(default_factory=dict)
    """Numbers."""
    choices: ByName[Name] = Field(default_factory=dict)
    """Words."""

    def target(self, name: str) -> Decimal:
        """The target of one parameter, in its unit.

        Raises:
            LookupError: The formula has no such parameter.
        """
        if name not in self.parameters:
            raise LookupError(f"the formula has no parameter {name!r}")
        return self.parameters[name].target
