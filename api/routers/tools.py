"""The tools of the line: their state and link, how their time is divided, their calibrations and targets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, Field
from sqlalchemy import Connection, text
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.service import Service
from api.views import Body, DecimalText, Serial, Text, View
from equipment import maintenance, utilisation
from equipment.alarms import Priority, tools_in_flood
from equipment.maintenance import TARGET_LIFE_KWH, Calibration, Target
from equipment.states import AlarmState, RunState, ToolState
from equipment.tool_link import LinkState, ToolLink
from traceability.canonical import timestamp
from traceability.columns import UtcDateTime
from traceability.errors import NotFound

router = APIRouter(tags=["tools"])

DENOMINATOR = "operations time (SEMI E10): total time less non-scheduled time"
LOOKED_AT = timedelta(days=7)
"""Time over which utilisation is told where a request names none."""


class LinkView(View):
    """How the link to a tool stands, as the process that answers sees it."""

    state: LinkState
    since: datetime
    why: str = Field(description="Reason of an outage.")
    lease_epoch: int | None = Field(description="Of the lease under which the tool is driven; null without one.")
    fenced: bool = Field(description="The lease may not be used: it could not be renewed in time.")
    connections: int = Field(description="Made since the process began.")
    sample_age_s: float | None = Field(description="Real seconds since the tool was last heard.")
    skew_s: float | None = Field(description="The tool's clock less ours, domain seconds.")


class ToolRunView(View):
    """The run on a tool."""

    serial: str = Field(examples=["RUN-000031-K"])
    state: RunState
    work_master: str
    experiment: bool


class ToolAlarmView(View):
    """The gravest alarm of a tool that is not normal."""

    id: int
    name: str
    state: AlarmState
    priority: Priority
    message: str


class ToolView(View):
    """A tool as it stands now."""

    name: str = Field(examples=["SP1"])
    equipment_class: str = Field(examples=["rf_magnetron_sputter"])
    state: ToolState = Field(description="Basic state of SEMI E10.")
    state_word: str = Field(examples=["productive"])
    sub_state: str
    reason: str
    since: datetime
    simulated: bool = Field(description="As the tool declares of itself.")
    linked: bool = Field(description="It could be spoken to when last heard of.")
    link_note: str
    link: LinkView | None = Field(description="Null where another process drives the tool.")
    run: ToolRunView | None
    worst_alarm: ToolAlarmView | None
    standing_alarms: int
    alarm_flood: bool = Field(description="More than ten alarms were raised in the last ten minutes (ISA-18.2).")
    version: int


class UtilisationView(View):
    """How a tool's time was divided by the states of SEMI E10."""

    start: datetime
    end: datetime
    seconds: dict[ToolState, float]
    total_s: float
    operations_s: float
    uptime_s: float
    operational_uptime: float | None = Field(description="Uptime over the denominator, 0 to 1.")
    operational_utilisation: float | None = Field(description="Productive time over the denominator, 0 to 1.")
    denominator: str = Field(examples=[DENOMINATOR])


class StateChange(Body):
    """A state that a person sets. Productive is never set by hand: it follows from runs."""

    state: ToolState = Field(examples=[ToolState.SCHEDULED_DOWN])
    sub_state: Text = Field("", examples=["preventive maintenance"])
    reason: str = Field(min_length=3, max_length=1000, examples=["crystal change"])


class NewCalibration(Body):
    """A calibration that was done now."""

    instrument: Text = Field(min_length=1, examples=["capacitance manometer"])
    certificate: Text = Field("", examples=["CAL-2026-118"])
    due_at: AwareDatetime = Field(description="When the next one is due.")


class CalibrationView(View):
    """The last calibration of an instrument."""

    instrument: str
    certificate: str
    done_by: str
    done_at: datetime
    due_at: datetime


class NewTarget(Body):
    """A target whose wear is to be counted from now on."""

    serial: Serial = Field(examples=["TGT-000004-2"])
    life_kwh: DecimalText = str(TARGET_LIFE_KWH)
    energy_kwh: DecimalText = Field("0", description="Energy that it has seen before.")


class TargetView(View):
    """The wear of a target."""

    serial: str
    energy_kwh: Decimal
    life_kwh: Decimal
    used: Decimal = Field(description="Part of its life that is used; above 1 when it is overdue.")
    runs: int
    version: int


class NoticeView(View):
    """Something that is due; it stands until it was seen to."""

    subject: str = Field(description="Serial of a target, or tool and instrument.")
    code: str
    message: str
    action: str
    raised_at: datetime


_RUNS = text(
    """
    SELECT tool, serial, state, work_master, experiment FROM runs
    WHERE state IN ('starting', 'running', 'paused', 'held', 'unknown') ORDER BY id"""
)
_ALARMS = text(
    """
    SELECT id, tool, name, state, priority, message FROM alarms
    WHERE state <> 'normal' ORDER BY severity, raised_at"""
)
_TOOLS = text(
    """
    SELECT name, equipment_class, state, sub_state, reason, since, simulated, linked, link_note, version
    FROM tools ORDER BY name"""
).columns(since=UtcDateTime)


@router.get("/tools", response_model=list[ToolView])
def list_tools(service: Served, actor: CurrentActor) -> Response:
    """Every tool of the line as it stands now. Cheap enough to be asked every second."""
    with service.database.connect() as connection:
        tools = _tools(service, connection)
    return Response(orjson.dumps(tools), media_type="application/json")


@router.get("/tools/{name}", response_model=ToolView)
def show_tool(name: str, service: Served, actor: CurrentActor) -> Response:
    """One tool as it stands now."""
    with service.database.connect() as connection:
        tool = next((tool for tool in _tools(service, connection) if tool["name"] == name), None)
    if tool is None:
        raise NotFound(f"The line has no tool called {name!r}.")
    return Response(orjson.dumps(tool), headers={"ETag": etag_of(tool["version"])}, media_type="application/json")


@router.get("/tools/{name}/utilisation")
def show_utilisation(
    name: str,
    service: Served,
    actor: CurrentActor,
    start: Annotated[AwareDatetime | None, Query(alias="from", description="Seven days ago, if left out.")] = None,
    end: Annotated[AwareDatetime | None, Query(alias="to", description="Now, if left out.")] = None,
) -> UtilisationView:
    """How the tool's time was divided, and its utilisation with the denominator named. Never capped."""
    end = end or service.clock.now()
    start = start or end - LOOKED_AT
    with service.database.read() as record:
        found = utilisation.utilisation(record, name, start, end)
    return UtilisationView(
        start=start,
        end=end,
        seconds=dict(found.seconds),
        total_s=found.total_s,
        operations_s=found.operations_s,
        uptime_s=found.uptime_s,
        operational_uptime=found.operational_uptime,
        operational_utilisation=found.operational_utilisation,
        denominator=DENOMINATOR,
    )


@router.post("/tools/{name}:set-state", response_model=ToolView)
def set_tool_state(name: str, body: StateChange, act: Act, service: Served) -> Response:
    """Take a tool down, leave it out of the schedule, or return it to service."""
    with act.write() as record:
        tool = utilisation.set_tool_state(
            record,
            name,
            body.state,
            reason=body.reason,
            sub_state=body.sub_state,
            expected_version=act.if_match,
        )
        record.flush()
        shown = next(t for t in _tools(service, record.connection()) if t["name"] == tool.name)
        return act.answer(ToolView.model_validate(shown), version=tool.version)


@router.get("/tools/{name}/calibrations")
def list_calibrations(name: str, service: Served, actor: CurrentActor) -> list[CalibrationView]:
    """The last calibration of each instrument of a tool."""
    with service.database.read() as record:
        return [CalibrationView.of(row) for row in maintenance.calibrations(record, name)]


@router.post("/tools/{name}/calibrations", status_code=201, response_model=CalibrationView)
def record_calibration(name: str, body: NewCalibration, act: Act) -> Response:
    """Record that an instrument was calibrated. Overdue ones keep the tool from being started."""
    with act.write() as record:
        row: Calibration = maintenance.record_calibration(
            record, name, body.instrument, due_at=body.due_at, certificate=body.certificate
        )
        return act.answer(CalibrationView.of(row), status=201)


@router.get("/maintenance-notices")
def list_maintenance_notices(service: Served, actor: CurrentActor) -> list[NoticeView]:
    """What is due on the line and was not seen to yet, oldest first."""
    with service.database.read() as record:
        return [NoticeView.of(notice) for notice in maintenance.standing_notices(record)]


@router.get("/targets")
def list_targets(service: Served, actor: CurrentActor, cursor: Cursor = None, limit: Limit = 50) -> Page[TargetView]:
    """Targets whose wear is counted, newest first."""
    with service.database.read() as record:
        return page_of(record, select(Target), col(Target.item_id), TargetView.of, cursor=cursor, limit=limit)


@router.post("/targets", status_code=201, response_model=TargetView)
def register_target(body: NewTarget, act: Act) -> Response:
    """Begin to count the wear of a target."""
    with act.write() as record:
        target = maintenance.register_target(
            record, body.serial, life_kwh=Decimal(body.life_kwh), energy_kwh=Decimal(body.energy_kwh)
        )
        return act.answer(
            TargetView.of(target),
            status=201,
            location=f"/api/v1/targets/{target.serial}",
            version=target.version,
        )


@router.get("/targets/{serial}")
def show_target(serial: str, service: Served, actor: CurrentActor, response: Response) -> TargetView:
    """The wear of one target."""
    with service.database.read() as record:
        target = maintenance.find_target(record, serial)
    response.headers["ETag"] = etag_of(target.version)
    return TargetView.of(target)


def _tools(service: Service, connection: Connection) -> list[dict[str, Any]]:
    """Every tool with its run and gravest alarm: four statements, whatever the line's size."""
    runs = {row.tool: row for row in connection.execute(_RUNS)}
    alarms: dict[str, Any] = {}
    standing: dict[str, int] = {}
    for row in connection.execute(_ALARMS):
        # The gravest comes last and stays.
        alarms[row.tool] = row
        standing[row.tool] = standing.get(row.tool, 0) + 1
    in_flood = tools_in_flood(connection, service.clock.now())
    links = {} if service.controller is None else service.controller.links
    return [
        {
            **row._mapping,
            "state_word": ToolState(row.state).name.lower(),
            "since": timestamp(row.since),
            "simulated": bool(row.simulated),
            "linked": bool(row.linked),
            "link": _link(links, row.name),
            "run": _run(runs.get(row.name)),
            "worst_alarm": _alarm(alarms.get(row.name)),
            "standing_alarms": standing.get(row.name, 0),
            "alarm_flood": row.name in in_flood,
        }
        for row in connection.execute(_TOOLS)
    ]


def _link(links: Mapping[str, ToolLink], name: str) -> dict[str, Any] | None:
    link = links.get(name)
    if link is None or link.state is LinkState.WAITING:
        return None
    return {
        "state": link.state,
        "since": timestamp(link.since),
        "why": link.why,
        "lease_epoch": link.lease_epoch,
        "fenced": link.fenced,
        "connections": link.connections,
        "sample_age_s": link.sample_age_s,
        "skew_s": link.skew_s,
    }


def _run(row: Any) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "serial": row.serial,
        "state": row.state,
        "work_master": row.work_master,
        "experiment": bool(row.experiment),
    }


def _alarm(row: Any) -> dict[str, Any] | None:
    if row is None:
        return None
    names = ("id", "name", "state", "priority", "message")
    return {name: getattr(row, name) for name in names}
