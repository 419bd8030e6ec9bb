"""Exact amounts: a decimal number with a unit, never a float.

Only units that convert exactly into one another are known here; a lot is kept in one unit for life.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from traceability.errors import InvalidInput

# 28 digits are more than any balance has; an inexact step would still be an error worth a look.
_EXACT = Context(prec=34, rounding=ROUND_HALF_EVEN)

_FACTORS: dict[str, tuple[str, Decimal]] = {
    "ug": ("mass", Decimal("0.001")),
    "mg": ("mass", Decimal(1)),
    "g": ("mass", Decimal(1000)),
    "kg": ("mass", Decimal(1000000)),
    "uL": ("volume", Decimal("0.001")),
    "mL": ("volume", Decimal(1)),
    "L": ("volume", Decimal(1000)),
    "piece": ("count", Decimal(1)),
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact amount.

    Attributes:
        value: Decimal, finite.
        unit: One of ug, mg, g, kg, uL, mL, L, piece.
    """

    value: Decimal
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in _FACTORS:
            raise InvalidInput(f"{self.unit!r} is not a unit of quantity; use one of {', '.join(_FACTORS)}.")
        if not self.value.is_finite():
            raise InvalidInput(f"a quantity must be a finite number, not {self.value}.")
        if _FACTORS[self.unit][0] == "count" and self.value != self.value.to_integral_value():
            raise InvalidInput(f"pieces are counted in whole numbers, not {self.value}.")

    @classmethod
    def parse(cls, value: str | int | Decimal, unit: str) -> Quantity:
        """Make a quantity from input.

        Raises:
            InvalidInput: The number is not a decimal or the unit is unknown.
        """
        try:
            return cls(Decimal(value), unit)
        except InvalidOperation as error:
            raise InvalidInput(f"{value!r} is not a decimal number.") from error

    def to(self, unit: str) -> Quantity:
        """The same amount in another unit.

        Raises:
            InvalidInput: The units measure different things.
        """
        if unit == self.unit:
            return self
        here, factor = _FACTORS[self.unit]
        there, target = _FACTORS.get(unit, ("", Decimal(1)))
        if here != there:
            raise InvalidInput(f"{self.unit} can't be converted to {unit}; give the quantity in {unit}.")
        return Quantity(_EXACT.divide(_EXACT.multiply(self.value, factor), target), unit)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(_EXACT.add(self.value, other.to(self.unit).value), self.unit)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(_EXACT.subtract(self.value, other.to(self.unit).value), self.unit)

    def __str__(self) -> str:
        return f"{plain(self.value)} {self.unit}"


def plain(value: Decimal) -> str:
    """A decimal as text without exponent or trailing zeros: the form that is stored and hashed."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
