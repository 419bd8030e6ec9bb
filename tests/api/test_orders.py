"""Orders through the API: placed for an effective route, offered to the tools, held and closed."""

from __future__ import annotations

from typing import Any

from tests.api.builders import PRESS, SPUTTER, V1, Lab, made, problem

FILMS = ("SP-LIALO2-100", "SP-LIALO2-200", "SP-LIALO2-300", "RT-COATED-DISC")


def ready(lab: Lab, tool: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = lab.olga.get(f"{V1}/tools/{tool}/ready").json()
    return steps


def test_an_order_is_placed_for_the_effective_route_only(lab: Lab) -> None:
    body = {"route_id": "RT-COATED-DISC", "quantity": 3}
    findings = problem(lab.olga.post(f"{V1}/orders", json=body), 422)
    assert "recipe_not_effective" in findings
    lab.make_effective(*FILMS)
    answer = lab.olga.post(f"{V1}/orders", json=body)
    assert answer.status_code == 201, answer.text
    order = answer.json()
    assert (order["product"], order["route_version"], order["state"]) == ("LI-LIALO2-DISC-10", 1, "open")
    assert lab.olga.get(answer.headers["location"]).json() == order
    problem(lab.olga.post(f"{V1}/orders", json={**body, "route_id": "SP-LIALO2-100"}), 422)
    problem(lab.olga.post(f"{V1}/orders", json={**body, "quantity": 0}), 422)


def test_a_tool_is_offered_what_orders_have_for_it_and_told_what_is_missing(lab: Lab) -> None:
    order = made(
        lab.olga, "/orders", {"route_id": "RT-COATED-DISC", "route_version": 1, "quantity": 2, "experiment": True}
    )["serial"]
    (step,) = ready(lab, SPUTTER)
    assert (step["order"], step["step"], step["remaining"], step["ready"]) == (order, "sputter", 2, False)
    assert {finding["path"] for finding in step["missing"]} == {"LI-DISC-10", "SI-WITNESS", "LIALO2-TARGET-76"}
    assert ready(lab, PRESS) == []
    discs = lab.pieces(lab.lot("LI-DISC-10"), "disc", "LI-DISC-10", 2)
    run = lab.film(discs, experiment=True, order=order)
    (step,) = ready(lab, SPUTTER)
    assert step["ready"] is True
    assert step["candidates"]["disc"] == discs
    planned = made(lab.olga, "/runs", run)
    assert planned["order"] == order
    assert ready(lab, SPUTTER) == []
    assert [r["serial"] for r in lab.olga.get(f"{V1}/runs", params={"order": order}).json()["items"]] == [
        planned["serial"]
    ]


def test_an_order_on_hold_is_offered_to_nobody(lab: Lab) -> None:
    body = {"route_id": "RT-SYMMETRIC-PRISTINE", "route_version": 1, "quantity": 1, "experiment": True}
    answer = lab.olga.post(f"{V1}/orders", json=body)
    path = f"{V1}/orders/{answer.json()['serial']}"
    assert len(ready(lab, PRESS)) == 2
    headers = {"If-Match": answer.headers["etag"]}
    assert lab.olga.post(f"{path}:hold", json={"reason": "waiting for QA"}, headers=headers).status_code == 200
    assert ready(lab, PRESS) == []
    problem(lab.olga.post(f"{path}:close", json={"reason": "done"}, headers=headers), 412)
    problem(lab.olga.post(f"{path}:close", json={"reason": "done"}), 409)
    assert lab.olga.post(f"{path}:release", json={"reason": "go on"}).json()["state"] == "open"
    assert lab.olga.post(f"{path}:cancel", json={"reason": "no longer wanted"}).json()["state"] == "cancelled"
    listed = lab.olga.get(f"{V1}/orders", params={"state": "cancelled"}).json()["items"]
    assert [f"{V1}/orders/{order['serial']}" for order in listed] == [path]
