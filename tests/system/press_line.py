"""A press, its line and something to be pressed: what tests of driving a tool have in common.

The tool is a real OPC UA server in the test's own event loop; controllers run beside it or as processes of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import text

import equipment.acts
import recipes.acts
import traceability.acts
from equipment.commands import CommandVerb, request_command
from equipment.jobs import JobVerb
from equipment.line_config import LineConfig
from equipment.line_controller import LineController, make_driver
from equipment.press import EQUIPMENT_CLASS
from equipment.run_records import Run, find_run
from equipment.runs import plan_run
from equipment.simulators.job_receiver import Answer, JobReceiver
from equipment.simulators.press_plant import PressPlant
from equipment.simulators.tool_server import ToolServer
from equipment.tool_link import LinkState
from equipment.trace_codec import decode
from equipment.traces import columns_of, moment
from equipment.utilisation import register_tool
from recipes.authoring import create_draft
from recipes.control import BoundMaterial, freeze
from recipes.kinds import founding_library
from recipes.master import MasterRecipe
from traceability.activities import ActivityKind, begin_activity
from traceability.acts import system_actor
from traceability.clock import Clock, PiecewiseClock
from traceability.database import Database
from traceability.items import ItemKind
from traceability.materials import MaterialKind, define_material, receive_lot
from traceability.quantities import Quantity
from traceability.units import create_unit, serialise_lot

ACTS = (*traceability.acts.ACTS, *recipes.acts.ACTS, *equipment.acts.ACTS)
PERSON = system_actor("test")
TOOL = "PR1"
SITE = "lab"
TTL_S = 1.0


def open_database(url: str, clock: Clock) -> Database:
    return Database(url, clock, ACTS)


def line(port: int) -> LineConfig:
    return LineConfig.model_validate(
        {
            "site": SITE,
            "tools": [
                {
                    "name": TOOL,
                    "class": EQUIPMENT_CLASS,
                    "endpoint": f"opc.tcp://127.0.0.1:{port}/",
                    "namespace_uri": f"urn:{SITE}:{TOOL}",
                }
            ],
        }
    )


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Press:
    """The simulated press, and a log of everything that it was asked and answered.

    Attributes:
        asked: `(verb, job id, epoch, answer)` of each call in order.
    """

    def __init__(self, clock: Clock, state_path: Path | None = None, port: int | None = None) -> None:
        self.clock = clock
        self.port = port or unused_port()
        self.state_path = state_path
        self.asked: list[tuple[str, str, int, Answer]] = []
        self.server = self._make()

    def _make(self) -> ToolServer:
        server = ToolServer(
            PressPlant(),
            name=TOOL,
            site=SITE,
            endpoint=f"opc.tcp://127.0.0.1:{self.port}/",
            now=self.clock.now,
            state_path=self.state_path,
        )
        self._log(server.receiver)
        return server

    def _log(self, receiver: JobReceiver) -> None:
        store, verb = receiver.store, receiver.verb

        def logged_store(order: Any) -> Answer:
            answer = store(order)
            self.asked.append(("Store", order.job_id, order.epoch, answer))
            return answer

        def logged_verb(name: JobVerb, job_id: str, epoch: int) -> Answer:
            answer = verb(name, job_id, epoch)
            self.asked.append((str(name), job_id, epoch, answer))
            return answer

        receiver.store = logged_store  # type: ignore[method-assign]
        receiver.verb = logged_verb  # type: ignore[method-assign]

    async def restart(self) -> None:
        """Stop the tool and start it again; a state file is what it remembers."""
        await self.server.stop()
        self.server = self._make()
        await self.server.start()

    @property
    def starts(self) -> int:
        """Jobs that were really begun, as the tool counts them."""
        return self.server.receiver.jobs_started


@asynccontextmanager
async def running_press(clock: Clock, state_path: Path | None = None) -> AsyncIterator[Press]:
    press = Press(clock, state_path)
    await press.server.start()
    try:
        yield press
    finally:
        await press.server.stop()


@asynccontextmanager
async def controlled(
    database: Database, port: int, holder: str = "test", **settings: Any
) -> AsyncIterator[LineController]:
    """A line controller in this event loop."""
    controller = LineController(line(port), database, holder=holder, **{"lease_ttl_s": TTL_S, **settings})
    running = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        controller.stop()
        await running


class Record:
    """A record with a recipe, a tool and lithium for many stacks."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self.database = open_database(url, clock)
        self.database.create_schema()
        self.recipe = next(
            document
            for document in founding_library()
            if isinstance(document, MasterRecipe) and document.document_id == "PR-ATTACH-360"
        )
        with self.database.write(PERSON) as record:
            define_material(record, "LI-DISC-10", "Lithium disc 10 mm", MaterialKind.METAL_DISC, "piece")
            discs = Quantity(Decimal(1000), "piece")
            self.lithium = receive_lot(record, material_code="LI-DISC-10", quantity=discs, released=True).serial
            register_tool(record, TOOL, EQUIPMENT_CLASS)
            create_draft(record, self.recipe)

    def plan(self) -> str:
        """Plan to press two discs on a pellet; answers with the run's serial."""
        with self.database.write(PERSON) as record:
            preparation = begin_activity(record, ActivityKind.PREPARATION)
            pellet = create_unit(record, ItemKind.PELLET, activity=preparation, sources=[])
            discs = serialise_lot(record, self.lithium, 2, ItemKind.DISC)
            materials = [
                BoundMaterial(use="pellet", material="LGPS-PELLET-10", serial=pellet.serial),
                *(BoundMaterial(use="disc", material="LI-DISC-10", serial=disc.serial) for disc in discs),
                BoundMaterial(use="die", material="DIE-10", serial="DIE-10-1"),
            ]
            control = freeze(self.recipe, materials=materials, experiment=True)
            return plan_run(record, tool=TOOL, control_recipe=control).serial

    def ask(self, verb: CommandVerb, run_serial: str | None = None, **detail: Any) -> str:
        """Ask for something; answers with the command's serial."""
        with self.database.write(PERSON) as record:
            return request_command(record, tool=TOOL, verb=verb, run_serial=run_serial, detail=detail).serial

    def run(self, serial: str) -> Run:
        with self.database.read() as record:
            return find_run(record, serial)

    def trace(self, serial: str) -> dict[str, set[datetime]]:
        """The times at which a run's trace has a sample, by tag."""
        run_id = self.run(serial).key
        found: dict[str, set[datetime]] = defaultdict(set)
        with self.database.connect() as connection:
            columns = columns_of(connection, run_id)
            query = text("SELECT header, payload FROM trace_chunks WHERE run_id = :id")
            for row in connection.execute(query, {"id": run_id}):
                for number, series in decode(columns, row.header, row.payload).items():
                    found[columns[number].name].update(moment(int(at)) for at in series.times_us)
        return found

    def holes(self, serial: str) -> tuple[float, list[Any]]:
        """The longest time without any sample in a run's trace, domain seconds, and the gaps that it notes."""
        run = self.run(serial)
        assert run.started_at is not None
        assert run.ended_at is not None
        times = {at for found in self.trace(serial).values() for at in found}
        within = sorted(at for at in {*times, run.started_at, run.ended_at} if run.started_at <= at <= run.ended_at)
        with self.database.connect() as connection:
            gaps = list(connection.execute(text("SELECT * FROM trace_gaps WHERE run_id = :id"), {"id": run.key}))
        return max((b - a).total_seconds() for a, b in itertools.pairwise(within)), gaps

    async def missing(self, serial: str, port: int) -> int:
        """How many changes of traced tags during a run the tool remembers and the trace does not have."""
        run = self.run(serial)
        assert run.started_at is not None
        driver = make_driver(line(port).tools[0])
        await driver.connect()
        try:
            stored = self.trace(serial)
            remembered = {
                tag.name: {s.source_time for s in await driver.history(tag.name, run.started_at, run.ended_at)}
                for tag in driver.tags.traced
            }
        finally:
            await driver.disconnect()
        assert sum(len(times) for times in remembered.values()) > 100
        return sum(len(times - stored[name]) for name, times in remembered.items())


async def until(condition: Callable[[], bool], within_s: float = 60.0, what: str = "") -> float:
    """Wait for a condition; answers with the seconds that it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s} s: {what or condition}")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def online(controller: LineController, within_s: float = 10.0) -> float:
    return await until(
        lambda: controller.links[TOOL].state is LinkState.ONLINE, within_s, f"online: {controller.links[TOOL]}"
    )


def fast_clock(folder: Path, start: Any, factor: float) -> PiecewiseClock:
    return PiecewiseClock.create(folder / "clock.json", start, factor)
