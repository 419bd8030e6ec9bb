"""Run-to-run control of film thickness: what each target has taught, and what is left to a person."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlmodel import col, select

from api.dependencies import Act, CurrentActor, Served
from api.pages import Cursor, Limit, Page, page_of
from api.views import Reason, Serial, View
from equipment.run_corrections import (
    approve_correction,
    find_correction_context,
    last_moves,
    release_correction,
    state_of,
    unlearned_runs,
)
from equipment.run_records import Run
from equipment.utilisation import find_tool
from recipes.run_to_run import Lesson
from recipes.run_to_run_rows import RunToRunContext, RunToRunLesson, RunToRunMove
from traceability.database import RecordSession

router = APIRouter(tags=["run-to-run"])

Moves = Annotated[int, Query(ge=1, le=100, description="Most moves shown of each context.")]


class LessonView(View):
    """What a measured run taught."""

    learned_at: datetime
    thickness_nm: float = Field(description="Mean over the witness measurements.")
    time_s: float = Field(description="Shutter time that the run had.")
    error: float = Field(description="Relative prediction error (log): a point of the control chart.")
    lesson: Lesson
    evidence: str = Field(description="The run and the measurements.")


class RunToRunMoveView(View):
    """A decided deposition time with what it was computed from."""

    id: int
    decided_at: datetime
    work_master: str
    thickness_nm: float = Field(description="Wanted.")
    model_rate_nm_per_min: float
    target_energy_kwh: float
    model_time_s: float
    wanted_time_s: float = Field(description="By the law, before dead-band and clamps.")
    time_s: float
    clamped: bool
    reason: str
    approved_by: str = Field(description="Who let it go beyond the clamp; empty where nobody had to.")


class UsedMoveView(RunToRunMoveView):
    """A move with the run that used it and what that run taught."""

    run: str | None = Field(description="Null for a move that no run was planned with.")
    lesson: LessonView | None = Field(description="Null while nothing was learned from it.")


class ContextView(View):
    """A tool with one target, recipe family and material, whose runs teach one another.

    The state holds also what was measured and will be learned when the next run is planned.
    """

    id: int
    tool: str
    target: str = Field(examples=["TGT-000004-2"])
    family: str
    material: str
    level: float = Field(description="Log of true over model rate.")
    drift: float
    runs: int = Field(description="Measured runs learned from on this target.")
    needs_seasoning: bool
    outliers_in_a_row: int
    held: bool = Field(description="No run is planned until a person has released it.")
    to_learn: int = Field(description="Measured runs that the next planning will learn from.")
    version: int
    moves: list[UsedMoveView] = Field(description="The last ones, newest first.")


class NewApproval(Reason):
    """A correction that may go beyond its clamp, for one run."""

    target: Serial = Field(examples=["TGT-000004-2"])
    recipe_id: str = Field(max_length=48, examples=["SP-LIALO2-200"])
    version: int = Field(ge=1, examples=[1])


@router.get("/tools/{name}/run-to-run")
def list_contexts(
    name: str, service: Served, actor: CurrentActor, cursor: Cursor = None, limit: Limit = 20, moves: Moves = 10
) -> Page[ContextView]:
    """What is known of each target that was in the tool, newest first, with its last moves."""
    with service.database.read() as record:
        query = select(RunToRunContext).where(RunToRunContext.tool == find_tool(record, name).name)
        return page_of(
            record,
            query,
            col(RunToRunContext.id),
            lambda row: _context(record, row, moves),
            cursor=cursor,
            limit=limit,
        )


@router.post("/run-to-run/{context_id}:release", response_model=ContextView)
def release_context(context_id: int, body: Reason, act: Act) -> Response:
    """Let a held context run again, after somebody has looked at the target."""
    with act.write() as record:
        release_correction(record, context_id, reason=body.reason, expected_version=act.if_match)
        row = find_correction_context(record, context_id)
        return act.answer(_context(record, row, 10), version=row.version)


@router.post("/tools/{name}/run-to-run:approve", status_code=201, response_model=RunToRunMoveView)
def approve_beyond_clamp(name: str, body: NewApproval, act: Act) -> Response:
    """Let the correction of the next run of a recipe go beyond its clamp."""
    with act.write() as record:
        approved = approve_correction(
            record,
            tool=name,
            recipe_id=body.recipe_id,
            number=body.version,
            target_serial=body.target,
            reason=body.reason,
        )
        return act.answer(RunToRunMoveView.of(approved), status=201)


def _context(record: RecordSession, row: RunToRunContext, moves: int) -> ContextView:
    context = row.state.context
    state = state_of(record, context)
    return ContextView.model_validate(
        {
            "id": row.id,
            "tool": row.tool,
            "target": row.target_serial,
            "family": row.family,
            "material": row.material,
            "level": state.level,
            "drift": state.drift,
            "runs": state.runs,
            "needs_seasoning": state.needs_seasoning,
            "outliers_in_a_row": state.outliers_in_a_row,
            "held": state.held,
            "to_learn": len(unlearned_runs(record, context)),
            "version": row.version,
            "moves": [_used(*used) for used in last_moves(record, row, moves)],
        }
    )


def _used(move: RunToRunMove, run: Run | None, lesson: RunToRunLesson | None) -> UsedMoveView:
    return UsedMoveView(
        **RunToRunMoveView.of(move).model_dump(),
        run=None if run is None else run.serial,
        lesson=None if lesson is None else LessonView.of(lesson),
    )
