"""A small line for the tests of runs: materials, released lots, tools, recipes and what a tool would answer."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from equipment.jobs import JobResponse, JobState, JobStatus, JobSubstate, Parameter
from equipment.press import EQUIPMENT_CLASS as PRESS_CLASS
from equipment.runs import Run, RunState, find_run, observe_job, plan_run, run_starting
from equipment.sputter import EQUIPMENT_CLASS as SPUTTER_CLASS
from equipment.utilisation import note_link, register_tool
from recipes.authoring import create_draft
from recipes.control import BoundMaterial, ControlRecipe, freeze
from recipes.kinds import founding_library
from recipes.master import MasterRecipe
from traceability.acts import Actor, Role, system_actor
from traceability.database import Database, RecordSession
from traceability.items import ItemKind
from traceability.materials import MaterialKind, define_material, receive_lot
from traceability.quantities import Quantity
from traceability.units import serialise_lot

LINE: Actor = system_actor("line-controller")
SPUTTER, PRESS = "sputter-1", "press-1"
RUNNING = (JobState.RUNNING, JobSubstate.NONE)
HELD = (JobState.INTERRUPTED, JobSubstate.HELD)
PAUSED = (JobState.INTERRUPTED, JobSubstate.SUSPENDED)
COMPLETED = (JobState.ENDED, JobSubstate.COMPLETED)
STOPPED = (JobState.ENDED, JobSubstate.CLOSED)
ABORTED = (JobState.ABORTED, JobSubstate.NONE)

LIBRARY = {document.document_id: document for document in founding_library()}

GOOD_FILM: dict[str, tuple[float | bool, str]] = {
    "thickness_qcm_nm": (201.5, "nm"),
    "thickness_remaining_nm": (0.0, "nm"),
    "deposit_time_s": (6000.0, "s"),
    "energy_kwh": (0.2125, "kW.h"),
    "base_pressure_pa": (1.5e-4, "Pa"),
    "rate_of_rise_pa_per_min": (0.04, "Pa/min"),
    "mean_pressure_pa": (0.501, "Pa"),
    "mean_power_w": (119.8, "W"),
    "mean_argon_flow_sccm": (30.1, "sccm"),
    "peak_substrate_temp_c": (48.0, "Cel"),
    "interruption_count": (0, "1"),
    "qcm_ok": (True, ""),
    "thickness_model_ok": (True, ""),
}
GOOD_STROKE: dict[str, tuple[float | bool, str]] = {
    "peak_force_kn": (18.9, "kN"),
    "mean_dwell_pressure_mpa": (240.3, "MPa"),
    "dwell_s": (120.0, "s"),
    "thickness_mm": (1.162, "mm"),
    "density_g_per_cm3": (1.6437, "g/cm3"),
    "relative_density": (0.8057, "1"),
    "fractured": (False, ""),
    "interruption_count": (0, "1"),
}


def master(recipe_id: str) -> MasterRecipe:
    document = LIBRARY[recipe_id]
    assert isinstance(document, MasterRecipe)
    return document


class Line:
    """Two tools, the founding recipes as drafts, and released lots of everything."""

    def __init__(self, database: Database) -> None:
        self.database = database
        author = Actor(name="emil", roles=frozenset({Role.ENGINEER}), terminal="test")
        with database.write(author) as record:
            for document in LIBRARY.values():
                if isinstance(document, MasterRecipe):
                    create_draft(record, document)
        with database.write(LINE) as record:
            for name, kind in ((SPUTTER, SPUTTER_CLASS), (PRESS, PRESS_CLASS)):
                register_tool(record, name, kind)
                note_link(record, name, True, simulated=True, boot_id="boot-1")
            for code, material_kind, unit, amount in (
                ("LI-DISC-10", MaterialKind.METAL_DISC, "piece", "20"),
                ("SI-WITNESS", MaterialKind.WITNESS, "piece", "10"),
                ("LIALO2-TARGET-76", MaterialKind.TARGET, "piece", "2"),
                ("LGPS", MaterialKind.ELECTROLYTE_POWDER, "mg", "500"),
                ("SS-COLLECTOR-10", MaterialKind.COLLECTOR, "piece", "20"),
                ("SCREW-M5", MaterialKind.HARDWARE, "piece", "30"),
            ):
                properties = {"film_material": "LIALO2"} if material_kind is MaterialKind.TARGET else {}
                define_material(record, code, code, material_kind, unit, properties)
                quantity = Quantity(Decimal(amount), unit)
                lot = receive_lot(record, material_code=code, quantity=quantity, released=True)
                setattr(self, code.split("-")[0].lower() + "_lot", lot.serial)
            define_material(record, "LIALO2", "LiAlO2 film", MaterialKind.TARGET, "mg")
            self.target = self.serialise(record, self.lialo2_lot, ItemKind.TARGET, "LIALO2-TARGET-76")[0]

    li_lot: str
    si_lot: str
    lialo2_lot: str
    lgps_lot: str
    ss_lot: str
    screw_lot: str

    @staticmethod
    def serialise(record: RecordSession, lot: str, kind: ItemKind, product: str, count: int = 1) -> list[str]:
        units = serialise_lot(record, lot, count, kind, product=product, location="glovebox")
        return [unit.serial for unit in units]

    def discs(self, count: int) -> list[str]:
        with self.database.write(LINE) as record:
            return self.serialise(record, self.li_lot, ItemKind.DISC, "LI-DISC-10", count)

    def witness(self) -> str:
        with self.database.write(LINE) as record:
            return self.serialise(record, self.si_lot, ItemKind.WITNESS, "SI-WITNESS")[0]

    def film(self, discs: list[str], witness: str | None = None, *, experiment: bool = True) -> ControlRecipe:
        things = [
            BoundMaterial(use="disc", material="LI-DISC-10", serial=serial, position=place)
            for place, serial in enumerate(discs, 1)
        ]
        witness = witness or self.witness()
        return freeze(
            master("SP-LIALO2-200"),
            materials=[
                *things,
                BoundMaterial(use="witness", material="SI-WITNESS", serial=witness, position=8),
                BoundMaterial(use="target", material="LIALO2-TARGET-76", serial=self.target),
            ],
            experiment=experiment,
        )

    def pellet(self, powder: str | None = None) -> ControlRecipe:
        powder = powder or self.lgps_lot
        return freeze(
            master("PR-PELLET-240"),
            materials=[
                BoundMaterial(use="powder", material="LGPS", serial=powder, quantity=Decimal(150), unit="mg"),
                BoundMaterial(use="die", material="DIE-10", serial="DIE-10-1"),
            ],
            experiment=True,
        )

    def stack(self, pellet: str, discs: list[str], product: str = "LI-LIALO2-DISC-10") -> ControlRecipe:
        return freeze(
            master("PR-ATTACH-360"),
            materials=[
                BoundMaterial(use="pellet", material="LGPS-PELLET-10", serial=pellet),
                *(BoundMaterial(use="disc", material=product, serial=serial) for serial in discs),
                BoundMaterial(use="die", material="DIE-10", serial="DIE-10-1"),
            ],
            experiment=True,
        )

    def plan(self, tool: str, control: ControlRecipe) -> str:
        with self.database.write(LINE) as record:
            return plan_run(record, tool=tool, control_recipe=control).serial

    def start(self, serial: str) -> None:
        with self.database.write(LINE) as record:
            run_starting(record, serial, 1)

    def observe(
        self,
        serial: str,
        state: tuple[JobState, JobSubstate],
        actuals: dict[str, tuple[float | bool, str]] | None = None,
        *,
        started_at: datetime | None = None,
        lasting: timedelta = timedelta(hours=3),
    ) -> RunState:
        now = self.database.clock.now()
        over = state[0] in (JobState.ENDED, JobState.ABORTED)
        response = JobResponse(
            serial,
            JobStatus(serial, *state),
            started_at or now - lasting,
            now if over else None,
            {name: Parameter(name, value, unit) for name, (value, unit) in (actuals or {}).items()},
        )
        with self.database.write(LINE) as record:
            return observe_job(record, serial, response)

    def finish(
        self,
        tool: str,
        control: ControlRecipe,
        actuals: dict[str, tuple[float | bool, str]],
        end: tuple[JobState, JobSubstate] = COMPLETED,
    ) -> str:
        """Plan, start and end a run; its serial."""
        serial = self.plan(tool, control)
        self.start(serial)
        self.observe(serial, RUNNING)
        self.observe(serial, end, actuals)
        return serial

    def run(self, serial: str) -> Run:
        with self.database.read() as record:
            return find_run(record, serial)

    def run_serial(self, run_id: int) -> str:
        with self.database.read() as record:
            return record.get_one(Run, run_id).serial
