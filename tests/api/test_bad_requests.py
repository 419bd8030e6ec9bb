"""Requests that no page of ours sends: each gets a problem that says what to do, and none a 500."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.service import Service
from tests.api.builders import V1, problem
from tests.api.conftest import PASSWORD, SignIn
from traceability.acts import Role, system_actor
from traceability.users import create_user

MATERIAL = {"code": "LGPS", "name": "LGPS", "kind": "electrolyte_powder", "unit": "mg", "properties": {}}


@pytest.mark.parametrize("cursor", ["!", "bm8", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "LTE"])
def test_a_cursor_that_nobody_gave_out_breaks_nothing(sign_in: SignIn, cursor: str) -> None:
    assert sign_in("ada").get(f"{V1}/users", params={"cursor": cursor}).status_code in {200, 422}


@pytest.mark.parametrize("limit", ["0", "501", "1e9", "x"])
def test_a_page_has_a_largest_size(sign_in: SignIn, limit: str) -> None:
    problem(sign_in("ada").get(f"{V1}/users", params={"limit": limit}), 422)


def test_numbers_and_texts_that_no_database_has_are_invalid_input(sign_in: SignIn) -> None:
    emil = sign_in("emil")
    assert emil.get(f"{V1}/recipes/SP-1/{10**24}").status_code in {404, 422}
    assert emil.get(f"{V1}/lots/a%00b").status_code in {404, 422}
    assert sign_in("quentin").get(f"{V1}/audit/events", params={"item": "a\0b"}).status_code in {200, 422}


@pytest.mark.parametrize("properties", [b'{"gr\xc3\xb6\xc3\x9fe": 1}', b'{"size": "\\ud800"}'])
def test_a_property_that_has_no_canonical_form_is_refused(sign_in: SignIn, properties: bytes) -> None:
    body = b'{"code": "A", "name": "A", "kind": "hardware", "unit": "piece", "properties": %b}' % properties
    answer = sign_in("emil").post(f"{V1}/materials", content=body, headers={"Content-Type": "application/json"})
    problem(answer, 422)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"{", b"\xff", b""])
def test_a_body_that_is_no_json_is_a_bad_request(sign_in: SignIn, body: bytes) -> None:
    answer = sign_in("emil").post(f"{V1}/materials", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_body_that_is_too_large_is_refused_with_the_limit(sign_in: SignIn, service: Service) -> None:
    large = {**MATERIAL, "name": "x" * (service.settings.max_body_kb * 1024)}
    answer = sign_in("emil").post(f"{V1}/materials", json=large)
    problem(answer, 413)
    assert "ARGONAUT_MAX_BODY_KB" in answer.json()["detail"]


def test_a_file_may_be_larger_than_a_body_up_to_its_own_limit(sign_in: SignIn, service: Service) -> None:
    olga = sign_in("olga")
    content = b"x" * (service.settings.max_body_kb * 1024 + 1)
    assert olga.post(f"{V1}/attachments", files={"file": ("sem.tif", content)}).status_code == 201
    too_large = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(1 << 29)}
    answer = olga.post(f"{V1}/attachments", content=b"", headers=too_large)
    problem(answer, 413)
    assert "ARGONAUT_MAX_UPLOAD_MB" in answer.json()["detail"]


def test_a_form_without_a_file_says_what_is_missing(sign_in: SignIn) -> None:
    answer = sign_in("olga").post(f"{V1}/attachments", files={"other": ("a", b"1")})
    problem(answer, 422)
    assert "`file`" in answer.json()["detail"]


def test_a_file_that_is_gone_from_the_disk_is_not_found_before_the_answer_begins(
    sign_in: SignIn, service: Service
) -> None:
    olga = sign_in("olga")
    sha256 = olga.post(f"{V1}/attachments", files={"file": ("a.bin", b"gone")}).json()["sha256"]
    (service.settings.attachments_folder / sha256[:2] / sha256).unlink()
    problem(olga.get(f"{V1}/attachments/{sha256}"), 404)


def test_a_route_says_which_methods_it_has(sign_in: SignIn) -> None:
    answer = sign_in("ada").put(f"{V1}/users")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


def test_a_wrong_field_is_named_without_repeating_what_was_sent(service: Service) -> None:
    client = TestClient(create_app(service), base_url="https://testserver")
    answer = client.post(f"{V1}/sessions", json={"name": "ada", "password": PASSWORD * 30})
    problem(answer, 422)
    assert answer.json()["findings"][0]["path"] == "body.password"
    assert PASSWORD not in answer.text


def test_headers_outside_of_ascii_are_refused_like_other_wrong_ones(service: Service) -> None:
    client = TestClient(create_app(service), base_url="https://testserver", raise_server_exceptions=False)
    client.post(f"{V1}/sessions", json={"name": "ada", "password": PASSWORD})
    problem(client.post(f"{V1}/materials", json=MATERIAL, headers={b"X-CSRF-Token": b"\xfc"}), 403)
    client.cookies.clear()
    problem(client.get(f"{V1}/users", headers={b"Authorization": b"Bearer \xfc"}), 401)


def test_somebody_with_a_temporary_password_can_leave(service: Service) -> None:
    with service.database.write(system_actor("test")) as record:
        create_user(record, name="nina", full_name="Nina New", password=PASSWORD, roles=[Role.OPERATOR])
    client = TestClient(create_app(service), base_url="https://testserver")
    token = client.post(f"{V1}/sessions", json={"name": "nina", "password": PASSWORD}).json()["token"]
    client.cookies.clear()
    bearer = {"Authorization": f"Bearer {token}"}
    problem(client.post(f"{V1}/holds", json={"item": "LOT-1", "reason": "because"}, headers=bearer), 403)
    assert client.delete(f"{V1}/sessions/current", headers=bearer).status_code == 204
