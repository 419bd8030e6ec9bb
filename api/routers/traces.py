"""Traces of runs: thinned out for a plot, whole as a file, with their phases and gaps.

The plot is the hot path: one prebuilt statement finds the run, the numbers go from the stored chunks to JSON without
becoming Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field
from sqlalchemy import Connection, Row, text

from api.dependencies import CurrentActor, Served
from api.service import Service
from api.views import View, streamed
from equipment.press import EQUIPMENT_CLASS as PRESS_CLASS
from equipment.press import PressPhase
from equipment.sputter import EQUIPMENT_CLASS as SPUTTER_CLASS
from equipment.sputter import SputterPhase
from equipment.trace_reading import FEWEST_POINTS, Signal, phases, read_gaps, read_trace
from equipment.traces import moment
from traceability.canonical import timestamp
from traceability.errors import NotFound

router = APIRouter(tags=["traces"])

POINTS = 1000
EXPORT_STEP = timedelta(minutes=10)
"""Time of a trace that is held in memory at once while it is written out."""

_PHASES = {SPUTTER_CLASS: SputterPhase, PRESS_CLASS: PressPhase}
_RUN = text("SELECT id, equipment_class, simulated FROM runs WHERE serial = :serial")
_SPAN = text("SELECT MIN(start_us), MAX(end_us) FROM trace_chunks WHERE run_id = :run_id")
_SEALED = text("SELECT 1 FROM trace_seals WHERE run_id = :run_id")


class TraceFormat(StrEnum):
    """How a whole trace is written."""

    CSV = "csv"
    NDJSON = "ndjson"


_MEDIA_TYPES = {TraceFormat.CSV: "text/csv", TraceFormat.NDJSON: "application/x-ndjson"}


class SignalView(View):
    """One signal. A value is null where the tool had none."""

    name: str = Field(examples=["chamber_pressure_pa"])
    unit: str = Field(examples=["Pa"])
    stored: int = Field(description="Values that the trace has in that time; more than here where it is thinned.")
    time_unix_s: list[float] = Field(description="Domain time, seconds since 1970, UTC.")
    values: list[float | None]
    status: list[int] | None = Field(description="OPC UA status codes; null where all are good.")


class RunTraceView(View):
    """Signals of a run's trace."""

    run: str
    simulated: bool
    sealed: bool = Field(description="The trace is complete and can't change any more.")
    signals: list[SignalView]


class PhaseView(View):
    """A stretch in which the tool was in one phase."""

    number: int
    name: str = Field(examples=["deposit"])
    start: datetime
    end: datetime


class GapView(View):
    """A time of which the trace knows that it is missing something."""

    start: datetime
    end: datetime
    reason: str


Tags = Annotated[
    str | None, Query(max_length=2000, description="Names of signals, with commas; all that are traced, if left out.")
]
From = Annotated[AwareDatetime | None, Query(alias="from", description="From the beginning, if left out.")]
To = Annotated[AwareDatetime | None, Query(alias="to", description="To the end, if left out.")]


@router.get("/runs/{serial}/trace", response_model=RunTraceView)
def show_trace(
    serial: str,
    service: Served,
    actor: CurrentActor,
    tags: Tags = None,
    start: From = None,
    end: To = None,
    points: Annotated[
        int, Query(ge=FEWEST_POINTS, le=20_000, description="At most about so many values a signal.")
    ] = POINTS,
) -> Response:
    """Signals of a run for a plot: thinned so that the line drawn covers the same pixels."""
    with service.database.connect() as connection:
        run = _find(connection, serial)
        signals = read_trace(connection, run.id, tags=_names(tags), start=start, end=end, points=points)
        sealed = connection.execute(_SEALED, {"run_id": run.id}).first() is not None
    body = {
        "run": serial,
        "simulated": bool(run.simulated),
        "sealed": sealed,
        "signals": [_signal(signal) for signal in signals.values()],
    }
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


@router.get(
    "/runs/{serial}/trace/export", response_class=StreamingResponse, responses=streamed(*_MEDIA_TYPES.values())
)
def export_trace(
    serial: str,
    service: Served,
    actor: CurrentActor,
    form: Annotated[TraceFormat, Query(alias="format")] = TraceFormat.CSV,
    tags: Tags = None,
) -> StreamingResponse:
    """Every value of a trace as CSV or NDJSON: time, signal, value, unit, status; streamed."""
    names = _names(tags)
    with service.database.connect() as connection:
        run = _find(connection, serial)
        read_trace(connection, run.id, tags=names, end=moment(0))  # what can't be read is said before the file begins
    headers = {"Content-Disposition": f'attachment; filename="{serial}-trace.{form}"'}
    return StreamingResponse(_written(service, run.id, names, form), media_type=_MEDIA_TYPES[form], headers=headers)


@router.get("/runs/{serial}/phases")
def list_phases(serial: str, service: Served, actor: CurrentActor) -> list[PhaseView]:
    """The phases that the tool went through, in order."""
    with service.database.connect() as connection:
        run = _find(connection, serial)
        names = _PHASES[run.equipment_class]
        return [
            PhaseView(number=span.number, name=names(span.number).name.lower(), start=span.start, end=span.end)
            for span in phases(connection, run.id)
        ]


@router.get("/runs/{serial}/gaps")
def list_gaps(serial: str, service: Served, actor: CurrentActor) -> list[GapView]:
    """The times of which the trace is missing something."""
    with service.database.connect() as connection:
        return [GapView.of(gap) for gap in read_gaps(connection, _find(connection, serial).id)]


def _find(connection: Connection, serial: str) -> Row[Any]:
    run = connection.execute(_RUN, {"serial": serial}).first()
    if run is None:
        raise NotFound(f"There is no run {serial}.")
    return run


def _names(tags: str | None) -> list[str] | None:
    return None if tags is None else [name for name in (part.strip() for part in tags.split(",")) if name]


def _signal(signal: Signal) -> dict[str, Any]:
    series = signal.series
    return {
        "name": signal.column.name,
        "unit": signal.column.unit,
        "stored": signal.stored,
        "time_unix_s": series.times_us / 1e6,
        "values": np.ascontiguousarray(series.values),
        "status": np.ascontiguousarray(series.status) if series.status.any() else None,
    }


def _written(service: Service, run_id: int, names: Sequence[str] | None, form: TraceFormat) -> Iterator[bytes]:
    """The file piece by piece; a piece is so much time of the trace, its values in order of time."""
    if form is TraceFormat.CSV:
        yield b"time,signal,value,unit,status\r\n"
    with service.database.connect() as connection:
        first, last = connection.execute(_SPAN, {"run_id": run_id}).one()
        if first is None:
            return
        start, end = moment(first), moment(last + 1)
        while start < end:
            until = min(start + EXPORT_STEP, end)
            yield _piece(read_trace(connection, run_id, tags=names, start=start, end=until), form)
            start = until


def _piece(signals: dict[str, Signal], form: TraceFormat) -> bytes:
    rows = sorted(
        (time_us, name, value, signal.column.unit, status)
        for name, signal in signals.items()
        for time_us, value, status in zip(
            signal.series.times_us.tolist(),
            signal.series.values.tolist(),
            signal.series.status.tolist(),
            strict=True,
        )
    )
    if form is TraceFormat.NDJSON:
        return b"".join(
            orjson.dumps(
                {"time": timestamp(moment(time_us)), "signal": name, "value": value, "unit": unit, "status": status},
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for time_us, name, value, unit, status in rows
        )
    lines = (
        f"{timestamp(moment(time_us))},{name},{'' if value != value else value},{unit},{status}\r\n"
        for time_us, name, value, unit, status in rows
    )
    return "".join(lines).encode()
