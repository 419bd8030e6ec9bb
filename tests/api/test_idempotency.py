"""One key, one act: at once, after a death, with files, and where the answer has no content."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from api.idempotency import Acting, fingerprint, forget_keys
from api.service import Service
from tests.api.builders import V1, problem
from tests.api.conftest import SignIn
from traceability.acts import system_actor
from traceability.clock import wall_now
from traceability.materials import MaterialKind, define_material
from traceability.verification import verify

MATERIAL = {"code": "LGPS", "name": "LGPS", "kind": "electrolyte_powder", "unit": "mg", "properties": {}}


def count(service: Service, question: str) -> int:
    with service.database.connect() as connection:
        return int(connection.execute(text(question)).scalar_one())


def test_twenty_requests_at_once_under_one_key_act_once(sign_in: SignIn, service: Service) -> None:
    client = sign_in("emil")
    made = client.post(f"{V1}/materials", json=MATERIAL)
    assert made.status_code == 201
    lot = {"material_code": "LGPS", "quantity": "500", "unit": "mg"}
    olga = sign_in("olga")
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: olga.post(f"{V1}/lots", json=lot, headers={"Idempotency-Key": "k"}), range(20))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replay" not in answer.headers for answer in answers) == 1
    assert count(service, "SELECT COUNT(*) FROM lots") == 1
    assert count(service, "SELECT COUNT(*) FROM audit_events WHERE kind = 'lot.received'") == 1
    assert verify(service.database).intact


def test_an_act_that_was_refused_leaves_its_key_free(sign_in: SignIn) -> None:
    emil, headers = sign_in("emil"), {"Idempotency-Key": "k"}
    problem(
        emil.post(f"{V1}/lots", json={"material_code": "LGPS", "quantity": "5", "unit": "mg"}, headers=headers), 404
    )
    emil.post(f"{V1}/materials", json=MATERIAL)
    again = emil.post(f"{V1}/lots", json={"material_code": "LGPS", "quantity": "5", "unit": "mg"}, headers=headers)
    assert again.status_code == 201


def test_a_process_that_dies_before_the_commit_has_neither_acted_nor_used_the_key(service: Service) -> None:
    actor = system_actor("test")

    class Killed(BaseException):
        """Like a process that ends here."""

    def acting() -> Acting:
        return Acting(service.database, actor, "k", "POST /x", fingerprint("POST", "/x", "", None, b""), None)

    def act(dies: bool) -> None:
        with acting().write() as record:
            define_material(record, "LGPS", "LGPS", MaterialKind.ELECTROLYTE_POWDER, "mg")
            if dies:
                raise Killed

    with pytest.raises(Killed):
        act(dies=True)
    assert (
        count(service, "SELECT COUNT(*) FROM materials")
        == count(service, "SELECT COUNT(*) FROM idempotency_keys")
        == 0
    )
    act(dies=False)
    assert count(service, "SELECT COUNT(*) FROM materials") == 1


def test_an_answer_without_content_is_given_again_too(sign_in: SignIn) -> None:
    ada, headers = sign_in("ada"), {"Idempotency-Key": "k"}
    ada.post(f"{V1}/tokens", json={"name": "bot", "roles": ["operator"], "scopes": ["lot.*"]})
    for _ in range(2):
        answer = ada.post(f"{V1}/tokens/bot:revoke", json={"reason": "not needed"}, headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")


def test_the_secret_of_a_token_is_shown_once_and_kept_nowhere(sign_in: SignIn, service: Service) -> None:
    ada, headers = sign_in("ada"), {"Idempotency-Key": "k"}
    body = {"name": "bot", "roles": ["operator"], "scopes": ["lot.*"]}
    secret = ada.post(f"{V1}/tokens", json=body, headers=headers).json()["secret"]
    assert ada.post(f"{V1}/tokens", json=body, headers=headers).json()["secret"] == ""
    with service.database.connect() as connection:
        (kept,) = connection.execute(text("SELECT body FROM idempotency_keys WHERE key = 'k'")).scalars()
    assert secret.encode() not in bytes(kept)


def test_the_key_of_one_person_is_nothing_to_another(sign_in: SignIn) -> None:
    headers = {"Idempotency-Key": "k"}
    sign_in("emil").post(f"{V1}/materials", json=MATERIAL, headers=headers)
    other = sign_in("erika").post(f"{V1}/materials", json={**MATERIAL, "code": "LPS"}, headers=headers)
    assert other.status_code == 201


def test_the_same_key_with_another_file_is_refused(sign_in: SignIn) -> None:
    olga, headers = sign_in("olga"), {"Idempotency-Key": "k"}
    first, again, other = (
        olga.post(f"{V1}/attachments", files={"file": ("sem.tif", content)}, headers=headers)
        for content in (b"one", b"one", b"two")
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    problem(other, 409)
    assert other.json()["type"] == "urn:argonaut:problem:idempotency_key_reused"
    renamed = olga.post(f"{V1}/attachments", files={"file": ("xrd.tif", b"one")}, headers=headers)
    problem(renamed, 409)


def test_keys_are_forgotten_after_their_time(sign_in: SignIn, service: Service) -> None:
    sign_in("emil").post(f"{V1}/materials", json=MATERIAL, headers={"Idempotency-Key": "old"})
    housekeeping = system_actor("housekeeping")
    assert forget_keys(service.database, housekeeping, wall_now() - timedelta(days=7)) == 0
    assert forget_keys(service.database, housekeeping, wall_now() + timedelta(seconds=1)) == 1
    assert count(service, "SELECT COUNT(*) FROM idempotency_keys") == 0
