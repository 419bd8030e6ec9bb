"""Work orders: how many of a product are wanted by which route, and what they have ready for each tool."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.errors import FindingView
from api.idempotency import Acting, etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.views import Body, Reason, View
from equipment import orders
from equipment.orders import OrderEvent, OrderState, WorkOrder
from equipment.ready import ReadyStep, ready_list
from recipes.errors import NotRunnable
from recipes.routes import Route
from recipes.store import read_content, runnable
from traceability.database import RecordSession

router = APIRouter(tags=["orders"])


class NewOrder(Body):
    """So many of what a route makes."""

    route_id: str = Field(max_length=48, examples=["RT-SYMMETRIC-COATED"])
    route_version: int | None = Field(None, ge=1, description="The effective one, if left out.")
    quantity: int = Field(ge=1, le=10_000, examples=[2])
    experiment: bool = Field(False, description="May use a route that is not effective.")
    due_at: AwareDatetime | None = None


class OrderView(View):
    """A work order."""

    serial: str = Field(examples=["ORD-000008-1"])
    product: str
    route_id: str
    route_version: int
    quantity: int
    experiment: bool
    state: OrderState
    placed_by: str
    placed_at: datetime
    due_at: datetime | None
    version: int


class ReadyStepView(View):
    """A step of an open order, with what is there for it and what is not."""

    order: str
    route: str = Field(examples=["RT-SYMMETRIC-COATED/1"])
    step: str
    title: str
    recipes: list[str] = Field(description="Of which the operator picks one.")
    remaining: int
    ready: bool
    candidates: dict[str, list[str]] = Field(description="Serials that could be used, by their use; the first first.")
    missing: list[FindingView]


@router.get("/orders")
def list_orders(
    service: Served,
    actor: CurrentActor,
    state: Annotated[OrderState | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[OrderView]:
    """Orders, newest first."""
    query = select(WorkOrder)
    if state is not None:
        query = query.where(WorkOrder.state == state)
    with service.database.read() as record:
        return page_of(record, query, col(WorkOrder.id), OrderView.of, cursor=cursor, limit=limit)


@router.post("/orders", status_code=201, response_model=OrderView)
def place_order(body: NewOrder, act: Act) -> Response:
    """Ask for so many of what a route makes."""
    with act.write() as record:
        route = route_to_use(record, body.route_id, body.route_version, experiment=body.experiment)
        order = orders.place_order(
            record,
            product=route.product.material,
            route_id=route.route_id,
            route_version=route.version,
            quantity=body.quantity,
            experiment=body.experiment,
            due_at=body.due_at,
        )
        return act.answer(
            OrderView.of(order), status=201, location=f"/api/v1/orders/{order.serial}", version=order.version
        )


@router.get("/orders/{serial}")
def show_order(serial: str, service: Served, actor: CurrentActor, response: Response) -> OrderView:
    """One order."""
    with service.database.read() as record:
        order = orders.find_order(record, serial)
    response.headers["ETag"] = etag_of(order.version)
    return OrderView.of(order)


@router.post("/orders/{serial}:hold", response_model=OrderView)
def hold_order(serial: str, body: Reason, act: Act) -> Response:
    """Let an order rest; its steps are no longer offered."""
    return _moved(act, serial, OrderEvent.HOLD, body.reason)


@router.post("/orders/{serial}:release", response_model=OrderView)
def release_order(serial: str, body: Reason, act: Act) -> Response:
    """Work on an order again."""
    return _moved(act, serial, OrderEvent.RELEASE, body.reason)


@router.post("/orders/{serial}:close", response_model=OrderView)
def close_order(serial: str, body: Reason, act: Act) -> Response:
    """Say that an order is done."""
    return _moved(act, serial, OrderEvent.CLOSE, body.reason)


@router.post("/orders/{serial}:cancel", response_model=OrderView)
def cancel_order(serial: str, body: Reason, act: Act) -> Response:
    """Give an order up; what was made of it stays."""
    return _moved(act, serial, OrderEvent.CANCEL, body.reason)


@router.get("/tools/{name}/ready")
def list_ready_steps(name: str, service: Served, actor: CurrentActor) -> list[ReadyStepView]:
    """What open orders have for a tool; what can be taken up now stands first."""
    with service.database.read() as record:
        return [ready_view(step) for step in ready_list(record, name)]


@router.get("/manual-steps")
def list_manual_steps(service: Served, actor: CurrentActor) -> list[ReadyStepView]:
    """What open orders have to be done by hand; what can be taken up now stands first."""
    with service.database.read() as record:
        return [ready_view(step) for step in ready_list(record, None)]


def ready_view(step: ReadyStep) -> ReadyStepView:
    """What is shown of a step."""
    return ReadyStepView(
        order=step.order,
        route=step.route,
        step=step.step,
        title=step.title,
        recipes=list(step.recipes),
        remaining=step.remaining,
        ready=step.ready,
        candidates={use: list(serials) for use, serials in step.candidates.items()},
        missing=[FindingView.model_validate(finding, from_attributes=True) for finding in step.missing],
    )


def route_to_use(record: RecordSession, route_id: str, number: int | None, *, experiment: bool) -> Route:
    """The route that is asked for, if it may be used.

    Raises:
        NotFound: There is no such document or version.
        NotRunnable: It is not effective, or no route.
    """
    version = runnable(record, route_id, number=number, experiment=experiment)
    route = read_content(record, version)
    if not isinstance(route, Route):
        raise NotRunnable(f"{version.reference} is no route; name a route.")
    return route


def _moved(act: Acting, serial: str, event: OrderEvent, reason: str) -> Response:
    with act.write() as record:
        order = orders.move_order(record, serial, event, reason=reason, expected_version=act.if_match)
        return act.answer(OrderView.of(order), version=order.version)
