"""Runs and commands through the API: planned, started by asking, never shown as more than is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlmodel import select

from api.routers.commands import STOP_WITHIN_S
from equipment.jobs import JobState, JobSubstate
from tests.api.builders import LINE, PRESS, SPUTTER, V1, Lab, made, problem
from tests.waiting import wait_until
from traceability.audit import AuditHead
from traceability.canonical import sha256_hex
from traceability.database import Database
from traceability.errors import StorageFailed

STROKE: dict[str, tuple[float | bool, str]] = {
    "peak_force_kn": (18.9, "kN"),
    "mean_dwell_pressure_mpa": (240.3, "MPa"),
    "thickness_mm": (1.162, "mm"),
    "fractured": (False, ""),
}


def shown(lab: Lab, run: str) -> dict[str, Any]:
    content: dict[str, Any] = lab.olga.get(f"{V1}/runs/{run}").json()
    return content


def test_a_planned_run_shows_its_frozen_recipe_and_its_things(lab: Lab) -> None:
    discs = lab.pieces(lab.lot("LI-DISC-10"), "disc", "LI-DISC-10", 2)
    body = lab.film(discs, experiment=True)
    answer = lab.olga.post(f"{V1}/runs", json=body)
    assert answer.status_code == 201, answer.text
    run = answer.json()
    assert answer.headers["location"] == f"{V1}/runs/{run['serial']}"
    assert run["work_master"].startswith("SP-LIALO2-200/1/")
    assert [(p["serial"], p["position"]) for p in run["positions"] if p["use"] == "disc"] == [
        (discs[0], 1),
        (discs[1], 2),
    ]
    assert shown(lab, run["serial"]) == run
    recipe = lab.olga.get(f"{V1}/runs/{run['serial']}/control-recipe")
    assert sha256_hex(recipe.content) == run["control_hash"]
    assert [row["serial"] for row in lab.olga.get(f"{V1}/items/{discs[0]}/runs").json()] == [run["serial"]]


def test_a_product_run_takes_the_effective_recipe_and_its_adjustment(lab: Lab) -> None:
    lab.make_effective("PR-PELLET-240")
    adjustments = {"powder_mass_mg": {"value": "150.8", "reason": "weighed"}}
    run = made(lab.olga, "/runs", lab.pellet(lab.lot("LGPS", "500", "mg"), "150.8", adjustments=adjustments))
    assert run["experiment"] is False
    recipe = lab.olga.get(f"{V1}/runs/{run['serial']}/control-recipe").json()
    (correction,) = recipe["corrections"]
    assert (correction["master_value"], correction["value"], correction["reason"]) == ("150", "150.8", "weighed")


def test_a_check_says_what_would_stand_against_a_start_and_changes_nothing(lab: Lab) -> None:
    powder = lab.lot("LGPS", "500", "mg")
    body = {name: value for name, value in lab.pellet(powder).items() if name != "tool"}
    check = lab.olga.post(f"{V1}/tools/{PRESS}:check", json=body).json()
    assert check["ready"] is False
    assert [finding["code"] for finding in check["findings"]] == ["recipe_not_effective"]
    ready = lab.olga.post(f"{V1}/tools/{PRESS}:check", json={**body, "experiment": True}).json()
    assert ready == {"ready": True, "findings": [], "corrections": []}
    assert lab.olga.get(f"{V1}/runs").json()["items"] == []


def test_a_start_is_asked_for_once_and_not_called_done(lab: Lab) -> None:
    run = lab.planned_pellet()
    etag = lab.olga.get(f"{V1}/runs/{run}").headers["etag"]
    answer = lab.olga.post(f"{V1}/runs/{run}:start", json={}, headers={"If-Match": etag})
    assert answer.status_code == 202
    command = answer.json()
    assert (command["verb"], command["state"], command["run_serial"]) == ("start", "requested", run)
    assert lab.olga.post(f"{V1}/runs/{run}:start", json={}).json()["serial"] == command["serial"]
    assert lab.olga.get(answer.headers["location"]).json() == command
    assert lab.olga.get(f"{V1}/runs/{run}/commands").json() == [command]
    assert shown(lab, run)["state"] == "planned"


def test_a_run_that_is_on_no_tool_cannot_be_paused(lab: Lab) -> None:
    run = lab.planned_pellet()
    for verb in ("pause", "resume", "stop", "abort"):
        answer = lab.olga.post(f"{V1}/runs/{run}:{verb}", json={"reason": "tea break"})
        assert "run_not_started" in problem(answer, 409)
    assert lab.olga.get(f"{V1}/runs/{run}/commands").json() == []


def test_a_running_run_is_asked_to_pause_and_to_stop(lab: Lab) -> None:
    run = lab.planned_pellet()
    lab.begin(run)
    pause = lab.olga.post(f"{V1}/runs/{run}:pause", json={"reason": "look at the gauge"})
    assert (pause.status_code, pause.json()["state"]) == (202, "requested")
    stop = lab.olga.post(f"{V1}/runs/{run}:stop", json={})
    assert (stop.status_code, stop.json()["way"]) == (202, "record")
    assert [command["verb"] for command in lab.olga.get(f"{V1}/runs/{run}/commands").json()] == ["pause", "stop"]
    assert shown(lab, run)["state"] == "running"


def test_qa_may_stop_a_run_but_not_start_one(lab: Lab) -> None:
    run = lab.planned_pellet()
    problem(lab.quentin.post(f"{V1}/runs/{run}:start", json={}), 403)
    lab.begin(run)
    assert lab.quentin.post(f"{V1}/runs/{run}:abort", json={"reason": "smoke"}).status_code == 202


@contextmanager
def refusing_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def full(self: Database, actor: object, *, asked: str = "") -> object:
        raise StorageFailed("The disk is full (database or disk is full); nothing was kept.")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", full)
        yield


def test_a_stop_goes_out_by_the_journal_when_the_disk_is_full(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.planned_pellet()
    lab.begin(run)
    with refusing_writes(monkeypatch):
        problem(lab.olga.post(f"{V1}/runs/{run}:pause", json={"reason": "look at the gauge"}), 503)
        answer = lab.olga.post(f"{V1}/runs/{run}:stop", json={"reason": "plasma flickers"})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["way"], answer.json()["command"]) == ("journal", None)
    (entry,) = lab.service.journal.to_send(PRESS)
    assert (entry.key, entry.verb, entry.run_serial, entry.requested_by, entry.reason) == (
        answer.json()["journal_key"],
        "stop",
        run,
        "olga",
        "plasma flickers",
    )


def test_a_stop_goes_out_even_when_the_record_cannot_be_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.planned_pellet()
    lab.begin(run)
    client = lab.olga
    anonymous = {"Authorization": ""}

    def gone(self: Database) -> object:
        raise StorageFailed("The database did not take it (server closed the connection); nothing was kept.")

    names = [tool.name for tool in lab.service.line.tools]
    with refusing_writes(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(Database, "read", gone)
        patch.setattr(Database, "connect", gone)
        unnamed = client.post(f"{V1}/runs/{run}:abort", json={})
        problem(unnamed, 422)
        assert all(name in unnamed.json()["detail"] for name in names)
        problem(client.post(f"{V1}/runs/{run}:abort", json={"tool": names[0]}, headers=anonymous), 401)
        answer = client.post(f"{V1}/runs/{run}:abort", json={"tool": names[0]})
    assert answer.status_code == 202, answer.text
    (entry,) = lab.service.journal.to_send(names[0])
    assert entry.requested_by.startswith("somebody at ")


def test_a_stop_does_not_wait_for_a_writer_that_keeps_the_database_busy(lab: Lab) -> None:
    run = lab.planned_pellet()
    lab.begin(run)
    with lab.service.database.write(LINE) as record:
        record.exec(select(AuditHead).with_for_update()).one()
        began_s = time.monotonic()
        answer = lab.olga.post(f"{V1}/runs/{run}:stop", json={"reason": "plasma flickers"})
        assert time.monotonic() - began_s < 2 * STOP_WITHIN_S + 3
    assert (answer.status_code, answer.json()["way"]) == (202, "journal")
    assert [entry.verb for entry in lab.service.journal.to_send(PRESS)] == ["stop"]
    wait_until("the record takes it", lambda: bool(lab.olga.get(f"{V1}/runs/{run}/commands").json()))


def test_a_withdrawn_run_frees_its_things(lab: Lab) -> None:
    discs = lab.pieces(lab.lot("LI-DISC-10"), "disc", "LI-DISC-10", 1)
    run = made(lab.olga, "/runs", lab.film(discs, experiment=True))["serial"]
    withdrawn = lab.olga.post(f"{V1}/runs/{run}:withdraw", json={"reason": "wrong carrier"}).json()
    assert (withdrawn["state"], withdrawn["why"]) == ("aborted", "wrong carrier")
    made(lab.olga, "/runs", lab.film(discs, experiment=True))
    problem(lab.olga.post(f"{V1}/runs/{run}:withdraw", json={"reason": "once more"}), 409)


def test_a_completed_run_shows_what_was_set_against_what_was(lab: Lab) -> None:
    run = lab.planned_pellet()
    lab.begin(run)
    lab.tell(run, JobState.ENDED, JobSubstate.COMPLETED, {**STROKE, "mean_dwell_pressure_mpa": (251.0, "MPa")})
    ended = shown(lab, run)
    assert ended["state"] == "completed"
    pressure = next(line for line in ended["comparison"] if line["parameter"] == "pressure_mpa")
    assert (pressure["target"], pressure["tolerance"], pressure["passed"]) == ("240", "2.4", False)
    assert [deviation["kind"] for deviation in ended["deviations"]] == ["out_of_tolerance"]
    (pellet,) = {position["result_serial"] for position in ended["positions"]} - {""}
    assert lab.olga.get(f"{V1}/units/{pellet}").json()["kind"] == "pellet"
    assert "run_ended" in problem(lab.olga.post(f"{V1}/runs/{run}:stop", json={}), 409)


def test_runs_are_listed_by_tool_and_state(lab: Lab) -> None:
    first, second = lab.planned_pellet(), lab.planned_pellet()
    lab.begin(first)

    def listed(**filters: str) -> list[str]:
        return [run["serial"] for run in lab.olga.get(f"{V1}/runs", params=filters).json()["items"]]

    assert listed(tool=PRESS) == [second, first]
    assert listed(state="running") == [first]
    assert listed(tool=SPUTTER) == []
    problem(lab.olga.get(f"{V1}/runs/RUN-000099-X"), 404)
