"""`argonaut results`: what the readers make of a tester's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.context import fail, out
from equipment.testers.land import try_file
from equipment.testers.land_profile import load_profiles

results = typer.Typer(help="Tester files.", no_args_is_help=True)


@results.command("try")
def try_result(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    profiles: Annotated[list[Path] | None, typer.Option(help="Folder with the lab's own profiles.")] = None,
) -> None:
    """Say which profile matches a file, which columns have no place, and why other profiles do not match."""
    report = try_file(file, load_profiles(*(profiles or ())))
    for profile, why in report.rejected.items():
        out.print(f"not {profile}: {why}", highlight=False)
    if report.profile is None:
        raise fail(f"No profile matches {file}: {report.problem or 'see above'}")
    out.print(f"profile {report.profile}, {report.n_records} records", highlight=False)
    for heading, column in report.columns.items():
        out.print(f"  {heading} → {column}", highlight=False)
    for heading, why in report.set_aside.items():
        out.print(f"  {heading}: set aside, {why}", highlight=False)
    for heading in report.unplaced:
        out.print(f"  {heading}: has no place in the profile and is not read", highlight=False)
    if report.problem is not None:
        raise fail(report.problem)
