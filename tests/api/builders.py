"""A small line made through the API by the people of the lab: materials, lots, discs, recipes, runs.

What only the service itself may enter, its tools and what they tell, goes in beside the API.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any

import orjson
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlmodel import col, select

from api.service import Service
from equipment.jobs import JobResponse, JobState, JobStatus, JobSubstate, Parameter
from equipment.press import EQUIPMENT_CLASS as PRESS_CLASS
from equipment.runs import observe_job, run_starting
from equipment.sputter import EQUIPMENT_CLASS as SPUTTER_CLASS
from equipment.utilisation import note_link, register_tool
from traceability.acts import system_actor
from traceability.audit import AuditEvent

SPUTTER, PRESS = "sputter-1", "press-1"
V1 = "/api/v1"
LINE = system_actor("line-controller")

Json = dict[str, Any]

MATERIALS: tuple[tuple[str, str, str, Json], ...] = (
    ("LI-DISC-10", "metal_disc", "piece", {}),
    ("SI-WITNESS", "witness", "piece", {}),
    ("LIALO2-TARGET-76", "target", "piece", {"film_material": "LIALO2"}),
    ("LIALO2", "target", "mg", {}),
    ("LGPS", "electrolyte_powder", "mg", {}),
    ("SS-COLLECTOR-10", "collector", "piece", {}),
    ("SCREW-M5", "hardware", "piece", {}),
)


class Lab:
    """People signed in, two linked tools, and the materials they use.

    Args:
        service: On an empty database.
        sign_in: Gives a client that acts as a person.
        password: Of every person.
    """

    def __init__(self, service: Service, sign_in: Callable[[str], TestClient], password: str) -> None:
        self.service = service
        self._sign_in = sign_in
        self._password = password
        with service.database.write(LINE) as record:
            for name, equipment_class in ((SPUTTER, SPUTTER_CLASS), (PRESS, PRESS_CLASS)):
                register_tool(record, name, equipment_class)
                note_link(record, name, True, simulated=True, boot_id="boot-1")
        for code, kind, unit, properties in MATERIALS:
            material = {"code": code, "name": code, "kind": kind, "unit": unit, "properties": properties}
            made(self.emil, "/materials", material)
        self.emil.post(f"{V1}/library:import")

    @cached_property
    def olga(self) -> TestClient:
        """The operator."""
        return self._sign_in("olga")

    @cached_property
    def emil(self) -> TestClient:
        """The engineer."""
        return self._sign_in("emil")

    @cached_property
    def quentin(self) -> TestClient:
        """QA."""
        return self._sign_in("quentin")

    def lot(self, code: str, quantity: str = "20", unit: str = "piece", *, released: bool = True, **more: Any) -> str:
        """The serial of a received lot, released by QA unless it is to stay in quarantine."""
        receipt = {"material_code": code, "quantity": quantity, "unit": unit, **more}
        serial = str(made(self.olga, "/lots", receipt)["serial"])
        if released:
            answer = self.quentin.post(f"{V1}/lots/{serial}:release", json={"reason": "certificate checked"})
            assert answer.status_code == 200, answer.text
        return serial

    def pieces(self, lot: str, kind: str, product: str, count: int = 1) -> list[str]:
        """The serials of pieces taken out of a lot."""
        body = {"lot": lot, "count": count, "kind": kind, "product": product, "location": "glovebox"}
        return [unit["serial"] for unit in made(self.olga, "/units", body)["units"]]

    def make_effective(self, *document_ids: str) -> None:
        """Bring documents of the library into use: submitted by the engineer, approved by QA."""
        for document_id in document_ids:
            path = f"{V1}/recipes/{document_id}/1"
            signature = {"signature": {"name": "quentin", "password": self._password}}
            for client, verb, body in (
                (self.emil, "submit", None),
                (self.quentin, "approve", signature),
                (self.quentin, "make-effective", None),
            ):
                answer = client.post(f"{path}:{verb}", json=body)
                assert answer.status_code == 200, answer.text

    def film(self, discs: list[str], **more: Any) -> Json:
        """A run that puts 200 nm on discs, with a witness and a target of its own."""
        witness = self.pieces(self.lot("SI-WITNESS"), "witness", "SI-WITNESS")[0]
        target = self.pieces(self.lot("LIALO2-TARGET-76", "1"), "target", "LIALO2-TARGET-76")[0]
        return {
            "tool": SPUTTER,
            "recipe": {"recipe_id": "SP-LIALO2-200"},
            "things": [
                *({"serial": disc, "use": "disc", "position": place} for place, disc in enumerate(discs, 1)),
                {"serial": witness, "use": "witness", "position": 8},
                {"serial": target, "use": "target"},
            ],
            **more,
        }

    def pellet(self, powder: str, quantity: str = "150", unit: str = "mg", **more: Any) -> Json:
        """A run that presses a pellet."""
        return {
            "tool": PRESS,
            "recipe": {"recipe_id": "PR-PELLET-240"},
            "things": [
                {"serial": powder, "use": "powder", "quantity": quantity, "unit": unit},
                {"serial": "DIE-10-1", "use": "die"},
            ],
            **more,
        }

    def planned_pellet(self) -> str:
        """The serial of a planned run of the press, by a draft recipe."""
        body = self.pellet(self.lot("LGPS", "500", "mg"), experiment=True)
        return str(made(self.olga, "/runs", body)["serial"])

    def begin(self, run: str) -> None:
        """What the line controller stores when the tool has begun the run."""
        with self.service.database.write(LINE) as record:
            run_starting(record, run, 1)
        self.tell(run, JobState.RUNNING, JobSubstate.NONE)

    def tell(
        self,
        run: str,
        state: JobState,
        substate: JobSubstate,
        actuals: dict[str, tuple[float | bool, str]] | None = None,
    ) -> None:
        """What the line controller stores when the tool tells of the run's job."""
        now = self.service.clock.now()
        over = state in (JobState.ENDED, JobState.ABORTED)
        response = JobResponse(
            run,
            JobStatus(run, state, substate),
            now - timedelta(minutes=3),
            now if over else None,
            {name: Parameter(name, value, unit) for name, (value, unit) in (actuals or {}).items()},
        )
        with self.service.database.write(LINE) as record:
            observe_job(record, run, response)


def made(client: TestClient, path: str, body: Json) -> Json:
    """What a POST that makes something answers."""
    answer = client.post(f"{V1}{path}", json=body)
    assert answer.status_code == 201, answer.text
    content: Json = answer.json()
    return content


def problem(answer: Response, status: int) -> dict[str, Json]:
    """The findings of a problem by their code; fails unless it is a problem of that status that says what to do."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert len(body["detail"]) > 10
    return {finding["code"]: finding for finding in body["findings"]}


def refusals(service: Service) -> list[Json]:
    """What the audit trail says was refused, oldest first: `{attempted, code, message, findings}`."""
    with service.database.read() as record:
        events = record.exec(select(AuditEvent).where(AuditEvent.kind == "act.refused").order_by(col(AuditEvent.seq)))
        return [orjson.loads(event.body)["detail"] for event in events]
