"""A profile: what one lab's export of a cycling test looks like, as data.

This module alone knows what a profile may say, which units a heading can have, and how a header line is told
from a preamble. It opens no tester file and converts no values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from equipment.testers.file_errors import ProfileInvalid
from equipment.testers.records import StepState

PROFILES_FOLDER = Path(__file__).parent / "profiles"


class Kind(StrEnum):
    """What sort of quantity a column holds; its unit must be of the same sort."""

    COUNT = "count"
    DURATION = "duration"
    CLOCK = "clock"
    VOLTAGE = "voltage"
    CURRENT = "current"
    CHARGE = "charge"
    ENERGY = "energy"
    TEMPERATURE = "temperature"
    STATE = "state"


KIND_OF_COLUMN: Mapping[str, Kind] = {
    "record_index": Kind.COUNT,
    "test_time_second": Kind.DURATION,
    "step_time_second": Kind.DURATION,
    "unix_time_second": Kind.CLOCK,
    "voltage_volt": Kind.VOLTAGE,
    "current_ampere": Kind.CURRENT,
    "step_capacity_ah": Kind.CHARGE,
    "step_energy_wh": Kind.ENERGY,
    "temperature_t1_celsius": Kind.TEMPERATURE,
    "cycle_count": Kind.COUNT,
    "step_index": Kind.COUNT,
    "state": Kind.STATE,
}
NEEDED_COLUMNS = ("record_index", "test_time_second", "voltage_volt", "current_ampere", "state")

# Factors to the unit that stands in our column's name. `d-hms` (`D-HH:MM:SS`, `D HH:MM:SS.mmm` or `HH:MM:SS`),
# `clock` and `state` are no factors but ways to read a field.
UNITS: Mapping[Kind, Mapping[str, float]] = {
    Kind.COUNT: {"1": 1.0},
    Kind.DURATION: {"s": 1.0, "min": 60.0, "h": 3600.0, "ms": 1e-3, "d-hms": 1.0},
    Kind.CLOCK: {"clock": 1.0},
    Kind.VOLTAGE: {"V": 1.0, "mV": 1e-3},
    Kind.CURRENT: {"A": 1.0, "mA": 1e-3, "uA": 1e-6},
    Kind.CHARGE: {"Ah": 1.0, "mAh": 1e-3, "uAh": 1e-6},
    Kind.ENERGY: {"Wh": 1.0, "mWh": 1e-3, "uWh": 1e-6},
    Kind.TEMPERATURE: {"Cel": 1.0},
    Kind.STATE: {"state": 1.0},
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A column of the file that has a place: where it stands, and how to read it.

    Attributes:
        position: Index of the field in a row, from 0.
        heading: As it stands in the file.
        column: Our name.
        unit: As in `UNITS`.
    """

    position: int
    heading: str
    column: str
    unit: str

    @property
    def kind(self) -> Kind:
        """What sort of quantity it holds."""
        return KIND_OF_COLUMN[self.column]

    @property
    def factor(self) -> float:
        """Turns a value of the file into the unit of our column."""
        return UNITS[self.kind][self.unit]


@dataclass(frozen=True, slots=True)
class Header:
    """A header line, as one profile understands it.

    Attributes:
        line: Its line number, from 1.
        width: Number of fields up to the last heading.
        placed: Columns that have a place.
        set_aside: Headings that the profile knows and does not take, with the reason.
        unplaced: Headings that the profile does not know; they are reported and not read.
        missing: Our names of needed columns that it lacks.
    """

    line: int
    width: int
    placed: tuple[Placed, ...]
    set_aside: Mapping[str, str]
    unplaced: tuple[str, ...]
    missing: tuple[str, ...]


Unit = Annotated[str, Field(min_length=1)]


class FileProfile(BaseModel):
    """One export layout, as its YAML file says it; a lab adds its own without code.

    Attributes:
        name: Unique; recorded with each result.
        title, tester, tried_on: For people.
        encodings: Tried in this order; a byte order mark of UTF-8 is always understood.
        delimiter: Between fields.
        search_lines: How many lines from the top the header may stand.
        columns: Our column name → heading in the file → unit of that heading (`UNITS`).
        set_aside: Heading → why it is not taken.
        states: Value of the state column → rest, charge or discharge.
        missing: Fields that mean «not measured».
        current: `signed` (positive charges) or `by_state` (unsigned, the state tells the direction).
        clock_format: `strptime` format of the clock column.
        clock_utc_offset_h: The tester PC's clock minus UTC.
        preamble: Our key → headings of the lines before the header.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    tester: str
    tried_on: str
    encodings: Annotated[list[Literal["utf-8", "gb18030", "cp1252"]], Field(min_length=1)]
    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    search_lines: Annotated[int, Field(ge=1, le=1000)]
    columns: Mapping[str, Mapping[str, Unit]]
    set_aside: Mapping[str, str] = {}
    states: Mapping[str, Literal["rest", "charge", "discharge"]]
    missing: list[str] = ["", "-"]
    current: Literal["signed", "by_state"] = "signed"
    clock_format: str = "%Y-%m-%d %H:%M:%S"
    clock_utc_offset_h: Annotated[float, Field(ge=-14, le=14)] = 0.0
    preamble: Mapping[str, list[str]] = {}

    @model_validator(mode="after")
    def _consistent(self) -> FileProfile:
        for column, headings in self.columns.items():
            if column not in KIND_OF_COLUMN:
                raise ValueError(f"there is no column {column}; there are {', '.join(KIND_OF_COLUMN)}")
            units = UNITS[KIND_OF_COLUMN[column]]
            for heading, unit in headings.items():
                if unit not in units:
                    raise ValueError(f"{heading!r} can't be in {unit!r}: {column} takes {', '.join(units)}")
        headings_of_all = [h for headings in self.columns.values() for h in headings] + list(self.set_aside)
        twice = sorted({h for h in headings_of_all if headings_of_all.count(h) > 1})
        if twice:
            raise ValueError(f"these headings have two places: {', '.join(twice)}")
        lacking = [name for name in NEEDED_COLUMNS if not self.columns.get(name)]
        if lacking:
            raise ValueError(f"these columns need a heading: {', '.join(lacking)}")
        return self

    def state_codes(self) -> dict[str, int]:
        """Value of the state column → `StepState` as a number."""
        return {word: int(StepState[state.upper()]) for word, state in self.states.items()}

    def header_in(self, lines: Sequence[str]) -> Header | None:
        """The header among the first lines of a file; the line with the most known headings.

        A line counts only with at least two of the needed columns, so that a preamble is never one.
        """
        best: Header | None = None
        for number, line in enumerate(lines[: self.search_lines], start=1):
            header = self._understand(number, line)
            found = len(NEEDED_COLUMNS) - len(header.missing)
            if found >= 2 and (best is None or len(header.placed) > len(best.placed)):
                best = header
        return best

    def _understand(self, number: int, line: str) -> Header:
        places = {heading: (column, unit) for column, hs in self.columns.items() for heading, unit in hs.items()}
        headings = [field.strip().strip('"').strip() for field in line.rstrip("\r\n").split(self.delimiter)]
        placed: dict[str, Placed] = {}
        set_aside: dict[str, str] = {}
        unplaced: list[str] = []
        for position, heading in enumerate(headings):
            column, unit = places.get(heading, ("", ""))
            if column and column not in placed:
                placed[column] = Placed(position, heading, column, unit)
            elif heading in self.set_aside:
                set_aside[heading] = self.set_aside[heading]
            elif heading:
                unplaced.append(heading)
        missing = tuple(name for name in NEEDED_COLUMNS if name not in placed)
        width = max((position for position, heading in enumerate(headings) if heading), default=-1) + 1
        return Header(number, width, tuple(placed.values()), set_aside, tuple(unplaced), missing)

    def read_preamble(self, lines: Sequence[str]) -> dict[str, str]:
        """What the lines before the header say, by our keys; a line that is not known is passed over."""
        keys = {heading: key for key, headings in self.preamble.items() for heading in headings}
        said: dict[str, str] = {}
        for line in lines:
            for separator in (":", "：", self.delimiter):
                heading, found, value = line.partition(separator)
                key = keys.get(heading.strip().strip('"'))
                if found and key is not None:
                    said.setdefault(key, value.strip().strip(self.delimiter).strip())
                    break
        return said


def load_profile(path: Path) -> FileProfile:
    """One profile from its YAML file.

    Raises:
        ProfileInvalid: The file can't be read as YAML, or says something that a profile can't say.
    """
    try:
        return FileProfile.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileInvalid(path.name, f"can't be read: {error}") from error
    except ValidationError as error:
        findings = "; ".join(
            f"{'.'.join(str(part) for part in found['loc']) or 'profile'}: {found['msg']}" for found in error.errors()
        )
        raise ProfileInvalid(path.name, findings) from error


@cache
def published_profiles() -> tuple[FileProfile, ...]:
    """The profiles that come with the package."""
    return tuple(load_profile(path) for path in sorted(PROFILES_FOLDER.glob("*.yaml")))


def load_profiles(*folders: Path) -> tuple[FileProfile, ...]:
    """The published profiles, and those in further folders; a lab's own takes the place of one of its name.

    Raises:
        ProfileInvalid: One of them is not a profile.
    """
    profiles = {profile.name: profile for profile in published_profiles()}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            profile = load_profile(path)
            profiles[profile.name] = profile
    return tuple(profiles.values())
