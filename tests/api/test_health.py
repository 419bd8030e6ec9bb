"""What stands around every answer: headers, health, readiness, metrics, and the limit on sign-ins."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

import api.rate_limit
from api.app import create_app
from api.rate_limit import RateLimit, TooManyAttempts
from api.service import Service
from api.settings import Settings
from tests.api.builders import V1, problem

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
}


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(create_app(service), base_url="https://testserver", raise_server_exceptions=False)


def samples(client: TestClient) -> dict[tuple[str, tuple[str, ...]], float]:
    """The metrics as Prometheus reads them, by name and label values."""
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_every_answer_carries_the_security_headers(client: TestClient, service: Service) -> None:
    answers = [
        client.get("/healthz"),
        client.get(f"{V1}/nowhere"),
        client.get(f"{V1}/users"),
        client.post(f"{V1}/sessions", content=b"x" * (service.settings.max_body_kb * 1024 + 1)),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 401, 413]
    for answer in answers:
        assert HEADERS.items() <= {name: answer.headers.get(name) for name in HEADERS}.items()


def test_the_cookie_of_a_session_is_out_of_reach_of_scripts_and_other_sites(client: TestClient) -> None:
    answer = client.post(f"{V1}/sessions", json={"name": "ada", "password": "correct horse battery"})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))


def test_a_service_whose_database_answers_is_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert {check["name"]: check["ok"] for check in answer.json()["checks"]}.items() >= {
        ("database", True),
        ("disk", True),
        ("clock", True),
    }


def test_a_service_without_its_database_is_alive_but_not_ready_and_says_so(tmp_path: Path, free_port: int) -> None:
    nobody = f"postgresql+psycopg://argonaut@127.0.0.1:{free_port}/argonaut"
    service = Service(Settings(data_folder=tmp_path, database_url=nobody, drive_tools=False, run_jobs=False))
    client = TestClient(create_app(service), base_url="https://testserver")
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    (check,) = (check for check in answer.json()["checks"] if check["name"] == "database")
    assert not check["ok"]
    problem(client.get(f"{V1}/users", headers={"Authorization": "Bearer x"}), 503)
    service.database.close()


def test_requests_are_counted_by_route_whatever_their_serials_and_methods(client: TestClient) -> None:
    for serial in ("LOT-1", "LOT-2", "LOT-3"):
        client.get(f"{V1}/lots/{serial}")
    for method in ("BREW", "WHEN"):
        client.request(method, f"{V1}/lots/LOT-1")
    client.get("/no/such/place")
    seen = samples(client)
    counted = {labels: value for (name, labels), value in seen.items() if name == "argonaut_http_requests_total"}
    (by_route,) = (value for labels, value in counted.items() if "401" in labels)
    assert by_route == 3
    assert any("unmatched" in labels and "404" in labels for labels in counted)
    assert sum(value for labels, value in counted.items() if "other" in labels) == 2
    assert not any("BREW" in labels or "LOT-1" in str(labels) for labels in counted)
    assert seen["argonaut_stream_clients", ()] == 0


def test_sign_ins_from_one_address_are_limited_and_the_rest_goes_on(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "sign_in_limit", RateLimit(2))
    body = {"name": "nobody", "password": "wrong"}
    assert [client.post(f"{V1}/sessions", json=body).status_code for _ in range(3)] == [401, 401, 429]
    assert client.get("/healthz").status_code == 200
    with service.database.connect() as connection:
        failed = text("SELECT COUNT(*) FROM audit_events WHERE kind = 'user.sign_in_failed'")
        assert connection.execute(failed).scalar_one() == 2


def test_a_limit_fills_up_again_with_time_and_for_each_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(api.rate_limit.time, "monotonic", lambda: now)
    limit = RateLimit(60)
    for _ in range(60):
        limit.take("10.0.0.1")
    with pytest.raises(TooManyAttempts):
        limit.take("10.0.0.1")
    limit.take("10.0.0.2")
    now += 1.0
    limit.take("10.0.0.1")
    with pytest.raises(TooManyAttempts):
        limit.take("10.0.0.1")


def test_a_script_that_goes_on_with_an_ended_session_leaves_no_mark_on_the_trail(
    client: TestClient, service: Service
) -> None:
    for _ in range(3):
        problem(client.get(f"{V1}/users", headers={"Authorization": "Bearer ended-session"}), 401)
    problem(client.get(f"{V1}/users", headers={"Authorization": "Bearer argonaut_unknown"}), 401)
    with service.database.connect() as connection:
        refused = text("SELECT COUNT(*) FROM audit_events WHERE kind = 'token.refused'")
        assert connection.execute(refused).scalar_one() == 1
