"""`argonaut serve`, `simulate`, `migrate` and `demo`: what runs, and what prepares it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import uvicorn

from api.app import create_app
from api.cli.context import err, fail, make_service, out, read_settings
from api.endpoints.line import endpoints_of_line
from api.endpoints.tester import serve_endpoint
from api.logs import set_up_logs
from api.migration import migrate, require_newest_schema
from api.ports import port_problem
from api.service import Service
from equipment.line_config import load_line, read_secret
from equipment.simulators.line import tool_servers
from equipment.simulators.tool_server import serve as serve_tools
from traceability.clock import Clock, PiecewiseClock, SystemClock

LineFile = Annotated[Path | None, typer.Option("--line", help="Line file; ARGONAUT_LINE_FILE if left out.")]
ClockFile = Annotated[Path | None, typer.Option("--clock", help="Shared accelerated clock; real time if left out.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands of this module into the application."""
    app.command("serve")(serve)
    app.command("simulate")(simulate)
    app.command("migrate")(bring_up_to_date)
    app.command("demo")(demo)


def serve(
    migrate_first: Annotated[
        bool, typer.Option("--migrate", help="Bring an older schema up to date first; an empty database always is.")
    ] = False,
) -> None:
    """Serve the line of the line file."""
    settings = read_settings()
    set_up_logs(settings)
    require_free_port(settings.host, settings.port)
    service = make_service(settings)
    prepare_schema(service, upgrade=migrate_first)
    config = uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    _Server(config, service).run()


class _Server(uvicorn.Server):
    """Ends the live streams as soon as it is told to stop: it would wait for them."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests and end those that would never end by themselves."""
        self._service.hub.end()
        super().handle_exit(sig, frame)


def bring_up_to_date() -> None:
    """Bring the database's schema up to date. Back the database up first."""
    service = make_service(read_settings(runs_line=False))
    before, now = migrate(service.database)
    service.database.close()
    out.print(f"schema {before or 'empty'} → {now}" if before != now else f"schema {now}: nothing to do")


def simulate(
    line: LineFile = None,
    state: Annotated[Path, typer.Option(help="Folder where simulated tools keep their state.")] = Path(
        "var/simulators"
    ),
    clock: ClockFile = None,
    seed: Annotated[int, typer.Option(help="Of the whole line: the same seed, the same line.")] = 1,
    mes_url: Annotated[str, typer.Option(help="Where the testers find the service.")] = "http://127.0.0.1:8000",
    mes_token_file: Annotated[
        Path | None, typer.Option(help="Token by which the testers speak to the service, on one line.")
    ] = None,
    tools: Annotated[bool, typer.Option("--tools", help="Only the tools.")] = False,
    testers: Annotated[bool, typer.Option("--testers", help="Only the testers.")] = False,
    certificates: Annotated[Path | None, typer.Option(help="Folder with keys of tools that encrypt.")] = None,
) -> None:
    """Run the simulated tools and testers that the line file names, at the addresses it names."""
    settings = read_settings()
    set_up_logs(settings)
    config = load_line(line or settings.line_file)
    domain: Clock = PiecewiseClock(clock) if clock else SystemClock()
    work: list[Coroutine[Any, Any, None]] = []
    if tools or not testers:
        servers = tool_servers(config, domain, state, seed=seed, certificates=certificates)
        work.append(serve_tools(*servers))
    if testers or not tools:
        token = _token(mes_token_file)
        for endpoint in endpoints_of_line(config, state, mes_url=mes_url, mes_token=token, clock_file=clock):
            require_free_port(endpoint.host, endpoint.port)
            work.append(serve_endpoint(endpoint))
    _run(work)


def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop with status 0 when the campaign is done.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the demonstration lives; begun anew each time.")] = Path(
        "var/demo"
    ),
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 8000,
    seed: Annotated[int, typer.Option(help="Of the simulated line.")] = 1,
) -> None:
    """Run the whole line on simulators, from lithium disc to tested cell, then go on serving."""
    from api.demo import run_demo

    raise typer.Exit(run_demo(folder, port=port, seed=seed, once=once))


def prepare_schema(service: Service, *, upgrade: bool) -> None:
    """Make the schema of an empty database; an older one is only touched when asked."""
    if upgrade or service.is_empty():
        migrate(service.database)
    require_newest_schema(service.database)


def require_free_port(host: str, port: int) -> None:
    """End with one clear sentence if nobody can listen there."""
    if problem := port_problem(host, port):
        raise fail(f"{problem}; choose another one.")


def _token(file: Path | None) -> str:
    """The testers' token; without one they can work, but not report."""
    if file is None:
        err.print("The testers have no token (--mes-token-file): the service will not hear them.", highlight=False)
        return ""
    return read_secret(file)


def _run(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run until all work ends, one part of it fails, or the process is told to stop."""

    async def all_of_it() -> None:
        async with asyncio.TaskGroup() as group:
            for part in work:
                group.create_task(part)

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(all_of_it())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    try:
        asyncio.run(until_told())
    except* OSError as errors:
        raise fail(f"The simulators can't listen: {errors.exceptions[0]}.") from errors
