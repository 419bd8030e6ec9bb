"""The live stream: one connection a page."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.auth import NotSignedIn
from api.dependencies import CurrentActor, Served
from api.views import streamed
from traceability.acts import Role
from traceability.errors import InvalidInput, SignInRefused, StorageFailed

router = APIRouter(tags=["events"])

_EVENT_ID = re.compile(r"[0-9]{1,18}")


@router.get("/events", response_class=StreamingResponse, responses=streamed("text/event-stream"))
def live_events(
    request: Request,
    service: Served,
    actor: CurrentActor,
    last_event_id: Annotated[str | None, Header(description="Resume after this event; none is missed.")] = None,
) -> StreamingResponse:
    """Server-sent events: `act` for each committed act, `tool` for the present state of a tool, `heartbeat`.

    `reread` means that this client was too slow and must read the pages it shows again.
    """
    if last_event_id is not None and not _EVENT_ID.fullmatch(last_event_id):
        raise InvalidInput("Last-Event-ID is the number of an event; leave it out to begin with the next one.")
    last_id = None if last_event_id is None else int(last_event_id)
    sees_people = bool(actor.roles & {Role.QA, Role.ADMIN})

    def still_signed_in() -> bool:
        try:
            return service.identities.find(request) == actor
        except (NotSignedIn, SignInRefused):
            return False
        except StorageFailed:
            return True

    messages = service.hub.stream(
        last_id, sees_people=sees_people, may_go_on=lambda: run_in_threadpool(still_signed_in)
    )
    return StreamingResponse(messages, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
