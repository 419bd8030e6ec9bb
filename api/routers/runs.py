"""Runs: planned from what was scanned, started by asking, and shown with what was set against what was."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.errors import FindingView
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.routers.commands import CommandView
from api.views import Body, DecimalText, Reason, Serial, Text, View
from equipment import runs
from equipment.deviations import Rule, set_against_actual
from equipment.orders import find_order
from equipment.run_records import (
    DeviationGrade,
    DeviationKind,
    Run,
    Use,
    deviations_of,
    find_run,
    order_of,
    positions_of,
    runs_with,
)
from equipment.run_requests import RunRequest, Thing, check_request, plan_request
from equipment.states import RunState
from recipes.control import Adjustment, ControlRecipe
from traceability.database import RecordSession
from traceability.errors import Finding, Severity
from traceability.items import find_item

router = APIRouter(tags=["runs"])


class ThingBody(Body):
    """A thing for a run, as it was scanned."""

    serial: Serial = Field(examples=["DSC-000021-4"])
    use: Use = Field(examples=[Use.DISC])
    position: int | None = Field(None, ge=1, le=100, description="Place on the carrier.", examples=[1])
    quantity: DecimalText | None = Field(None, description="How much of a lot; leave out for one piece.")
    unit: str = Field("piece", max_length=16, examples=["mg"])


class AdjustmentBody(Body):
    """A number set for this run, inside the tolerance of its parameter."""

    value: DecimalText = Field(examples=["150.8"])
    reason: str = Field(min_length=3, max_length=1000, examples=["weighed"])


class RecipeReference(Body):
    """A master recipe."""

    recipe_id: str = Field(max_length=48, examples=["SP-LIALO2-200"])
    version: int | None = Field(None, ge=1, description="The effective one, if left out.")


class RunCheck(Body):
    """A run that somebody might want."""

    recipe: RecipeReference
    things: list[ThingBody] = Field(min_length=1, max_length=200)
    adjustments: dict[Annotated[str, Field(max_length=64)], AdjustmentBody] = Field(
        default_factory=dict, examples=[{"powder_mass_mg": {"value": "150.8", "reason": "weighed"}}]
    )
    experiment: bool = Field(
        False, description="May use a recipe that is not effective; what it makes says so for ever."
    )

    def request(self, tool: str) -> RunRequest:
        """What the domain is asked for."""
        return RunRequest(
            tool=tool,
            recipe_id=self.recipe.recipe_id,
            number=self.recipe.version,
            things=[
                Thing(
                    thing.serial,
                    thing.use,
                    thing.position,
                    None if thing.quantity is None else Decimal(thing.quantity),
                    thing.unit,
                )
                for thing in self.things
            ],
            adjustments={name: Adjustment(Decimal(a.value), a.reason) for name, a in self.adjustments.items()},
            experiment=self.experiment,
        )


class NewRun(RunCheck):
    """A run to plan. Its things are taken for it and for nothing else until it has ended."""

    tool: Text = Field(examples=["SP1"])
    order: str | None = Field(None, max_length=40, description="Work order that it belongs to.")


class StartBody(Body):
    """Why a run is started; may stay empty."""

    reason: str = Field("", max_length=1000)


class CorrectionView(View):
    """A number that differs from the master recipe's, or from its model's, and why."""

    name: str = Field(examples=["deposit_time_s"])
    unit: str
    master_value: Decimal = Field(description="What the master recipe, or its model, says.")
    value: Decimal = Field(description="What the run uses.")
    reason: str = Field(examples=["run-to-run control, by the law"])


class CheckView(View):
    """What stands against a run; it may be started when nothing of severity error is among the findings."""

    ready: bool
    findings: list[FindingView]
    corrections: list[CorrectionView] = Field(description="That the run would get if it were planned now.")


class RunView(View):
    """A run."""

    serial: str = Field(examples=["RUN-000031-K"])
    tool: str
    equipment_class: str
    state: RunState
    work_master: str = Field(description="Recipe id / version / SHA-256, as the tool is told it.")
    control_hash: str = Field(description="SHA-256 of the control recipe.")
    experiment: bool
    simulated: bool
    interrupted: bool = Field(description="The process was interrupted; stays set for ever.")
    planned_by: str
    planned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    why: str
    version: int


class PositionView(View):
    """A thing in a run."""

    serial: str
    use: Use
    position: int | None
    quantity: Decimal | None
    unit: str
    result_serial: str = Field(description="What it became; empty until then, or where it became nothing else.")


class DeviationView(View):
    """One way in which a run was not as planned."""

    kind: DeviationKind
    grade: DeviationGrade
    source: str
    message: str
    at: datetime


class ComparisonView(View):
    """What was set against what was."""

    parameter: str
    unit: str
    rule: Rule
    target: Decimal
    tolerance: Decimal | None
    actual: Decimal | None
    passed: bool | None = Field(description="Null where there is nothing to compare.")


class RunDetail(RunView):
    """A run with all that belongs to it."""

    title: str = Field(description="Of the recipe.")
    order: str | None
    expected_duration_s: Decimal
    corrections: list[CorrectionView]
    positions: list[PositionView]
    comparison: list[ComparisonView]
    deviations: list[DeviationView]
    actuals: dict[str, Any] = Field(description="`{value, unit}` by name, as the tool told them at the end.")


@router.get("/runs")
def list_runs(
    service: Served,
    actor: CurrentActor,
    tool: Annotated[str | None, Query(max_length=40)] = None,
    state: Annotated[list[RunState] | None, Query(description="One or several states.")] = None,
    order: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RunView]:
    """Runs, newest first."""
    query = select(Run)
    if tool is not None:
        query = query.where(Run.tool == tool)
    if state:
        query = query.where(col(Run.state).in_(state))
    with service.database.read() as record:
        if order is not None:
            query = query.where(Run.order_id == find_order(record, order).key)
        return page_of(record, query, col(Run.id), RunView.of, cursor=cursor, limit=limit)


@router.post("/runs", status_code=201, response_model=RunDetail)
def plan_run(body: NewRun, act: Act) -> Response:
    """Plan a run. Everything that forbids it comes back at once."""
    with act.write() as record:
        run = plan_request(record, body.request(body.tool), order=body.order)
        return act.answer(
            _detail(record, run), status=201, location=f"/api/v1/runs/{run.serial}", version=run.version
        )


@router.post("/tools/{name}:check")
def check_run(name: str, body: RunCheck, service: Served, actor: CurrentActor) -> CheckView:
    """What would stand against starting a run now; nothing is changed."""
    with service.database.read() as record:
        forecast = check_request(record, body.request(name), actor)
    return CheckView(
        ready=_may_start(forecast.findings),
        findings=_findings(forecast.findings),
        corrections=_corrections(forecast.control),
    )


@router.get("/runs/{serial}")
def show_run(serial: str, service: Served, actor: CurrentActor, response: Response) -> RunDetail:
    """One run with its things, what was set against what was, and its deviations."""
    with service.database.read() as record:
        run = find_run(record, serial)
        response.headers["ETag"] = etag_of(run.version)
        return _detail(record, run)


@router.get("/runs/{serial}/control-recipe", response_model=dict[str, Any])
def show_control_recipe(serial: str, service: Served, actor: CurrentActor) -> Response:
    """The frozen control recipe, in the very bytes that its hash is over."""
    with service.database.read() as record:
        run = find_run(record, serial)
    return Response(run.control_recipe, headers={"ETag": f'"{run.control_hash}"'}, media_type="application/json")


@router.get("/items/{serial}/runs")
def list_runs_with_item(serial: str, service: Served, actor: CurrentActor) -> list[RunView]:
    """Every run that a thing was in or was made by, oldest first."""
    with service.database.read() as record:
        return [RunView.of(run) for run in runs_with(record, find_item(record, serial).serial)]


@router.post("/runs/{serial}:start", status_code=202, response_model=CommandView)
def start_run(serial: str, body: StartBody, act: Act) -> Response:
    """Ask for the start of a planned run, after looking at everything once more.

    The answer says that it was asked for, not that the tool has started: follow the command, or the run.
    """
    with act.write() as record:
        intent = runs.start_run(record, serial, reason=body.reason, expected_version=act.if_match)
        return act.answer(CommandView.of(intent), status=202, location=f"/api/v1/commands/{intent.serial}")


@router.post("/runs/{serial}:withdraw", response_model=RunDetail)
def withdraw_run(serial: str, body: Reason, act: Act) -> Response:
    """Take a planned run back; its things are free again."""
    with act.write() as record:
        run = runs.withdraw_run(record, serial, reason=body.reason, expected_version=act.if_match)
        return act.answer(_detail(record, run), version=run.version)


@router.post("/runs/{serial}:give-up", response_model=RunDetail)
def give_up_run(serial: str, body: Reason, act: Act) -> Response:
    """Close a run whose end nobody will ever know; what lay in it is held for QA."""
    with act.write() as record:
        run = runs.give_up(record, serial, reason=body.reason, expected_version=act.if_match)
        return act.answer(_detail(record, run), version=run.version)


def _detail(record: RecordSession, run: Run) -> RunDetail:
    control = ControlRecipe.from_canonical(run.control_recipe)
    order = order_of(record, run)
    return RunDetail(
        **RunView.of(run).model_dump(),
        title=control.master.title,
        order=None if order is None else order.serial,
        expected_duration_s=control.expected_duration_s,
        corrections=_corrections(control),
        positions=[PositionView.of(position) for position in positions_of(record, run)],
        comparison=[ComparisonView.of(line) for line in set_against_actual(run, control)],
        deviations=[DeviationView.of(deviation) for deviation in deviations_of(record, run)],
        actuals=run.actuals,
    )


def _corrections(control: ControlRecipe | None) -> list[CorrectionView]:
    return [] if control is None else [CorrectionView.of(correction) for correction in control.corrections]


def _may_start(findings: Sequence[Finding]) -> bool:
    return not any(finding.severity is Severity.ERROR for finding in findings)


def _findings(findings: Sequence[Finding]) -> list[FindingView]:
    return [FindingView.model_validate(finding, from_attributes=True) for finding in findings]
