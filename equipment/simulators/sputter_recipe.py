"""A sputter job as the tool holds it: the order's parameters by name, its carrier and its target.

It knows the defaults of what an order may leave out; whether an order may be taken at all is told by `problems`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equipment.jobs import JobOrder
from equipment.simulators.job_receiver_checks import parameter_problems
from equipment.sputter import CARRIER_POSITIONS, SPUTTER, Endpoint, oxygen_flow_sccm

OPTIONAL = {
    "oxygen_fraction": 0.0,
    "rate_of_rise_s": 60.0,
    "reflected_warn_percent": 5.0,
    "reflected_trip_percent": 20.0,
    "reflected_trip_w": 25.0,
    "cool_to_c": 40.0,
    "qcm_tooling_factor": 1.0,
    "qcm_z_ratio": 1.0,
    "film_density_g_per_cm3": 2.4,
}
ON_CARRIER = ("disc", "witness")


@dataclass(frozen=True, slots=True)
class SputterRecipe:
    """The numbers of one job; see `SPUTTER.job_parameters` for units and limits."""

    working_pressure_pa: float
    argon_flow_sccm: float
    oxygen_flow_sccm: float
    base_pressure_pa: float
    rate_of_rise_pa_per_min: float
    rate_of_rise_s: float
    rf_power_w: float
    power_ramp_up_w_per_min: float
    power_ramp_down_w_per_min: float
    strike_pressure_pa: float
    strike_power_w: float
    reflected_warn_share: float
    reflected_trip_share: float
    reflected_trip_w: float
    presputter_s: float
    rotation_rpm: float
    substrate_temp_c: float
    thickness_nm: float
    endpoint: Endpoint
    deposit_time_s: float
    max_deposit_time_s: float
    cool_to_c: float
    qcm_tooling_factor: float
    qcm_z_ratio: float
    film_density_g_per_cm3: float
    target_serial: str
    carrier: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, order: JobOrder) -> SputterRecipe:
        """Read an order that has no `problems`."""
        number = dict(OPTIONAL)
        number.update((p.name, float(p.value)) for p in order.parameters if isinstance(p.value, int | float))
        return cls(
            working_pressure_pa=number["working_pressure_pa"],
            argon_flow_sccm=number["argon_flow_sccm"],
            oxygen_flow_sccm=oxygen_flow_sccm(number["argon_flow_sccm"], number["oxygen_fraction"]),
            base_pressure_pa=number["base_pressure_pa"],
            rate_of_rise_pa_per_min=number["rate_of_rise_pa_per_min"],
            rate_of_rise_s=number["rate_of_rise_s"],
            rf_power_w=number["rf_power_w"],
            power_ramp_up_w_per_min=number["power_ramp_up_w_per_min"],
            power_ramp_down_w_per_min=number["power_ramp_down_w_per_min"],
            strike_pressure_pa=number["strike_pressure_pa"],
            strike_power_w=number["strike_power_w"],
            reflected_warn_share=number["reflected_warn_percent"] / 100.0,
            reflected_trip_share=number["reflected_trip_percent"] / 100.0,
            reflected_trip_w=number["reflected_trip_w"],
            presputter_s=number["presputter_min"] * 60.0,
            rotation_rpm=number["rotation_rpm"],
            substrate_temp_c=number["substrate_temp_c"],
            thickness_nm=number["thickness_nm"],
            endpoint=Endpoint(str(order.parameter("endpoint"))),
            deposit_time_s=number["deposit_time_s"],
            max_deposit_time_s=number["max_deposit_time_s"],
            cool_to_c=number["cool_to_c"],
            qcm_tooling_factor=number["qcm_tooling_factor"],
            qcm_z_ratio=number["qcm_z_ratio"],
            film_density_g_per_cm3=number["film_density_g_per_cm3"],
            target_serial=next(m.serial for m in order.materials if m.use == "target"),
            carrier=tuple(sorted(_carrier(order))),
        )


def _carrier(order: JobOrder) -> Iterator[tuple[int, str]]:
    """Position and serial of each piece; those without a position take the free ones in their order."""
    pieces = [m for m in order.materials if m.use in ON_CARRIER]
    taken = {m.position for m in pieces}
    free = iter(n for n in range(1, CARRIER_POSITIONS + 1) if n not in taken)
    for piece in pieces:
        yield (next(free) if piece.position is None else piece.position), piece.serial


def order_problems(order: JobOrder) -> list[str]:
    """Why this class of tool could never take the order, one sentence each."""
    problems = list(parameter_problems(SPUTTER, order))
    values = {p.name: p.value for p in order.parameters}
    endpoint = values.get("endpoint")
    if isinstance(endpoint, str) and endpoint not in tuple(Endpoint):
        problems.append(f"the endpoint {endpoint!r} is none of {', '.join(Endpoint)}")
    planned, longest = values.get("deposit_time_s"), values.get("max_deposit_time_s")
    if isinstance(planned, int | float) and isinstance(longest, int | float) and longest < planned:
        problems.append("max_deposit_time_s is shorter than deposit_time_s")
    return problems + list(_material_problems(order))


def _material_problems(order: JobOrder) -> Iterator[str]:
    if sum(1 for m in order.materials if m.use == "target") != 1:
        yield "the order must name exactly one target"
    for material in order.materials:
        if material.use not in (*ON_CARRIER, "target"):
            yield f"this tool has no use for {material.serial} as {material.use}"
    pieces = [m for m in order.materials if m.use in ON_CARRIER]
    if not pieces:
        yield "the order names nothing to coat"
    if len(pieces) > CARRIER_POSITIONS:
        yield f"the carrier holds {CARRIER_POSITIONS} pieces, the order names {len(pieces)}"
    serials = [m.serial for m in pieces]
    for serial in sorted({s for s in serials if serials.count(s) > 1}):
        yield f"{serial} is named twice"
    positions = [m.position for m in pieces if m.position is not None]
    for position in sorted({p for p in positions if positions.count(p) > 1}):
        yield f"position {position} of the carrier is given twice"
    for position in positions:
        if not 1 <= position <= CARRIER_POSITIONS:
            yield f"the carrier has no position {position}"
