"""Waiting in tests: for a condition, with a bound, and never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_until(what: str, is_so: Callable[[], bool], within_s: float = 20.0) -> None:
    """Ask twenty times a second, leaving the time between to the threads of the process."""
    ends, pause = time.monotonic() + within_s, threading.Event()
    while not is_so():
        assert time.monotonic() < ends, f"waited {within_s:g} s in vain until {what}"
        pause.wait(0.05)
