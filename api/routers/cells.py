"""Cells: closed by hand from their stack, and screened before they go to a tester."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from api.dependencies import Act
from api.errors import FindingView
from api.routers.items import UnitView
from api.routers.orders import route_to_use
from api.views import Body, DecimalText, Serial, Text, View
from equipment.assembly import Part, assemble_cell, screen_cell
from traceability.quantities import Quantity

router = APIRouter(tags=["cells"])

LoggedText = Annotated[
    str, Field(pattern=r"^-?\d{1,12}(\.\d{1,9})?$", examples=["2.05"], description="Decimal number as a string.")
]
Logs = Annotated[
    dict[Annotated[str, Field(max_length=64)], list[LoggedText]],
    Field(description="Logged values by the name that the route gives them, in the route's units."),
]


class PartBody(Body):
    """Something that goes into a cell."""

    use: str = Field(max_length=64, examples=["collector"])
    serial: Serial
    quantity: DecimalText | None = Field(None, description="How much of a lot; leave out for a serialised thing.")
    unit: str = Field("piece", max_length=16)


class StepReference(Body):
    """A step of a route."""

    route_id: str = Field(max_length=48, examples=["RT-SYMMETRIC-COATED"])
    route_version: int | None = Field(None, ge=1, description="The effective one, if left out.")
    experiment: bool = Field(False, description="May use a route that is not effective.")
    step: str = Field(max_length=64, examples=["assemble"])


class NewCell(StepReference):
    """A cell to close."""

    parts: list[PartBody] = Field(min_length=1, max_length=50)
    logs: Logs = Field(default_factory=dict, examples=[{"screw_torque_n_m": ["2.0", "2.05", "1.95"]}])


class NewScreening(StepReference):
    """What a cell showed."""

    step: str = Field(max_length=64, examples=["screen"])
    instrument: Text = Field(min_length=1, examples=["DMM-6500"])
    logs: Logs = Field(examples=[{"ocv_v": ["0.002"], "resistance_ohm": ["310"]}])


class ScreeningValueView(View):
    """One value of a screening; it is a measurement of the cell."""

    serial: str
    quantity_name: str
    value: float
    unit: str
    measured_at: datetime


class ScreeningView(View):
    """What a screening found. A cell that failed is held."""

    cell: UnitView
    passed: bool
    values: list[ScreeningValueView]
    findings: list[FindingView]
    hold: str | None = Field(description="Serial of the hold placed on a cell that failed.")


@router.post("/cells", status_code=201, response_model=UnitView)
def close_cell(body: NewCell, act: Act) -> Response:
    """Close a cell. Everything that is not as its route wants it comes back at once."""
    with act.write() as record:
        cell = assemble_cell(
            record,
            route=route_to_use(record, body.route_id, body.route_version, experiment=body.experiment),
            step=body.step,
            parts=[_part(part) for part in body.parts],
            logs=_logs(body.logs),
        )
        return act.answer(
            UnitView.of(cell), status=201, location=f"/api/v1/units/{cell.serial}", version=cell.version
        )


@router.post("/cells/{serial}:screen", response_model=ScreeningView)
def screen(serial: str, body: NewScreening, act: Act) -> Response:
    """Record the screening of a cell; one that is out of limits is held and not handed to a tester."""
    with act.write() as record:
        found = screen_cell(
            record,
            serial,
            route=route_to_use(record, body.route_id, body.route_version, experiment=body.experiment),
            step=body.step,
            logs=_logs(body.logs),
            instrument=body.instrument,
        )
        view = ScreeningView(
            cell=UnitView.of(found.cell),
            passed=found.passed,
            values=[ScreeningValueView.of(measurement) for measurement in found.measurements],
            findings=[FindingView.model_validate(finding, from_attributes=True) for finding in found.findings],
            hold=None if found.hold is None else found.hold.serial,
        )
        return act.answer(view, version=found.cell.version)


def _part(body: PartBody) -> Part:
    quantity = None if body.quantity is None else Quantity.parse(body.quantity, body.unit)
    return Part(body.use, body.serial, quantity)


def _logs(logs: Mapping[str, Sequence[str]]) -> dict[str, list[Decimal]]:
    return {name: [Decimal(value) for value in values] for name, values in logs.items()}
