"""`argonaut certs`: keys and certificates for talking to tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.context import fail, out
from equipment.opcua.security import fingerprint, load_certificate, make_certificate
from traceability.clock import wall_now

certs = typer.Typer(help="Keys and certificates for OPC UA.", no_args_is_help=True)


@certs.command("make")
def make(
    name: Annotated[
        str, typer.Argument(help="Name of the application: `mes` for this service, or of a simulated tool.")
    ],
    folder: Annotated[Path, typer.Option(help="Where the files go.")] = Path("var/certs"),
    uri: Annotated[str, typer.Option(help="Application URI; urn:argonaut:NAME if left out.")] = "",
    host: Annotated[list[str] | None, typer.Option(help="DNS name or address; localhost if left out.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650)] = 730,
) -> None:
    """Make a key and a self-signed certificate; nothing is overwritten."""
    hosts = tuple(host) if host else ("localhost", "127.0.0.1")
    try:
        pair = make_certificate(folder, name, uri or f"urn:argonaut:{name}", now=wall_now(), hosts=hosts, days=days)
    except FileExistsError:
        raise fail(f"{folder} has a key of {name} already; name another folder, or move it away first.") from None
    out.print(f"{pair.certificate}\nsha256 {fingerprint(pair.load())}", highlight=False)


@certs.command("show")
def show(file: Annotated[Path, typer.Argument(help="A certificate, PEM or DER.")]) -> None:
    """Show a certificate's fingerprint, to be compared at the tool before it is pinned."""
    out.print(f"sha256 {fingerprint(load_certificate(file))}", highlight=False)
