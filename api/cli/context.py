"""What every command has in common: settings, the record, who acts, and how an error leaves."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from api.migration import require_newest_schema
from api.service import Service
from api.settings import Settings
from traceability.acts import Actor
from traceability.errors import ArgonautError

out = Console()
err = Console(stderr=True)


def shell_actor() -> Actor:
    """Whoever is at the shell of the host: trusted as the operating system trusts them, and named on the trail."""
    user = getpass.getuser()
    return Actor(name=f"shell:{user}", full_name=user, terminal="shell", system=True)


@contextmanager
def opened() -> Iterator[Service]:
    """A service that drives nothing, on a record with the newest schema."""
    service = Service(Settings(drive_tools=False, run_jobs=False))
    try:
        require_newest_schema(service.database)
        yield service
    finally:
        service.database.close()


def fail(message: str) -> typer.Exit:
    """Say what is wrong in one sentence and end with status 1."""
    err.print(f"[red]argonaut:[/] {message}", highlight=False)
    return typer.Exit(1)


def explain(error: ArgonautError) -> typer.Exit:
    """Say what is wrong and what to do about it."""
    for finding in error.findings:
        err.print(f"  {finding.path or finding.code}: {finding.message} {finding.action}", highlight=False)
    return fail(error.message)
