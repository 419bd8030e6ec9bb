"""Delivers what waits in the outbox to the tester endpoints, over HTTP, until each has answered.

One task does it all; two of them do no harm, because an endpoint knows a hand-off by its uuid and answers the same
again. An endpoint that can't be reached is tried again, each time after longer, and never given up. What an answer
means for the hand-off is decided in `handoff`.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import httpx
import structlog

from equipment.line_config import TesterConfig
from equipment.testers.handoff import answered, cancel_refused
from equipment.testers.handoff_records import Handoff
from equipment.testers.handoff_states import HandoffEvent, HandoffState
from equipment.testers.outbox_queue import Message, MessageState, OutboxRow, waiting
from traceability.acts import system_actor
from traceability.canonical import canonical_bytes
from traceability.clock import wall_now
from traceability.database import Database, RecordSession
from traceability.errors import ArgonautError, InvalidInput

_log = structlog.get_logger(__name__)

POLL_S = 0.25
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0
TIMEOUT_S = 10.0
_ACTOR = system_actor("tester-outbox")

# Answers after which asking again is right: they speak of the moment or of the configuration, not of the hand-off.
_AGAIN = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str


class Outbox:
    """The task that speaks to tester endpoints.

    Args:
        database: The record.
        testers: Of the line.
        ca_file: Certificates that HTTPS endpoints are checked against, beside those of the system; they are always
            checked.
        first_retry_s: Wait after the first failure, real time; it doubles up to `LONGEST_RETRY_S`.
    """

    def __init__(
        self,
        database: Database,
        testers: Sequence[TesterConfig],
        *,
        ca_file: str | None = None,
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._database = database
        self._testers = {tester.name: tester for tester in testers}
        self._first_retry_s = first_retry_s
        self._tls = ssl.create_default_context()
        if ca_file is not None:
            self._tls.load_verify_locations(ca_file)
        self._jitter = random.Random()
        self._waiting: Mapping[str, int] = {}

    @property
    def waiting(self) -> Mapping[str, int]:
        """How much waited for each tester when the queue was last looked at."""
        return self._waiting

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, verify=self._tls, trust_env=False) as client:
            while True:
                try:
                    await self.deliver(client)
                except ArgonautError as error:
                    _log.error("outbox_hindered", problem=error.message)
                await asyncio.sleep(POLL_S)

    async def deliver(self, client: httpx.AsyncClient) -> int:
        """Try everything that is due once, each tester by itself; answers with how many were heard."""
        due = await asyncio.to_thread(self._due)
        by_tester: dict[str, list[tuple[OutboxRow, Handoff]]] = {}
        for row, handoff in due:
            by_tester.setdefault(row.tester, []).append((row, handoff))
        heard = await asyncio.gather(*(self._deliver_all(client, rows) for rows in by_tester.values()))
        return sum(heard)

    async def _deliver_all(self, client: httpx.AsyncClient, rows: list[tuple[OutboxRow, Handoff]]) -> int:
        heard = 0
        for row, handoff in rows:
            try:
                answer = await self._send(client, row, handoff)
            except (httpx.RequestError, InvalidInput) as error:
                await asyncio.to_thread(self._put_off, row, _said(error))
                continue
            if answer.status in _AGAIN or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                await asyncio.to_thread(self._put_off, row, f"{answer.status}: {answer.text}")
                continue
            await asyncio.to_thread(self._take, row, handoff, answer)
            heard += 1
        return heard

    async def _send(self, client: httpx.AsyncClient, row: OutboxRow, handoff: Handoff) -> _Answer:
        tester = self._testers.get(row.tester)
        if tester is None:
            raise InvalidInput(f"The line has no tester {row.tester} any more; enter it again or resolve by hand.")
        token = tester.token()
        headers = {"content-type": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        url = f"{tester.url.rstrip('/')}/v1/handoffs/{handoff.uuid}"
        if row.message is Message.OFFER:
            response = await client.put(url, content=canonical_bytes(handoff.offer), headers=headers)
        else:
            response = await client.post(
                f"{url}:cancel", content=canonical_bytes({"reason": "cancelled at the MES"}), headers=headers
            )
        return _Answer(response.status_code, _detail(response))

    def _due(self) -> Sequence[tuple[OutboxRow, Handoff]]:
        """What may be tried now: of each hand-off the oldest message alone, so that they arrive in order."""
        now = wall_now()
        with self._database.read() as record:
            rows = waiting(record)
        counts: dict[str, int] = {}
        oldest: dict[str, tuple[OutboxRow, Handoff]] = {}
        for row, handoff in rows:
            counts[row.tester] = counts.get(row.tester, 0) + 1
            oldest.setdefault(handoff.uuid, (row, handoff))
        self._waiting = counts
        return [(row, handoff) for row, handoff in oldest.values() if row.next_at <= now]

    def _put_off(self, row: OutboxRow, problem: str) -> None:
        wait_s = min(LONGEST_RETRY_S, self._first_retry_s * 2.0 ** min(row.attempts, 16))
        wait_s *= self._jitter.uniform(0.5, 1.5)
        _log.warning("tester_not_reached", tester=row.tester, attempts=row.attempts + 1, problem=problem)
        with self._database.write(_ACTOR) as record:
            current = record.get_one(OutboxRow, row.id)
            current.attempts += 1
            current.next_at = wall_now() + timedelta(seconds=wait_s)
            current.problem = problem[:500]
            record.add(current)

    def _take(self, row: OutboxRow, handoff: Handoff, answer: _Answer) -> None:
        with self._database.write(_ACTOR) as record:
            current = record.get_one(OutboxRow, row.id)
            if current.state is not MessageState.WAITING:
                return
            good = answer.status < HTTPStatus.BAD_REQUEST
            current.state = MessageState.DELIVERED if good else MessageState.REFUSED
            current.attempts += 1
            current.answered_at = wall_now()
            current.problem = "" if good else f"{answer.status}: {answer.text}"[:500]
            record.add(current)
            if not good:
                _refused(record, row.message, handoff, answer)


def _refused(record: RecordSession, message: Message, handoff: Handoff, answer: _Answer) -> None:
    why = f"{handoff.tester} answered {answer.status}: {answer.text}"[:1000]
    if message is Message.OFFER:
        # Another body stands there under this uuid: what the tester will do with which cell is not known.
        conflict = answer.status == HTTPStatus.CONFLICT
        answered(record, handoff.uuid, HandoffEvent.LOSE if conflict else HandoffEvent.REJECT, why)
    elif answer.status == HTTPStatus.NOT_FOUND and handoff.state is HandoffState.OFFERED:
        answered(record, handoff.uuid, HandoffEvent.CANCEL, why)
    else:
        cancel_refused(record, handoff.uuid, why)


def _detail(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    return str(body.get("detail", "")) if isinstance(body, dict) else ""


def _said(error: httpx.RequestError | InvalidInput) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
