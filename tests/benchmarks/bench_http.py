"""HTTP reads a second over loopback: the service against bare ASGI with sqlite3 and orjson.

Both servers run in processes of their own, the load comes from this one: a few connections, each with one request at
a time. The service does all that it always does, authentication against the database included.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from api.auth import open_session
from equipment.traces import microseconds
from tests.benchmarks.figures import Figure, Measure, Scale, medians
from tests.benchmarks.processes import server_process
from tests.benchmarks.recording import PRESSURE, open_record, plan_runs, record_trace, telemetry
from tests.equipment.line import SPUTTER
from traceability.acts import Role, system_actor
from traceability.database import Database
from traceability.users import create_user

ORDINARY_GOAL = 0.08
"""Of the raw rate: what a session of the object mapper opened in a plain route reaches."""
HOT_GOAL = 0.21
"""Of the raw rate: what prebuilt SQL on a plain connection reaches."""
CONNECTIONS = 8
_PASSWORD = "copper kettle seven"


@dataclass(frozen=True, slots=True)
class _Read:
    """The same question to both servers."""

    figure: str
    path: str
    raw_path: str
    goal: float


def measure(scale: Scale) -> Iterator[Figure]:
    """One lot, one tool, one plot."""
    database = open_record(scale.folder / "argonaut.db")
    reads = _furnish(scale, database)
    token = _sign_in(database)
    database.close()
    with ExitStack() as stack:
        product, raw = (stack.enter_context(_server(kind, scale.folder)) for kind in ("product", "raw"))
        for read in reads:
            value, limit = medians(
                scale.size(7, 1),
                _rate(product, read.path, {"Authorization": f"Bearer {token}"}, scale.seconds(0.7)),
                _rate(raw, read.raw_path, {}, scale.seconds(0.7)),
            )
            against = "bare ASGI, sqlite3 and orjson; knows nobody"
            yield Figure(read.figure, value, "requests/s", limit, read.goal, against, higher_is_better=True)


def _furnish(scale: Scale, database: Database) -> list[_Read]:
    """A line with lots, tools and the trace of a run, which for the raw server lies in one blob as well."""
    (run,) = plan_runs(database, 1)
    changes = telemetry(database, run, scale.size(7_200, 300))
    record_trace(database, run.id, changes)
    plot = [sample for sample in changes if sample.name == PRESSURE]
    times = np.array([microseconds(sample.source_time) for sample in plot], np.int64).tobytes()
    values = np.array([sample.value for sample in plot], np.float32).tobytes()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE bare_plots (serial TEXT PRIMARY KEY, times BLOB, vals BLOB)")
        connection.exec_driver_sql("INSERT INTO bare_plots VALUES (?, ?, ?)", (run.serial, times, values))
        lot = connection.exec_driver_sql("SELECT serial FROM lots LIMIT 1").scalar_one()
    plot_path = f"/api/v1/runs/{run.serial}/trace?tags={PRESSURE}&points=1000"
    return [
        _Read("ordinary read: one lot", f"/api/v1/lots/{lot}", f"/lots/{lot}", ORDINARY_GOAL),
        _Read("hot read: one tool, as tablets poll it", f"/api/v1/tools/{SPUTTER}", f"/tools/{SPUTTER}", HOT_GOAL),
        _Read(f"hot read: a plot, 1000 of {len(plot)} points", plot_path, f"/plots/{run.serial}", HOT_GOAL),
    ]


def _sign_in(database: Database) -> str:
    with database.write(system_actor("bench")) as record:
        create_user(record, name="olga", full_name="Olga", password=_PASSWORD, roles=[Role.OPERATOR], temporary=False)
    return open_session(database, "olga", _PASSWORD, "127.0.0.1", 1.0).secret


def _server(kind: str, folder: Path) -> AbstractContextManager[int]:
    return server_process("tests.benchmarks.http_server", folder / f"{kind}.log", kind, str(folder))


def _rate(port: int, path: str, headers: Mapping[str, str], seconds: float) -> Measure:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    request = "\r\n".join([*lines, "", ""]).encode()
    return lambda: asyncio.run(_load(port, request, seconds))


async def _load(port: int, request: bytes, seconds: float) -> float:
    """Requests answered a second."""
    loop = asyncio.get_running_loop()
    connections = [_Connection(request) for _ in range(CONNECTIONS)]
    for connection in connections:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)
    start = time.perf_counter()
    for connection in connections:
        connection.ask()
    await asyncio.sleep(seconds)
    for connection in connections:
        connection.stopping = True
    await asyncio.wait_for(asyncio.gather(*(connection.done for connection in connections)), 10.0)
    took = time.perf_counter() - start
    return sum(connection.answered for connection in connections) / took


class _Connection(asyncio.Protocol):
    """Sends the same request again as soon as the answer is there."""

    def __init__(self, request: bytes) -> None:
        self.answered = 0
        self.stopping = False
        self.done = asyncio.get_running_loop().create_future()
        self._request = request
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server hung up: {exc}"))

    def ask(self) -> None:
        assert self._transport is not None
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        self._buffer = b""
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(f"the server answered {head!r} {body!r}"))
            return
        self.answered += 1
        if not self.stopping:
            self.ask()
        elif not self.done.done():
            self.done.set_result(None)
            assert self._transport is not None
            self._transport.close()
