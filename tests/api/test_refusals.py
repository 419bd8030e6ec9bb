"""Bad input gets a clear problem that says what to do; nothing is half done; the refusal is on the record."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.service import Service
from tests.api.builders import PRESS, SPUTTER, V1, Lab, made, problem, refusals
from tests.api.conftest import SignIn


@pytest.fixture
def powder(lab: Lab) -> str:
    return lab.lot("LGPS", "500", "mg")


@pytest.fixture
def discs(lab: Lab) -> list[str]:
    return lab.pieces(lab.lot("LI-DISC-10"), "disc", "LI-DISC-10", 2)


def runs(lab: Lab) -> list[str]:
    return [run["serial"] for run in lab.olga.get(f"{V1}/runs").json()["items"]]


def refused(lab: Lab, attempted: str, code: str) -> bool:
    """The last refusal on the trail is this one."""
    last = refusals(lab.service)[-1]
    return last["attempted"] == attempted and code in {finding[0] for finding in last["findings"]}


def test_a_wrong_unit_is_named_with_the_right_one(lab: Lab, powder: str) -> None:
    body = lab.pellet(powder, "0.15", "g", experiment=True)
    findings = problem(lab.olga.post(f"{V1}/runs", json=body), 409)
    assert "not in mg" in findings["wrong_unit"]["message"]
    assert findings["wrong_unit"]["action"] == "Convert it."
    assert runs(lab) == []
    assert refused(lab, "run.planned", "wrong_unit")


def test_an_amount_in_a_unit_that_nobody_knows_is_refused(lab: Lab) -> None:
    receipt = {"material_code": "LGPS", "quantity": "5", "unit": "oz"}
    answer = lab.olga.post(f"{V1}/lots", json=receipt)
    problem(answer, 422)
    assert "use one of ug, mg" in answer.json()["detail"]
    assert lab.olga.get(f"{V1}/lots").json()["items"] == []
    assert [(last["attempted"], last["code"]) for last in refusals(lab.service)] == [
        (f"POST {V1}/lots", "invalid_input")
    ]


def test_a_setpoint_outside_its_tolerance_says_what_is_allowed(lab: Lab, powder: str) -> None:
    adjustments = {"pressure_mpa": {"value": "300", "reason": "harder is better"}}
    body = lab.pellet(powder, experiment=True, adjustments=adjustments)
    findings = problem(lab.olga.post(f"{V1}/runs", json=body), 409)
    assert "± 2.4" in findings["outside_tolerance"]["message"]
    assert findings["outside_tolerance"]["path"] == "pressure_mpa"
    assert runs(lab) == []
    assert refused(lab, "run.planned", "outside_tolerance")


def test_a_held_lot_and_all_else_that_forbids_the_run_come_back_at_once(lab: Lab, powder: str) -> None:
    made(lab.quentin, "/holds", {"item": powder, "reason": "supplier recall"})
    body = lab.pellet(powder, "0.15", "g")
    state = {"state": "SDT", "reason": "die polished"}
    assert lab.emil.post(f"{V1}/tools/{PRESS}:set-state", json=state).status_code == 200
    findings = problem(lab.olga.post(f"{V1}/runs", json=body), 409)
    assert {"held", "wrong_unit", "tool_down", "recipe_not_effective"} <= findings.keys()
    assert all(finding["action"] for finding in findings.values())
    assert runs(lab) == []
    assert refused(lab, "run.planned", "held")


def test_an_expired_lot_cannot_be_pressed(lab: Lab, service: Service) -> None:
    soon = service.clock.now() - timedelta(days=1)
    powder = lab.lot("LGPS", "500", "mg", expires_at=soon.isoformat())
    findings = problem(lab.olga.post(f"{V1}/runs", json=lab.pellet(powder, experiment=True)), 409)
    assert "lot_expired" in findings
    assert runs(lab) == []
    assert refused(lab, "run.planned", "lot_expired")


def test_a_lot_in_quarantine_cannot_be_pressed(lab: Lab) -> None:
    powder = lab.lot("LGPS", "500", "mg", released=False)
    findings = problem(lab.olga.post(f"{V1}/runs", json=lab.pellet(powder, experiment=True)), 409)
    assert any("quarantine" in finding["message"] for finding in findings.values())
    assert runs(lab) == []
    assert any(refused(lab, "run.planned", code) for code in findings)


def test_a_disc_can_be_in_one_run_only(lab: Lab, discs: list[str]) -> None:
    made(lab.olga, "/runs", lab.film(discs, experiment=True))
    findings = problem(lab.olga.post(f"{V1}/runs", json=lab.film(discs[:1], experiment=True)), 409)
    assert findings["unit_taken"]["path"] == discs[0]
    assert len(runs(lab)) == 1
    assert refused(lab, "run.planned", "unit_taken")


def test_a_disc_scanned_twice_is_found(lab: Lab, discs: list[str]) -> None:
    body = lab.film([discs[0], discs[0]], experiment=True)
    assert "bound_twice" in problem(lab.olga.post(f"{V1}/runs", json=body), 409)
    assert runs(lab) == []
    assert refused(lab, "run.planned", "bound_twice")


def test_a_lot_named_twice_is_no_merge(lab: Lab, powder: str) -> None:
    answer = lab.olga.post(f"{V1}/lots:merge", json={"serials": [powder, powder]})
    findings = problem(answer, 409)
    assert findings["too_few_lots"]["message"] == "A merge needs two different lots."
    assert refused(lab, "lot.merged", "too_few_lots")
    assert lab.olga.get(f"{V1}/lots/{powder}").json()["quantity"] == "500"


def test_a_draft_recipe_is_for_experiments_only(lab: Lab, powder: str) -> None:
    findings = problem(lab.olga.post(f"{V1}/runs", json=lab.pellet(powder)), 409)
    assert "draft" in findings["recipe_not_effective"]["message"]
    assert refused(lab, "run.planned", "recipe_not_effective")
    experiment = made(lab.olga, "/runs", lab.pellet(powder, experiment=True))
    assert experiment["experiment"] is True


def test_a_tool_in_maintenance_takes_no_run(lab: Lab, powder: str) -> None:
    run = made(lab.olga, "/runs", lab.pellet(powder, experiment=True))["serial"]
    state = {"state": "SDT", "sub_state": "preventive maintenance", "reason": "oil change"}
    assert lab.emil.post(f"{V1}/tools/{PRESS}:set-state", json=state).status_code == 200
    findings = problem(lab.olga.post(f"{V1}/runs/{run}:start", json={}), 409)
    assert "oil change" in findings["tool_down"]["message"]
    assert lab.olga.get(f"{V1}/runs/{run}").json()["state"] == "planned"
    assert lab.olga.get(f"{V1}/runs/{run}/commands").json() == []
    assert refused(lab, "command.requested", "tool_down")


def test_a_stale_etag_starts_nothing(lab: Lab) -> None:
    run = lab.planned_pellet()
    stale = lab.olga.post(f"{V1}/runs/{run}:start", json={}, headers={"If-Match": '"41"'})
    problem(stale, 412)
    assert lab.olga.get(f"{V1}/runs/{run}/commands").json() == []
    assert refusals(lab.service)[-1]["code"] == "stale_version"


def test_a_key_with_another_body_plans_no_second_run(lab: Lab, powder: str) -> None:
    headers = {"Idempotency-Key": "plan-1"}
    body = lab.pellet(powder, experiment=True)
    first = lab.olga.post(f"{V1}/runs", json=body, headers=headers)
    again = lab.olga.post(f"{V1}/runs", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    other = lab.pellet(powder, "151", experiment=True)
    answer = lab.olga.post(f"{V1}/runs", json=other, headers=headers)
    problem(answer, 409)
    assert answer.json()["type"] == "urn:argonaut:problem:idempotency_key_reused"
    assert len(runs(lab)) == 1
    last = refusals(lab.service)[-1]
    assert (last["attempted"], last["code"]) == (f"POST {V1}/runs", "idempotency_key_reused")


def test_an_untrained_person_cannot_run_the_tool(lab: Lab, sign_in: SignIn, powder: str) -> None:
    ada = sign_in("ada")
    etag = ada.get(f"{V1}/users/olga").headers["etag"]
    change = {"trained_for": ["rf_magnetron_sputter"], "reason": "press training ran out"}
    assert ada.patch(f"{V1}/users/olga", json=change, headers={"If-Match": etag}).status_code == 200
    findings = problem(sign_in("olga").post(f"{V1}/runs", json=lab.pellet(powder, experiment=True)), 409)
    assert "not trained for a glovebox_press" in findings["not_trained"]["message"]
    assert runs(lab) == []
    assert refused(lab, "run.planned", "not_trained")


def test_somebody_without_the_role_cannot_plan(lab: Lab, powder: str) -> None:
    findings = problem(lab.quentin.post(f"{V1}/runs", json=lab.pellet(powder, experiment=True)), 403)
    assert "role_missing" in findings
    assert runs(lab) == []
    assert refused(lab, "run.planned", "role_missing")


def test_a_recipe_for_another_tool_is_refused(lab: Lab, powder: str) -> None:
    body = {**lab.pellet(powder, experiment=True), "tool": SPUTTER}
    assert "wrong_tool" in problem(lab.olga.post(f"{V1}/runs", json=body), 409)
    assert refused(lab, "run.planned", "wrong_tool")


def test_a_field_that_nobody_knows_is_a_mistake(lab: Lab, powder: str) -> None:
    body = {**lab.pellet(powder), "overrride": True, "experiment": "perhaps"}
    answer = lab.olga.post(f"{V1}/runs", json=body)
    assert answer.status_code == 422
    assert {finding["path"] for finding in answer.json()["findings"]} == {"body.overrride", "body.experiment"}
