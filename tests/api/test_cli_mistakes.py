"""A mistake at the shell ends in one sentence that names it and in status 1, never in a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, *command: str, **settings: str) -> str:
    """The complaint of a command that must fail, on one line."""
    environment = {"PATH": os.defpath, "ARGONAUT_DATA_FOLDER": str(folder), "COLUMNS": "400", **settings}
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    assert "ARGONAUT_PORT: Input should be less than or equal to 65535" in run(
        tmp_path, "serve", ARGONAUT_PORT="70000"
    )


def test_half_a_key_pair_is_refused(tmp_path: Path) -> None:
    assert "go together" in run(tmp_path, "serve", ARGONAUT_TLS_CERTIFICATE="cert.pem")


def test_a_line_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/no.yaml can't be read: No such file" in run(
        tmp_path, "users", "list", ARGONAUT_LINE_FILE=f"{tmp_path}/no.yaml"
    )


def test_a_data_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file/var can't be used" in run(tmp_path / "file" / "var", "users", "list")


def test_a_shared_clock_that_is_not_there_is_named(tmp_path: Path) -> None:
    clock = tmp_path / "clock.json"
    assert f"{clock} can't be read" in run(tmp_path, "users", "list", ARGONAUT_CLOCK_FILE=str(clock))
    clock.write_text("[]")
    assert "has no segment" in run(tmp_path, "users", "list", ARGONAUT_CLOCK_FILE=str(clock))


@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_a_database_that_does_not_answer_is_said(tmp_path: Path, command: str, free_port: int) -> None:
    nobody = f"postgresql+psycopg://argonaut:hush@127.0.0.1:{free_port}/argonaut"
    said = run(tmp_path, command, ARGONAUT_DATABASE_URL=nobody, ARGONAUT_PORT="0")
    assert "The database did not take it" in said
    assert "hush" not in said


def test_a_url_that_names_no_database_is_not_repeated(tmp_path: Path) -> None:
    said = run(tmp_path, "migrate", ARGONAUT_DATABASE_URL="oracle9:hush@there")
    assert "postgresql+psycopg://user@host/database" in said
    assert "hush" not in said


def test_an_empty_database_asks_for_a_migration(tmp_path: Path) -> None:
    assert "run `argonaut migrate`" in run(tmp_path, "users", "list")


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        assert f"Port {port} on 127.0.0.1 is in use" in run(tmp_path, "serve", ARGONAUT_PORT=port)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no.pem" in run(tmp_path, "certs", "show", f"{tmp_path}/no.pem")
