"""Identifiers that people read, scan and type: upper case, a prefix, a number and a check character.

The check character is ISO/IEC 7064 MOD 37,36, which finds every single wrong character and every swap of two
neighbours. What an identifier names is not known here beyond its prefix.
"""

from __future__ import annotations

import re

from traceability.errors import InvalidInput

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SHAPE = re.compile(r"^[A-Z]{2,4}-[0-9A-Z]{4,}-[0-9A-Z]$")


def check_character(payload: str) -> str:
    """The ISO/IEC 7064 MOD 37,36 check character of the letters and digits in `payload`; dashes don't count."""
    product = 36
    for character in payload:
        if character == "-":
            continue
        product = (product + _ALPHABET.index(character)) % 36 or 36
        product = product * 2 % 37
    return _ALPHABET[(37 - product) % 36]


def make_identifier(prefix: str, number: int) -> str:
    """`make_identifier("LOT", 17)` gives `LOT-000017-` and the check character."""
    payload = f"{prefix}-{number:06d}"
    return f"{payload}-{check_character(payload)}"


def parse_identifier(text: str) -> str:
    """The identifier in its canonical form: trimmed and upper case.

    Raises:
        InvalidInput: It has not the shape of an identifier, or its check character does not fit.
    """
    identifier = text.strip().upper()
    if not _SHAPE.match(identifier):
        raise InvalidInput(
            f"{text!r} is not an identifier; one looks like {make_identifier('LOT', 17)}. Scan it again."
        )
    payload, _, check = identifier.rpartition("-")
    if check_character(payload) != check:
        raise InvalidInput(f"{identifier} has a wrong check character; scan or type it again.")
    return identifier
