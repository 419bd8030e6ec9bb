"""Brings an endpoint's events and files to the MES, in order, until each was taken; and fetches what the MES offers.

What the MES does not take is tried again, each time after longer, and never dropped. The MES's token goes to the one
address that was configured, never to one that came with a hand-off.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import structlog

from api.endpoints.store import Delivery, EndpointStore
from equipment.testers.contract import Offer, ResultReport
from equipment.testers.handoff_states import HANDOFF_STATES, HandoffEvent, HandoffState
from traceability.clock import Clock
from traceability.errors import Conflict

_log = structlog.get_logger(__name__)

FIRST_RETRY_S = 0.25
LONGEST_RETRY_S = 30.0


@dataclass
class MesLink:
    """An endpoint's way to the MES.

    Attributes:
        url: Of the MES, up to and without `/api/v1`.
        tester: Name of the tester.
        client: Carries the token and checks certificates.
        fetches: Hand-offs are fetched, because the MES may not call.
    """

    url: str
    tester: str
    client: httpx.Client
    store: EndpointStore
    clock: Clock
    fetches: bool = False
    _jitter: random.Random = field(default_factory=random.Random)

    @property
    def api(self) -> str:
        """Where the MES's routes begin."""
        return f"{self.url.rstrip('/')}/api/v1"

    def deliver(self) -> int:
        """Send all that is due; answers with how much the MES took."""
        taken = 0
        while due := self.store.due(time.time()):
            taken += sum([self._try(delivery) for delivery in due])
        return taken

    def look(self) -> None:
        """Ask the MES for its open hand-offs: settle those that it has closed, and fetch offers if so configured."""
        try:
            answer = self.client.get(f"{self.api}/testers/{self.tester}/handoffs")
        except httpx.RequestError as error:
            _log.warning("mes_not_reached", problem=_said(error))
            return
        if answer.status_code != HTTPStatus.OK:
            _log.warning("mes_refused", status=answer.status_code, problem=_detail(answer))
            return
        seen = answer.json()
        wanted = {each["offer"]["uuid"] for each in seen}
        for held in self.store.all(only_open=True):
            if held.state.over and held.uuid not in wanted:
                self.store.settle(held.uuid)
        if self.fetches:
            for each in seen:
                self._fetch(each)

    def _fetch(self, each: dict[str, Any]) -> None:
        offer = Offer.model_validate(each["offer"])
        try:
            if each["state"] == HandoffState.OFFERED:
                self.store.put(offer)
        except Conflict as error:
            _log.error("offer_conflicts", uuid=offer.uuid, problem=error.message)
            return
        if each["cancel_requested"]:
            held = self.store.get(offer.uuid)
            if HandoffEvent.CANCEL in HANDOFF_STATES.events_from(held.state):
                self.store.advance(offer.uuid, HandoffEvent.CANCEL, self.clock.now(), reason="cancelled at the MES")

    def _try(self, delivery: Delivery) -> bool:
        try:
            answer = self._send(delivery)
        except httpx.RequestError as error:
            self._put_off(delivery, _said(error))
            return False
        if answer.is_success:
            self.store.delivered(delivery)
            if delivery.seq is None and answer.json().get("status") == "ingested" and _is_final(delivery):
                self.store.settle(delivery.uuid)
            return True
        missing = _missing(answer)
        if missing is not None and delivery.seq is not None and missing < delivery.seq:
            self.store.resend(delivery.uuid, missing)
            return False
        self._put_off(delivery, f"{answer.status_code}: {_detail(answer)}")
        return False

    def _send(self, delivery: Delivery) -> httpx.Response:
        base = f"{self.api}/testers/{self.tester}/handoffs/{delivery.uuid}"
        headers = {"content-type": "application/json"}
        if delivery.path is None:
            return self.client.post(f"{base}/events", content=delivery.body, headers=headers)
        report = ResultReport.model_validate_json(delivery.body)
        with delivery.path.open("rb") as file:
            blob = self.client.put(
                f"{self.api}/blobs/{report.blob}", content=file, headers={"content-type": "application/octet-stream"}
            )
        if not blob.is_success:
            return blob
        return self.client.post(f"{base}/results", content=delivery.body, headers=headers)

    def _put_off(self, delivery: Delivery, problem: str) -> None:
        wait_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(delivery.attempts, 16))
        wait_s *= self._jitter.uniform(0.5, 1.5)
        _log.warning("not_delivered", handoff=delivery.uuid, attempts=delivery.attempts + 1, problem=problem)
        self.store.put_off(delivery, problem, time.time() + wait_s)


def _is_final(delivery: Delivery) -> bool:
    return ResultReport.model_validate_json(delivery.body).is_final


def _missing(answer: httpx.Response) -> int | None:
    """The number of the event that the MES lacks, where it says so."""
    for finding in _problem(answer).get("findings", []):
        if finding.get("code") == "event_gap" and str(finding.get("path")).isdigit():
            return int(finding["path"])
    return None


def _detail(answer: httpx.Response) -> str:
    problem = _problem(answer)
    found = "; ".join(str(finding.get("message")) for finding in problem.get("findings", []))
    return " ".join(filter(None, (str(problem.get("detail", answer.text[:300])), found)))


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _said(error: httpx.RequestError) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
