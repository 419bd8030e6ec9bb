"""`argonaut tools`: the tools of the line, seen from this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from api.cli.context import fail, out, read_settings
from equipment.line_config import load_line
from equipment.line_controller import make_driver

tools = typer.Typer(help="The tools of the line.", no_args_is_help=True)

LineFile = Annotated[Path | None, typer.Option("--line", help="Line file; ARGONAUT_LINE_FILE if left out.")]


@tools.command("list")
def list_tools(line: LineFile = None) -> None:
    """The tools and testers that the line file names."""
    config = load_line(line or read_settings().line_file)
    table = Table("name", "class", "address", "security")
    for tool in config.tools:
        table.add_row(tool.name, tool.equipment_class, tool.endpoint, tool.security.mode)
    for tester in config.testers:
        table.add_row(tester.name, f"tester ({tester.kind})", tester.url, "token" if tester.token_file else "none")
    out.print(table)


@tools.command("check")
def check_tool(name: str, line: LineFile = None) -> None:
    """Connect to a tool, compare its address space with the tag table, and read every tag once; changes nothing."""
    config = load_line(line or read_settings().line_file)
    tool = next((tool for tool in config.tools if tool.name == name), None)
    if tool is None:
        raise fail(f"The line has no tool {name}; there are {', '.join(tool.name for tool in config.tools)}.")
    table = Table("tag", "value", "unit", "source time")

    async def read() -> None:
        driver = make_driver(tool)
        await driver.connect()
        try:
            for sample in (await driver.read_all()).values():
                value = str(sample.value) if sample.good else f"bad status {sample.status:#x}"
                table.add_row(sample.name, value, tool.tags[sample.name].unit, sample.source_time.isoformat())
        finally:
            await driver.disconnect()

    asyncio.run(read())
    out.print(table)
    out.print(f"[green]{name} is what its tag table says.[/]")
