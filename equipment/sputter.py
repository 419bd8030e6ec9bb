"""What the magnetron sputter tool shows and takes: its tag table, its phases and its alarms.

Driver, tool server and plant read this one table. It knows names, units, hard limits of the tool and why each
alarm is there; it knows no node ids, no recipe (targets and tolerances are the recipe's) and no physics.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum

from equipment.tags import (
    AlarmDefinition,
    JobParameter,
    Tag,
    TagRole,
    TagTable,
    TagType,
    link_alarms,
    link_tags,
    number_parameter,
    state_tag,
)

EQUIPMENT_CLASS = "rf_magnetron_sputter"
CARRIER_POSITIONS = 8


class SputterPhase(IntEnum):
    """The steps of a run in their order, by the number that the tag `phase_number` carries."""

    IDLE = 0
    LOAD = 1
    ROUGH = 2
    TURBO = 3
    HIVAC = 4
    GAS = 5
    STRIKE = 6
    SETTLE = 7
    RAMP = 8
    PRESPUTTER = 9
    DEPOSIT = 10
    RAMP_DOWN = 11
    COOL = 12
    VENT = 13
    UNLOAD = 14


class Endpoint(StrEnum):
    """What ends a deposition."""

    TIME = "time"
    QCM = "qcm"
    FIRST = "first"


JUDGED_IN_DEPOSIT: Mapping[str, str] = {
    "working_pressure_pa": "chamber_pressure_pa",
    "argon_flow_sccm": "argon_flow_sccm",
    "rf_power_w": "rf_forward_power_w",
    "rotation_rpm": "rotation_rpm",
    "substrate_temp_c": "substrate_temp_c",
}
"""Recipe parameter → the process value by which its tolerance is judged while DEPOSIT runs."""


def oxygen_flow_sccm(argon_flow_sccm: float, oxygen_fraction: float) -> float:
    """Oxygen flow in sccm that makes `oxygen_fraction` (0 ≤ f < 1) of the whole gas flow.

    Raises:
        ValueError: The fraction is outside 0 ≤ f < 1.
    """
    if not 0.0 <= oxygen_fraction < 1.0:
        raise ValueError(f"an oxygen fraction of {oxygen_fraction} is not in 0 ≤ f < 1")
    return argon_flow_sccm * oxygen_fraction / (1.0 - oxygen_fraction)


def _process(
    name: str,
    browse: str,
    unit: str,
    span: tuple[float, float],
    resolution: float,
    description: str,
    *,
    setpoint: bool = False,
    double: bool = False,
    traced: bool = True,
) -> tuple[Tag, ...]:
    """A process value below Monitoring/Process, followed by its setpoint where it has one."""
    low, high = span
    kind = TagType.DOUBLE if double else TagType.FLOAT
    value = Tag(
        name,
        ("Monitoring", "Process", browse),
        kind,
        TagRole.PROCESS_VALUE,
        unit,
        low,
        high,
        resolution,
        setpoint=_setpoint_name(name) if setpoint else None,
        traced=traced,
        description=description,
    )
    if not setpoint:
        return (value,)
    wanted = Tag(
        _setpoint_name(name),
        ("Monitoring", "Process", browse + "Setpoint"),
        kind,
        TagRole.SETPOINT,
        unit,
        low,
        high,
        resolution,
        traced=traced,
        description=f"Setpoint: {description[0].lower()}{description[1:]}",
    )
    return (value, wanted)


def _setpoint_name(name: str) -> str:
    """`chamber_pressure_pa` → `chamber_pressure_setpoint_pa`: the unit stays last."""
    stem, _, suffix = name.rpartition("_")
    return f"{stem}_setpoint_{suffix}"


def _counter(name: str, path: tuple[str, ...], kind: TagType, unit: str, description: str, *, traced: bool) -> Tag:
    return Tag(name, path, kind, TagRole.COUNTER, unit, low=0.0, traced=traced, description=description)


_VACUUM_AND_GAS = (
    *_process("chamber_pressure_pa", "ChamberPressure", "Pa", (0.0, 120_000.0), 1e-6, "Pressure in the chamber.",
              setpoint=True),
    *_process("argon_flow_sccm", "ArgonFlow", "sccm", (0.0, 100.0), 0.01, "Argon flow.", setpoint=True),
    *_process("oxygen_flow_sccm", "OxygenFlow", "sccm", (0.0, 20.0), 0.01, "Oxygen flow.", setpoint=True),
    *_process("throttle_position_percent", "ThrottlePosition", "%", (0.0, 100.0), 0.01,
              "Opening of the throttle valve above the turbo pump."),
    *_process("turbo_speed_percent", "TurboSpeed", "%", (0.0, 100.0), 0.1, "Speed of the turbo pump.", setpoint=True),
    *_process("foreline_pressure_pa", "ForelinePressure", "Pa", (0.0, 120_000.0), 0.1, "Pressure in the foreline."),
    *_process("rate_of_rise_pa_per_min", "RateOfRise", "Pa/min", (0.0, 100.0), 1e-4,
              "Rise of pressure with all valves closed, last measured."),
    *_process("box_differential_pressure_pa", "BoxDifferentialPressure", "Pa", (-120_000.0, 120_000.0), 0.1,
              "Chamber less glovebox pressure; transfers need less than 100 Pa."),
)  # fmt: skip

_PLASMA = (
    *_process("rf_forward_power_w", "RfForwardPower", "W", (0.0, 300.0), 0.1, "Forward RF power.", setpoint=True),
    *_process("rf_reflected_power_w", "RfReflectedPower", "W", (0.0, 300.0), 0.1, "Reflected RF power."),
    *_process("dc_bias_v", "DcBias", "V", (0.0, 1000.0), 0.1, "Self-bias of the target, as a magnitude."),
    *_process("match_load_percent", "MatchLoad", "%", (0.0, 100.0), 0.01, "Load capacitor of the match."),
    *_process("match_tune_percent", "MatchTune", "%", (0.0, 100.0), 0.01, "Tune capacitor of the match."),
    *_process("arc_rate_per_min", "ArcRate", "1/min", (0.0, 1000.0), 0.1, "Arcs in the last minute."),
)  # fmt: skip

_FILM = (
    *_process("qcm_thickness_nm", "QcmThickness", "nm", (0.0, 5000.0), 0.001,
              "Film thickness in this run by the crystal, tooling factor applied.", double=True),
    *_process("qcm_rate_nm_per_min", "QcmRate", "nm/min", (-10.0, 50.0), 0.01, "Rate by the crystal, 60 s slope."),
    *_process("qcm_frequency_hz", "QcmFrequency", "Hz", (5_000_000.0, 6_100_000.0), 0.01,
              "Frequency of the crystal.", double=True),
    *_process("qcm_life_percent", "QcmLife", "%", (0.0, 100.0), 0.01,
              "Crystal life used: 100 per MHz below 6 MHz; warn 30, block 50.", traced=False),
)  # fmt: skip

_CARRIER_AND_SERVICES = (
    *_process("holder_temp_c", "HolderTemperature", "Cel", (0.0, 200.0), 0.05, "Temperature of the carrier."),
    *_process("substrate_temp_c", "SubstrateTemperature", "Cel", (0.0, 200.0), 0.05,
              "Temperature of the discs, by the pyrometer."),
    *_process("rotation_rpm", "Rotation", "1/min", (0.0, 30.0), 0.01, "Rotation of the carrier.", setpoint=True),
    *_process("cooling_water_flow_l_per_min", "CoolingWaterFlow", "L/min", (0.0, 10.0), 0.01,
              "Cooling water through the cathode; the switch opens below 2."),
    *_process("glovebox_o2_ppm", "GloveboxO2", "[ppm]", (0.0, 1000.0), 0.01, "Oxygen in the box, by volume."),
    *_process("glovebox_h2o_ppm", "GloveboxH2O", "[ppm]", (0.0, 1000.0), 0.01, "Water in the box, by volume."),
)  # fmt: skip

_TARGET = ("Components", "Target1")
_STATES = (
    state_tag("phase_number", "PhaseNumber", TagType.INT32, "Step of the run; see SputterPhase.", traced=True),
    state_tag("phase_name", "PhaseName", TagType.STRING, "Step of the run by name."),
    state_tag("phase_remaining_s", "PhaseRemaining", TagType.FLOAT, "Seconds left in this step as predicted."),
    state_tag("run_remaining_s", "RunRemaining", TagType.FLOAT, "Seconds left in this run as predicted."),
    state_tag("hold_reason", "HoldReason", TagType.STRING, "Why the tool holds its job; empty when it does not."),
    state_tag("shutter_open", "ShutterOpen", TagType.BOOLEAN, "Feedback of the shutter's open end.", traced=True),
    state_tag("shutter_closed", "ShutterClosed", TagType.BOOLEAN, "Feedback of the shutter's closed end."),
    state_tag("gate_open", "GateOpen", TagType.BOOLEAN, "Gate valve above the turbo pump is open.", traced=True),
    state_tag("rough_valve_open", "RoughValveOpen", TagType.BOOLEAN, "Roughing valve is open."),
    state_tag("vent_valve_open", "VentValveOpen", TagType.BOOLEAN, "Vent valve (argon) is open."),
    state_tag("door_closed", "DoorClosed", TagType.BOOLEAN, "Transfer door to the glovebox is closed."),
    state_tag("rf_on", "RfOn", TagType.BOOLEAN, "The generator delivers power.", traced=True),
    state_tag("plasma_on", "PlasmaOn", TagType.BOOLEAN, "Self-bias shows a plasma.", traced=True),
    state_tag("water_ok", "WaterOk", TagType.BOOLEAN, "Flow switch of the cooling water is made."),
    state_tag("transfer_locked", "TransferLocked", TagType.BOOLEAN, "Transfers to the glovebox are locked."),
    state_tag("lithium_hazard", "LithiumHazard", TagType.BOOLEAN, "Water was lost with lithium inside: no venting."),
    state_tag("qcm_ok", "QcmOk", TagType.BOOLEAN, "The crystal gives a usable frequency.", traced=True),
    state_tag("thickness_model_ok", "ThicknessModelOk", TagType.BOOLEAN,
           "Gauge, flow and throttle agree and the target behaves, so time predicts thickness."),
    state_tag("film_interrupted", "FilmInterrupted", TagType.BOOLEAN, "The film of this run was interrupted."),
    state_tag("target_serial", "TargetSerial", TagType.STRING, "Target that the job names."),
    _counter("strike_count", ("Monitoring", "Status", "StrikeCount"), TagType.UINT32, "1",
             "Tries to strike in this run.", traced=False),
    _counter("arc_count", ("Monitoring", "Status", "ArcCount"), TagType.UINT32, "1", "Arcs in this run.",
             traced=True),
    _counter("crystal_fail_count", ("Monitoring", "Status", "CrystalFailCount"), TagType.UINT32, "1",
             "Readings without an oscillating crystal, over its life.", traced=False),
    _counter("deposit_elapsed_s", ("Monitoring", "Status", "DepositElapsed"), TagType.DOUBLE, "s",
             "Time with plasma and open shutter in this run.", traced=True),
    _counter("target_energy_kwh", (*_TARGET, "Energy"), TagType.DOUBLE, "kW.h", "RF energy the target has seen.",
             traced=True),
    Tag("target_life_percent", (*_TARGET, "Life"), TagType.FLOAT, TagRole.COUNTER, "%", 0.0, 200.0, 0.01,
        description="Life used, by energy; jobs are refused at 100."),
)  # fmt: skip


_PARAMETERS = (
    number_parameter("working_pressure_pa", "Pa", 0.1, 5.0),
    number_parameter("argon_flow_sccm", "sccm", 5.0, 100.0),
    number_parameter("oxygen_fraction", "1", 0.0, 0.2, required=False),
    number_parameter("base_pressure_pa", "Pa", 2.5e-5, 1e-3),
    number_parameter("rate_of_rise_pa_per_min", "Pa/min", 0.01, 0.2),
    number_parameter("rate_of_rise_s", "s", 10.0, 600.0, required=False),
    number_parameter("rf_power_w", "W", 20.0, 141.0),
    number_parameter("power_ramp_up_w_per_min", "W/min", 1.0, 30.0),
    number_parameter("power_ramp_down_w_per_min", "W/min", 1.0, 30.0),
    number_parameter("strike_pressure_pa", "Pa", 1.3, 4.0),
    number_parameter("strike_power_w", "W", 20.0, 80.0),
    number_parameter("reflected_warn_percent", "%", 1.0, 20.0, required=False),
    number_parameter("reflected_trip_percent", "%", 2.0, 20.0, required=False),
    number_parameter("reflected_trip_w", "W", 2.0, 25.0, required=False),
    number_parameter("presputter_min", "min", 5.0, 120.0),
    number_parameter("rotation_rpm", "1/min", 0.0, 30.0),
    number_parameter("substrate_temp_c", "Cel", 30.0, 80.0),
    number_parameter("thickness_nm", "nm", 1.0, 2000.0),
    JobParameter("endpoint", TagType.STRING),
    number_parameter("deposit_time_s", "s", 1.0, 86_400.0),
    number_parameter("max_deposit_time_s", "s", 1.0, 112_320.0),
    number_parameter("cool_to_c", "Cel", 25.0, 60.0, required=False),
    number_parameter("qcm_tooling_factor", "1", 0.2, 5.0, required=False),
    number_parameter("qcm_z_ratio", "1", 0.1, 10.0, required=False),
    number_parameter("film_density_g_per_cm3", "g/cm3", 0.5, 20.0, required=False),
)

_ACTUALS = (
    number_parameter("thickness_qcm_nm", "nm"),
    number_parameter("thickness_remaining_nm", "nm"),
    number_parameter("deposit_time_s", "s"),
    number_parameter("energy_kwh", "kW.h"),
    number_parameter("target_energy_kwh", "kW.h"),
    number_parameter("base_pressure_pa", "Pa"),
    number_parameter("rate_of_rise_pa_per_min", "Pa/min"),
    number_parameter("mean_pressure_pa", "Pa"),
    number_parameter("mean_power_w", "W"),
    number_parameter("mean_argon_flow_sccm", "sccm"),
    number_parameter("mean_dc_bias_v", "V"),
    number_parameter("peak_reflected_power_w", "W"),
    number_parameter("peak_substrate_temp_c", "Cel"),
    JobParameter("arc_count", TagType.INT64, "1"),
    JobParameter("strike_count", TagType.INT64, "1"),
    JobParameter("interruption_count", TagType.INT64, "1"),
    JobParameter("endpoint_reached", TagType.STRING),
    JobParameter("qcm_ok", TagType.BOOLEAN),
    JobParameter("thickness_model_ok", TagType.BOOLEAN),
)

_ALARMS = (
    AlarmDefinition(
        "no_strike", "The plasma did not strike in three tries.", 600,
        "Pressure too low, a new or oxidised target, or a match far from its preset.",
        "No film grows; the job holds with the shutter closed and RF off.",
        "Check pressure, match preset and target; then resume to strike again.",
    ),
    AlarmDefinition(
        "arc_rate_high", "More than 10 arcs a minute.", 600,
        "A new, dirty or cracked target, or flakes on its shield.",
        "Pinholes and particles in the film; the job holds.",
        "Look at the arc trend and the target; pre-sputter longer or change the target, then resume.",
    ),
    AlarmDefinition(
        "arc_rate_trip", "More than 50 arcs a minute: RF switched off.", 850,
        "A cracked target or a short at the cathode.",
        "The film is damaged and the target may break; RF is off and the shutter closed.",
        "Stop the run, vent and inspect the target.",
    ),
    AlarmDefinition(
        "reflected_power_high", "Reflected power stands above its warning limit.", 300,
        "The match is retuning or near the end of its range.",
        "Less power reaches the plasma than the recipe says.",
        "Watch the match capacitors; tune the preset before the next run.",
    ),
    AlarmDefinition(
        "reflected_power_trip", "Reflected power above its trip limit: RF off, shutter closed.", 850,
        "The match is detuned, or the plasma went out.",
        "The generator may be harmed; the film is interrupted.",
        "Tune the match, then resume with the remaining thickness.",
    ),
    AlarmDefinition(
        "gauge_drift", "Throttle position, flow and pressure gauge disagree.", 450,
        "The capacitance gauge drifts, by coating or temperature.",
        "The true pressure is off its setpoint, so the predicted thickness is not to be trusted.",
        "Finish or stop the run; zero the gauge; measure the witness before the discs are released.",
    ),
    AlarmDefinition(
        "argon_flow_deviation", "Argon flow more than 5 % off its setpoint for 5 s.", 600,
        "The valve of the mass-flow controller sticks, or the supply pressure is low.",
        "Pressure and rate are off; the job holds.",
        "Check the supply and cycle the controller; then resume.",
    ),
    AlarmDefinition(
        "water_flow_low", "Cooling water below 2 L/min: RF off, venting locked.", 950,
        "Pump, filter or hose of the cooling circuit; perhaps a leak.",
        "The cathode overheats; water may meet lithium. Venting is locked.",
        "Do not vent. Look for a leak, restore the flow, clear the hazard at the tool.",
    ),
    AlarmDefinition(
        "qcm_fail", "The crystal does not oscillate: the endpoint falls back to time.", 450,
        "The crystal is worn out, cracked or flaking.",
        "No thickness in situ; the run ends by time.",
        "Change the crystal before the next run and measure the witness.",
    ),
    AlarmDefinition(
        "qcm_life_low", "The crystal has used more than 30 % of its life.", 250,
        "Film collects on the crystal with each run.",
        "The next runs may lose the crystal.",
        "Plan a change of the crystal.",
    ),
    AlarmDefinition(
        "qcm_life_end", "The crystal has used more than 50 % of its life.", 450,
        "Film has collected on the crystal.",
        "Jobs that end by crystal are refused.",
        "Change the crystal.",
    ),
    AlarmDefinition(
        "shutter_stuck", "The shutter did not reach its end position: RF off.", 850,
        "The drive jams or its end switch fails.",
        "Film grows where it should not, or does not grow; RF is off.",
        "Free the shutter; judge the film by the crystal's trend; then resume or stop.",
    ),
    AlarmDefinition(
        "turbo_trip", "Turbo pump below 80 % speed: RF and gas off, gate closed.", 900,
        "Its bearing, its drive, its backing pump or its water.",
        "Vacuum is lost; the film is interrupted.",
        "Keep the gate closed; repair the pump; then resume from pumping down.",
    ),
    AlarmDefinition(
        "glovebox_excursion", "Glovebox above 1 ppm O2 or 10 ppm H2O: transfers locked.", 800,
        "A glove, a seal, or a spent regenerator.",
        "Lithium would react during a transfer.",
        "Leave the discs under vacuum; find the leak or regenerate; wait for the limits.",
    ),
    AlarmDefinition(
        "target_cracked", "Rate and arcs together look like a cracked target.", 850,
        "Power ramped too fast, or a bad bond.",
        "Rate and composition have changed; the job holds.",
        "Stop the run, change the target and reset its rate model.",
    ),
    AlarmDefinition(
        "substrate_temp_high", "Discs above the recipe's temperature limit.", 450,
        "Poor contact to the carrier or too much power.",
        "The lithium softens and reacts.",
        "Watch the trend; lower the power of the next run.",
    ),
    AlarmDefinition(
        "substrate_temp_hold", "Discs above 80 °C: the job holds.", 700,
        "Poor contact to the carrier or too much power.",
        "The lithium softens; the film is interrupted.",
        "Let the carrier cool, find the cause, then resume.",
    ),
    AlarmDefinition(
        "substrate_temp_trip", "Discs above 100 °C: RF off.", 950,
        "Cooling of the carrier is lost.",
        "Lithium melts at 180.5 °C.",
        "Do not resume. Stop the run and inspect the discs.",
    ),
    AlarmDefinition(
        "base_pressure_not_reached", "The base pressure was not reached in time.", 600,
        "A leak, a wet chamber, or a tired pump.",
        "Residual water would oxidise the lithium; the job holds.",
        "Look for a leak; resume to pump on.",
    ),
    AlarmDefinition(
        "rate_of_rise_high", "The rate of rise is above the recipe's limit.", 600,
        "A leak, or a chamber that still gives off water.",
        "Air or water would enter the film; the job holds.",
        "Pump longer or find the leak; resume to measure again.",
    ),
    AlarmDefinition(
        "phase_timeout", "A step did not finish in its time.", 600,
        "A valve, pump or drive does not follow.",
        "The job holds in a safe state.",
        "See which step stands and why; then resume or stop.",
    ),
    AlarmDefinition(
        "target_life_end", "The target has used all of its life.", 500,
        "Energy on the target has reached its limit.",
        "The erosion groove may reach the backing plate; jobs are refused.",
        "Change the target.",
    ),
    *link_alarms(),
)  # fmt: skip

SPUTTER = TagTable(
    equipment_class=EQUIPMENT_CLASS,
    components=("ProcessingChamber", "PlasmaGenerator", "GasSystem", "Target1"),
    tags=(*link_tags(), *_VACUUM_AND_GAS, *_PLASMA, *_FILM, *_CARRIER_AND_SERVICES, *_STATES),
    job_parameters=_PARAMETERS,
    job_actuals=_ACTUALS,
    alarms=_ALARMS,
)
"""The RH450: RF magnetron at 13.56 MHz, 76.2 mm target, rotating carrier of eight positions, in a glovebox."""
