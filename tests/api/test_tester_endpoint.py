"""The endpoint's half of the contract over HTTP, and what its bench does with a cell."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.endpoints.bench import Bench
from api.endpoints.store import EndpointStore
from api.endpoints.tester import EndpointSettings, create_endpoint, openapi_document
from api.endpoints.truth import NoTruth, PlantTruth
from api.openapi import as_bytes
from equipment.testers.contract import Films, Limits, Offer, Part, ProtocolBody, Traveller
from equipment.testers.handoff_states import HandoffState
from equipment.testers.land import read_land
from equipment.testers.records import CellKind
from recipes.kinds import founding_library
from recipes.protocols import TestProtocol as Protocol
from traceability.canonical import content_hash
from traceability.clock import ManualClock
from traceability.errors import InvalidInput, Refused

TOKEN = "secret of the tester"
MES = "http://127.0.0.1:9"
UUID = "00000000-0000-4000-8000-000000000001"
CELL, PELLET = "CEL-000042-7", "PEL-000041-A"


def offer(number: int = 1, kind: str = "disc", **changes: Any) -> Offer:
    protocol = next(d for d in founding_library() if isinstance(d, Protocol))
    discs = [
        Part(serial=f"{kind}-{number}{n}", kind=kind, role="electrode", was=(f"bare-{number}{n}",)) for n in (1, 2)
    ]
    pellet = Part(serial=f"{PELLET}{number}", kind="pellet", role="electrolyte", made_in="RUN-000009-X")
    parts = (*discs, pellet)
    # What the record believes of the films; the bench must not.
    films = tuple(Films(serial=d.serial, material="X", thickness_nm=Decimal(999), basis="nominal") for d in discs)
    traveller = Traveller(
        cell_serial=f"{CELL}{number}", product="", parts=parts, films=films, measurements={"ocv_v": "0 V"}
    )
    body = protocol.body.model_dump(mode="json")
    whole: dict[str, Any] = {
        "uuid": f"{UUID[:-1]}{number}",
        "tester": "LAND1",
        "cell_serial": traveller.cell_serial,
        "cell_kind": CellKind.SYMMETRIC,
        "polarity": "normal",
        "area_cm2": Decimal("0.7854"),
        "masses_mg": {"electrolyte": Decimal(150)},
        "parts": tuple(part.serial for part in parts),
        "traveller": traveller,
        "traveller_sha256": traveller.hash(),
        "protocol": ProtocolBody(
            reference="PT/1", format="argonaut-cycling", version=1, sha256=content_hash(body), body=body
        ),
        "limits": Limits(voltage_limit_v=Decimal(5), ocv_low_v=Decimal("-0.05"), ocv_high_v=Decimal("0.05")),
        "capability": "cycling",
        "callback": f"{MES}/api/v1",
    }
    return Offer(**(whole | changes))


def know_pellet(folder: Path, number: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    truth = {"plant": {"truth": {f"{PELLET}{number}": {"relative_density": 0.867}}}}
    (folder / f"press-{number}.json").write_text(json.dumps(truth))


@pytest.fixture
def settings(tmp_path: Path) -> EndpointSettings:
    return EndpointSettings(
        name="LAND1",
        serial="SIM-1",
        data_folder=tmp_path / "endpoint",
        truth_folder=tmp_path / "truth",
        mes_url=MES,
        mes_token="secret of the service",
        token=TOKEN,
    )


@pytest.fixture
def endpoint(settings: EndpointSettings) -> TestClient:
    """Its bench does not run: nobody has entered the application's lifespan."""
    return TestClient(create_endpoint(settings), headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    clock = ManualClock(datetime(2026, 3, 2, tzinfo=UTC))
    store = EndpointStore(tmp_path / "bench" / "endpoint.db")
    truth = PlantTruth(tmp_path / "truth")
    return Bench(store, truth, clock, "LAND1", "SIM-1", 2, ("cycling",), tmp_path / "export", snapshot_every_s=0.0)


def put(endpoint: TestClient, body: Offer) -> Any:
    return endpoint.put(f"/v1/handoffs/{body.uuid}", json=body.model_dump(mode="json"))


def later(bench: Bench, hours: float) -> None:
    assert isinstance(bench.clock, ManualClock)
    bench.clock.advance(hours=hours)


def works(bench: Bench) -> None:
    while bench.step():
        pass


def test_the_same_body_again_changes_nothing_and_another_one_is_a_conflict(endpoint: TestClient) -> None:
    assert [put(endpoint, offer()).status_code for _ in range(3)] == [201, 200, 200]
    assert len(endpoint.get("/v1/handoffs").json()) == 1
    other = put(endpoint, offer(area_cm2=Decimal("0.9")))
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    assert endpoint.get(f"/v1/handoffs/{UUID}").json()["offer_sha256"] == offer().hash()


def test_a_cell_is_here_under_one_handoff_alone(endpoint: TestClient) -> None:
    assert put(endpoint, offer()).status_code == 201
    again = offer().model_copy(update={"uuid": f"{UUID[:-1]}2"})
    assert put(endpoint, again).status_code == 409


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", f"Basic {TOKEN}"])
def test_a_wrong_token_is_refused(endpoint: TestClient, authorization: str) -> None:
    endpoint.headers["Authorization"] = authorization
    assert put(endpoint, offer()).status_code == 401
    assert endpoint.get("/v1/handoffs").status_code == 401


def test_an_endpoint_without_a_token_does_not_listen_beyond_this_machine(settings: EndpointSettings) -> None:
    with pytest.raises(InvalidInput):
        create_endpoint(replace(settings, token=None, host="0.0.0.0"))


def test_the_token_for_the_service_goes_to_no_address_that_an_offer_brings(endpoint: TestClient) -> None:
    answer = put(endpoint, offer(callback="http://evil.example/api/v1"))
    assert answer.status_code == 422
    assert [finding["code"] for finding in answer.json()["findings"]] == ["other_mes"]


def test_a_dry_run_says_all_that_stands_against_an_offer_and_keeps_nothing(endpoint: TestClient) -> None:
    bad = offer(kind="coated_disc", capability="impedance", traveller_sha256="0" * 64)
    answer = endpoint.post(f"/v1/handoffs/{UUID}:validate", json=bad.model_dump(mode="json"))
    found = [finding["code"] for finding in answer.json()["findings"]]
    assert found == ["capability_missing", "wrong_hash", "no_truth", "no_truth", "no_truth"]
    assert endpoint.get("/v1/handoffs").json() == []


def test_two_cells_do_not_go_on_one_channel(endpoint: TestClient) -> None:
    for number in (1, 2):
        body = offer(number)
        put(endpoint, body)
        assert endpoint.post(f"/v1/handoffs/{body.uuid}:accept").json()["state"] == "accepted"
    where = {"channel": "3", "cell_barcode": f"{CELL}1", "channel_barcode": "LAND1-3", "ocv_v": 0.001}
    first = endpoint.put(f"/v1/handoffs/{offer(1).uuid}/channel", json=where).json()
    assert (first["state"], first["channel"], first["channel_lease"]) == ("loaded", "3", 1)
    second = endpoint.put(f"/v1/handoffs/{offer(2).uuid}/channel", json={**where, "cell_barcode": f"{CELL}2"})
    assert second.status_code == 409
    assert second.json()["findings"][0]["code"] == "channel_taken"
    wrong = endpoint.put(f"/v1/handoffs/{offer(2).uuid}/channel", json={**where, "channel": "4"})
    assert wrong.json()["findings"][0]["code"] == "wrong_barcode"
    assert endpoint.post(f"/v1/handoffs/{offer(1).uuid}:cancel", json={"reason": "x"}).json()["state"] == "cancelled"
    third = endpoint.put(f"/v1/handoffs/{offer(2).uuid}/channel", json={**where, "cell_barcode": f"{CELL}2"}).json()
    assert (third["channel"], third["channel_lease"]) == ("3", 2)


def test_a_bench_tests_a_cell_to_its_end_and_writes_what_the_reader_reads(bench: Bench, tmp_path: Path) -> None:
    know_pellet(tmp_path / "truth")
    bench.store.put(offer())
    works(bench)
    assert bench.store.get(UUID).state is HandoffState.RUNNING
    later(bench, 150)
    works(bench)
    later(bench, 3000)
    works(bench)
    held = bench.store.get(UUID)
    assert held.state is HandoffState.COMPLETED
    files = sorted((tmp_path / "export").iterdir(), key=lambda path: path.stat().st_size)
    assert [path.suffix for path in files] == [".csv", ".csv"]
    snapshot, final = (read_land(path) for path in files)
    assert final.preamble["cell_barcode"] == f"{CELL}1"
    early, whole = snapshot.read(), final.read()
    assert early.test_time_second[0] == whole.test_time_second[0] == 3600.0
    assert early.test_time_second[-1] == pytest.approx(150 * 3600, abs=900)
    assert whole.test_time_second[-1] / 3600 == pytest.approx(held.duration_h, abs=0.01)
    assert (whole.voltage_volt[: len(early)] == early.voltage_volt).all()


def test_a_bench_that_was_stopped_anywhere_goes_on_to_the_same_end(bench: Bench, tmp_path: Path) -> None:
    know_pellet(tmp_path / "truth")
    bench.store.put(offer())
    for hours in (0, 0, 0, 0, 0, 5000):
        later(bench, hours)
        bench = replace(bench, _plans={}, _written_s={})
        bench.step()
    view = bench.store.view(UUID)
    assert (view.state, view.last_seq, view.waiting) == ("completed", 5, 6)


def test_a_running_test_that_is_aborted_sends_what_it_has(bench: Bench, tmp_path: Path) -> None:
    know_pellet(tmp_path / "truth")
    bench.store.put(offer())
    with pytest.raises(Refused):
        bench.abort(UUID, "too early")
    works(bench)
    later(bench, 30)
    assert bench.abort(UUID, "fire drill").state is HandoffState.ABORTED
    (path,) = (tmp_path / "export").iterdir()
    assert read_land(path).read().test_time_second[-1] == pytest.approx(30 * 3600, abs=900)


def test_the_truth_of_a_film_is_that_of_the_disc_it_was_put_on_and_never_the_records(tmp_path: Path) -> None:
    folder = tmp_path / "truth"
    know_pellet(folder)
    film = {"thickness_nm": 193.5, "interruptions": 1}
    (folder / "sputter.json").write_text(json.dumps({"plant": {"truth": {"bare-11": film, "bare-12": film}}}))
    coated = PlantTruth(folder).of(offer(kind="coated_disc"))
    assert (coated.film_thickness_nm, coated.interruptions) == ((193.5, 193.5), 1)
    assert coated.pellet_relative_density == 0.867
    (folder / "sputter.json").unlink()
    assert PlantTruth(folder).of(offer(kind="disc")).film_thickness_nm == (0.0, 0.0)
    with pytest.raises(NoTruth) as caught:
        PlantTruth(folder).of(offer(kind="coated_disc"))
    assert len(caught.value.findings) == 2


def test_a_cell_that_no_simulated_tool_has_made_is_rejected_with_the_reason(bench: Bench) -> None:
    bench.store.put(offer(kind="coated_disc"))
    works(bench)
    held = bench.store.get(UUID)
    assert held.state is HandoffState.REJECTED
    assert "No simulated press has pressed" in held.reason
    assert "coated" in held.reason


def test_a_cell_whose_voltage_lies_outside_the_limits_is_not_armed(bench: Bench, tmp_path: Path) -> None:
    know_pellet(tmp_path / "truth")
    narrow = Limits(voltage_limit_v=Decimal(5), ocv_low_v=Decimal("0.5"), ocv_high_v=Decimal("0.6"))
    bench.store.put(offer(limits=narrow))
    works(bench)
    assert bench.store.get(UUID).state is HandoffState.FAILED


def test_cells_wait_while_all_channels_are_taken(bench: Bench, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        know_pellet(tmp_path / "truth", number)
        bench.store.put(offer(number))
    works(bench)
    assert [held.state for held in bench.store.all()] == ["running", "running", "accepted"]


def test_the_published_document_names_every_route_of_the_contract() -> None:
    paths = openapi_document()["paths"]
    verbs = {f"{verb} {path.replace('{uuid}', 'U')}" for path, item in paths.items() for verb in item}
    assert verbs >= {
        "put /v1/handoffs/U",
        "get /v1/handoffs/U",
        "get /v1/handoffs",
        "post /v1/handoffs/U:validate",
        "post /v1/handoffs/U:accept",
        "post /v1/handoffs/U:reject",
        "post /v1/handoffs/U:cancel",
        "put /v1/handoffs/U/channel",
    }


def test_the_published_document_is_up_to_date() -> None:
    path = Path(__file__).parents[2] / "docs" / "tester-endpoint.openapi.json"
    assert path.read_bytes() == as_bytes(openapi_document()), "the contract has changed; run: make openapi"
