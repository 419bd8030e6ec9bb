"""What QA takes away over HTTP: the trail in each form, counted, filtered, verified; that it was taken is on it."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import orjson
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.service import Service
from tests.api.builders import V1, Json, Lab, problem
from tests.api.conftest import SignIn
from traceability.canonical import sha256_hex


@pytest.fixture
def quentin(sign_in: SignIn) -> TestClient:
    return sign_in("quentin")


@pytest.fixture
def lots(lab: Lab) -> list[str]:
    """Two lots that olga received; QA released the first."""
    return [lab.lot("LGPS", "500", "mg"), lab.lot("LI-DISC-10", released=False)]


def export(client: TestClient, form: str, **chosen: str) -> bytes:
    answer = client.get(f"{V1}/audit/export", params={"form": form, **chosen})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].startswith("attachment")
    return answer.content


def counted(client: TestClient, **chosen: str) -> int:
    return int(client.get(f"{V1}/audit/count", params=chosen).json()["count"])


def test_the_trail_as_csv_has_a_row_for_each_chosen_event(quentin: TestClient, lots: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(export(quentin, "csv", kind="lot.*").decode("utf-8-sig"))))
    assert [(row["kind"], row["actor"]) for row in rows] == [
        ("lot.received", "olga"),
        ("lot.released", "quentin"),
        ("lot.received", "olga"),
    ]
    assert counted(quentin, kind="lot.*") == 3


def test_the_trail_as_ndjson_holds_events_that_hash_to_what_they_say(quentin: TestClient, lots: list[str]) -> None:
    lines = [orjson.loads(line) for line in export(quentin, "ndjson", item=lots[0]).splitlines()]
    assert [line["event"]["kind"] for line in lines] == ["lot.received", "lot.released"]
    listed = quentin.get(f"{V1}/audit/events", params={"item": lots[0]}).json()["items"]
    assert [event["hash"] for event in reversed(listed)] == [line["hash"] for line in lines]
    assert counted(quentin, item=lots[0]) == len(lines)


def test_an_actor_and_a_time_choose_events(quentin: TestClient, lots: list[str], service: Service) -> None:
    now = service.clock.now().isoformat()
    assert counted(quentin, actor_name="olga", kind="lot.*") == 2
    assert counted(quentin, until=now) == counted(quentin) > 3
    assert counted(quentin, since=now) == 0
    assert export(quentin, "ndjson", since=now, kind="lot.*") == b""


@pytest.mark.parametrize("chosen", [{}, {"actor_name": "olga"}], ids=["everything", "a selection"])
def test_a_bundle_is_verified_by_the_script_in_it(
    quentin: TestClient, lots: list[str], tmp_path: Path, chosen: Json
) -> None:
    events = counted(quentin, **chosen)
    with zipfile.ZipFile(io.BytesIO(export(quentin, "bundle", **chosen))) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-I", "-S", str(tmp_path / "verify_export.py")]

    def verified() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = verified()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "INTACT"), done.stdout + done.stderr
    assert f"events: {events}" in done.stdout
    assert ("gaps between them are not checked" in done.stdout) == bool(chosen)
    trail = tmp_path / "audit_trail.ndjson"
    trail.write_bytes(trail.read_bytes().replace(b'"olga"', b'"otto"', 1))
    assert verified().returncode == 1


def test_an_export_is_on_the_trail_with_its_reason_and_filter(quentin: TestClient, lots: list[str]) -> None:
    content = export(quentin, "ndjson", kind="lot.*", reason="yearly audit")
    (event,) = quentin.get(f"{V1}/audit/events", params={"kind": "audit.exported"}).json()["items"]
    assert (event["actor"], event["reason"]) == ("quentin", "yearly audit")
    assert event["detail"]["filter"]["kind"] == "lot.*"
    assert event["detail"]["format"] == "ndjson"
    assert event["detail"]["count"] == len(content.splitlines())


def test_an_operator_takes_nothing_away(lab: Lab, quentin: TestClient) -> None:
    for path in ("export", "count", "events"):
        assert "role_missing" in problem(lab.olga.get(f"{V1}/audit/{path}"), 403)
    assert "role_missing" in problem(lab.olga.post(f"{V1}/audit:verify"), 403)
    assert counted(quentin, kind="audit.*") == 0


def test_a_form_that_nobody_knows_is_a_mistake(quentin: TestClient) -> None:
    findings = problem(quentin.get(f"{V1}/audit/export", params={"form": "xlsx"}), 422)
    assert findings["string_pattern_mismatch"]["path"] == "query.form"


def test_an_edited_row_is_found_and_the_verification_is_recorded(
    quentin: TestClient, lots: list[str], service: Service
) -> None:
    intact = quentin.post(f"{V1}/audit:verify").json()
    assert (intact["intact"], intact["count"], intact["discrepancies"]) == (True, 0, [])
    assert intact["events"] > 3
    with service.database.engine.begin() as connection:
        edit = text("UPDATE materials SET name = 'something else' WHERE code = 'LGPS'")
        assert connection.execute(edit).rowcount == 1
    found = quentin.post(f"{V1}/audit:verify").json()
    assert (found["intact"], found["count"]) == (False, 1)
    (discrepancy,) = found["discrepancies"]
    assert (discrepancy["table"], discrepancy["column"]) == ("materials", "name")
    assert (discrepancy["expected"], discrepancy["found"]) == ("LGPS", "something else")
    assert "something else" in discrepancy["message"]
    assert counted(quentin, kind="audit.verified") == 2


def test_the_history_of_a_lot_names_its_hash_on_the_trail(quentin: TestClient, lots: list[str]) -> None:
    answer = quentin.get(f"{V1}/items/{lots[0]}/history")
    assert answer.json()["serial"] == lots[0]
    (event,) = quentin.get(f"{V1}/audit/events", params={"kind": "history.exported"}).json()["items"]
    assert event["detail"]["sha256"] == answer.json()["sha256"]
    assert len(event["detail"]["sha256"]) == len(sha256_hex(b""))
