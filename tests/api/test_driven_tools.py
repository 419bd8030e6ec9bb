"""Through the API a run is started on a real (simulated) press over OPC UA, followed to its end, and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from fastapi.testclient import TestClient

from api.app import create_app
from api.service import Service
from api.settings import Settings
from equipment.press import EQUIPMENT_CLASS as PRESS_CLASS
from tests.api.builders import V1, Lab, made
from tests.api.conftest import PASSWORD, enrol_people
from tests.conftest import START
from tests.system.press_line import SITE, TOOL, Press, fast_clock, running_press
from tests.waiting import wait_until

FACTOR = 40
PATIENCE_S = 90.0
LINE_FILE = f"""
site: {SITE}
tools:
  - name: {TOOL}
    class: {PRESS_CLASS}
    endpoint: opc.tcp://127.0.0.1:{{port}}/
    namespace_uri: urn:{SITE}:{TOOL}
"""


@pytest.fixture
def press(tmp_path: Path) -> Iterator[Press]:
    clock = fast_clock(tmp_path, START, FACTOR)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running_press(clock)) as press:
        yield press


@pytest.fixture
def lab(database_url: str, tmp_path: Path, password_hash: bytes, press: Press) -> Iterator[Lab]:
    """A service that drives the press."""
    line_file = tmp_path / "line.yaml"
    line_file.write_text(LINE_FILE.format(port=press.port))
    service = Service(
        Settings(
            data_folder=tmp_path / "var",
            database_url=database_url,
            line_file=line_file,
            clock_file=tmp_path / "clock.json",
            run_jobs=False,
        )
    )
    service.database.create_schema()
    enrol_people(service, password_hash)
    app = create_app(service)

    def sign_in(name: str) -> TestClient:
        client = TestClient(app, base_url="https://testserver")
        token = client.post(f"{V1}/sessions", json={"name": name, "password": PASSWORD}).json()["token"]
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {token}"
        return client

    with TestClient(app):
        lab = Lab(service, sign_in, PASSWORD)
        wait_until("the link to the press", lambda: (tool(lab)["link"] or {}).get("state") == "online", PATIENCE_S)
        yield lab


def tool(lab: Lab) -> dict[str, Any]:
    shown: dict[str, Any] = lab.olga.get(f"{V1}/tools/{TOOL}").json()
    return shown


def run_state(lab: Lab, run: str) -> str:
    return str(lab.olga.get(f"{V1}/runs/{run}").json()["state"])


def started(lab: Lab) -> str:
    body = {**lab.pellet(lab.lot("LGPS", "500", "mg"), experiment=True), "tool": TOOL}
    run = str(made(lab.olga, "/runs", body)["serial"])
    answer = lab.olga.post(f"{V1}/runs/{run}:start", json={})
    assert answer.status_code == 202, answer.text
    wait_until(
        "the claim",
        lambda: command(lab, answer.json()["serial"])["state"] not in ("requested", "claimed"),
        PATIENCE_S,
    )
    wait_until("the start", lambda: run_state(lab, run) not in ("planned", "starting"), PATIENCE_S)
    return run


def command(lab: Lab, serial: str) -> dict[str, Any]:
    shown: dict[str, Any] = lab.olga.get(f"{V1}/commands/{serial}").json()
    return shown


def test_a_pellet_is_pressed_by_asking_once_and_its_trace_is_there(lab: Lab, press: Press) -> None:
    run = started(lab)
    during = tool(lab)
    assert (during["run"]["serial"], during["state_word"], during["simulated"]) == (run, "engineering", True)
    wait_until("the end", lambda: run_state(lab, run) not in ("running",), PATIENCE_S)
    shown = lab.olga.get(f"{V1}/runs/{run}").json()
    assert (shown["state"], shown["simulated"]) == ("completed", True), shown
    assert all(line["passed"] is not False for line in shown["comparison"])
    (pellet,) = {position["result_serial"] for position in shown["positions"]} - {""}
    assert lab.olga.get(f"{V1}/units/{pellet}").json()["simulated"] is True
    wait_until("the seal", lambda: trace(lab, run)["sealed"], PATIENCE_S)
    (force,) = trace(lab, run)["signals"]
    assert max(force["values"]) == pytest.approx(18.85, abs=0.3)
    phases = [phase["name"] for phase in lab.olga.get(f"{V1}/runs/{run}/phases").json()]
    assert [name for name in phases if name != "idle"] == ["preload", "ramp", "dwell", "unload"]
    assert press.starts == 1
    assert tool(lab)["run"] is None


def test_a_stop_is_confirmed_by_the_tool_and_only_then_shown(lab: Lab) -> None:
    run = started(lab)
    stop = lab.olga.post(f"{V1}/runs/{run}:stop", json={"reason": "wrong die"}).json()
    assert (stop["way"], stop["command"]["state"]) == ("record", "requested")
    wait_until("the stop", lambda: command(lab, stop["command"]["serial"])["state"] == "done", PATIENCE_S)
    wait_until("the end", lambda: run_state(lab, run) == "stopped", PATIENCE_S)


def trace(lab: Lab, run: str) -> dict[str, Any]:
    shown: dict[str, Any] = lab.olga.get(f"{V1}/runs/{run}/trace", params={"tags": "force_kn"}).json()
    return shown
