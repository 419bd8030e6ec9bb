"""The live stream: one connection a page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from api.dependencies import CurrentActor, Served
from api.views import streamed
from traceability.acts import Role
from traceability.errors import InvalidInput

router = APIRouter(tags=["events"])


@router.get("/events", response_class=StreamingResponse, responses=streamed("text/event-stream"))
def live_events(
    service: Served,
    actor: CurrentActor,
    last_event_id: Annotated[str | None, Header(description="Resume after this event; none is missed.")] = None,
) -> StreamingResponse:
    """Server-sent events: `act` for each committed act, `tool` for the present state of a tool, `heartbeat`.

    `reread` means that this client was too slow and must read the pages it shows again.
    """
    if last_event_id is not None and not last_event_id.isdigit():
        raise InvalidInput("Last-Event-ID is the number of an event; leave it out to begin with the next one.")
    last_id = None if last_event_id is None else int(last_event_id)
    sees_people = bool(actor.roles & {Role.QA, Role.ADMIN})
    messages = service.hub.stream(last_id, sees_people=sees_people)
    return StreamingResponse(messages, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
