"""Engineering units on the wire: from the UCUM symbols of a tag table to OPC UA's EUInformation.

OPC 10000-8 (5.6.3) identifies a unit by its UNECE Recommendation 20 code, packed into a number. Units that the
recommendation lacks are named by their symbol alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asyncua import ua

UNECE_NAMESPACE = "http://www.opcfoundation.org/UA/units/un/cefact"
UCUM_NAMESPACE = "http://unitsofmeasure.org"
NO_CODE = -1

_UNECE: Mapping[str, tuple[str, str]] = {
    "1": ("C62", "one"),
    "%": ("P1", "percent"),
    "[ppm]": ("59", "part per million"),
    "nm": ("C45", "nanometre"),
    "um": ("4H", "micrometre"),
    "mm": ("MMT", "millimetre"),
    "mg": ("MGM", "milligram"),
    "g": ("GRM", "gram"),
    "g/cm3": ("23", "gram per cubic centimetre"),
    "s": ("SEC", "second"),
    "min": ("MIN", "minute"),
    "h": ("HUR", "hour"),
    "1/min": ("C94", "reciprocal minute"),
    "Hz": ("HTZ", "hertz"),
    "kHz": ("KHZ", "kilohertz"),
    "N": ("NEW", "newton"),
    "kN": ("B47", "kilonewton"),
    "Pa": ("PAL", "pascal"),
    "kPa": ("KPA", "kilopascal"),
    "MPa": ("MPA", "megapascal"),
    "Pa.s": ("C65", "pascal second"),
    "Cel": ("CEL", "degree Celsius"),
    "K": ("KEL", "kelvin"),
    "V": ("VLT", "volt"),
    "A": ("AMP", "ampere"),
    "mA": ("4K", "milliampere"),
    "W": ("WTT", "watt"),
    "kW": ("KWT", "kilowatt"),
    "kW.h": ("KWH", "kilowatt hour"),
    "L/min": ("L2", "litre per minute"),
    "L/s": ("G51", "litre per second"),
    "N.m": ("NU", "newton metre"),
}

_UNCODED: Mapping[str, str] = {
    "sccm": "standard cubic centimetre per minute",
    "nm/min": "nanometre per minute",
    "Pa/min": "pascal per minute",
    "W/min": "watt per minute",
    "kN/s": "kilonewton per second",
}


def unece_unit_id(code: str) -> int:
    """The UnitId of a UNECE code: its characters, most significant first (`PAL` → 5259596)."""
    return int.from_bytes(code.encode("ascii"), "big")


_SYMBOLS: Mapping[int, str] = {unece_unit_id(code): symbol for symbol, (code, _) in _UNECE.items()}


@dataclass(frozen=True, slots=True)
class UnitOnTheWire:
    """The four fields of EUInformation."""

    namespace: str
    unit_id: int
    display_name: str
    description: str


def on_the_wire(symbol: str) -> UnitOnTheWire:
    """A unit's fields by its symbol.

    The display name is the symbol without UCUM's brackets, as asyncua's nodeset import takes a text in brackets
    for a list.
    """
    display_name = symbol.strip("[]")
    if symbol in _UNECE:
        code, description = _UNECE[symbol]
        return UnitOnTheWire(UNECE_NAMESPACE, unece_unit_id(code), display_name, description)
    return UnitOnTheWire(UCUM_NAMESPACE, NO_CODE, display_name, _UNCODED.get(symbol, symbol))


def to_eu_information(symbol: str) -> ua.EUInformation:
    """A unit as OPC UA carries it."""
    unit = on_the_wire(symbol)
    return ua.EUInformation(
        NamespaceUri=unit.namespace,
        UnitId=unit.unit_id,
        DisplayName=ua.LocalizedText(unit.display_name),
        Description=ua.LocalizedText(unit.description),
    )


def symbol_of(unit: ua.EUInformation | None) -> str:
    """The symbol of a unit: by its UNECE code, whatever a vendor displays, else as displayed; "" for none."""
    if unit is None:
        return ""
    if unit.NamespaceUri == UNECE_NAMESPACE and unit.UnitId in _SYMBOLS:
        return _SYMBOLS[unit.UnitId]
    return (unit.DisplayName.Text or "") if unit.DisplayName is not None else ""
