"""A line controller in a process of its own, to be killed, stopped and continued.

Processes are forked from a server that has everything imported already, so that one more costs milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
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
    """Ask it to come to its end and wait until it has."""
    process.terminate()
    await asyncio.to_thread(process.join, 10)


def _run(url: str, clock_path: Path, port: int, holder: str, at_step: str, then: str, journal: Path | None) -> None:
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    done = False

    def hook(step: str) -> None:
        nonlocal done
        if step != at_step or done:
            return
        done = True
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
