"""Hand-offs, blobs and results over HTTP, as people and tester endpoints use them; on both databases."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.service import Service
from equipment.testers.handoff import tester_scopes as scopes_of_tester
from equipment.testers.handoff_states import HandoffEvent
from tests.api.conftest import SignIn
from tests.equipment.testers.cells import SYSTEM, Cells
from traceability.acts import Role
from traceability.clock import wall_now
from traceability.tokens import issue_token

V1 = "/api/v1"
LAND1 = f"{V1}/testers/LAND1"


@pytest.fixture
def cells(service: Service, tmp_path: Path) -> Cells:
    cells = Cells(service.database, tmp_path)
    cells.store = service.attachments
    return cells


@pytest.fixture
def olga(sign_in: SignIn) -> TestClient:
    return sign_in("olga")


@pytest.fixture
def emil(sign_in: SignIn) -> TestClient:
    return sign_in("emil")


@pytest.fixture
def land1(service: Service, olga: TestClient) -> TestClient:
    """What the endpoint of LAND1 is to the service."""
    return machine(service, olga, "land1", scopes_of_tester("LAND1"))


def with_token(other: TestClient, secret: str) -> TestClient:
    headers = {"Authorization": f"Bearer {secret}"}
    return TestClient(other.app, base_url="https://testserver", headers=headers, raise_server_exceptions=False)


def machine(service: Service, other: TestClient, name: str, scopes: list[str]) -> TestClient:
    with service.database.write(SYSTEM) as record:
        expires = wall_now() + timedelta(days=1)
        _, secret = issue_token(record, name=name, roles=[Role.OPERATOR], scopes=scopes, expires_at=expires)
    return with_token(other, secret)


def offered(olga: TestClient, cells: Cells) -> dict[str, Any]:
    body = {"cell": cells.cell(), "tester": "LAND1", "protocol": "PT-SYM-01-01", "experiment": True}
    answer = olga.post(f"{V1}/handoffs", json={**body, "protocol": "PT-SYM-01-01/1"})
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


def codes(answer: Any, status: int) -> set[str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {finding["code"] for finding in answer.json()["findings"]}


def test_a_person_offers_a_cell_and_sees_what_waits_for_the_tester(olga: TestClient, cells: Cells) -> None:
    view = offered(olga, cells)
    assert view["state"] == "offered"
    detail = olga.get(f"{V1}/handoffs/{view['uuid']}")
    assert detail.headers["etag"] == '"1"'
    assert detail.json()["offer"]["area_cm2"] == "0.7854"
    assert [m["state"] for m in detail.json()["messages"]] == ["waiting"]
    (waits,) = olga.get(f"{LAND1}/outbox").json()
    assert (waits["message"], waits["cell_serial"]) == ("offer", view["cell_serial"])
    (tester,) = olga.get(f"{V1}/testers").json()
    assert (tester["name"], tester["waiting"], tester["occupied"]) == ("LAND1", 1, 0)
    assert [h["uuid"] for h in olga.get(f"{V1}/handoffs", params={"state": "offered"}).json()["items"]] == [
        view["uuid"]
    ]


def test_a_refused_offer_says_all_that_stands_against_it(olga: TestClient, cells: Cells) -> None:
    body = {"cell": cells.cell(screened=False), "tester": "LAND1", "protocol": "PT-SYM-01-01"}
    assert codes(olga.post(f"{V1}/handoffs", json=body), 409) == {"not_screened", "recipe_not_effective"}
    assert codes(olga.post(f"{V1}/handoffs", json={**body, "tester": "LAND9"}), 404) == set()


def test_a_stale_etag_does_not_cancel(olga: TestClient, cells: Cells) -> None:
    view = offered(olga, cells)
    path = f"{V1}/handoffs/{view['uuid']}:cancel"
    stale = olga.post(path, json={"reason": "the wrong cell"}, headers={"If-Match": '"9"'})
    assert stale.status_code == 412
    done = olga.post(path, json={"reason": "the wrong cell"}, headers={"If-Match": '"1"'})
    assert done.json()["cancel_requested"]


def test_an_endpoint_reports_and_a_repeated_report_changes_nothing(
    land1: TestClient, olga: TestClient, cells: Cells
) -> None:
    uuid = offered(olga, cells)["uuid"]
    (polled,) = land1.get(f"{LAND1}/handoffs", params={"state": "offered"}).json()
    assert polled["offer"]["uuid"] == uuid
    news = {"seq": 1, "event": "accept", "at": wall_now().isoformat(), "tester_serial": "A"}
    path = f"{LAND1}/handoffs/{uuid}/events"
    for _ in range(2):
        answer = land1.post(path, json=news)
        assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
    assert codes(land1.post(path, json={**news, "tester_serial": "B"}), 409) == {"event_differs"}
    assert codes(land1.post(path, json={**news, "seq": 3, "event": "arm"}), 409) == {"event_gap"}
    assert len(olga.get(f"{V1}/handoffs/{uuid}").json()["events"]) == 1


def test_a_token_of_another_tester_or_of_another_purpose_is_refused(
    service: Service, olga: TestClient, cells: Cells
) -> None:
    uuid = offered(olga, cells)["uuid"]
    news = {"seq": 1, "event": "accept", "at": wall_now().isoformat()}
    path = f"{LAND1}/handoffs/{uuid}/events"
    assert codes(machine(service, olga, "land2", scopes_of_tester("LAND2")).post(path, json=news), 403) == {
        "tester_scope_missing"
    }
    reader = machine(service, olga, "dashboard", ["tool.*"])
    assert codes(reader.post(path, json=news), 403) == {"scope_missing"}
    assert codes(reader.put(f"{V1}/blobs/{'0' * 64}", content=b"x"), 403) == {"scope_missing"}
    nobody = with_token(olga, "argonaut_wrong")
    assert nobody.post(path, json=news).status_code == 401


def test_a_file_is_kept_under_its_hash_and_twice_is_once(land1: TestClient, service: Service) -> None:
    content = os.urandom(3 << 20)
    sha256 = hashlib.sha256(content).hexdigest()
    for _ in range(2):
        answer = land1.put(f"{V1}/blobs/{sha256}", content=iter([content[: 1 << 20], content[1 << 20 :]]))
        assert answer.status_code == 201, answer.text
        assert answer.json() == {"sha256": sha256, "size": len(content)}
    assert land1.get(f"{V1}/blobs/{sha256}").content == content
    assert service.attachments.intact(sha256)
    assert files_in(service) == [sha256]


def test_a_file_that_does_not_fit_its_hash_leaves_nothing(land1: TestClient, service: Service) -> None:
    answer = land1.put(f"{V1}/blobs/{'a' * 64}", content=b"something else")
    assert codes(answer, 422) == {"wrong_hash"}
    assert files_in(service) == []


def test_a_file_over_the_limit_is_refused_said_or_not_and_leaves_nothing(land1: TestClient, service: Service) -> None:
    limit = service.settings.max_upload_mb << 20
    piece = bytes(8 << 20)
    said = land1.put(f"{V1}/blobs/{'a' * 64}", content=b"x", headers={"content-length": str(limit + 1)})
    assert codes(said, 413) == set()
    unsaid = land1.put(f"{V1}/blobs/{'a' * 64}", content=(piece for _ in range(limit // len(piece) + 1)))
    assert codes(unsaid, 413) == set()
    assert "MAX_UPLOAD_MB" in unsaid.json()["detail"]
    assert files_in(service) == []


def test_a_store_that_can_not_take_a_file_keeps_nothing_and_says_so(
    land1: TestClient, service: Service, tmp_path: Path
) -> None:
    service.settings.attachments_folder.parent.mkdir(parents=True, exist_ok=True)
    service.settings.attachments_folder.write_text("a file where the folder should be")
    answer = land1.put(f"{V1}/blobs/{hashlib.sha256(b'x').hexdigest()}", content=b"x")
    assert answer.status_code == 503
    assert "nothing was kept" in answer.json()["detail"]


def test_a_doubted_result_waits_for_a_person_who_decides(
    land1: TestClient, olga: TestClient, emil: TestClient, cells: Cells
) -> None:
    uuid = offered(olga, cells)["uuid"]
    cells.report(uuid, HandoffEvent.ACCEPT, HandoffEvent.LOAD, HandoffEvent.ARM, HandoffEvent.START)
    good = cells.export(uuid, 0.0)
    report = good.report.model_copy(update={"n_records": 77}).model_dump(mode="json")
    path = f"{LAND1}/handoffs/{uuid}/results"
    missing = land1.post(path, json={**report, "blob": "b" * 64})
    assert missing.status_code == 404
    answer = land1.post(path, json=report)
    assert (answer.status_code, answer.json()["status"]) == (201, "quarantined"), answer.text
    serial = answer.json()["serial"]
    listed = olga.get(f"{V1}/results", params={"status": "quarantined"}).json()["items"]
    assert [(row["serial"], row["findings"][0]["code"]) for row in listed] == [(serial, "records_differ")]
    assert codes(olga.post(f"{V1}/results/{serial}:accept", json={"reason": "counted by hand"}), 403) == {
        "role_missing"
    }
    decided = emil.post(
        f"{V1}/results/{serial}:accept", json={"reason": "counted by hand"}, headers={"Idempotency-Key": "1"}
    )
    assert (decided.status_code, decided.json()["status"]) == (200, "ingested")
    again = emil.post(
        f"{V1}/results/{serial}:accept", json={"reason": "counted by hand"}, headers={"Idempotency-Key": "1"}
    )
    assert again.json() == decided.json()
    assert codes(emil.post(f"{V1}/results/{serial}:reject", json={"reason": "no, after all"}), 409) == {
        "not_quarantined"
    }
    assert [row["serial"] for row in olga.get(f"{V1}/handoffs/{uuid}/results").json()] == [serial]


def files_in(service: Service) -> list[str]:
    return sorted(path.name for path in service.settings.attachments_folder.rglob("*") if path.is_file())
