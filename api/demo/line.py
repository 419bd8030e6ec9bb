"""The demonstration's line: its folder, its clock, its processes, and the summary at the end.

Simulated tools, tester endpoint and service are processes of their own, as they would be on real equipment; all
tell one accelerated time that begins in the past, so that its end is the present.
"""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.demo.campaign import ARMS, CELLS_AN_ARM, TESTER, Campaign, MadeCell
from api.demo.client import PASSWORD, PEOPLE, TRAINED_FOR
from api.demo.processes import DemoFailed, Processes
from api.migration import migrate
from api.ports import port_problem
from api.service import Service
from api.settings import Settings
from equipment.testers.handoff import tester_scopes
from traceability.acts import Role, system_actor
from traceability.clock import PiecewiseClock, wall_now
from traceability.tokens import issue_token
from traceability.users import create_user

TEST_LASTS = timedelta(hours=3005)
"""The protocol's 3 001 h and some time to spare."""
WORK_LASTS = timedelta(hours=60)
"""More than all runs take together, whatever the machine's speed."""
STEPS_OF_THE_TEST = 10

_console = Console(width=None if Console().is_terminal else 140)


def run_demo(folder: Path, *, port: int, seed: int, once: bool) -> int:
    """Run the demonstration.

    Args:
        folder: Made anew; holds everything that the demonstration writes.
        port: Of the service, on loopback.
        seed: Of the simulated line and of the people's hands.
        once: End when the campaign is done, instead of going on serving.

    Returns:
        Exit status: 0 if everything went well or it was told to stop, by Ctrl-C or SIGTERM.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _demonstrate(folder, port, seed, once)
    except DemoFailed as failure:
        _console.print(f"[red]The demonstration stopped:[/] {failure}", highlight=False)
        return 1
    except KeyboardInterrupt:
        _console.print("Stopped.")
    return 0


def _demonstrate(folder: Path, port: int, seed: int, once: bool) -> None:
    _require_free_port(port)
    _fresh(folder)
    clock_file, simulators, line_file = folder / "clock.json", folder / "simulators", folder / "line.yaml"
    clock = PiecewiseClock.create(clock_file, wall_now() - TEST_LASTS - WORK_LASTS)
    line_file.write_text(yaml.safe_dump(_line(), sort_keys=False), encoding="utf-8")
    settings = {
        "data_folder": folder / "service",
        "line_file": line_file,
        "clock_file": clock_file,
        "host": "127.0.0.1",
        "port": port,
        "log_level": "info",
    }
    token_file = folder / "tester.token"
    _set_up(Settings.model_validate({**settings, "drive_tools": False, "run_jobs": False}), token_file)
    url = f"http://127.0.0.1:{port}"
    shared = ("--line", str(line_file), "--clock", str(clock_file), "--seed", str(seed))
    with Processes(folder, settings) as processes:
        with _progress() as progress:
            task = progress.add_task("starting", total=_steps())

            def tell(what: str) -> None:
                progress.update(task, advance=1, description=what)

            processes.start("tools", "simulate", *shared, "--state", str(simulators), "--tools")
            token = ("--mes-url", url, "--mes-token-file", str(token_file))
            processes.start("tester", "simulate", *shared, *token, "--state", str(simulators), "--testers")
            processes.start("service", "serve")
            processes.wait_until("the service and its tools are ready", lambda: _ready(url))
            campaign = Campaign(url, processes, clock, simulators, seed, tell)
            campaign.prepare()
            cells = [cell for arm in ARMS for cell in campaign.make_cells(arm)]
            campaign.wait_until_armed(cells)
            _let_time_pass(clock, tell)
            rows = list(campaign.results(cells))
            clock.jump(max(clock.now(), wall_now()))
            report = campaign.verify()
            progress.update(task, completed=_steps(), description="done")
        _console.print(_summary(rows, url))
        _console.print(
            f"The record: {report['events']} audit events, {report['tables']} tables and {report['sealed']} sealed "
            "traces and files verified, intact. Everything above is simulated.",
            highlight=False,
        )
        _console.print(f"Raw files, logs and database: {folder}", highlight=False)
        if once:
            return
        _console.print(_addresses(url))
        processes.forever()


def _line() -> dict[str, Any]:
    """The founding line on free ports of this machine."""
    ports = _free_ports(3)
    tool = {"profile": "job_control"}
    return {
        "site": "demo",
        "tools": [
            {
                "name": "RH450",
                "class": "rf_magnetron_sputter",
                **tool,
                "endpoint": f"opc.tcp://127.0.0.1:{ports[0]}/",
                "namespace_uri": "urn:demo:RH450",
            },
            {
                "name": "PR1",
                "class": "glovebox_press",
                **tool,
                "endpoint": f"opc.tcp://127.0.0.1:{ports[1]}/",
                "namespace_uri": "urn:demo:PR1",
            },
        ],
        "testers": [
            {
                "name": TESTER,
                "kind": "land",
                "url": f"http://127.0.0.1:{ports[2]}",
                "channels": 8,
                "capabilities": ["cycling", "lifetime"],
            }
        ],
    }


def _set_up(settings: Settings, token_file: Path) -> None:
    """An empty record with the demonstration's people and the tester's token, as the command line makes them."""
    service = Service(settings)
    migrate(service.database)
    with service.database.write(system_actor("demo")) as record:
        for name, (full_name, roles) in PEOPLE.items():
            create_user(
                record,
                name=name,
                full_name=full_name,
                password=PASSWORD,
                roles=[Role(role) for role in roles],
                trained_for=TRAINED_FOR,
                temporary=False,
            )
        _, secret = issue_token(
            record,
            name=TESTER.lower(),
            roles=[Role.OPERATOR],
            scopes=tester_scopes(TESTER),
            expires_at=wall_now() + timedelta(days=1),
        )
    token_file.touch(mode=0o600)
    token_file.write_text(f"{secret}\n", encoding="utf-8")
    service.database.close()


def _let_time_pass(clock: PiecewiseClock, tell: Callable[[str], None]) -> None:
    """Only the tester works now: time jumps over its test in a few steps."""
    for step in range(1, STEPS_OF_THE_TEST + 1):
        clock.jump(clock.now() + TEST_LASTS / STEPS_OF_THE_TEST)
        tell(f"cycling, {step * 100 // STEPS_OF_THE_TEST} % of {TEST_LASTS.total_seconds() / 3600:.0f} h")


def _summary(rows: list[tuple[MadeCell, dict[str, Any]]], url: str) -> Table:
    table = Table(title="Campaign (simulated)", caption=f"history records under {url}", caption_justify="left")
    for heading in ("cell", "anode", "film", "end of test", "life", "overpotential", "history"):
        table.add_column(heading, no_wrap=True)
    for cell, result in rows:
        verdict, path = result["verdict"], f"/api/v1/items/{cell.serial}/history"
        alive = verdict["outcome"] == "censored"
        overpotential_v = result["analysis"]["summary"]["median_overpotential_v"]
        table.add_row(
            cell.serial,
            cell.arm.label,
            "–" if cell.thickness_nm is None else f"{cell.thickness_nm:.0f} nm",
            "alive at the end" if alive else str(verdict["criterion"]).replace("_", " "),
            f"{'> ' if alive else ''}{float(verdict['time_h']):.0f} h",
            "–" if overpotential_v is None else f"{float(overpotential_v) * 1000:.0f} mV",
            f"[link={url}{path}]{path}[/link]",
        )
    return table


def _addresses(url: str) -> Table:
    table = Table(title="It goes on serving; stop it with Ctrl-C", show_header=False)
    table.add_row("API", f"{url}/api/v1 (OpenAPI: {url}/api/v1/openapi.json)")
    table.add_row("ready, metrics", f"{url}/readyz, {url}/metrics")
    for name, (full_name, roles) in PEOPLE.items():
        table.add_row(f"sign in as {name}", f"{full_name}, {', '.join(roles)}; password {PASSWORD}")
    return table


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<44}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=_console,
    )


def _steps() -> int:
    """How often somebody tells what is being done."""
    cells = len(ARMS) * CELLS_AN_ARM
    return 2 + sum(bool(arm.sputter_recipe) for arm in ARMS) + 3 * cells + 1 + STEPS_OF_THE_TEST + 2


def _ready(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False)
    except httpx.TransportError:
        return False
    tools = [check["ok"] for check in answer.json()["checks"] if check["name"].startswith("tool ")]
    return answer.status_code == 200 and bool(tools) and all(tools)


def _fresh(folder: Path) -> None:
    """An empty folder; only what an earlier demonstration left is removed."""
    try:
        if folder.exists():
            if any(folder.iterdir()) and not (folder / "clock.json").exists():
                raise DemoFailed(f"{folder} holds something else than a demonstration; name another folder.")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise DemoFailed(f"The folder {folder} can't be written: {error.strerror}.") from error


def _require_free_port(port: int) -> None:
    if problem := port_problem("127.0.0.1", port):
        raise DemoFailed(f"{problem}; choose one with --port.")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
