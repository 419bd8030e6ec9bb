"""Cells through the API: pressed, closed with their torque logged, screened; a shorted one is held."""

from __future__ import annotations

from typing import Any

import pytest

from equipment.jobs import JobState, JobSubstate
from tests.api.builders import PRESS, V1, Json, Lab, made, problem, refusals

STROKE: dict[str, tuple[float | bool, str]] = {
    "peak_force_kn": (18.9, "kN"),
    "mean_dwell_pressure_mpa": (240.0, "MPa"),
    "thickness_mm": (1.162, "mm"),
    "fractured": (False, ""),
}
ROUTE = {"route_id": "RT-SYMMETRIC-PRISTINE", "route_version": 1, "experiment": True}
TORQUES = {"screw_torque_n_m": ["2.0", "2.05", "1.95"]}


def pressed(lab: Lab, body: Json) -> str:
    """Plan, begin and end a stroke; the serial of what it made."""
    run = made(lab.olga, "/runs", body)["serial"]
    lab.begin(run)
    lab.tell(run, JobState.ENDED, JobSubstate.COMPLETED, STROKE)
    positions = lab.olga.get(f"{V1}/runs/{run}").json()["positions"]
    (result,) = {position["result_serial"] for position in positions} - {""}
    return str(result)


@pytest.fixture
def stack(lab: Lab) -> str:
    """Two bare discs on a pellet."""
    pellet = pressed(lab, lab.pellet(lab.lot("LGPS", "500", "mg"), experiment=True))
    discs = lab.pieces(lab.lot("LI-DISC-10"), "disc", "LI-DISC-10", 2)
    return pressed(
        lab,
        {
            "tool": PRESS,
            "recipe": {"recipe_id": "PR-ATTACH-360"},
            "things": [
                {"serial": pellet, "use": "pellet"},
                *({"serial": disc, "use": "disc"} for disc in discs),
                {"serial": "DIE-10-1", "use": "die"},
            ],
            "experiment": True,
        },
    )


@pytest.fixture
def cell(lab: Lab, stack: str) -> Json:
    return {
        **ROUTE,
        "step": "assemble",
        "parts": [
            {"use": "half_stack", "serial": stack},
            {"use": "collector", "serial": lab.lot("SS-COLLECTOR-10"), "quantity": "2"},
            {"use": "screw", "serial": lab.lot("SCREW-M5"), "quantity": "3"},
        ],
        "logs": TORQUES,
    }


def screened(lab: Lab, serial: str, **values: list[str]) -> Any:
    body = {**ROUTE, "step": "screen", "instrument": "DMM-6500", "logs": values}
    return lab.olga.post(f"{V1}/cells/{serial}:screen", json=body)


def test_a_cell_is_closed_with_its_torque_and_its_whole_descent(lab: Lab, cell: Json, stack: str) -> None:
    answer = lab.olga.post(f"{V1}/cells", json=cell)
    assert answer.status_code == 201, answer.text
    closed = answer.json()
    assert closed["kind"] == "cell"
    assert closed["properties"]["configuration"] == "Li | LGPS | Li"
    assert closed["properties"]["screw_torque_n_m"] == ["2", "2.05", "1.95"]
    ancestors = lab.olga.get(f"{V1}/items/{closed['serial']}/ancestors").json()["nodes"]
    kinds = [node["kind"] for node in ancestors]
    assert (kinds.count("disc"), kinds.count("pellet"), kinds.count("half_stack")) == (2, 1, 1)
    collectors = lab.olga.get(f"{V1}/lots/{cell['parts'][1]['serial']}").json()
    assert collectors["quantity"] == "18"


def test_everything_that_is_wrong_with_a_cell_comes_back_at_once(lab: Lab, cell: Json, stack: str) -> None:
    parts = [cell["parts"][0], {**cell["parts"][1], "quantity": "1"}, {**cell["parts"][2], "use": "glue"}]
    wrong = {**cell, "parts": parts, "logs": {"screw_torque_n_m": ["2.0", "3.1", "1.95"]}}
    findings = problem(lab.olga.post(f"{V1}/cells", json=wrong), 409)
    assert {"wrong_amount", "part_not_wanted", "log_out_of_limits"} <= findings.keys()
    assert "3.1" in findings["log_out_of_limits"]["message"]
    assert lab.olga.get(f"{V1}/units/{stack}").json()["status"] == "available"
    assert lab.olga.get(f"{V1}/units", params={"kind": "cell"}).json()["items"] == []
    assert refusals(lab.service)[-1]["attempted"] == "cell.assembled"


def test_a_stack_goes_into_one_cell_only(lab: Lab, cell: Json, stack: str) -> None:
    made(lab.olga, "/cells", cell)
    findings = problem(lab.olga.post(f"{V1}/cells", json=cell), 409)
    assert findings["unit_used"]["path"] == stack


def test_a_good_cell_passes_its_screening_and_a_shorted_one_is_held(lab: Lab, cell: Json) -> None:
    serial = made(lab.olga, "/cells", cell)["serial"]
    problem(screened(lab, serial, ocv_v=["0.002"]), 409)
    passed = screened(lab, serial, ocv_v=["-0.002"], resistance_ohm=["310"])
    assert passed.status_code == 200, passed.text
    assert (passed.json()["passed"], passed.json()["hold"]) == (True, None)
    failed = screened(lab, serial, ocv_v=["0.001"], resistance_ohm=["0.4"]).json()
    assert failed["passed"] is False
    assert "0.4 Ohm" in failed["findings"][0]["message"]
    (hold,) = lab.olga.get(f"{V1}/items/{serial}/holds").json()
    assert hold["hold_serial"] == failed["hold"]
    measured = lab.olga.get(f"{V1}/items/{serial}/measurements").json()
    assert [row["value"] for row in measured if row["quantity_name"] == "resistance_ohm"] == [310.0, 0.4]
