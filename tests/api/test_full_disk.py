"""A request on a full disk is answered with what to do, keeps nothing, and acts once when there is room again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from httpx2 import Response
from sqlalchemy import event, text

from api.service import Service
from tests.api.builders import V1, problem
from tests.api.conftest import SignIn
from traceability.verification import verify

MOST_REQUESTS = 500
UNLIMITED = 2**30


class Disk:
    """The room that SQLite has: it refuses to grow the file with the error that a full disk gives."""

    def __init__(self, service: Service) -> None:
        self.pages = UNLIMITED
        event.listen(service.database.engine, "checkout", self._limit)

    def _limit(self, connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {self.pages}")


@pytest.fixture
def schema_url(sqlite_template: Path, tmp_path: Path) -> str:
    """SQLite alone: its file can be kept from growing."""
    file = tmp_path / "argonaut.db"
    file.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{file}"


def count(service: Service, table: str) -> int:
    with service.database.connect() as connection:
        return int(connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())


def test_a_full_disk_is_said_and_the_repeated_request_acts_once(service: Service, sign_in: SignIn) -> None:
    emil = sign_in("emil")

    def define(number: int) -> Response:
        material = {"code": f"M{number}", "name": "x" * 100, "kind": "hardware", "unit": "piece", "properties": {}}
        return emil.post(f"{V1}/materials", json=material, headers={"Idempotency-Key": f"define-{number}"})

    disk, kept = Disk(service), 0
    events = count(service, "audit_events")
    disk.pages = 1  # SQLite takes this for: no page more than there are.
    while (answer := define(kept)).status_code == 201:
        kept += 1
        assert kept < MOST_REQUESTS
    problem(answer, 503)
    assert answer.json()["type"] == "urn:argonaut:problem:storage_failed"
    assert "The disk is full" in answer.json()["detail"]
    assert "nothing was kept. Free some room and try again." in answer.json()["detail"]
    assert emil.get(f"{V1}/materials/M{kept}").status_code == 404
    assert [count(service, table) for table in ("materials", "idempotency_keys")] == [kept, kept]
    assert count(service, "audit_events") == events + kept
    assert verify(service.database).intact

    disk.pages = UNLIMITED
    first, again = define(kept), define(kept)
    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert first.content == again.content
    assert count(service, "materials") == kept + 1
    assert count(service, "audit_events") == events + kept + 1
    assert verify(service.database).intact
