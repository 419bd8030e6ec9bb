"""Acts over HTTP: things traced, moved and scrapped, decisions signed, documents reviewed, runs and tests ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from httpx2 import Response

from api.service import Service
from equipment.jobs import JobState, JobSubstate
from equipment.runs import mark_unknown
from tests.api.builders import LINE, V1, Json, Lab, made, problem, refusals
from tests.api.conftest import PASSWORD, SignIn
from tests.equipment.testers.cells import Cells

PELLET = f"{V1}/recipes/PR-PELLET-240"
STROKE: dict[str, tuple[float | bool, str]] = {
    "peak_force_kn": (18.9, "kN"),
    "mean_dwell_pressure_mpa": (240.0, "MPa"),
    "thickness_mm": (1.162, "mm"),
    "fractured": (False, ""),
}


@pytest.fixture
def powder(lab: Lab) -> str:
    return lab.lot("LGPS", "500", "mg")


@pytest.fixture
def discs(lab: Lab) -> list[str]:
    return lab.pieces(lab.lot("LI-DISC-10"), "disc", "LI-DISC-10", 2)


@pytest.fixture
def run(lab: Lab, powder: str) -> str:
    """A planned stroke of the press."""
    return str(made(lab.olga, "/runs", lab.pellet(powder, experiment=True))["serial"])


def done(answer: Response) -> Json:
    """What an act answers that succeeds."""
    assert answer.status_code in (200, 201, 202), answer.text
    content: Json = answer.json()
    return content


def signed(name: str, **more: Any) -> Json:
    return {"signature": {"name": name, "password": PASSWORD}, **more}


def test_descendants_and_recall_reach_what_a_lot_went_into(lab: Lab, powder: str, run: str) -> None:
    assert [node["serial"] for node in done(lab.olga.get(f"{V1}/items/{powder}/descendants"))["nodes"]] == [powder]
    lab.begin(run)
    lab.tell(run, JobState.ENDED, JobSubstate.COMPLETED, STROKE)
    (pellet,) = {p["result_serial"] for p in lab.olga.get(f"{V1}/runs/{run}").json()["positions"]} - {""}
    traced = done(lab.olga.get(f"{V1}/items/{powder}/descendants"))
    assert [(node["serial"], node["kind"]) for node in traced["nodes"] if node["serial"] != powder] == [
        (pellet, "pellet")
    ]
    assert [(edge["source"], edge["result"]) for edge in traced["edges"]] == [(powder, pellet)]
    recalled = done(lab.olga.get(f"{V1}/items/{powder}/recall"))
    assert recalled["start"] == powder
    assert pellet in {node["serial"] for node in recalled["nodes"]}
    assert recalled["cells"] == []
    problem(lab.olga.get(f"{V1}/items/LOT-999999-9/recall"), 422)


def test_a_moved_thing_is_where_it_was_moved_and_exposed_to_what_is_there(
    lab: Lab, discs: list[str], service: Service
) -> None:
    path = f"{V1}/items/{discs[0]}"
    moved = done(lab.olga.post(f"{path}/moves", json={"atmosphere": "air", "location": "bench 2"}))
    assert (moved["atmosphere"], moved["location"], moved["person"]) == ("air", "bench 2", "olga")
    assert lab.olga.get(f"{V1}/units/{discs[0]}").json()["location"] == "bench 2"
    exposed = done(lab.olga.get(f"{path}/exposure"))
    assert exposed["seconds_in"]["air"] > 0
    assert exposed["since"] < exposed["until"]
    other = done(lab.olga.get(f"{V1}/items/{discs[1]}/exposure"))
    assert other["seconds_in"].get("air", 0) == 0
    problem(lab.olga.post(f"{path}/moves", json={"atmosphere": "air", "location": " "}), 422)
    assert refusals(service)[-1]["attempted"] == "unit.moved"


def test_a_scrapped_unit_goes_into_no_run(lab: Lab, discs: list[str]) -> None:
    path = f"{V1}/units/{discs[0]}"
    stale = lab.olga.post(f"{path}:scrap", json={"reason": "torn"}, headers={"If-Match": '"9"'})
    problem(stale, 412)
    etag = lab.olga.get(path).headers["etag"]
    assert done(lab.olga.post(f"{path}:scrap", json={"reason": "torn"}, headers={"If-Match": etag}))["status"] == (
        "scrapped"
    )
    findings = problem(lab.olga.post(f"{V1}/runs", json=lab.film(discs, experiment=True)), 409)
    assert discs[0] in {finding["path"] for finding in findings.values()}


def test_a_nonconformance_is_decided_by_qas_own_signature(lab: Lab, discs: list[str]) -> None:
    opened = made(lab.olga, "/nonconformances", {"item": discs[0], "title": "scratched"})
    path = f"{V1}/nonconformances/{opened['serial']}:decide"
    decision = {"disposition": "use_as_is", "reason": "the scratch is outside the film"}
    assert "role_missing" in problem(lab.olga.post(path, json=signed("olga", **decision)), 403)
    problem(lab.quentin.post(path, json=signed("olga", **decision)), 403)
    assert len(lab.olga.get(f"{V1}/items/{discs[0]}/holds").json()) == 1
    decided = done(lab.quentin.post(path, json=signed("quentin", **decision)))
    assert (decided["disposition"], decided["decided_by"]) == ("use_as_is", "quentin")
    assert lab.olga.get(f"{V1}/items/{discs[0]}/holds").json() == []
    problem(lab.quentin.post(path, json=signed("quentin", **decision)), 409)


def test_a_returned_recipe_is_a_draft_again(lab: Lab) -> None:
    assert done(lab.emil.post(f"{PELLET}/1:submit"))["status"] == "in_review"
    returned = done(lab.quentin.post(f"{PELLET}/1:return", json={"reason": "the dwell is missing"}))
    assert (returned["status"], returned["number"]) == ("draft", 1)
    problem(lab.quentin.post(f"{PELLET}/1:return", json={"reason": "once more"}), 409)


def test_two_versions_are_compared_in_words(lab: Lab) -> None:
    text = lab.emil.get(f"{PELLET}/1/content", headers={"Accept": "application/yaml"})
    assert text.headers["content-type"].startswith("application/yaml")
    assert lab.emil.get(f"{PELLET}/1/content").json()["title"] in text.text
    content = lab.emil.get(f"{PELLET}/1/content").json()
    title = content["title"]
    content.update(title="Pellet, pressed harder", version=2)
    second = lab.emil.post(f"{V1}/recipes", content=orjson.dumps(content), params={"reason": "renamed"})
    assert done(second)["number"] == 2
    compared = done(lab.olga.get(f"{PELLET}/1/diff/2"))
    assert (compared["old"], compared["new"]) == ("PR-PELLET-240/1", "PR-PELLET-240/2")
    (sentence,) = compared["differences"]
    assert title in sentence
    assert "Pellet, pressed harder" in sentence
    assert done(lab.olga.get(f"{PELLET}/1/diff/1"))["differences"] == []


def test_a_document_read_as_yaml_is_valid_as_it_stands(lab: Lab) -> None:
    text = lab.emil.get(f"{PELLET}/1/content", headers={"Accept": "application/yaml"}).content
    assert done(lab.emil.post(f"{V1}/recipes:validate", content=text))["valid"] is True
    assert done(lab.emil.post(f"{V1}/recipes:validate", content=b"format: shopping"))["valid"] is False


@pytest.mark.parametrize("kind", ["argonaut-master-recipe", "argonaut-route", "argonaut-test-protocol"])
def test_each_kind_of_document_has_a_schema(lab: Lab, kind: str) -> None:
    schema = done(lab.olga.get(f"{V1}/recipes/schemas/{kind}"))
    assert schema["properties"]["format"]["const"] == kind
    assert schema["properties"]["title"]
    problem(lab.olga.get(f"{V1}/recipes/schemas/shopping-list"), 422)


def test_a_paused_run_is_asked_to_go_on_and_no_other(lab: Lab, run: str) -> None:
    why = {"reason": "powder settled"}
    problem(lab.olga.post(f"{V1}/runs/{run}:resume", json=why), 409)
    assert lab.olga.get(f"{V1}/runs/{run}/commands").json() == []
    lab.begin(run)
    lab.tell(run, JobState.INTERRUPTED, JobSubstate.SUSPENDED)
    asked = done(lab.olga.post(f"{V1}/runs/{run}:resume", json=why))
    assert (asked["verb"], asked["reason"], asked["requested_by"]) == ("resume", "powder settled", "olga")
    assert [command["serial"] for command in lab.olga.get(f"{V1}/runs/{run}/commands").json()] == [asked["serial"]]


def test_only_a_run_that_nobody_knows_about_is_given_up(lab: Lab, run: str, powder: str, service: Service) -> None:
    why = {"reason": "the controller was replaced"}
    lab.begin(run)
    problem(lab.emil.post(f"{V1}/runs/{run}:give-up", json=why), 409)
    assert refusals(service)[-1]["attempted"] == "run.given_up"
    with service.database.write(LINE) as record:
        mark_unknown(record, run, "the tool does not know the job")
    given_up = done(lab.emil.post(f"{V1}/runs/{run}:give-up", json=why))
    assert (given_up["state"], given_up["why"]) == ("failed", "the controller was replaced")


def test_a_handoff_that_the_tester_speaks_for_is_not_resolved_by_a_person(
    service: Service, sign_in: SignIn, tmp_path: Path
) -> None:
    olga, emil = sign_in("olga"), sign_in("emil")
    offer = {"cell": Cells(service.database, tmp_path).cell(), "tester": "LAND1", "experiment": True}
    uuid = made(olga, "/handoffs", {**offer, "protocol": "PT-SYM-01-01/1"})["uuid"]
    path, found = f"{V1}/handoffs/{uuid}:resolve", {"event": "abort", "reason": "the channel is empty"}
    assert "role_missing" in problem(olga.post(path, json=found), 403)
    findings = problem(emil.post(path, json=found), 409)
    assert findings["state_known"]["action"] == "Only an unknown state is resolved by a person."
    assert olga.get(f"{V1}/handoffs/{uuid}").json()["state"] == "offered"
    assert refusals(service)[-1]["attempted"] == "handoff.resolved"
