"""What each target has taught is shown, a run shows its correction, and people release and approve."""

from __future__ import annotations

from typing import Any

import pytest

from equipment.jobs import JobState, JobSubstate
from tests.api.builders import SPUTTER, V1, Lab, made, problem


def film(lab: Lab, target: str) -> dict[str, Any]:
    """A run with one witness and that target."""
    disc = lab.pieces(lab.lot("LI-DISC-10"), "disc", "LI-DISC-10")
    body = lab.film(disc, experiment=True)
    body["things"][-1]["serial"] = target
    return body


def new_target(lab: Lab) -> str:
    return lab.pieces(lab.lot("LIALO2-TARGET-76", "1"), "target", "LIALO2-TARGET-76")[0]


def finish(lab: Lab, run: str, thickness_nm: float) -> None:
    """Let a planned run be done and measure its witness."""
    recipe = lab.olga.get(f"{V1}/runs/{run}/control-recipe").json()
    time_s = float(recipe["parameters"]["deposit_time_s"]["value"])
    lab.begin(run)
    lab.tell(run, JobState.ENDED, JobSubstate.COMPLETED, {"deposit_time_s": (time_s, "s")})
    positions = lab.olga.get(f"{V1}/runs/{run}").json()["positions"]
    witness = next(p["result_serial"] for p in positions if p["use"] == "witness")
    made(
        lab.olga,
        "/measurements",
        {
            "item": witness,
            "quantity_name": "film_thickness_nm",
            "value": thickness_nm,
            "unit": "nm",
            "instrument": "profilometer",
            "method": "step height",
            "measured_at": lab.service.clock.now().isoformat(),
        },
    )


def context(lab: Lab) -> dict[str, Any]:
    (found,) = lab.olga.get(f"{V1}/tools/{SPUTTER}/run-to-run").json()["items"]
    content: dict[str, Any] = found
    return content


def test_a_run_shows_its_correction_and_the_tool_what_its_target_has_taught(lab: Lab) -> None:
    target = new_target(lab)
    first = made(lab.olga, "/runs", film(lab, target))
    assert first["corrections"] == []
    assert (context(lab)["needs_seasoning"], context(lab)["moves"][0]["run"]) == (True, first["serial"])
    finish(lab, first["serial"], 192.0)
    assert (context(lab)["runs"], context(lab)["to_learn"]) == (1, 1)
    body = film(lab, target)
    wish = {name: value for name, value in body.items() if name != "tool"}
    check = lab.olga.post(f"{V1}/tools/{SPUTTER}:check", json=wish).json()
    second = made(lab.olga, "/runs", body)
    assert check["corrections"] == second["corrections"]
    (correction,) = second["corrections"]
    assert (correction["name"], correction["master_value"], correction["value"]) == (
        "deposit_time_s",
        "6000",
        "6250",
    )
    assert lab.olga.get(f"{V1}/runs/{second['serial']}").json() == second
    shown = context(lab)
    assert (shown["target"], shown["runs"], shown["to_learn"]) == (target, 1, 0)
    assert [move["run"] for move in shown["moves"]] == [second["serial"], first["serial"]]
    assert shown["moves"][0]["time_s"] == pytest.approx(6250.0)
    assert shown["moves"][0]["lesson"] is None
    assert (shown["moves"][1]["lesson"]["lesson"], shown["moves"][1]["lesson"]["thickness_nm"]) == ("learned", 192.0)


def test_a_held_target_is_released_by_the_engineer_and_not_by_the_operator(lab: Lab) -> None:
    target = new_target(lab)
    for thickness_nm in (200.0, 170.0, 170.0):
        finish(lab, made(lab.olga, "/runs", film(lab, target))["serial"], thickness_nm)
    shown = context(lab)
    assert shown["held"]
    held = problem(lab.olga.post(f"{V1}/runs", json=film(lab, target)), 409)["context_held"]
    assert "engineer or QA" in held["action"]
    release, reason = f"{V1}/run-to-run/{shown['id']}:release", {"reason": "the target is whole"}
    problem(lab.olga.post(release, json=reason), 403)
    problem(lab.emil.post(release, json=reason, headers={"If-Match": '"99"'}), 412)
    released = lab.emil.post(release, json=reason)
    assert (released.status_code, released.json()["held"]) == (200, False)
    made(lab.olga, "/runs", film(lab, target))
    problem(lab.emil.post(release, json=reason), 422)
    problem(lab.emil.post(f"{V1}/run-to-run/4711:release", json=reason), 404)


def test_a_correction_beyond_the_clamp_is_approved_for_one_run(lab: Lab) -> None:
    target = new_target(lab)
    for run in [made(lab.olga, "/runs", film(lab, target))["serial"] for _ in range(2)]:
        finish(lab, run, 180.0)
    refusal = problem(lab.olga.post(f"{V1}/runs", json=film(lab, target)), 409)["correction_beyond_clamp"]
    assert "approve" in refusal["action"]
    approval = {"target": target, "recipe_id": "SP-LIALO2-200", "version": 1, "reason": "two witnesses agree"}
    path = f"/tools/{SPUTTER}/run-to-run:approve"
    problem(lab.olga.post(f"{V1}{path}", json=approval), 403)
    approved = made(lab.quentin, path, approval)
    assert approved["approved_by"] == "quentin"
    run = made(lab.olga, "/runs", film(lab, target))
    assert float(run["corrections"][0]["value"]) == pytest.approx(approved["time_s"], abs=0.05)
    assert context(lab)["moves"][0]["run"] == run["serial"]
    problem(lab.olga.post(f"{V1}/runs", json=film(lab, target)), 409)


def test_a_tool_that_is_not_there_has_nothing_to_show(lab: Lab) -> None:
    problem(lab.olga.get(f"{V1}/tools/nowhere/run-to-run"), 404)
    assert lab.olga.get(f"{V1}/tools/{SPUTTER}/run-to-run").json()["items"] == []
