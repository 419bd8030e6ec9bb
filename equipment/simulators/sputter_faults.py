"""The faults that can be switched on in the simulated sputter tool, by name.

Each one changes the hardware only; that the tool notices and answers is the watch's and the interlock's work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from equipment.simulators.chamber_hardware import ChamberHardware
from equipment.simulators.glovebox import EXCURSION_PPM

_Settings = Mapping[str, float]


def _no_strike(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.plasma.no_strike_chance = settings.get("chance", 1.0) if active else None


def _arc(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.plasma.arc_rate_per_min = settings.get("rate_per_min", 20.0) if active else None


def _reflected_power(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.plasma.detuned = settings.get("share", 0.3) if active else None


def _gauge_drift(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.vacuum.gauge_drift_per_min = settings.get("per_min", 0.005) if active else 0.0
    if not active:
        hardware.vacuum.gauge_gain = 1.0


def _mfc_stuck(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    flow = settings.get("flow_sccm", 0.8 * hardware.vacuum.argon.flow_sccm)
    hardware.vacuum.argon.stuck_sccm = flow if active else None


def _water_flow(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.water_fault_l_per_min = settings.get("l_per_min", 0.5) if active else None
    if not active:
        hardware.lithium_hazard = False


def _qcm_fail(hardware: ChamberHardware, active: bool, _settings: _Settings) -> None:
    hardware.crystal.dropped_out = active


def _shutter_stuck(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.shutter.stuck = active
    hardware.shutter.lying = active and bool(settings.get("lying", 0.0))
    if "position" in settings and active:
        hardware.shutter.position = min(1.0, max(0.0, settings["position"]))


def _turbo_trip(hardware: ChamberHardware, active: bool, _settings: _Settings) -> None:
    hardware.vacuum.turbo_drive_ok = not active


def _glovebox_excursion(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.glovebox.excursion_ppm = settings.get("ppm", EXCURSION_PPM) if active else None


def _target_crack(hardware: ChamberHardware, active: bool, _settings: _Settings) -> None:
    if hardware.plasma.target is not None:
        hardware.plasma.target.cracked = active


def _leak(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.vacuum.leak_pa_m3_per_s = settings.get("pa_m3_per_s", 2e-4) if active else 0.0


def _vented_to_air(hardware: ChamberHardware, active: bool, _settings: _Settings) -> None:
    hardware.vacuum.wet = active


def _overheat(hardware: ChamberHardware, active: bool, settings: _Settings) -> None:
    hardware.overheat_k = settings.get("rise_k", 60.0) if active else 0.0


FAULTS: Mapping[str, Callable[[ChamberHardware, bool, _Settings], None]] = {
    "no_strike": _no_strike,
    "arc": _arc,
    "reflected_power": _reflected_power,
    "gauge_drift": _gauge_drift,
    "mfc_stuck": _mfc_stuck,
    "water_flow": _water_flow,
    "qcm_fail": _qcm_fail,
    "shutter_stuck": _shutter_stuck,
    "turbo_trip": _turbo_trip,
    "glovebox_excursion": _glovebox_excursion,
    "target_crack": _target_crack,
    "leak": _leak,
    "vented_to_air": _vented_to_air,
    "overheat": _overheat,
}
"""Fault → what it does to the hardware; its settings are the keyword names read with `settings.get`."""
