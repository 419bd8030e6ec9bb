"""The command line at work on one small record: each command does what it says and its act is on the trail."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.cli.application import app
from api.migration import newest_revision
from api.service import Service
from api.settings import Settings
from equipment.simulators.cell import simulate
from equipment.simulators.cell_law import CellTruth
from equipment.simulators.land_writer import ExportHeading, write_land_csv
from equipment.testers.records import CyclingSteps
from tests.traceability.line import LINE, define_materials, receive

LINE_FILE = Path(__file__).parents[2] / "deploy" / "line.yaml"
PASSWORD = "copper kettle seven"
PASSPHRASE = "twelve green bottles"

Argonaut = Callable[..., Result]


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the record is, as the environment says."""
    folder = tmp_path / "var"
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATA_FOLDER": folder, "LINE_FILE": LINE_FILE, "DATABASE_URL": ""}.items():
        monkeypatch.setenv(f"ARGONAUT_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def argonaut(data_folder: Path) -> Argonaut:
    """Runs a command at the shell; a command is expected to end with status 0 unless it is said otherwise."""

    def run(*command: str | Path, status: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in command], catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that `argonaut migrate` made, with nothing in it."""
    folder = tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARGONAUT_DATA_FOLDER", str(folder))
        patch.setenv("ARGONAUT_DATABASE_URL", "")
        patch.setenv("ARGONAUT_LINE_FILE", str(LINE_FILE))
        assert CliRunner().invoke(app, ["migrate"]).exit_code == 0
    return folder / "argonaut.db"


@pytest.fixture
def olga(argonaut: Argonaut, data_folder: Path, migrated: Path) -> str:
    """The one person on the record, added at the shell."""
    data_folder.mkdir()
    shutil.copyfile(migrated, data_folder / "argonaut.db")
    add(argonaut, "olga", "operator", "--trained-for", "glovebox_press")
    return "olga"


def add(argonaut: Argonaut, name: str, role: str, *more: str) -> None:
    full_name = f"{name.title()} Example"
    command = ("users", "add", name, "--password", PASSWORD, "--full-name", full_name, "--role", role)
    assert f"Added {name}." in argonaut(*command, *more).stdout


def events(argonaut: Argonaut, *chosen: str) -> list[dict[str, str]]:
    """The trail as the shell exports it."""
    return list(csv.DictReader(io.StringIO(argonaut("export", "--form", "csv", *chosen).stdout)))


def change_behind_the_back(data_folder: Path, statement: str) -> None:
    """What somebody with access to the file can do."""
    connection = sqlite3.connect(data_folder / "argonaut.db")
    with connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


def land_file(folder: Path) -> Path:
    file = folder / "cell.csv"
    started = datetime(2026, 3, 2, tzinfo=UTC)
    heading = ExportHeading("CEL-000001-X", "LAND1-1", "1-1", "CT2001A-7", started)
    batches = simulate(
        CellTruth((200.0, 200.0)), CyclingSteps(0.1, 0.1), 7, started_unix_s=started.timestamp(), until_h=4.0
    )
    with file.open("w", encoding="utf-8", newline="") as stream:
        assert write_land_csv(stream, batches, heading) > 0
    return file


def test_an_empty_database_is_brought_up_to_date_once(argonaut: Argonaut, data_folder: Path) -> None:
    assert f"schema empty → {newest_revision()}" in argonaut("migrate").stdout
    assert (data_folder / "argonaut.db").is_file()
    assert "nothing to do" in argonaut("migrate").stdout


def test_a_person_is_added_listed_and_deactivated(argonaut: Argonaut, olga: str) -> None:
    (line,) = (line for line in argonaut("users", "list").stdout.splitlines() if olga in line)
    assert all(part in line for part in ("Olga Example", "operator", "glovebox_press", "active"))
    add(argonaut, "ada", "admin")
    argonaut("users", "deactivate", olga, "--reason", "left the lab")
    (line,) = (line for line in argonaut("users", "list").stdout.splitlines() if olga in line)
    assert "deactivated" in line
    (event,) = events(argonaut, "--kind", "user.deactivated")
    assert event["reason"] == "left the lab"
    assert event["actor"].startswith("shell:")


def test_a_locked_person_is_unlocked(argonaut: Argonaut, olga: str, data_folder: Path) -> None:
    change_behind_the_back(data_folder, "UPDATE users SET locked_at = '2026-03-02 08:00:00.000000'")
    assert "locked" in argonaut("users", "list").stdout
    assert "Unlocked olga." in argonaut("users", "unlock", olga, "--reason", "seen in person").stdout
    assert "locked" not in argonaut("users", "list").stdout


def test_a_token_is_issued_with_its_secret_and_revoked(argonaut: Argonaut, olga: str) -> None:
    issued = argonaut("tokens", "issue", "bot", "--role", "operator", "--scope", "lot.*", "--days", "7")
    (secret,) = issued.stdout.split()
    assert len(secret) > 40
    assert "Revoked bot." in argonaut("tokens", "revoke", "bot", "--reason", "not needed").stdout
    trail = argonaut("export", "--form", "ndjson", "--kind", "token.*").stdout
    assert len(trail.splitlines()) == 2
    assert secret not in trail


def test_a_certificate_is_made_and_shown_with_the_same_fingerprint(argonaut: Argonaut, tmp_path: Path) -> None:
    made = argonaut("certs", "make", "mes", "--folder", tmp_path / "certs").stdout
    certificate, fingerprint = made.splitlines()
    assert argonaut("certs", "show", certificate).stdout.strip() == fingerprint
    again = argonaut("certs", "make", "mes", "--folder", tmp_path / "certs", status=1)
    assert "has a key of mes already" in " ".join(again.stderr.split())


def test_the_tools_of_the_line_are_listed(argonaut: Argonaut) -> None:
    listed = argonaut("tools", "list").stdout
    for part in ("RH450", "PR1", "rf_magnetron_sputter", "glovebox_press", "opc.tcp://127.0.0.1:4840/", "LAND1"):
        assert part in listed


def test_an_intact_record_is_signed_and_verified_by_the_key(argonaut: Argonaut, olga: str, tmp_path: Path) -> None:
    key = tmp_path / "qa.pem"
    assert "public key" in argonaut("audit", "key", key, "--passphrase", PASSPHRASE).stdout
    assert PASSPHRASE not in key.read_text()
    argonaut("audit", "checkpoint", "--key", key, "--passphrase", PASSPHRASE, "--folder", tmp_path / "kept")
    (checkpoint,) = (tmp_path / "kept").iterdir()
    (public,) = (file for file in tmp_path.glob("qa*") if file != key)
    verified = argonaut("audit", "verify", "--checkpoint", checkpoint, "--key", public).stdout
    assert "intact" in verified
    assert "2 events" in verified
    other = tmp_path / "other.pem"
    argonaut("audit", "key", other, "--passphrase", PASSPHRASE)
    (stranger,) = (file for file in tmp_path.glob("other*") if file != other)
    forged = argonaut("audit", "verify", "--checkpoint", checkpoint, "--key", stranger, status=1)
    assert "is not signed with this key" in " ".join(forged.stderr.split())


def test_a_row_edited_in_the_file_is_named_with_status_1(argonaut: Argonaut, olga: str, data_folder: Path) -> None:
    assert "intact" in argonaut("audit", "verify").stdout
    change_behind_the_back(data_folder, "UPDATE users SET full_name = 'Otto Example' WHERE name = 'olga'")
    said = " ".join(argonaut("audit", "verify", status=1).stderr.split())
    assert "NOT INTACT, 1 discrepancies" in said
    for part in ("users [1]: full_name", "Olga Example", "Otto Example"):
        assert part in said


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_a_selection_of_the_trail_goes_into_a_file(argonaut: Argonaut, olga: str, tmp_path: Path, form: str) -> None:
    argonaut("tokens", "issue", "bot", "--role", "operator", "--scope", "lot.*")
    file = tmp_path / f"trail.{form}"
    said = argonaut("export", "--form", form, "--kind", "user.*", "--reason", "for the audit", "-o", file).stdout
    assert "1 events" in said
    content = file.read_text("utf-8")
    assert "user.created" in content
    assert "token.issued" not in content
    (exported,) = events(argonaut, "--kind", "audit.exported")
    assert exported["reason"] == "for the audit"


def test_a_bundle_is_verified_by_the_script_in_it(argonaut: Argonaut, olga: str, tmp_path: Path) -> None:
    file = tmp_path / "trail.zip"
    argonaut("export", "--until", "2999-01-01", "-o", file)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path / "unpacked")
    script = tmp_path / "unpacked" / "verify_export.py"
    command = [sys.executable, "-I", "-S", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "INTACT"), done.stderr


def test_a_form_that_nobody_knows_is_refused(argonaut: Argonaut, olga: str) -> None:
    assert "use csv, ndjson or bundle" in argonaut("export", "--form", "xlsx", status=1).stderr


def test_the_history_of_a_thing_is_one_document(argonaut: Argonaut, olga: str, tmp_path: Path) -> None:
    service = Service(Settings(drive_tools=False, run_jobs=False))
    define_materials(service.database)
    with service.database.write(LINE) as record:
        serial = receive(record, "LGPS", "500", "mg").serial
    service.database.close()
    file = tmp_path / "history.json"
    assert serial in argonaut("history", serial, "-o", file).stdout
    kept, printed = (json.loads(text) for text in (file.read_bytes(), argonaut("history", serial).stdout))
    assert kept["serial"] == printed["serial"] == serial
    assert kept.keys() == printed.keys()


def test_a_testers_file_is_tried_against_the_profiles(argonaut: Argonaut, tmp_path: Path) -> None:
    tried = argonaut("results", "try", land_file(tmp_path)).stdout
    assert "profile land" in tried
    assert "Voltage/V → voltage_volt" in tried
    stranger = tmp_path / "shopping.csv"
    stranger.write_text("milk,2\nbread,1\n")
    assert "No profile matches" in " ".join(argonaut("results", "try", stranger, status=1).stderr.split())
