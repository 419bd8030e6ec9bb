"""Writes simulated tests as the comma-separated export of the Landt software, as its profile describes it.

The remark `simulated` stands in every file. The writer knows the layout and nothing about cells; like a tester
it has an active mass that somebody typed in, and fills the mass-specific columns with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

import numpy as np

from equipment.testers.records import Records, StepState

HEADINGS = (
    "Record,TestTime/h,StepTime/h,Current/mA,Capacity/mAh,SpeCap/mAh/g,SOC|DOD/%,Voltage/V,Energy/mWh,"
    "SpeEnergy/Wh/kg,AuxTemp/dC.,AuxVolt/V,SysTime,,Cycle-Index,Step-Index,Step-State"
)
STATES = {StepState.REST: "R", StepState.CHARGE: "RateC", StepState.DISCHARGE: "RateD"}


@dataclass(frozen=True, slots=True)
class ExportHeading:
    """What stands above the records.

    Attributes:
        cell_barcode, channel_barcode, channel, tester_serial: As scanned and set at the tester.
        started_at: UTC, to the second.
        typed_mass_mg: The active mass that somebody typed in; nothing should rely on it.
        nominal_capacity_mah: What `SOC|DOD/%` refers to.
    """

    cell_barcode: str
    channel_barcode: str
    channel: str
    tester_serial: str
    started_at: datetime
    typed_mass_mg: float = 1.0
    nominal_capacity_mah: float = 1.0

    def __post_init__(self) -> None:
        if self.typed_mass_mg <= 0 or self.nominal_capacity_mah <= 0:
            raise ValueError("the typed mass and the nominal capacity must be positive")
        if any(set("\r\n") & set(text) for text in (self.cell_barcode, self.channel_barcode, self.channel)):
            raise ValueError("a barcode or channel is one line")

    def lines(self) -> list[str]:
        """The preamble."""
        return [
            "Landt export",
            f"Tester serial: {self.tester_serial}",
            f"Channel: {self.channel}",
            f"Channel barcode: {self.channel_barcode}",
            f"Barcode: {self.cell_barcode}",
            f"Start time: {self.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            f"Active mass/mg: {self.typed_mass_mg:g}",
            "Remark: simulated",
            "",
        ]


def write_land_csv(stream: TextIO, batches: Iterable[Records], heading: ExportHeading) -> int:
    """Write a test, or what there is of a running one; answers with the number of records.

    Currents are written to 0.1 µA, voltages to 0.1 mV, capacities to 1 nAh, energies to 1 nWh, test times to
    1e-6 h and the clock to the second. Open the stream with `newline=""` and UTF-8.
    """
    stream.write("\r\n".join([*heading.lines(), HEADINGS]) + "\r\n")
    count = 0
    for records in batches:
        stream.writelines(_lines(records, heading))
        count += len(records)
    return count


def _lines(records: Records, heading: ExportHeading) -> Iterable[str]:
    capacity_mah, energy_mwh = 1e3 * records.step_capacity_ah, 1e3 * records.step_energy_wh
    clock = np.datetime_as_string(np.round(records.unix_time_second).astype("datetime64[s]"))
    temperature = ["-" if np.isnan(t) else f"{t:.1f}" for t in records.temperature_t1_celsius.tolist()]
    rows = zip(
        records.record_index.tolist(),
        (records.test_time_second / 3600.0).tolist(),
        (records.step_time_second / 3600.0).tolist(),
        (1e3 * records.current_ampere).tolist(),
        capacity_mah.tolist(),
        (1e3 * capacity_mah / heading.typed_mass_mg).tolist(),
        (100.0 * capacity_mah / heading.nominal_capacity_mah).tolist(),
        records.voltage_volt.tolist(),
        energy_mwh.tolist(),
        (1e3 * energy_mwh / heading.typed_mass_mg).tolist(),
        temperature,
        (text.replace("T", " ") for text in clock.tolist()),
        records.cycle_count.tolist(),
        records.step_index.tolist(),
        (STATES[StepState(state)] for state in records.state.tolist()),
        strict=True,
    )
    layout = "%d,%.6f,%.6f,%.4f,%.6f,%.4f,%.2f,%.4f,%.6f,%.4f,%s,-,%s,,%d,%d,%s,\r\n"
    return (layout % row for row in rows)
