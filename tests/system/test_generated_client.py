"""A client generated from the published OpenAPI document, importing nothing of ours, drives one disc to one cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.service import Service
from api.settings import Settings
from tests.system.generated_client import GeneratedClient, lines_of
from tests.system.line_fixture import PASSWORD, WholeLine, make_whole_line, wait_for

FACTORS = {"sputtering": 2000.0, "pressing": 300.0}
"""Domain seconds a real second while a tool works; 1 otherwise."""


@pytest.fixture
def line(database_url: str, tmp_path: Path) -> Iterator[WholeLine]:
    line = make_whole_line(database_url, tmp_path / "line")
    yield line
    line.stop()


def campaign(client: GeneratedClient, line: WholeLine) -> dict[str, Any]:
    """Let the client work, lead the clock meanwhile, and answer with what it found."""
    found: dict[str, Any] = {}
    with client.start(line.url, PASSWORD) as process:
        for said in lines_of(process):
            line.clock.run(FACTORS.get(said.get("now", ""), 1.0))
            if said.get("now") == "testing":
                line.let_the_test_pass()
            found = said.get("result", found)
    return found


@pytest.mark.timeout(180)
def test_a_generated_client_drives_one_disc_to_one_tested_cell(line: WholeLine, tmp_path: Path) -> None:
    for name in ("tools", "tester", "service"):
        line.start(name)
    wait_for("the service answers", line.answers)
    published = httpx.get(f"{line.url}/api/v1/openapi.json", trust_env=False)
    client = GeneratedClient(published.content, tmp_path / "generated")
    found = campaign(client, line)

    assert found["ours"] == []
    run, handoff = found["run"], found["handoff"]
    assert (run["state"], run["simulated"], run["interrupted"]) == ("completed", True, False)
    assert found["gaps"] == []
    assert line.jobs_on("RH450") == [run["serial"]]
    assert min(found["signals"].values()) > 0
    assert float(found["target"]["energy_kwh"]) > 0
    discs = {position["serial"] for position in run["positions"] if position["use"] == "disc"}
    assert len(discs) == len(found["discs"]) == 2
    assert {*discs, *found["discs"], found["target"]["serial"]} <= set(found["ancestors"])
    assert (handoff["state"], handoff["cell_serial"]) == ("ingested", found["cell"])
    assert [result["is_final"] for result in found["results"]].count(True) == 1
    assert {result["status"] for result in found["results"]} == {"ingested"}
    # A film of 100 nm outlives the protocol's 3 000 h in the simulator's law, or dies of it; either is a verdict.
    verdict = handoff["verdict"]
    assert verdict["outcome"] in ("censored", "failed")
    assert 500 < verdict["time_h"] <= 3001
    assert found["cell"] in json.dumps(found["history"])
    assert run["serial"] in json.dumps(found["history"])
    assert found["verification"]["intact"] is True
    assert found["verification"]["events"] > 80


def test_the_generator_understands_every_route(tmp_path: Path) -> None:
    service = Service(Settings(data_folder=tmp_path / "var", drive_tools=False, run_jobs=False))
    document = create_app(service).openapi()
    service.database.close()
    client = GeneratedClient(json.dumps(document).encode(), tmp_path / "generated")
    routes = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    assert client.operations == routes
    assert len(routes) > 100
    # Recipes come as JSON or YAML; the generator makes clients that send JSON, and says so.
    left_out = {line for line in client.said.splitlines() if line.startswith(("Unsupported", "Unable", "Could not"))}
    assert left_out == {"Unsupported content type application/yaml"}
