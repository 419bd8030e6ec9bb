"""Work orders: how many of a product are wanted, by which version of which route.

An order names its route; what the next step of a unit is follows from the route and from what the unit is, and is
worked out in `dispatch`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from traceability.activities import next_serial
from traceability.columns import Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import InvalidInput, NotFound, StaleVersion
from traceability.transitions import TransitionTable


class OrderState(StrEnum):
    """Where an order stands."""

    OPEN = "open"
    ON_HOLD = "on_hold"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class OrderEvent(StrEnum):
    """What moves an order."""

    HOLD = "hold"
    RELEASE = "release"
    CLOSE = "close"
    CANCEL = "cancel"


ORDER_TRANSITIONS = TransitionTable(
    "order",
    [
        (OrderState.OPEN, OrderEvent.HOLD, OrderState.ON_HOLD),
        (OrderState.ON_HOLD, OrderEvent.RELEASE, OrderState.OPEN),
        (OrderState.OPEN, OrderEvent.CLOSE, OrderState.CLOSED),
        (OrderState.OPEN, OrderEvent.CANCEL, OrderState.CANCELLED),
        (OrderState.ON_HOLD, OrderEvent.CANCEL, OrderState.CANCELLED),
    ],
)


class WorkOrder(SQLModel, table=True):
    """So many of a product.

    Attributes:
        serial: `ORD-…`.
        product: Code of what is made.
        route_id, route_version: The route by which it is made.
        quantity: How many.
        experiment: Its runs may use draft recipes.
    """

    __tablename__ = "orders"

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    product: str
    route_id: str = Field(index=True)
    route_version: int
    quantity: int
    experiment: bool = False
    state: OrderState = Field(sa_column=Column(Choice(OrderState), nullable=False, index=True))
    version: int = 1
    placed_by: str
    placed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    due_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the order is not stored yet")
        return self.id


def place_order(
    record: RecordSession,
    *,
    product: str,
    route_id: str,
    route_version: int,
    quantity: int,
    experiment: bool = False,
    due_at: datetime | None = None,
) -> WorkOrder:
    """Ask for so many of a product.

    Raises:
        InvalidInput: The quantity is not a positive number.
    """
    with record.act("order.placed") as act:
        if quantity < 1:
            raise InvalidInput(f"An order is for at least one; {quantity} were asked for.")
        order = WorkOrder(
            serial=next_serial(record, "ORD"),
            product=product,
            route_id=route_id,
            route_version=route_version,
            quantity=quantity,
            experiment=experiment,
            state=OrderState.OPEN,
            placed_by=record.actor.name,
            placed_at=record.clock.now(),
            due_at=due_at,
        )
        record.add(order)
        record.flush()
        act.items.append(order.serial)
    return order


def move_order(
    record: RecordSession, serial: str, event: OrderEvent, *, reason: str, expected_version: int | None = None
) -> WorkOrder:
    """Hold, release, close or cancel an order.

    Raises:
        NotFound: There is no such order.
        Refused: Its state does not allow it.
        StaleVersion: It was changed since it was read.
    """
    order = find_order(record, serial)
    if expected_version is not None and order.version != expected_version:
        raise StaleVersion(f"{serial} is at version {order.version}, not {expected_version}; read it again.")
    with record.act("order.changed", serial, reason=reason, detail={"event": event}):
        order.state = ORDER_TRANSITIONS.next(order.state, event, serial)
        order.version += 1
        record.add(order)
    return order


def find_order(record: RecordSession, serial: str) -> WorkOrder:
    """The order with that serial.

    Raises:
        NotFound: There is none.
    """
    order = record.exec(select(WorkOrder).where(WorkOrder.serial == serial)).first()
    if order is None:
        raise NotFound(f"There is no order {serial}.")
    return order


def open_orders(record: RecordSession) -> list[WorkOrder]:
    """Orders that are being worked on: the soonest due first, then in the order of placing."""
    orders = record.exec(select(WorkOrder).where(WorkOrder.state == OrderState.OPEN).order_by(col(WorkOrder.id)))
    return sorted(orders, key=lambda order: (order.due_at is None, order.due_at or order.placed_at, order.key))
