"""The two servers that `bench_http` loads, each in a process of its own, on the settings that the service runs with.

`product` is the whole service without its tools and jobs. `raw` is the least that answers the same from the
same database: bare ASGI, sqlite3 and orjson on the event loop; it knows nobody, checks nothing, has one route each.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from tsdownsample import M4Downsampler

from api.app import create_app
from api.service import Service
from api.settings import Settings

Answer: TypeAlias = Callable[[sqlite3.Connection, str], bytes]


def serve(kind: str, folder: Path, port: int) -> None:
    """Serve until the process is ended."""
    app: ASGIApp
    if kind == "product":
        app = create_app(Service(Settings(data_folder=folder, drive_tools=False, run_jobs=False)))
    else:
        app = RawApp(sqlite3.connect(folder / "argonaut.db", isolation_level=None))
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, server_header=False)


class RawApp:
    """`/lots/{serial}`, `/tools/{name}`, `/plots/{run serial}`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._answers: dict[str, Answer] = {"lots": _lot, "tools": _tool, "plots": _plot}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        _, noun, key = scope["path"].split("/")
        body = self._answers[noun](self._connection, key)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _lot(connection: sqlite3.Connection, serial: str) -> bytes:
    names = (
        "serial",
        "material_code",
        "quantity",
        "unit",
        "status",
        "supplier",
        "supplier_lot",
        "certificate",
        "expires_at",
        "location",
        "version",
    )
    row = connection.execute(f"SELECT {', '.join(names)} FROM lots WHERE serial = ?", (serial,)).fetchone()
    return orjson.dumps(dict(zip(names, row, strict=True)))


def _tool(connection: sqlite3.Connection, name: str) -> bytes:
    names = ("name", "equipment_class", "state", "sub_state", "reason", "since", "simulated", "linked", "version")
    row = connection.execute(f"SELECT {', '.join(names)} FROM tools WHERE name = ?", (name,)).fetchone()
    run = connection.execute(
        "SELECT serial, state, work_master, experiment FROM runs "
        "WHERE tool = ? AND state IN ('starting', 'running', 'paused', 'held', 'unknown')",
        (name,),
    ).fetchone()
    alarms = connection.execute(
        "SELECT id, name, state, priority, message FROM alarms WHERE tool = ? AND state <> 'normal'", (name,)
    ).fetchall()
    return orjson.dumps({**dict(zip(names, row, strict=True)), "run": run, "alarms": alarms})


def _plot(connection: sqlite3.Connection, serial: str) -> bytes:
    times, values = connection.execute("SELECT times, vals FROM bare_plots WHERE serial = ?", (serial,)).fetchone()
    x, y = np.frombuffer(times, np.int64), np.frombuffer(values, np.float32)
    kept = np.unique(M4Downsampler().downsample(x, y, n_out=1000))
    return orjson.dumps({"time_unix_s": x[kept] / 1e6, "values": y[kept]}, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
