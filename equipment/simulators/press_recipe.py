"""A press job as the tool holds it, and why an order could not be one.

It knows the order's own contradictions (a force that is not pressure times area); what stands in the press is the
plant's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equipment.jobs import JobOrder
from equipment.press import PRESS, PressOperation, force_kn
from equipment.simulators.job_receiver_checks import parameter_problems

OPTIONAL = {"theoretical_density_g_per_cm3": 2.04, "added_thickness_mm": 0.0}
FORCE_AGREES_WITHIN = 0.005


@dataclass(frozen=True, slots=True)
class PressRecipe:
    """The numbers of one stroke; see `PRESS.job_parameters` for units and limits."""

    die_id: str
    die_diameter_mm: float
    force_kn: float
    preload_kn: float
    preload_s: float
    ramp_kn_per_s: float
    dwell_s: float
    unload_kn_per_s: float
    powder_mass_mg: float
    theoretical_density_g_per_cm3: float
    added_thickness_mm: float
    pellet_serial: str

    @classmethod
    def of(cls, order: JobOrder) -> PressRecipe:
        """Read an order that has no `problems`."""
        number = dict(OPTIONAL)
        number.update((p.name, float(p.value)) for p in order.parameters if isinstance(p.value, int | float))
        return cls(
            die_id=str(order.parameter("die_id")),
            die_diameter_mm=number["die_diameter_mm"],
            force_kn=force_kn(number["pressure_mpa"], number["die_diameter_mm"]),
            preload_kn=number["preload_kn"],
            preload_s=number["preload_s"],
            ramp_kn_per_s=number["ramp_kn_per_s"],
            dwell_s=number["dwell_s"],
            unload_kn_per_s=number["unload_kn_per_s"],
            powder_mass_mg=number["powder_mass_mg"],
            theoretical_density_g_per_cm3=number["theoretical_density_g_per_cm3"],
            added_thickness_mm=number["added_thickness_mm"],
            pellet_serial=next(m.serial for m in order.materials if m.use == "pellet"),
        )


def order_problems(order: JobOrder) -> list[str]:
    """Why this class of tool could never take the order, one sentence each."""
    problems = list(parameter_problems(PRESS, order))
    return problems if problems else list(_contradictions(order))


def _contradictions(order: JobOrder) -> Iterator[str]:
    if order.parameter("operation") not in tuple(PressOperation):
        yield f"the operation {order.parameter('operation')!r} is none of {', '.join(PressOperation)}"
    numbers = {p.name: float(p.value) for p in order.parameters if isinstance(p.value, int | float)}
    derived = force_kn(numbers["pressure_mpa"], numbers["die_diameter_mm"])
    if abs(numbers["force_kn"] - derived) > FORCE_AGREES_WITHIN * derived:
        yield f"force_kn of {numbers['force_kn']:g} is not pressure times area of the die, {derived:.3f} kN"
    if numbers["preload_kn"] >= derived:
        yield "preload_kn is not below the force of the stroke"
    if sum(1 for m in order.materials if m.use == "pellet") != 1:
        yield "the order must name the one pellet that it makes or presses"
