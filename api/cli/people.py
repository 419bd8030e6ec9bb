"""`argonaut users` and `argonaut tokens`: who may act. The first administrator is made here."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from sqlmodel import select

from api.cli.context import opened, out, shell_actor
from traceability import tokens as api_tokens
from traceability import users as people
from traceability.acts import Role
from traceability.clock import wall_now
from traceability.users import User

users = typer.Typer(help="People: add, list, unlock, deactivate.", no_args_is_help=True)
tokens = typer.Typer(help="Tokens of machines: issue, revoke.", no_args_is_help=True)

Password = Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)]
Why = Annotated[str, typer.Option("--reason", help="Why; it goes on the record.")]


@users.command("add")
def add_user(
    name: str,
    password: Password,
    full_name: Annotated[str, typer.Option(help="Printed on signatures.")],
    role: Annotated[list[Role], typer.Option(help="May be given several times.")],
    trained_for: Annotated[list[str] | None, typer.Option(help="Equipment class the person may run.")] = None,
) -> None:
    """Add a person with a temporary password, changed at the first sign-in."""
    with opened() as service, service.database.write(shell_actor()) as record:
        people.create_user(
            record, name=name, full_name=full_name, password=password, roles=role, trained_for=trained_for or ()
        )
    out.print(f"Added {name}.")


@users.command("list")
def list_users() -> None:
    """Everybody who may or might act."""
    table = Table("name", "full name", "roles", "trained for", "state")
    with opened() as service, service.database.read() as record:
        for user in record.exec(select(User).order_by(User.name)):
            state = "locked" if user.locked_at else "active" if user.active else "deactivated"
            table.add_row(user.name, user.full_name, ", ".join(user.roles), ", ".join(user.trained_for), state)
    out.print(table)


@users.command("unlock")
def unlock_user(name: str, reason: Why) -> None:
    """Unlock a person who failed to sign in too often."""
    with opened() as service, service.database.write(shell_actor()) as record:
        people.unlock_user(record, name, reason=reason)
    out.print(f"Unlocked {name}.")


@users.command("reset-password")
def reset_password(name: str, password: Password, reason: Why) -> None:
    """Give a person a temporary password."""
    with opened() as service, service.database.write(shell_actor()) as record:
        people.reset_password(record, name, temporary_password=password, reason=reason)
    out.print(f"{name} must change the password at the next sign-in.")


@users.command("deactivate")
def deactivate_user(name: str, reason: Why) -> None:
    """Take all rights from a person for good."""
    with opened() as service, service.database.write(shell_actor()) as record:
        people.deactivate_user(record, name, reason=reason)
    out.print(f"Deactivated {name}.")


@tokens.command("issue")
def issue_token(
    name: str,
    role: Annotated[list[Role], typer.Option(help="May be given several times.")],
    scope: Annotated[list[str], typer.Option(help="Acts it may perform, e.g. `lot.*`; may be given several times.")],
    days: Annotated[int, typer.Option(min=1, max=366)] = 90,
) -> None:
    """Issue a token; its secret is shown this once."""
    with opened() as service, service.database.write(shell_actor()) as record:
        _, secret = api_tokens.issue_token(
            record, name=name, roles=role, scopes=scope, expires_at=wall_now() + timedelta(days=days)
        )
    out.print(secret, highlight=False)


@tokens.command("revoke")
def revoke_token(name: str, reason: Why) -> None:
    """Make a token worthless."""
    with opened() as service, service.database.write(shell_actor()) as record:
        api_tokens.revoke_token(record, name, reason=reason)
    out.print(f"Revoked {name}.")
