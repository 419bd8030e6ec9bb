"""Commands to tools: asked for here, carried out by whoever holds the tool's lease, and followed until confirmed.

No answer says more than what is known: requested, claimed, done. Stop and Abort are taken even from a person whom
the record can't name just now, and even when it can't keep them: then they go out by the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import Field

from api.auth import actor_of_request, secret_of, terminal_of
from api.dependencies import Act, CurrentActor, Served, acting
from api.idempotency import Acting, etag_of
from api.service import Service
from api.views import Body, Reason, View
from equipment.commands import CommandVerb, IntentState, find_intent, intents_of_run
from equipment.journal import JournalEntry
from equipment.run_records import find_run
from equipment.run_requests import command_run
from traceability.acts import Actor, Role
from traceability.errors import InvalidInput, StorageFailed

router = APIRouter(tags=["commands"])

STOP_WITHIN_S = 2.0
"""Real seconds that a Stop waits for the database before it goes out by the journal."""

Answer = TypeVar("Answer")


class CommandView(View):
    """A command to a tool."""

    serial: str = Field(examples=["CMD-000044-7"])
    tool: str
    verb: CommandVerb
    run_serial: str | None
    state: IntentState = Field(
        description="requested, then claimed, downloaded, verified, then done; or refused, failed, unknown."
    )
    reason: str
    requested_by: str
    requested_at: datetime
    ended_at: datetime | None
    attempts: int
    findings: list[dict[str, Any]] = Field(description="Why it was refused, failed, or is not known.")
    version: int


class StopBody(Body):
    """Why a run is stopped. Nobody is kept from stopping by having no words for it."""

    reason: str = Field("", max_length=1000, examples=["plasma flickers"])
    tool: str | None = Field(
        None, max_length=40, description="The tool; lets the command go out when the record can't even be read."
    )


class StopView(View):
    """How a Stop or Abort went out."""

    way: str = Field(description="`record`, or `journal` where the database did not take it.", examples=["record"])
    command: CommandView | None = Field(description="The command on the record; null where it went by the journal.")
    journal_key: str | None = Field(description="Names the entry of the journal, which is entered later.")
    message: str


def stopping_actor(request: Request, service: Served) -> Actor:
    """Who stops: the person signed in, or, while the record can't say who that is, whoever is at the terminal."""
    try:
        return _in_time(partial(actor_of_request, service.database, request))
    except StorageFailed:
        if not secret_of(request):
            raise
        terminal = terminal_of(request)
        return Actor(f"somebody at {terminal}", roles=frozenset(Role), terminal=terminal)


async def stopping(
    request: Request,
    service: Served,
    actor: Annotated[Actor, Depends(stopping_actor)],
    idempotency_key: Annotated[str | None, Header(description="Unique for each act.")] = None,
    if_match: Annotated[str | None, Header(description="Not needed to stop; looked at if it is sent.")] = None,
) -> Acting:
    """A request that stops something."""
    return await acting(request, service, actor, idempotency_key, if_match)


Stopping = Annotated[Acting, Depends(stopping)]


@router.get("/commands/{serial}")
def show_command(serial: str, service: Served, actor: CurrentActor, response: Response) -> CommandView:
    """How far a command has come."""
    with service.database.read() as record:
        intent = find_intent(record, serial)
    response.headers["ETag"] = etag_of(intent.version)
    return CommandView.of(intent)


@router.get("/runs/{serial}/commands")
def list_commands(serial: str, service: Served, actor: CurrentActor) -> list[CommandView]:
    """Every command that concerned a run, oldest first."""
    with service.database.read() as record:
        return [CommandView.of(intent) for intent in intents_of_run(record, find_run(record, serial).serial)]


@router.post("/runs/{serial}:pause", status_code=202, response_model=CommandView)
def pause_run(serial: str, body: Reason, act: Act) -> Response:
    """Ask the tool to pause a run."""
    return _asked(act, serial, CommandVerb.PAUSE, body.reason)


@router.post("/runs/{serial}:resume", status_code=202, response_model=CommandView)
def resume_run(serial: str, body: Reason, act: Act) -> Response:
    """Ask the tool to go on with a paused run."""
    return _asked(act, serial, CommandVerb.RESUME, body.reason)


@router.post("/runs/{serial}:stop", status_code=202, response_model=StopView)
def stop_run(serial: str, body: StopBody, act: Stopping, service: Served) -> Response:
    """Ask the tool to end a run in order. Also goes out when the database refuses.

    This is no emergency stop: that is the button on the tool.
    """
    return _stopped(act, service, serial, CommandVerb.STOP, body)


@router.post("/runs/{serial}:abort", status_code=202, response_model=StopView)
def abort_run(serial: str, body: StopBody, act: Stopping, service: Served) -> Response:
    """Ask the tool to break a run off at once. Also goes out when the database refuses."""
    return _stopped(act, service, serial, CommandVerb.ABORT, body)


def _asked(act: Acting, serial: str, verb: CommandVerb, reason: str) -> Response:
    with act.write() as record:
        intent = command_run(record, serial, verb, reason=reason, expected_version=act.if_match)
        return act.answer(CommandView.of(intent), status=202, location=f"/api/v1/commands/{intent.serial}")


def _stopped(act: Acting, service: Service, serial: str, verb: CommandVerb, body: StopBody) -> Response:
    try:
        return _in_time(partial(_recorded, act, serial, verb, body.reason))
    except StorageFailed as error:
        entry = _journaled(act, service, serial, verb, body)
        view = StopView(
            way="journal",
            command=None,
            journal_key=entry.key,
            message=f"{error.message} {verb.capitalize()} goes out to {entry.tool} by the journal all the same.",
        )
        return Response(view.model_dump_json(), 202, media_type="application/json")


def _recorded(act: Acting, serial: str, verb: CommandVerb, reason: str) -> Response:
    with act.write() as record:
        intent = command_run(record, serial, verb, reason=reason, expected_version=act.if_match)
        view = StopView(
            way="record",
            command=CommandView.of(intent),
            journal_key=None,
            message=f"{verb.capitalize()} is asked for; the tool has not confirmed it yet.",
        )
        return act.answer(view, status=202, location=f"/api/v1/commands/{intent.serial}")


def _in_time(work: Callable[[], Answer]) -> Answer:
    """What `work` answers, if it does so in time; it is left to itself otherwise and may still succeed.

    A Stop that goes out by the journal as well as by the record is asked of the tool twice, which stops once.

    Raises:
        StorageFailed: The database took too long, or said so itself.
    """
    worker = ThreadPoolExecutor(1, "stop")
    try:
        return worker.submit(work).result(STOP_WITHIN_S)
    except TimeoutError as error:
        raise StorageFailed(f"The database did not answer within {STOP_WITHIN_S:g} s.") from error
    finally:
        worker.shutdown(wait=False)


def _journaled(act: Acting, service: Service, serial: str, verb: CommandVerb, body: StopBody) -> JournalEntry:
    return service.journal.append(
        tool=_tool_of(service, serial, body.tool),
        verb=verb,
        run_serial=serial,
        requested_by=act.actor.name,
        reason=body.reason,
        requested_at=service.clock.now(),
    )


def _tool_of(service: Service, serial: str, named: str | None) -> str:
    """The tool of a run, read where that is possible, else as the request names it."""

    def read() -> str:
        with service.database.read() as record:
            return find_run(record, serial).tool

    try:
        return _in_time(read)
    except StorageFailed as error:
        names = [tool.name for tool in service.line.tools]
        if named in names:
            return named
        if len(names) == 1:
            return names[0]
        raise InvalidInput(
            f"The record can't be read, so the tool of {serial} is not known. Send its name as `tool`, one of "
            f"{', '.join(names)}; or use the button on the tool."
        ) from error
