"""What people do in the demonstration: from lithium lots to tested cells, over the public API alone.

Two sputter runs (200 nm and 100 nm) and a pristine control, two symmetric cells each. Nothing here knows a database
or a simulator's inside, but for the microscope, which looks at the witness as a real one would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from api.demo.client import PEOPLE, Person
from api.demo.processes import DemoFailed, Processes
from equipment.simulators.instruments import edx_thickness_nm
from traceability.clock import PiecewiseClock

SPUTTER_FACTOR = 2000.0
"""Domain seconds a real second while the sputter tool runs: three hours in six seconds."""
PRESS_FACTOR = 120.0
"""While the press runs: slow enough that a stroke's trace is worth looking at."""
CELLS_AN_ARM = 2
DISCS_A_CELL = 2
DIE = "DIE-10-1"
TESTER = "LAND1"
PROTOCOL = "PT-SYM-01-01"

_MATERIALS: tuple[tuple[str, str, str, str], ...] = (
    ("LI-DISC-10", "Lithium disc 10 mm × 0.5 mm", "metal_disc", "piece"),
    ("SI-WITNESS", "Silicon witness coupon", "witness", "piece"),
    ("LIALO2-TARGET-76", "LiAlO₂ target 76.2 mm", "target", "piece"),
    ("LGPS", "Li₁₀GeP₂S₁₂ powder", "electrolyte_powder", "mg"),
    ("SS-COLLECTOR-10", "Stainless-steel collector 10 mm", "collector", "piece"),
    ("SCREW-M5", "Cell screw M5", "hardware", "piece"),
)
_DELIVERIES: tuple[tuple[str, str, str], ...] = (
    ("LI-DISC-10", "16", "piece"),
    ("SI-WITNESS", "4", "piece"),
    ("LIALO2-TARGET-76", "1", "piece"),
    ("LGPS", "2500", "mg"),
    ("SS-COLLECTOR-10", "40", "piece"),
    ("SCREW-M5", "60", "piece"),
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One kind of cell of the campaign.

    Attributes:
        label: Of the anode, for people.
        sputter_recipe: Master recipe of the film; empty for bare lithium.
        route: Of the cell.
    """

    label: str
    sputter_recipe: str
    route: str


ARMS: tuple[Arm, ...] = (
    Arm("Li@LiAlO₂ 200 nm", "SP-LIALO2-200", "RT-SYMMETRIC-COATED"),
    Arm("Li@LiAlO₂ 100 nm", "SP-LIALO2-100", "RT-SYMMETRIC-COATED"),
    Arm("Li, pristine", "", "RT-SYMMETRIC-PRISTINE"),
)


@dataclass(frozen=True, slots=True)
class MadeCell:
    """A cell of the campaign.

    Attributes:
        thickness_nm: Of the film by the witness; None for bare lithium.
        handoff: UUID of its hand-off to the tester.
    """

    serial: str
    arm: Arm
    thickness_nm: float | None
    handoff: str


class Campaign:
    """The people, and what they do one after the other.

    Args:
        url: The service's address.
        processes: Watched while somebody waits.
        clock: Of the line; led from here.
        simulators: Folder of the simulated tools' state, for the microscope.
        seed: Of what people weigh, tighten and measure.
        tell: Told what is being done, for the progress bar.
    """

    def __init__(
        self,
        url: str,
        processes: Processes,
        clock: PiecewiseClock,
        simulators: Path,
        seed: int,
        tell: Callable[[str], None],
    ) -> None:
        self.operator, self.engineer, self.second_engineer, self.qa, _ = (Person(url, name) for name in PEOPLE)
        self._processes = processes
        self._clock = clock
        self._simulators = simulators
        self._random = Random(seed)
        self._tell = tell
        self._lots: dict[str, str] = {}

    def prepare(self) -> None:
        """Define materials, approve the founding library, receive and release lots, enter the target."""
        self._tell("materials and recipes")
        for code, name, kind, unit in _MATERIALS:
            self.engineer.post("/materials", code=code, name=name, kind=kind, unit=unit)
        self._approve_library()
        self._tell("lots received and released")
        for code, quantity, unit in _DELIVERIES:
            lot = self.operator.post(
                "/lots",
                material_code=code,
                quantity=quantity,
                unit=unit,
                supplier="Founding supplier",
                supplier_lot=f"S-{code}-26",
                certificate=f"C-{code}-26",
                location="glovebox",
            )["serial"]
            self.qa.post(f"/lots/{lot}:release", reason="certificate checked against the order")
            self._lots[code] = lot
        self._target = self._pieces("LIALO2-TARGET-76", 1, "target")[0]
        self.operator.post("/targets", serial=self._target)

    def make_cells(self, arm: Arm) -> list[MadeCell]:
        """Coat discs if the arm wants a film, then press, close, screen and hand over its cells."""
        number = CELLS_AN_ARM * DISCS_A_CELL
        discs, thickness_nm = self._pieces("LI-DISC-10", number, "disc"), None
        if arm.sputter_recipe:
            self._place_order("RT-COATED-DISC", number)
            discs, thickness_nm = self._sputter(arm, discs)
        order = self._place_order(arm.route, CELLS_AN_ARM)
        cells = []
        for count in range(CELLS_AN_ARM):
            pair = discs[DISCS_A_CELL * count : DISCS_A_CELL * (count + 1)]
            cells.append(self._make_cell(arm, pair, thickness_nm, order, count + 1))
        return cells

    def wait_until_armed(self, cells: Sequence[MadeCell]) -> None:
        """Wait until the tester has every cell running."""
        self._tell("tester takes the cells")
        self._processes.wait_until(
            "the tester runs every cell", lambda: all(self._state(cell) == "running" for cell in cells)
        )

    def results(self, cells: Sequence[MadeCell]) -> Iterator[tuple[MadeCell, dict[str, Any]]]:
        """Each cell with the final result that came back, once all are in."""
        self._tell("results come back")
        done = {"ingested", "released"}
        self._processes.wait_until(
            "every result is in", lambda: all(self._state(cell) in done for cell in cells), timeout_s=90.0
        )
        for cell in cells:
            results = self.qa.get(f"/handoffs/{cell.handoff}/results")
            yield cell, next(result for result in results if result["is_final"] and result["status"] == "ingested")

    def verify(self) -> dict[str, Any]:
        """QA verifies the whole record."""
        self._tell("QA verifies the record")
        report: dict[str, Any] = self.qa.post("/audit:verify")
        if not report["intact"]:
            raise DemoFailed(f"The record is not intact: {report['discrepancies'][0]['message']}")
        return report

    def _approve_library(self) -> None:
        self.engineer.post("/library:import")
        drafts = self.engineer.get("/recipes", status="draft")
        # A route names recipes and protocols that are in force already.
        for version in sorted(drafts, key=lambda draft: draft["kind"] == "argonaut-route"):
            path = f"/recipes/{version['document_id']}/{version['number']}"
            self.engineer.post(f"{path}:submit")
            self.second_engineer.post(f"{path}:approve", signature=self.second_engineer.signature)
            self.engineer.post(f"{path}:make-effective")

    def _place_order(self, route: str, quantity: int) -> str:
        serial: str = self.operator.post("/orders", route_id=route, quantity=quantity)["serial"]
        return serial

    def _pieces(self, code: str, count: int, kind: str) -> list[str]:
        made = self.operator.post("/units", lot=self._lots[code], count=count, kind=kind, product=code)
        return [unit["serial"] for unit in made["units"]]

    def _sputter(self, arm: Arm, discs: Sequence[str]) -> tuple[list[str], float]:
        """Coated discs, and the thickness that the microscope finds on their witness."""
        witness = self._pieces("SI-WITNESS", 1, "witness")[0]
        things = [{"serial": disc, "use": "disc", "position": n + 1} for n, disc in enumerate(discs)]
        things.append({"serial": witness, "use": "witness", "position": 8})
        things.append({"serial": self._target, "use": "target"})
        with self._clock_at(SPUTTER_FACTOR):
            run = self._run("RH450", arm.sputter_recipe, things, f"sputtering {arm.label}")
        coated = {p["serial"]: p["result_serial"] for p in run["positions"] if p["use"] == "disc"}
        value, uncertainty = edx_thickness_nm(self._simulators, witness, self._random)
        self.engineer.post(
            "/measurements",
            item=next(p["result_serial"] for p in run["positions"] if p["use"] == "witness"),
            quantity_name="film_thickness_nm",
            value=round(value, 1),
            unit="nm",
            uncertainty=round(uncertainty, 1),
            instrument="Regulus-8230 (simulated)",
            method="EDX cross-section",
            measured_at=self._now().isoformat(),
        )
        return [coated[disc] for disc in discs], value

    def _make_cell(
        self, arm: Arm, discs: Sequence[str], thickness_nm: float | None, order: str, number: int
    ) -> MadeCell:
        label = f"{arm.label}, cell {number}"
        mass_mg = f"{self._random.gauss(150.0, 0.5):.1f}"
        weighed = {"powder_mass_mg": {"value": mass_mg, "reason": "weighed"}}
        die = {"serial": DIE, "use": "die"}
        powder = {"serial": self._lots["LGPS"], "use": "powder", "quantity": mass_mg, "unit": "mg"}
        with self._clock_at(PRESS_FACTOR):
            run = self._run("PR1", "PR-PELLET-240", [powder, die], f"pellet, {label}", weighed, order)
            pellet = self._result(run, "pellet")
            things = [{"serial": pellet, "use": "pellet"}, *({"serial": disc, "use": "disc"} for disc in discs), die]
            run = self._run("PR1", "PR-ATTACH-360", things, f"discs attached, {label}", weighed, order)
        self._tell(f"assembly, {label}")
        cell = self.operator.post(
            "/cells",
            route_id=arm.route,
            step="assemble",
            parts=[
                {"use": "half_stack", "serial": self._result(run, "half_stack")},
                {"use": "collector", "serial": self._lots["SS-COLLECTOR-10"], "quantity": "2"},
                {"use": "screw", "serial": self._lots["SCREW-M5"], "quantity": "3"},
            ],
            logs={"screw_torque_n_m": [f"{self._random.gauss(2.0, 0.03):.2f}" for _ in range(3)]},
        )["serial"]
        screening = self.operator.post(
            f"/cells/{cell}:screen",
            route_id=arm.route,
            step="screen",
            instrument="DMM-6500 (simulated)",
            logs={
                "ocv_v": [f"{self._random.gauss(0.0, 0.002):.4f}"],
                "resistance_ohm": [f"{self._random.gauss(300.0, 15.0):.0f}"],
            },
        )
        if not screening["passed"]:
            raise DemoFailed(f"{cell} failed its screening: {screening['findings'][0]['message']}")
        handoff = self.operator.post("/handoffs", cell=cell, tester=TESTER, protocol=PROTOCOL)
        return MadeCell(cell, arm, thickness_nm, handoff["uuid"])

    def _run(
        self,
        tool: str,
        recipe: str,
        things: Sequence[dict[str, Any]],
        label: str,
        adjustments: dict[str, Any] | None = None,
        order: str | None = None,
    ) -> dict[str, Any]:
        """Plan and start a run, and wait until it is complete."""
        self._tell(label)
        run: dict[str, Any] = self.operator.post(
            "/runs",
            tool=tool,
            recipe={"recipe_id": recipe},
            things=list(things),
            adjustments=adjustments or {},
            order=order,
        )
        self.operator.post(f"/runs/{run['serial']}:start")
        ended = {"completed", "stopped", "aborted", "failed", "unknown"}

        def has_ended() -> bool:
            nonlocal run
            run = self.operator.get(f"/runs/{run['serial']}")
            commands = self.operator.get(f"/runs/{run['serial']}/commands")
            refused = [command for command in commands if command["state"] in ("refused", "failed")]
            if refused:
                raise DemoFailed(f"{tool} did not start {run['serial']}: {refused[0]['findings']}")
            return run["state"] in ended

        self._processes.wait_until(f"{run['serial']} ends", has_ended, timeout_s=90.0)
        if run["state"] != "completed":
            raise DemoFailed(f"{run['serial']} on {tool} ended as {run['state']}: {run['why']}")
        return run

    @staticmethod
    def _result(run: dict[str, Any], kind: str) -> str:
        results = [position["result_serial"] for position in run["positions"] if position["result_serial"]]
        if not results:
            raise DemoFailed(f"{run['serial']} made no {kind}.")
        serial: str = results[0]
        return serial

    def _state(self, cell: MadeCell) -> str:
        state: str = self.operator.get(f"/handoffs/{cell.handoff}")["state"]
        return state

    def _now(self) -> datetime:
        return self._clock.now()

    @contextmanager
    def _clock_at(self, factor: float) -> Iterator[None]:
        """Let domain time run fast only while a tool works."""
        self._clock.run(factor)
        try:
            yield
        finally:
            self._clock.run(1.0)
