"""Asks tester endpoints what they hold, and notes where nobody knows any more what became of a cell.

Reports of a tester are evidence; its silence is not. Only an endpoint that answers and does not know a hand-off that
it had taken makes its state unknown. Run as a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import httpx
import structlog
from sqlmodel import col, select

from equipment.line_config import TesterConfig
from equipment.testers.handoff import answered
from equipment.testers.handoff_records import Handoff
from equipment.testers.handoff_states import HANDOFF_STATES, HandoffEvent, HandoffState
from traceability.acts import system_actor
from traceability.database import Database
from traceability.errors import InvalidInput

_log = structlog.get_logger(__name__)
_ACTOR = system_actor("tester-polling")
_TAKEN = [
    state
    for state in HandoffState
    if state is not HandoffState.OFFERED and HandoffEvent.LOSE in HANDOFF_STATES.events_from(state)
]


def ask_testers(database: Database, testers: Sequence[TesterConfig], *, timeout_s: float = 5.0) -> list[str]:
    """Ask each tester for the hand-offs that it should hold.

    Returns:
        The uuids of those that it no longer knows; their state is now unknown.
    """
    lost: list[str] = []
    with httpx.Client(timeout=timeout_s, trust_env=False) as client:
        for tester in testers:
            if tester.polls:
                continue
            with database.read() as record:
                query = select(Handoff).where(Handoff.tester == tester.name, col(Handoff.state).in_(_TAKEN))
                held = list(record.exec(query))
            try:
                lost += _lost(database, client, tester, held)
            except (httpx.RequestError, InvalidInput) as error:
                _log.warning("tester_not_reached", tester=tester.name, problem=str(error))
    return lost


def _lost(database: Database, client: httpx.Client, tester: TesterConfig, held: Sequence[Handoff]) -> list[str]:
    lost = []
    token = tester.token()
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    for handoff in held:
        answer = client.get(f"{tester.url.rstrip('/')}/v1/handoffs/{handoff.uuid}", headers=headers)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            with database.write(_ACTOR) as record:
                answered(record, handoff.uuid, HandoffEvent.LOSE, f"{tester.name} no longer knows this hand-off.")
            lost.append(handoff.uuid)
    return lost
