"""Simulated instruments: what a microscope or a balance would say of a thing whose hidden truth a plant keeps.

They read the truth from the state files of the simulated tools, as a sample on a stage would show it, and add the
instrument's own error. The record only ever sees the reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import orjson

EDX_RELATIVE_UNCERTAINTY = 0.005
"""Standard uncertainty of a thickness from an EDX cross-section; engineering judgement."""


def truth_of(folder: Path, serial: str) -> Mapping[str, Any]:
    """What the simulated tools really did to a thing.

    Raises:
        LookupError: No tool had it.
    """
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        found |= orjson.loads(file.read_bytes()).get("plant", {}).get("truth", {}).get(serial, {})
    if not found:
        raise LookupError(f"no simulated tool in {folder} has had {serial}")
    return found


def edx_thickness_nm(folder: Path, serial: str, random: Random) -> tuple[float, float]:
    """Film thickness from an EDX cross-section and its standard uncertainty, both in nm.

    Raises:
        LookupError: The thing carries no film.
    """
    truth = truth_of(folder, serial)
    if "thickness_nm" not in truth:
        raise LookupError(f"{serial} carries no film")
    true_nm = float(truth["thickness_nm"])
    return random.gauss(true_nm, EDX_RELATIVE_UNCERTAINTY * true_nm), EDX_RELATIVE_UNCERTAINTY * true_nm
