"""Alarms: what stands, what was, and what to do about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.routers.commands import CommandView
from api.views import Body, View
from equipment.alarms import Alarm, Priority, acknowledge_alarm, find_alarm
from equipment.states import AlarmState

router = APIRouter(tags=["alarms"])


class AlarmView(View):
    """One occurrence of an alarm, by the states of ISA-18.2."""

    id: int
    tool: str
    name: str = Field(examples=["reflected_power_high"])
    state: AlarmState
    priority: Priority
    severity: int = Field(description="As the tool says, 1 to 1000.")
    message: str
    cause: str
    consequence: str = Field(description="What happens if nobody acts.")
    action: str = Field(description="What to do.")
    run_serial: str = Field(description="The run that was on the tool; empty for none.")
    raised_at: datetime
    returned_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str
    comment: str
    raised_count: int = Field(description="How often it was raised before it was acknowledged.")
    version: int


class Acknowledgement(Body):
    """A person has seen the alarm."""

    comment: str = Field("", max_length=1000, examples=["matching network retuned"])


@router.get("/alarms")
def list_alarms(
    service: Served,
    actor: CurrentActor,
    standing: Annotated[bool, Query(description="Only those that are not normal.")] = True,
    tool: Annotated[str | None, Query(max_length=40)] = None,
    run: Annotated[str | None, Query(max_length=40)] = None,
    priority: Priority | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AlarmView]:
    """Alarms, newest first."""
    query = select(Alarm)
    if standing:
        query = query.where(Alarm.state != AlarmState.NORMAL)
    if tool is not None:
        query = query.where(Alarm.tool == tool)
    if run is not None:
        query = query.where(Alarm.run_serial == run)
    if priority is not None:
        query = query.where(Alarm.priority == priority)
    with service.database.read() as record:
        return page_of(record, query, col(Alarm.id), AlarmView.of, cursor=cursor, limit=limit)


@router.get("/alarms/{alarm_id}")
def show_alarm(alarm_id: int, service: Served, actor: CurrentActor, response: Response) -> AlarmView:
    """One alarm."""
    with service.database.read() as record:
        alarm = find_alarm(record, alarm_id)
    response.headers["ETag"] = etag_of(alarm.version)
    return AlarmView.of(alarm)


@router.post("/alarms/{alarm_id}:acknowledge", status_code=202, response_model=CommandView)
def acknowledge(alarm_id: int, body: Acknowledgement, act: Act) -> Response:
    """Ask the tool to take note that the alarm was seen; it is acknowledged when the tool says so."""
    with act.write() as record:
        intent = acknowledge_alarm(record, alarm_id, comment=body.comment, expected_version=act.if_match)
        return act.answer(CommandView.of(intent), status=202, location=f"/api/v1/commands/{intent.serial}")
