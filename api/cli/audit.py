"""`argonaut audit`, `export` and `history`: what QA does at a shell, also on a laptop that has only the files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer
from rich.progress import Progress

from api.cli.context import fail, opened, out, shell_actor
from traceability.checkpoints import (
    create_key,
    load_key,
    load_public_key,
    make_checkpoint,
    raw_public_key,
    read_checkpoint,
    write_checkpoint,
)
from traceability.exports.audit_trail import AuditFilter, ExportFormat, export_audit_trail
from traceability.exports.bundle import export_bundle
from traceability.exports.history_record import export_history_record
from traceability.verification import verify

audit = typer.Typer(help="The audit trail: verify it, sign checkpoints.", no_args_is_help=True)

Passphrase = Annotated[str, typer.Option(prompt=True, hide_input=True, help="Of QA's key.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write; standard output if left out.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands of this module into the application."""
    app.add_typer(audit, name="audit")
    app.command("export")(export)
    app.command("history")(history)


@audit.command("verify")
def verify_record(
    checkpoint: Annotated[list[Path] | None, typer.Option(help="Checkpoint file kept elsewhere; several.")] = None,
    key: Annotated[Path | None, typer.Option(help="QA's public key, PEM.")] = None,
) -> None:
    """Verify the chain, every row, sealed traces and files. Names the first bad one, with status 1."""
    with opened() as service, Progress(transient=True) as progress:
        task = progress.add_task("verifying", total=None)
        report = verify(
            service.database,
            checkpoints=[read_checkpoint(path) for path in checkpoint or ()],
            public_key=load_public_key(key) if key else None,
            sealed=service.sealed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    out.print(
        f"{report.events} events, {report.tables} tables, {report.sealed} sealed contents, "
        f"{report.checkpoints} checkpoints; head {report.head_hash}",
        highlight=False,
    )
    for sentence in report.left_out:
        out.print(f"left out: {sentence}", highlight=False)
    if report.first is not None:
        raise fail(f"NOT INTACT, {report.count} discrepancies. The first: {report.first.message}")
    out.print("[green]intact[/]")


@audit.command("key")
def make_key(
    file: Annotated[Path, typer.Argument(help="Where QA keeps the private key; not on this host.")],
    passphrase: Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)],
) -> None:
    """Make QA's signing key, protected by a passphrase; the public key goes beside it."""
    out.print(f"public key {raw_public_key(create_key(file, passphrase))}", highlight=False)


@audit.command("checkpoint")
def sign_checkpoint(
    key: Annotated[Path, typer.Option(help="QA's private key.")],
    passphrase: Passphrase,
    folder: Annotated[Path, typer.Option(help="Where the checkpoint file goes; take it away from this host.")],
) -> None:
    """Sign the head of the chain, so that even a rewritten chain shows."""
    private_key = load_key(key, passphrase)
    with opened() as service:
        with service.database.write(shell_actor()) as record:
            checkpoint = make_checkpoint(record, private_key)
        out.print(f"event {checkpoint.seq} signed: {write_checkpoint(checkpoint, folder)}", highlight=False)


def export(
    form: Annotated[str, typer.Option(help="csv, ndjson or bundle (a zip with its own verifier).")] = "bundle",
    since: Annotated[datetime | None, typer.Option(help="From this time on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time, UTC.")] = None,
    actor: Annotated[str, typer.Option(help="Only by this person.")] = "",
    item: Annotated[str, typer.Option(help="Only of this serial.")] = "",
    kind: Annotated[str, typer.Option(help="Only this kind of act, or `lot.*`.")] = "",
    reason: Annotated[str, typer.Option(help="Why; it goes on the record.")] = "",
    output: Output = None,
) -> None:
    """Export the audit trail; that it was exported goes on the trail itself."""
    chosen = AuditFilter(since=_utc(since), until=_utc(until), actor=actor, item=item, kind=kind)
    with opened() as service:
        if form == "bundle":
            bundle = export_bundle(service.database, shell_actor(), chosen, reason=reason)
            _write(bundle.chunks, output, f"{bundle.count} events")
            return
        if form not in set(ExportFormat):
            raise fail(f"{form!r} is no format; use csv, ndjson or bundle.")
        trail = export_audit_trail(service.database, shell_actor(), chosen, ExportFormat(form), reason=reason)
        _write(trail.chunks, output, f"{trail.count} events")


def history(serial: Annotated[str, typer.Argument(help="A cell, unit or lot.")], output: Output = None) -> None:
    """The device history record of one thing, as JSON."""
    with opened() as service:
        document = export_history_record(service.database, shell_actor(), serial, service.history_sections)
    _write([orjson.dumps(document, option=orjson.OPT_INDENT_2)], output, serial)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _write(chunks: Iterable[bytes], output: Path | None, what: str) -> None:
    if output is None:
        _copy(chunks, sys.stdout.buffer)
        return
    try:
        with output.open("wb") as file:
            size = _copy(chunks, file)
    except OSError as error:
        raise fail(f"{output} can't be written: {error.strerror}.") from error
    out.print(f"{what}: {size} bytes in {output}", highlight=False)


def _copy(chunks: Iterable[bytes], file: BinaryIO) -> int:
    return sum(file.write(chunk) for chunk in chunks)
