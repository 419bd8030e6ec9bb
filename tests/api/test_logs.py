"""Logs are one event a line, and nothing in them is secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import orjson
import pytest
import structlog

from api.logs import set_up_logs
from api.settings import Settings


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Give logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_in_the_log_tells_no_values(
    log_format: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logs(Settings(log_format=log_format))
    password = "correct horse" + " battery"
    try:
        int(password[:0])
    except ValueError:
        structlog.get_logger("test").exception("unexpected_error")
    written = capsys.readouterr().err
    assert "unexpected_error" in written
    assert "ValueError" in written
    assert password not in written


@pytest.mark.usefixtures("own_logging")
def test_every_library_logs_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(Settings(log_format="json"))
    logging.getLogger("some.library").warning("line one\nline two")
    structlog.get_logger("test").info("run_started", run="RUN-1")
    first, second = (orjson.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["event"]) == ("warning", "some.library", "line one\nline two")
    assert (second["event"], second["run"]) == ("run_started", "RUN-1")
