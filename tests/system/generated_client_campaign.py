"""One lithium disc becomes one tested cell, by a client generated from the published OpenAPI document alone.

Runs in a process of its own that can import the standard library, the generated package `line_client` and what that
package asks for, and nothing of Argonaut. It speaks to whoever started it in lines of JSON: `{"now": …}` before each
stretch of work, so that the line's clock can be led, and at the end `{"result": …}` with what it found.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from line_client import AuthenticatedClient, Client
from line_client.api.audit import history_of_item, verify_trail
from line_client.api.cells import close_cell, screen
from line_client.api.commands import list_commands
from line_client.api.health import ready
from line_client.api.items import ancestors, serialise_lot
from line_client.api.materials import define_material, list_lots, receive_lot, release_lot
from line_client.api.measurements import record_measurement
from line_client.api.orders import place_order
from line_client.api.recipes import (
    approve_version,
    import_library,
    list_recipes,
    make_version_effective,
    submit_version,
)
from line_client.api.runs import plan_run, show_run, start_run
from line_client.api.sessions import change_own_password, sign_in, sign_out
from line_client.api.testers import list_handoff_results, offer_cell, show_handoff
from line_client.api.tools import register_target, show_target
from line_client.api.traces import list_gaps, show_trace
from line_client.api.users import add_user
from line_client.models import (
    AdjustmentBody,
    Approval,
    Credentials,
    DocumentKind,
    HandoffState,
    IntentState,
    ItemKind,
    LotReceipt,
    MaterialKind,
    NewCell,
    NewCellLogs,
    NewHandoff,
    NewMaterial,
    NewMeasurement,
    NewOrder,
    NewPassword,
    NewRun,
    NewRunAdjustments,
    NewScreening,
    NewScreeningLogs,
    NewTarget,
    NewUser,
    PartBody,
    Problem,
    Reason,
    RecipeReference,
    Role,
    RunDetail,
    RunState,
    Serialisation,
    SignatureComponents,
    StartBody,
    Status,
    ThingBody,
    Use,
)
from line_client.types import UNSET

OURS = ("api", "equipment", "recipes", "traceability")
TEMPORARY, PASSWORD = "given by the administrator", "chosen by the person"
PATIENCE_S = 120.0

MATERIALS = (
    ("LI-DISC-10", "Lithium disc 10 mm", MaterialKind.METAL_DISC, "piece", "4"),
    ("SI-WITNESS", "Silicon witness coupon", MaterialKind.WITNESS, "piece", "1"),
    ("LIALO2-TARGET-76", "LiAlO₂ target 76.2 mm", MaterialKind.TARGET, "piece", "1"),
    ("LGPS", "Li₁₀GeP₂S₁₂ powder", MaterialKind.ELECTROLYTE_POWDER, "mg", "500"),
    ("SS-COLLECTOR-10", "Stainless-steel collector 10 mm", MaterialKind.COLLECTOR, "piece", "4"),
    ("SCREW-M5", "Cell screw M5", MaterialKind.HARDWARE, "piece", "6"),
)
POWDER_MG = "150.4"
DIE = ThingBody(serial="DIE-10-1", use=Use.DIE)


class Refused(Exception):
    """The service answered with a problem document."""


def tell(**words: Any) -> None:
    """Say something to whoever started this."""
    print(json.dumps(words), flush=True)


def answer_of(ask: Callable[[], Any]) -> Any:
    """What the service answers, asked again for a while if it goes away meanwhile.

    Raises:
        Refused: It answers with a problem.
    """
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = ask()
        except httpx.TransportError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)
            continue
        if isinstance(answer.parsed, Problem):
            problem = answer.parsed
            raise Refused(problem.detail, *(f"{f.path}: {f.message} {f.action}" for f in problem.findings or ()))
        return answer.parsed


class Person:
    """Somebody signed in."""

    def __init__(self, url: str, name: str, password: str = PASSWORD) -> None:
        self.name = name
        credentials = Credentials(name=name, password=password)
        session = answer_of(lambda: sign_in.sync_detailed(client=Client(base_url=url), body=credentials))
        self._client = AuthenticatedClient(
            base_url=url, token=session.token, raise_on_unexpected_status=True, timeout=httpx.Timeout(20.0)
        )

    @property
    def signature(self) -> SignatureComponents:
        return SignatureComponents(name=self.name, password=PASSWORD)

    def read(self, route: Any, *where: Any, **query: Any) -> Any:
        return answer_of(lambda: route.sync_detailed(*where, client=self._client, **query))

    def act(self, route: Any, *where: Any, **what: Any) -> Any:
        """Do something once, however often it must be sent."""
        key = str(uuid.uuid4())
        return answer_of(lambda: route.sync_detailed(*where, client=self._client, idempotency_key=key, **what))


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain until {what}")
        time.sleep(0.1)


class Lab:
    """The people of the lab and what they do, in the order in which they do it."""

    def __init__(self, url: str, admin_password: str) -> None:
        self._url = url
        self.admin = Person(url, "ada", admin_password)
        self.operator = self._hired("olga", Role.OPERATOR)
        self.engineer = self._hired("emil", Role.ENGINEER)
        self.second_engineer = self._hired("erika", Role.ENGINEER)
        self.qa = self._hired("quentin", Role.QA)

    def _hired(self, name: str, role: Role) -> Person:
        trained = ["rf_magnetron_sputter", "glovebox_press"] if role is Role.OPERATOR else UNSET
        self.admin.act(
            add_user,
            body=NewUser(
                name=name, full_name=f"{name.title()} Example", password=TEMPORARY, roles=[role], trained_for=trained
            ),
        )
        newcomer = Person(self._url, name, TEMPORARY)
        newcomer.read(change_own_password, body=NewPassword(current=TEMPORARY, new=PASSWORD))
        return Person(self._url, name)

    def wait_for_tools(self) -> None:
        anybody = Client(base_url=self._url)

        def all_ready() -> bool:
            readiness = answer_of(lambda: ready.sync_detailed(client=anybody))
            return bool(readiness.ready and all(check.ok for check in readiness.checks))

        wait_until("the tools are ready", all_ready)

    def prepare(self) -> None:
        for code, name, kind, unit, _ in MATERIALS:
            self.engineer.act(define_material, body=NewMaterial(code=code, name=name, kind=kind, unit=unit))
        self.engineer.act(import_library)
        # A route names recipes and protocols that are in force already.
        drafts = self.engineer.read(list_recipes, status=Status.DRAFT)
        for draft in sorted(drafts, key=lambda draft: draft.kind is DocumentKind.ARGONAUT_ROUTE):
            version = (draft.document_id, draft.number)
            self.engineer.act(submit_version, *version)
            self.second_engineer.act(approve_version, *version, body=Approval(self.second_engineer.signature))
            self.engineer.act(make_version_effective, *version)
        for code, _, _, unit, quantity in MATERIALS:
            delivery = LotReceipt(material_code=code, quantity=quantity, unit=unit, certificate=f"C-{code}")
            lot = self.operator.act(receive_lot, body=delivery)
            self.qa.act(release_lot, lot.serial, body=Reason("certificate checked against the order"))
        self._lots = {lot.material_code: lot.serial for lot in self.operator.read(list_lots).items}
        (self.target,) = self.pieces("LIALO2-TARGET-76", 1, ItemKind.TARGET)
        self.operator.act(register_target, body=NewTarget(serial=self.target))

    def pieces(self, code: str, count: int, kind: ItemKind) -> list[str]:
        body = Serialisation(lot=self._lots[code], count=count, kind=kind, product=code)
        return [unit.serial for unit in self.operator.act(serialise_lot, body=body).units]

    def run(self, tool: str, recipe: str, things: Sequence[ThingBody], **more: Any) -> RunDetail:
        """A run from the plan to its end."""
        plan = NewRun(recipe=RecipeReference(recipe), things=list(things), tool=tool, **more)
        run = self.operator.act(plan_run, body=plan)
        self.operator.act(start_run, run.serial, body=StartBody())
        over = {RunState.COMPLETED, RunState.STOPPED, RunState.ABORTED, RunState.FAILED, RunState.UNKNOWN}

        def has_ended() -> bool:
            nonlocal run
            run = self.operator.read(show_run, run.serial)
            for command in self.operator.read(list_commands, run.serial):
                if command.state in (IntentState.REFUSED, IntentState.FAILED):
                    raise Refused(f"{tool} did not start {run.serial}", *(f.to_dict() for f in command.findings))
            return run.state in over

        wait_until(f"{run.serial} ends", has_ended)
        if run.state is not RunState.COMPLETED:
            raise Refused(f"{run.serial} on {tool} ended as {run.state}: {run.why}")
        return run

    def sputter(self) -> tuple[RunDetail, list[str]]:
        """Two discs and a witness get their film; answers with the coated discs."""
        self.operator.act(place_order, body=NewOrder(route_id="RT-COATED-DISC", quantity=2))
        discs = self.pieces("LI-DISC-10", 2, ItemKind.DISC)
        (witness,) = self.pieces("SI-WITNESS", 1, ItemKind.WITNESS)
        run = self.run(
            "RH450",
            "SP-LIALO2-100",
            [
                *(ThingBody(serial=disc, use=Use.DISC, position=n) for n, disc in enumerate(discs, 1)),
                ThingBody(serial=witness, use=Use.WITNESS, position=8),
                ThingBody(serial=self.target, use=Use.TARGET),
            ],
        )
        became = {position.serial: position.result_serial for position in run.positions}
        self.engineer.act(
            record_measurement,
            body=NewMeasurement(
                item=became[witness] or witness,
                quantity_name="film_thickness_nm",
                value=101.2,
                unit="nm",
                uncertainty=0.6,
                instrument="SEM",
                method="EDX cross-section",
                measured_at=run.ended_at,
            ),
        )
        return run, [became[disc] for disc in discs]

    def press(self, discs: Sequence[str]) -> str:
        """A pellet, and the discs on it; answers with the half-stack."""
        order = self.operator.act(place_order, body=NewOrder(route_id="RT-SYMMETRIC-COATED", quantity=1)).serial
        weighed = NewRunAdjustments()
        weighed["powder_mass_mg"] = AdjustmentBody(value=POWDER_MG, reason="weighed")
        powder = ThingBody(serial=self._lots["LGPS"], use=Use.POWDER, quantity=POWDER_MG, unit="mg")
        run = self.run("PR1", "PR-PELLET-240", [powder, DIE], adjustments=weighed, order=order)
        pellet = _made(run)
        stack = [ThingBody(serial=pellet, use=Use.PELLET), *(ThingBody(serial=d, use=Use.DISC) for d in discs), DIE]
        return _made(self.run("PR1", "PR-ATTACH-360", stack, adjustments=weighed, order=order))

    def close(self, half_stack: str) -> str:
        """A closed and screened cell."""
        torques, shown = NewCellLogs(), NewScreeningLogs()
        torques["screw_torque_n_m"] = ["2.01", "1.98", "2.02"]
        parts = [
            PartBody(use="half_stack", serial=half_stack),
            PartBody(use="collector", serial=self._lots["SS-COLLECTOR-10"], quantity="2"),
            PartBody(use="screw", serial=self._lots["SCREW-M5"], quantity="3"),
        ]
        new = NewCell(route_id="RT-SYMMETRIC-COATED", step="assemble", parts=parts, logs=torques)
        cell: str = self.operator.act(close_cell, body=new).serial
        shown["ocv_v"], shown["resistance_ohm"] = ["0.0012"], ["304"]
        screening = self.operator.act(
            screen,
            cell,
            body=NewScreening(route_id="RT-SYMMETRIC-COATED", step="screen", instrument="DMM", logs=shown),
        )
        if not screening.passed:
            raise Refused(f"{cell} failed its screening", *(finding.message for finding in screening.findings))
        return cell

    def hand_over(self, cell: str) -> str:
        handoff = self.operator.act(offer_cell, body=NewHandoff(cell=cell, tester="LAND1", protocol="PT-SYM-01-01"))
        return str(handoff.uuid)

    def state(self, handoff: str) -> HandoffState:
        state: HandoffState = self.operator.read(show_handoff, handoff).state
        return state

    def leave(self) -> None:
        for person in (self.operator, self.engineer, self.second_engineer, self.qa, self.admin):
            person.read(sign_out)


def _made(run: RunDetail) -> str:
    return next(position.result_serial for position in run.positions if position.result_serial)


def main(url: str, admin_password: str) -> None:
    if found := [name for name in OURS if importlib.util.find_spec(name) is not None]:
        raise ImportError(f"this process could import {found}")
    lab = Lab(url, admin_password)
    lab.wait_for_tools()
    lab.prepare()
    tell(now="sputtering")
    run, discs = lab.sputter()
    tell(now="pressing", run=run.serial)
    half_stack = lab.press(discs)
    tell(now="closing")
    cell = lab.close(half_stack)
    handoff = lab.hand_over(cell)
    tell(now="handing over", handoff=handoff)
    wait_until("the tester runs the cell", lambda: lab.state(handoff) is HandoffState.RUNNING)
    tell(now="testing")
    wait_until("the result is in", lambda: lab.state(handoff) is HandoffState.INGESTED)
    tell(now="reading")
    results = lab.qa.read(list_handoff_results, handoff)
    trace = lab.qa.read(show_trace, run.serial)
    verification = lab.qa.read(verify_trail)
    tell(
        result={
            "run": run.to_dict(),
            "gaps": [gap.to_dict() for gap in lab.qa.read(list_gaps, run.serial)],
            "signals": {signal.name: signal.stored for signal in trace.signals},
            "target": lab.operator.read(show_target, lab.target).to_dict(),
            "discs": discs,
            "cell": cell,
            "ancestors": [node.serial for node in lab.qa.read(ancestors, cell).nodes],
            "handoff": lab.qa.read(show_handoff, handoff).to_dict(),
            "results": [result.to_dict() for result in results],
            "history": lab.qa.read(history_of_item, cell).to_dict(),
            "verification": verification.to_dict(),
            "ours": [name for name in sys.modules if name.split(".")[0] in OURS],
        }
    )
    lab.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
