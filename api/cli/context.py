"""What every command has in common: settings, the record, who acts, and how an error leaves."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from api.migration import require_newest_schema
from api.service import Service
from api.settings import Settings
from traceability.acts import Actor
from traceability.errors import ArgonautError, StorageFailed

out = Console(soft_wrap=True)
err = Console(stderr=True)


def shell_actor() -> Actor:
    """Whoever is at the shell of the host: trusted as the operating system trusts them, and named on the trail."""
    user = getpass.getuser()
    return Actor(name=f"shell:{user}", full_name=user, terminal="shell", system=True)


def read_settings(*, runs_line: bool = True) -> Settings:
    """The settings of the environment and `.env`; a wrong one ends the command with its name and what is wrong.

    Args:
        runs_line: As set; False for a command that drives no tools and runs no jobs.
    """
    try:
        return Settings() if runs_line else Settings(drive_tools=False, run_jobs=False)
    except ValidationError as error:
        for problem in error.errors():
            name = "ARGONAUT_" + "_".join(str(part) for part in problem["loc"]).upper()
            err.print(f"  {name}: {problem['msg']}", highlight=False, markup=False)
        raise fail("The settings are wrong; correct them in the environment or in .env.") from error


def make_service(settings: Settings) -> Service:
    """A service from settings; what stands in its way is said in one sentence."""
    try:
        return Service(settings)
    except StorageFailed as error:
        raise fail(error.message) from error
    except OSError as error:
        raise fail(f"The data folder {settings.data_folder} can't be used: {error.strerror}.") from error


@contextmanager
def opened() -> Iterator[Service]:
    """A service that drives nothing, on a record with the newest schema."""
    service = make_service(read_settings(runs_line=False))
    try:
        require_newest_schema(service.database)
        yield service
    finally:
        service.database.close()


def fail(message: str) -> typer.Exit:
    """Say what is wrong in one sentence and end with status 1."""
    err.print("[red]argonaut:[/]", escape(message), highlight=False)
    return typer.Exit(1)


def explain(error: ArgonautError) -> typer.Exit:
    """Say what is wrong and what to do about it."""
    for finding in error.findings:
        line = f"  {finding.path or finding.code}: {finding.message} {finding.action}"
        err.print(line, highlight=False, markup=False)
    return fail(error.message)
