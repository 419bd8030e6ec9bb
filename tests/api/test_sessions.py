"""Signing in, acting by cookie, and acting once."""

from __future__ import annotations

from fastapi.testclient import TestClient

from api.app import create_app
from api.service import Service
from tests.api.conftest import PASSWORD, SignIn

NEW_USER = {
    "name": "nina",
    "full_name": "Nina Example",
    "password": "temporary pass 1",
    "roles": ["operator"],
    "trained_for": [],
}


def test_a_request_without_a_session_is_told_to_sign_in(service: Service) -> None:
    answer = TestClient(create_app(service)).get("/api/v1/sessions/current")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "sign in" in answer.json()["detail"]


def test_a_cookie_acts_only_with_the_synchroniser_token_of_its_session(service: Service) -> None:
    client = TestClient(create_app(service), base_url="https://testserver")
    csrf = client.post("/api/v1/sessions", json={"name": "ada", "password": PASSWORD}).json()["csrf_token"]
    assert client.post("/api/v1/users", json=NEW_USER).status_code == 403
    headers = {"X-CSRF-Token": csrf}
    foreign = client.post("/api/v1/users", json=NEW_USER, headers={**headers, "Origin": "https://evil.example"})
    assert foreign.status_code == 403
    own = client.post("/api/v1/users", json=NEW_USER, headers={**headers, "Origin": "https://testserver"})
    assert own.status_code == 201


def test_after_signing_out_the_session_is_worth_nothing(sign_in: SignIn) -> None:
    client = sign_in("olga")
    assert client.get("/api/v1/sessions/current").json()["roles"] == ["operator"]
    assert client.delete("/api/v1/sessions/current").status_code == 204
    assert client.get("/api/v1/sessions/current").status_code == 401


def test_the_same_key_acts_once_and_answers_twice(sign_in: SignIn) -> None:
    client = sign_in("ada")
    headers = {"Idempotency-Key": "k-1"}
    first = client.post("/api/v1/users", json=NEW_USER, headers=headers)
    again = client.post("/api/v1/users", json=NEW_USER, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert again.headers["Idempotent-Replay"] == "true"
    assert len(client.get("/api/v1/users").json()["items"]) == 6


def test_a_key_with_another_body_is_refused(sign_in: SignIn) -> None:
    client = sign_in("ada")
    headers = {"Idempotency-Key": "k-1"}
    client.post("/api/v1/users", json=NEW_USER, headers=headers)
    other = client.post("/api/v1/users", json={**NEW_USER, "name": "nils"}, headers=headers)
    assert other.status_code == 409
    assert other.json()["type"] == "urn:argonaut:problem:idempotency_key_reused"


def test_a_stale_etag_is_refused_and_says_so(sign_in: SignIn) -> None:
    client = sign_in("ada")
    etag = client.get("/api/v1/users/olga").headers["etag"]
    change = {"trained_for": ["glovebox_press"], "reason": "training of today"}
    assert client.patch("/api/v1/users/olga", json=change).status_code == 422
    assert client.patch("/api/v1/users/olga", json=change, headers={"If-Match": etag}).status_code == 200
    stale = client.patch("/api/v1/users/olga", json=change, headers={"If-Match": etag})
    assert stale.status_code == 412


def test_an_operator_may_not_add_people_and_the_refusal_is_on_the_record(sign_in: SignIn, service: Service) -> None:
    answer = sign_in("olga").post("/api/v1/users", json=NEW_USER)
    assert answer.status_code == 403
    assert answer.json()["findings"][0]["code"] == "role_missing"
    with service.database.connect() as connection:
        rows = connection.exec_driver_sql("SELECT body FROM audit_events WHERE kind = 'act.refused'").all()
    assert "user.created" in rows[0][0]


def test_pages_follow_each_other_without_gaps(sign_in: SignIn) -> None:
    client = sign_in("ada")
    first = client.get("/api/v1/users", params={"limit": 3}).json()
    second = client.get("/api/v1/users", params={"limit": 3, "cursor": first["next"]}).json()
    names = [user["name"] for user in first["items"] + second["items"]]
    assert sorted(names) == ["ada", "emil", "erika", "olga", "quentin"]
    assert second["next"] is None
