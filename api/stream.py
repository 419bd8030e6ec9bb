"""The live stream: every committed act once, in order, to everybody who watches (server-sent events).

The hub reads new events from the audit trail, whoever committed them, turns each into bytes once, and hands the
same bytes to every client through a bounded queue that drops its oldest. Ids are the trail's own numbers, so a
client that was cut resumes with `Last-Event-ID` and misses nothing. Values of tools are shown as they are now;
they carry no id and are not replayed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import orjson
from sqlalchemy import Row, text
from starlette.concurrency import run_in_threadpool

from api.threads import in_thread
from traceability.database import Database
from traceability.errors import StorageFailed

POLL_S = 0.5
"""How often the trail is asked for events that another process committed."""
TOOL_PERIOD_S = 0.1
HEARTBEAT_S = 1.0
RECHECK_S = 5.0
"""How often it is looked up whether who watches is still signed in. The heartbeat gives the occasion."""
QUEUE_LENGTH = 2_000
REPLAY_BATCH = 500
RETRY = b"retry: 1000\n\n"

_NEW = text("SELECT seq, kind, body FROM audit_events WHERE seq > :seq ORDER BY seq LIMIT :limit")
_LAST = text("SELECT seq FROM audit_head")
_PEOPLE = ("user.", "token.", "act.refused", "signature.")

ToolSource = Callable[[], Mapping[str, bytes]]
"""The present state of each tool by name, as JSON bytes."""


@dataclass(eq=False)
class Client:
    """One open stream.

    Attributes:
        sees_people: Also gets sign-ins, tokens and refusals (QA and administrators).
    """

    sees_people: bool
    queue: deque[bytes] = field(default_factory=lambda: deque(maxlen=QUEUE_LENGTH))
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: bool = False

    def push(self, message: bytes) -> None:
        """Hand over a message; the oldest is dropped, and the client told so, if it does not keep up."""
        if len(self.queue) == QUEUE_LENGTH:
            self.dropped = True
        self.queue.append(message)
        self.ready.set()


class Hub:
    """Watches the trail and the tools for all clients of this process.

    Args:
        database: The record.
        tools: Tells the present state of the tools this process drives.
    """

    def __init__(self, database: Database, tools: ToolSource) -> None:
        self._database = database
        self._tools = tools
        self._clients: set[Client] = set()
        self._seq = 0
        self._committed = asyncio.Event()
        self._shown: dict[str, bytes] = {}
        self._ended = False

    @property
    def clients(self) -> int:
        """How many streams are open."""
        return len(self._clients)

    async def run(self) -> None:
        """Serve until cancelled, also while the database is away."""
        loop = asyncio.get_running_loop()

        def wake(_: object) -> None:
            loop.call_soon_threadsafe(self._committed.set)

        unsubscribe = self._database.publisher.subscribe(wake)
        try:
            self._seq = await self._head()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_trail())
                tasks.create_task(self._watch_tools())
        finally:
            unsubscribe()

    def end(self) -> None:
        """Let every open stream end, now or at the next heartbeat; a server that stops waits for them.

        May be called from anywhere, also from a signal handler.
        """
        self._ended = True

    async def stream(
        self, last_id: int | None, *, sees_people: bool, may_go_on: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """The messages for one client, first those it missed since `last_id`; ends when it goes away.

        Args:
            last_id: Last event that the client has; None to begin with the next one. One that the trail does not
                have yet is of another database: the client is told to read again.
            sees_people: Also give it sign-ins, tokens and refusals.
            may_go_on: Asked every `RECHECK_S`; the stream ends when the client's session has.
        """
        client = Client(sees_people)
        self._clients.add(client)
        try:
            yield RETRY
            seq = last_id
            if seq is not None and seq > await run_in_threadpool(self._last):
                seq, client.dropped = None, True
                client.ready.set()
            while seq is not None and (rows := await run_in_threadpool(self._read, seq)):
                seq = rows[-1].seq
                for row in rows:
                    if sees_people or not row.kind.startswith(_PEOPLE):
                        yield _message(row)
            for name, state in self._shown.items():
                yield _tool_message(name, state)
            replayed = seq or 0
            checked_s = time.monotonic()
            while not self._ended:
                if time.monotonic() - checked_s >= RECHECK_S:
                    if not await may_go_on():
                        return
                    checked_s = time.monotonic()
                await client.ready.wait()
                client.ready.clear()
                if client.dropped:
                    client.dropped = False
                    yield b"event: reread\ndata: {}\n\n"
                while client.queue:
                    message = client.queue.popleft()
                    # What came while the past was read out stands in both.
                    if _id_of(message) > replayed or not message.startswith(b"id: "):
                        yield message
        finally:
            self._clients.discard(client)

    async def _watch_trail(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._committed.wait()
            except TimeoutError:
                pass
            self._committed.clear()
            try:
                rows = await in_thread(partial(self._read, self._seq))
            except StorageFailed:
                continue
            for row in rows:
                self._seq = row.seq
                message = _message(row)
                about_people = row.kind.startswith(_PEOPLE)
                for client in self._clients:
                    if client.sees_people or not about_people:
                        client.push(message)
            if len(rows) == REPLAY_BATCH:
                self._committed.set()

    async def _watch_tools(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(TOOL_PERIOD_S)
            for name, state in self._tools().items():
                if self._shown.get(name) != state:
                    self._shown[name] = state
                    self._push(_tool_message(name, state))
            beats += 1
            if beats * TOOL_PERIOD_S >= HEARTBEAT_S:
                beats = 0
                self._push(b"event: heartbeat\ndata: {}\n\n")

    async def _head(self) -> int:
        while True:
            try:
                return await in_thread(self._last)
            except StorageFailed:
                await asyncio.sleep(POLL_S)

    def _push(self, message: bytes) -> None:
        for client in self._clients:
            client.push(message)

    def _read(self, seq: int) -> list[Row[tuple[int, str, str]]]:
        with self._database.connect() as connection:
            return list(connection.execute(_NEW, {"seq": seq, "limit": REPLAY_BATCH}))

    def _last(self) -> int:
        with self._database.connect() as connection:
            return int(connection.execute(_LAST).scalar_one())


def _message(row: Row[tuple[int, str, str]]) -> bytes:
    event = orjson.loads(row.body)
    shown = {name: event[name] for name in ("seq", "at", "kind", "actor", "items", "reason", "detail")}
    return b"id: %d\nevent: act\ndata: %b\n\n" % (row.seq, orjson.dumps(shown))


def _tool_message(name: str, state: bytes) -> bytes:
    return b'event: tool\ndata: {"tool":%b,"state":%b}\n\n' % (orjson.dumps(name), state)


def _id_of(message: bytes) -> int:
    return int(message[4 : message.index(b"\n")]) if message.startswith(b"id: ") else 0
