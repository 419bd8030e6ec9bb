"""Servers in processes of their own: started on a free port of loopback, awaited, ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_START_WITHIN_S = 60.0


@contextmanager
def server_process(module: str, log: Path, *arguments: str) -> Iterator[int]:
    """Run `python -m module arguments… port`; gives the port once somebody listens on it.

    Raises:
        RuntimeError: It ended, or nobody listens after a minute; with what it wrote.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with log.open("wb") as output:
        command = [sys.executable, "-m", module, *arguments, str(port)]
        process = subprocess.Popen(command, cwd=_ROOT, stdout=output, stderr=output)
    try:
        _wait_for(process, port, log)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < give_up and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args} does not serve:\n{log.read_text()}")
