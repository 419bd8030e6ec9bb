"""What a tester measured, record by record, and what it was told to do: the vocabulary of cell testing.

Columns carry the names of the Battery Data Format (BDF) where it has one, are in SI-derived units with the unit
in the name, and positive current charges. This module knows no file layout, no analysis and no endpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROTOCOL_FORMAT = "argonaut-cycling"
PROTOCOL_VERSION = 1
MAX_CYCLES = 100_000


class StepState(IntEnum):
    """What the tester did in a step, by the direction of its current."""

    REST = 0
    CHARGE = 1
    DISCHARGE = 2


class CellKind(StrEnum):
    """How a cell is built; decides which numbers make sense for it."""

    SYMMETRIC = "symmetric"
    FULL = "full"
    THREE_ELECTRODE = "three_electrode"


class Polarity(IntEnum):
    """How the cell lies in the channel: the sign that turns the tester's current and voltage into the cell's."""

    NORMAL = 1
    REVERSED = -1


@dataclass(frozen=True, slots=True)
class Records:
    """A run of records as columns of one length, in the order of the file.

    Attributes:
        record_index: The tester's own number of the record (int64).
        test_time_second, step_time_second: Time since the start of the test and of the step (float64).
        unix_time_second: The tester's clock, UTC seconds (float64; NaN where the file has none).
        voltage_volt, current_ampere: As measured; positive current charges (float64).
        step_capacity_ah, step_energy_wh: The tester's own counters, which start at zero in each step and never
            fall within one (float64; NaN where the file has none).
        temperature_t1_celsius: Auxiliary probe (float64; NaN where none is connected).
        cycle_count: Number of the cycle, from the tester or counted by the reader (int64).
        step_index: Number of the step: it changes with every new step (int64).
        state: `StepState` (int8).
    """

    record_index: NDArray[np.int64]
    test_time_second: NDArray[np.float64]
    step_time_second: NDArray[np.float64]
    unix_time_second: NDArray[np.float64]
    voltage_volt: NDArray[np.float64]
    current_ampere: NDArray[np.float64]
    step_capacity_ah: NDArray[np.float64]
    step_energy_wh: NDArray[np.float64]
    temperature_t1_celsius: NDArray[np.float64]
    cycle_count: NDArray[np.int64]
    step_index: NDArray[np.int64]
    state: NDArray[np.int8]

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of one batch of records differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.record_index)

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> Records:
        return Records(**{name: column[rows] for name, column in self.columns().items()})

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, in a fixed order."""
        return {column.name: getattr(self, column.name) for column in fields(self)}

    @classmethod
    def concatenate(cls, batches: Iterable[Records]) -> Records:
        """All batches as one; an empty iterable gives no records."""
        parts = [cls.empty(), *batches]
        columns: dict[str, NDArray[Any]] = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)
        }
        return cls(**columns)

    @classmethod
    def empty(cls) -> Records:
        """No records at all."""
        whole = {"record_index", "cycle_count", "step_index"}
        columns: dict[str, NDArray[Any]] = {
            f.name: np.empty(0, np.int64 if f.name in whole else np.float64) for f in fields(cls)
        }
        return cls(**columns | {"state": np.empty(0, np.int8)})


def oriented(records: Records, polarity: Polarity) -> Records:
    """The records as the cell saw them: a cell that lies reversed was charged when the tester discharged.

    Rest stays rest. The counters are unsigned and do not change.
    """
    if polarity is Polarity.NORMAL:
        return records
    swapped = np.array([StepState.REST, StepState.DISCHARGE, StepState.CHARGE], np.int8)
    columns = records.columns()
    columns["voltage_volt"] = -records.voltage_volt
    columns["current_ampere"] = -records.current_ampere
    columns["state"] = swapped[records.state]
    return Records(**columns)


@dataclass(frozen=True, slots=True)
class CyclingSteps:
    """A galvanostatic cycling test of one cell, as a tester is told it.

    A cycle is a charge and a discharge half-cycle of the same current density and areal capacity; the tester
    rests before the first half-cycle and after each one, and ends the test when |voltage| reaches the cut-off.

    Attributes:
        current_density_ma_cm2: Per area of one electrode.
        areal_capacity_mah_cm2: Charge passed in each half-cycle, per area of one electrode.
        cut_off_v: |voltage| that ends the test.
        max_cycles: Cycles after which the test ends.
        rest_s: Rest between half-cycles; 0 for none.
        max_duration_h: Time after which the test ends, whatever it is doing.
    """

    current_density_ma_cm2: float
    areal_capacity_mah_cm2: float
    cut_off_v: float = 5.0
    max_cycles: int = MAX_CYCLES
    rest_s: float = 0.0
    max_duration_h: float = 3_000.0

    def __post_init__(self) -> None:
        for name in ("current_density_ma_cm2", "areal_capacity_mah_cm2", "cut_off_v", "max_duration_h"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be a positive number, not {getattr(self, name)!r}")
        if not (math.isfinite(self.rest_s) and self.rest_s >= 0):
            raise ValueError(f"rest_s must be zero or more, not {self.rest_s!r}")
        if self.max_cycles < 1:
            raise ValueError(f"max_cycles must be at least 1, not {self.max_cycles!r}")

    @property
    def half_cycle_s(self) -> float:
        """How long a half-cycle lasts that is not cut off, in seconds."""
        return 3600.0 * self.areal_capacity_mah_cm2 / self.current_density_ma_cm2

    def to_json(self) -> dict[str, str | int | float]:
        """The body of a hand-off's protocol."""
        return {"format": PROTOCOL_FORMAT, "version": PROTOCOL_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> CyclingSteps:
        """Read the body of a hand-off's protocol.

        Raises:
            ValueError: Another format or version, a field too many or missing, or a value that can't be.
        """
        if (body.get("format"), body.get("version")) != (PROTOCOL_FORMAT, PROTOCOL_VERSION):
            raise ValueError(
                f"not a protocol of format {PROTOCOL_FORMAT} version {PROTOCOL_VERSION}: "
                f"{body.get('format')!r} version {body.get('version')!r}"
            )
        given = {name: value for name, value in body.items() if name not in ("format", "version")}
        unknown = sorted(given.keys() - {f.name for f in fields(cls)})
        missing = sorted({"current_density_ma_cm2", "areal_capacity_mah_cm2"} - given.keys())
        if unknown or missing:
            raise ValueError(f"the protocol has unknown fields {unknown} and lacks {missing}")
        numbers: dict[str, float] = {}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number, not {value!r}")
            numbers[name] = value
        cycles = numbers.pop("max_cycles", MAX_CYCLES)
        if not float(cycles).is_integer():
            raise ValueError(f"max_cycles must be a whole number, not {cycles!r}")
        return cls(max_cycles=int(cycles), **numbers)
