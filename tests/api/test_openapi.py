"""The published document: as the code is, fit for generators, and true of what the service answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from api.app import create_app
from api.errors import PROBLEM_MEDIA_TYPE
from api.openapi import ROOT, as_bytes, service_document
from api.service import Service
from tests.api.builders import V1
from tests.api.conftest import SignIn

OPEN = {"/healthz", "/readyz"}
ENDLESS = f"{V1}/events"
READS = {f"{V1}/recipes:validate", f"{V1}/recipes:predict", f"{V1}/tools/{{name}}:check"}
"""Requests that are no GET and change nothing all the same."""

FEW = settings(
    max_examples=2,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return service_document()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_published_document_is_up_to_date(document: dict[str, Any]) -> None:
    kept = Path(ROOT / "openapi.json").read_bytes()
    assert kept == as_bytes(document), "the API has changed; run `make openapi` and look at the difference"


def test_every_operation_has_a_name_of_its_own_for_generated_clients(document: dict[str, Any]) -> None:
    names = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert [name for name, times in names.items() if times > 1 or not name.isidentifier()] == []


def test_every_operation_says_what_it_does_and_what_belongs_together(document: dict[str, Any]) -> None:
    assert [
        f"{method} {path}"
        for path, method, operation in operations(document)
        if not operation.get("description") or not operation.get("tags")
    ] == []


def test_every_operation_tells_its_problems_in_one_form(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if path in OPEN:
            continue
        responses = operation["responses"]
        assert {"400", "401", "403", "404", "409", "412", "413", "422", "429", "503"} <= responses.keys(), (
            f"{method} {path}"
        )
        for status, response in responses.items():
            if status >= "400":
                assert list(response["content"]) == [PROBLEM_MEDIA_TYPE], f"{method} {path} {status}"


def test_what_acts_may_bring_an_idempotency_key(document: dict[str, Any]) -> None:
    """All but what acts once by its nature: signing in and out, files by their hash, a verification, dry runs."""
    without = {
        path
        for path, method, operation in operations(document)
        if method in {"post", "put", "patch", "delete"}
        and not any(p["name"].lower() == "idempotency-key" for p in operation.get("parameters", ()))
    }
    assert without - READS <= {
        f"{V1}/sessions",
        f"{V1}/sessions/current",
        f"{V1}/sessions/current:change-password",
        f"{V1}/blobs/{{sha256}}",
        f"{V1}/audit:verify",
    }


def test_requests_made_up_from_the_document_are_never_a_mistake_of_ours(service: Service, sign_in: SignIn) -> None:
    bearer = {"Authorization": str(sign_in("quentin").headers["Authorization"])}
    schema = schemathesis.openapi.from_asgi(f"{V1}/openapi.json", create_app(service))
    asked = 0

    def ask(case: schemathesis.Case) -> None:
        nonlocal asked
        asked += 1
        answer = case.call(headers=bearer)
        assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.text}"

    for made in schema.get_all_operations():
        operation = made.ok()
        if operation.path != ENDLESS and (operation.method == "get" or operation.path in READS):
            for mode in GenerationMode:
                # A request without any part can't be made wrong.
                with suppress(*[Unsatisfiable] * (mode is GenerationMode.NEGATIVE)):
                    FEW(given(case=operation.as_strategy(generation_mode=mode))(ask))()
    assert asked > 100
