"""The processes of a demonstration: started in order, watched, and ended with it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from api.settings import child_environment

READY_AFTER_S = 120.0
ENDED_AFTER_S = 10.0


class DemoFailed(Exception):
    """The demonstration can't go on; the message is for people."""


class Processes:
    """Child processes with a log file each. Use as a context manager: all end with it.

    Args:
        folder: Where the logs go.
        settings: Settings of ours that every child gets.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self._folder = folder
        self._environment = child_environment(settings)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Last started, first ended: the service lets go of its tools before they go.
        # The stack ends all, also when somebody impatient interrupts the end of one.
        with ExitStack() as stack:
            for process in self._running.values():
                stack.callback(_end, process)

    def start(self, name: str, *arguments: str) -> None:
        """Start `argonaut` with the arguments, logging to `<name>.log`."""
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "api.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )

    def wait_until(self, what: str, is_so: Callable[[], bool], timeout_s: float = READY_AFTER_S) -> None:
        """Wait for a condition, asking ten times a second.

        Raises:
            DemoFailed: A process has ended, or it took too long.
        """
        ends = time.monotonic() + timeout_s
        while not is_so():
            self.check()
            if time.monotonic() > ends:
                raise DemoFailed(f"Waited {timeout_s:.0f} s in vain until {what}; the logs are in {self._folder}.")
            time.sleep(0.1)

    def check(self) -> None:
        """See that all still run.

        Raises:
            DemoFailed: One has ended; its last words are in the message.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self._folder / f"{name}.log"
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise DemoFailed(f"The {name} ended with status {process.returncode} ({log}): {' '.join(last)}")

    def forever(self) -> None:
        """Wait until a process ends or the user interrupts."""
        while True:
            self.check()
            time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDED_AFTER_S)
    finally:
        process.kill()
        process.wait()
