"""What stands in the way of a command is said in a sentence and status 1: no traceback, and nothing is begun.

Commands run in processes forked from a server that has everything imported already, with their settings in `.env`.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from api.cli.application import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.system.test_bad_starts"])
STANDARD_LINE = """
site: test
tools:
- {name: PR1, class: glovebox_press, endpoint: "opc.tcp://127.0.0.1:1/", namespace_uri: "urn:test:PR1"}
"""


def _run(folder: Path, arguments: tuple[str, ...]) -> None:
    os.chdir(folder)
    with (folder / "output").open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv = ["argonaut", *arguments]
    main()


class Shell:
    """A folder with a line file and settings in which commands are given."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.set(port=port, data_folder="var")
        (folder / "deploy").mkdir()
        (folder / "deploy" / "line.yaml").write_text(STANDARD_LINE)

    def set(self, **settings: object) -> None:
        with (self.folder / ".env").open("a") as file:
            file.writelines(f"ARGONAUT_{name.upper()}={value}\n" for name, value in settings.items())

    def fails(self, *arguments: str) -> str:
        """What a command that must fail says, on one line."""
        process = _CONTEXT.Process(target=_run, args=(self.folder, arguments), daemon=True)
        process.start()
        process.join(30)
        alive = process.is_alive()
        process.kill()
        said = (self.folder / "output").read_text()
        assert not alive, f"argonaut {' '.join(arguments)} did not end: {said}"
        assert process.exitcode == 1, said
        assert "Traceback" not in said
        return " ".join(said.split())

    def database(self, *statements: str) -> None:
        (self.folder / "var").mkdir()
        with closing(sqlite3.connect(self.folder / "var" / "argonaut.db")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()


@pytest.fixture
def shell(tmp_path: Path, free_port: int) -> Shell:
    return Shell(tmp_path, free_port)


@pytest.fixture
def busy_port(free_port: int) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", free_port)):
        yield free_port


def test_a_busy_port_is_named(shell: Shell, busy_port: int) -> None:
    for command in (("serve",), ("demo", "--once", "--port", str(busy_port))):
        assert f"Port {busy_port}" in shell.fails(*command)
    assert not (shell.folder / "var").exists()


def test_a_simulated_tester_that_cannot_listen_says_so(shell: Shell, busy_port: int) -> None:
    tester = {"name": "LAND1", "kind": "land", "url": f"http://127.0.0.1:{busy_port}", "channels": 1}
    line = {"site": "test", "testers": [tester | {"capabilities": ["cycling"]}]}
    (shell.folder / "deploy" / "line.yaml").write_text(yaml.safe_dump(line))
    assert f"Port {busy_port}" in shell.fails("simulate", "--testers")


def test_a_foreign_folder_is_left_alone_by_the_demonstration(shell: Shell) -> None:
    foreign = shell.folder / "thesis"
    foreign.mkdir()
    (foreign / "chapter-1.txt").write_text("Introduction")
    said = shell.fails("demo", "--once", "--port", str(shell.port), "--folder", str(foreign))
    assert "holds something else than a demonstration" in said
    assert [file.name for file in foreign.iterdir()] == ["chapter-1.txt"]


def test_a_folder_that_cannot_be_written_is_named(shell: Shell) -> None:
    # A file where a folder should be stops even root.
    (shell.folder / "file").write_text("")
    folder = shell.folder / "file" / "demo"
    said = shell.fails("demo", "--once", "--port", str(shell.port), "--folder", str(folder))
    assert "can't be written" in said
    shell.set(data_folder=folder)
    said = shell.fails("serve")
    assert "data folder" in said
    assert "can't be used" in said


@pytest.mark.parametrize(
    ("setting", "value"), [("port", "abc"), ("port", "99999"), ("log_level", "loud"), ("session_hours", "0")]
)
def test_a_wrong_setting_is_named(shell: Shell, setting: str, value: str) -> None:
    shell.set(**{setting: value})
    for command in (("serve",), ("migrate",), ("audit", "verify")):
        assert f"ARGONAUT_{setting.upper()}" in shell.fails(*command)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read"),
        ("tools: [", "no YAML"),
        ("site: test\ntools: [{name: RH450}]\n", "tools"),
        ("just words", "line.yaml"),
    ],
)
def test_a_line_file_that_cannot_be_understood_is_named(shell: Shell, content: str | None, words: str) -> None:
    file = shell.folder / "deploy" / "line.yaml"
    file.unlink()
    if content is not None:
        file.write_text(content)
    for command in (("serve",), ("simulate", "--tools")):
        said = shell.fails(*command)
        assert "line.yaml" in said
        assert words in said


def test_a_record_without_a_schema_is_not_read(shell: Shell) -> None:
    assert "argonaut migrate" in shell.fails("audit", "verify")


def test_an_outdated_schema_is_not_served(shell: Shell) -> None:
    shell.database(
        "CREATE TABLE alembic_version (version_num VARCHAR)", "INSERT INTO alembic_version VALUES ('0000')"
    )
    said = shell.fails("serve")
    assert "at revision 0000" in said
    assert "argonaut migrate" in said


def test_a_schema_that_no_version_knows_is_not_migrated(shell: Shell) -> None:
    shell.database(
        "CREATE TABLE alembic_version (version_num VARCHAR)", "INSERT INTO alembic_version VALUES ('beef')"
    )
    assert "beef" in shell.fails("migrate")


def test_a_file_that_is_no_database_is_not_opened(shell: Shell) -> None:
    (shell.folder / "var").mkdir()
    (shell.folder / "var" / "argonaut.db").write_text("dear diary, today nothing was sputtered")
    assert "not a database" in shell.fails("serve")


@pytest.mark.parametrize("url", ["nonsense", "postgresql+psycopg://nobody@127.0.0.1:1/nothing"])
def test_a_database_that_cannot_be_reached_is_named(shell: Shell, url: str) -> None:
    shell.set(database_url=url)
    assert "database" in shell.fails("serve").lower()


def test_a_clock_file_that_is_not_there_is_named(shell: Shell) -> None:
    missing = shell.folder / "clock.json"
    assert "clock" in shell.fails("simulate", "--tools", "--clock", str(missing))
    shell.set(clock_file=missing)
    assert "clock" in shell.fails("serve")
