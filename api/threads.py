"""Blocking work off the event loop that is never left behind.

A thread can't be cancelled. Whoever is cancelled while waiting for one waits on until it has ended, so that nothing
still uses the database after it was closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


async def in_thread(work: Callable[[], Answer]) -> Answer:
    """What `work` answers, done in a thread; it has ended when this returns or raises, even by cancellation."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        working.exception()  # nobody is left to hear it
        raise
