"""A line controller in a process of its own, to be killed, stopped and continued.

Processes are forked from a server that has everything imported already, so that one more costs milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sqlite3
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import structlog

from equipment.journal import CommandJournal
from equipment.line_controller import LineController
from tests.system.press_line import TTL_S, line, open_database
from traceability.clock import PiecewiseClock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.system.controller_process"])

DIE = "die"
STOP = "stop"


def start_controller(
    url: str, clock: Path, port: int, holder: str, *, at_step: str = "", then: str = DIE, journal: Path | None = None
) -> ForkServerProcess:
    """Start a controller.

    Args:
        at_step: Boundary between two steps of a command at which something happens to the process, once.
        then: `DIE` kills it there, `STOP` stops it until it is continued.
    """
    process = _CONTEXT.Process(target=_run, args=(url, clock, port, holder, at_step, then, journal), daemon=True)
    process.start()
    return process


async def kill(process: ForkServerProcess) -> None:
    """kill -9, whatever it is doing."""
    process.kill()
    await asyncio.to_thread(process.join, 10)


async def stop(process: ForkServerProcess) -> None:
    """Ask it to come to its end, also when it is stopped, and wait until it has."""
    if process.is_alive():
        os.kill(process.pid or 0, signal.SIGCONT)
        process.terminate()
        await asyncio.to_thread(process.join, 5)
    await kill(process)


async def freeze(process: ForkServerProcess, url: str) -> None:
    """SIGSTOP, but not in the middle of a transaction on SQLite.

    SQLite's lock belongs to the process: while its holder stands still nobody else can write at all, and nothing
    that another process does could change that.
    """
    while True:
        os.kill(process.pid or 0, signal.SIGSTOP)
        if await asyncio.to_thread(_writable, url):
            return
        os.kill(process.pid or 0, signal.SIGCONT)
        await asyncio.sleep(0.05)


def _writable(url: str) -> bool:
    if not url.startswith("sqlite"):
        return True
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0.3)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.rollback()
        return True


def _run(url: str, clock_path: Path, port: int, holder: str, at_step: str, then: str, journal: Path | None) -> None:
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    done = False

    def hook(step: str) -> None:
        nonlocal done
        if step != at_step or done:
            return
        done = True
        while then == STOP and not _writable(url):
            pass
        os.kill(os.getpid(), signal.SIGKILL if then == DIE else signal.SIGSTOP)

    async def drive() -> None:
        database = open_database(url, PiecewiseClock(clock_path))
        controller = LineController(
            line(port),
            database,
            holder=holder,
            lease_ttl_s=TTL_S,
            hook=hook,
            journal=None if journal is None else CommandJournal(journal),
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, controller.stop)
        await controller.run()

    asyncio.run(drive())
