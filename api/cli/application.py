"""The command line put together from its groups."""

from __future__ import annotations

import sys

import typer

from api.cli import audit, certificates, people, results, serving, tools
from api.cli.context import explain, fail
from traceability.errors import ArgonautError

app = typer.Typer(
    name="argonaut",
    help="Argonaut, the manufacturing execution system of a thin-film and solid-state-cell line.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
serving.add_to(app)
audit.add_to(app)
app.add_typer(people.users, name="users")
app.add_typer(people.tokens, name="tokens")
app.add_typer(certificates.certs, name="certs")
app.add_typer(tools.tools, name="tools")
app.add_typer(results.results, name="results")


def main() -> None:
    """Run a command; an error of the domain leaves as sentences and status 1, not as a traceback."""
    try:
        app()
    except ArgonautError as error:
        sys.exit(explain(error).exit_code)
    except OSError as error:
        sys.exit(fail(f"{error.filename or 'The system'}: {error.strerror or error}.").exit_code)
