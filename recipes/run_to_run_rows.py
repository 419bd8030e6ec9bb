"""The rows of run-to-run control: the state of each context, every move and every lesson.

Moves and lessons are never changed, and the database refuses to; each holds the inputs it was computed from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Column, ForeignKey, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from recipes.run_to_run import Context, Lesson, State
from traceability.append_only import make_append_only
from traceability.columns import CanonicalJson, Choice, UtcDateTime


class RunToRunContext(SQLModel, table=True):
    """What is known of one tool with one target, recipe family and material.

    Attributes:
        level, drift, runs, outliers_in_a_row, last_log_time, held: See `recipes.run_to_run.State`.
        first_level: Level after the first learned run; new targets start at the mean of these.
        version: Of the row.
    """

    __tablename__ = "run_to_run_contexts"
    __table_args__: ClassVar[Any] = (UniqueConstraint("tool", "target_serial", "family", "material"),)

    id: int | None = Field(default=None, primary_key=True)
    tool: str
    target_serial: str
    family: str
    material: str
    level: float
    drift: float = 0.0
    runs: int = 0
    outliers_in_a_row: int = 0
    last_log_time: float | None = None
    held: bool = False
    first_level: float | None = None
    version: int = 1

    @property
    def state(self) -> State:
        """The row as the law sees it."""
        context = Context(self.tool, self.target_serial, self.family, self.material)
        return State(
            context, self.level, self.drift, self.runs, self.outliers_in_a_row, self.last_log_time, self.held
        )

    def take(self, state: State) -> None:
        """Let the row be what the law says."""
        if self.first_level is None and state.runs:
            self.first_level = state.level
        self.level, self.drift, self.runs = state.level, state.drift, state.runs
        self.outliers_in_a_row, self.last_log_time, self.held = (
            state.outliers_in_a_row,
            state.last_log_time,
            state.held,
        )
        self.version += 1


class RunToRunMove(SQLModel, table=True):
    """One decided deposition time with its inputs. The database refuses to change it.

    Attributes:
        before, settings: What it was computed from.
        approves: The clamped move that a person let go beyond its clamp, if this is its approval.
    """

    __tablename__ = "run_to_run_moves"

    id: int | None = Field(default=None, primary_key=True)
    context_id: int = Field(
        sa_column=Column(Integer, ForeignKey("run_to_run_contexts.id"), nullable=False, index=True)
    )
    decided_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    work_master: str
    before: dict[str, Any] = Field(sa_column=Column(CanonicalJson, nullable=False))
    settings: dict[str, Any] = Field(sa_column=Column(CanonicalJson, nullable=False))
    thickness_nm: float
    model_rate_nm_per_min: float
    target_energy_kwh: float
    model_time_s: float
    wanted_time_s: float
    time_s: float
    clamped: bool
    reason: str
    approved_by: str = ""
    approves: int | None = Field(default=None, sa_column=Column(Integer, ForeignKey("run_to_run_moves.id")))


class RunToRunLesson(SQLModel, table=True):
    """What one measured run taught. The database refuses to change it.

    Attributes:
        move_id: The move that the run used; each is learned from once.
        evidence: The measurement, for people: serial of the witness or number of the measurement.
        error: Relative one-step prediction error (log): what a control chart shows.
    """

    __tablename__ = "run_to_run_lessons"

    id: int | None = Field(default=None, primary_key=True)
    move_id: int = Field(sa_column=Column(Integer, ForeignKey("run_to_run_moves.id"), nullable=False, unique=True))
    learned_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    evidence: str
    thickness_nm: float
    time_s: float
    error: float
    lesson: Lesson = Field(sa_column=Column(Choice(Lesson), nullable=False))
    before: dict[str, Any] = Field(sa_column=Column(CanonicalJson, nullable=False))
    after: dict[str, Any] = Field(sa_column=Column(CanonicalJson, nullable=False))


for _name in ("run_to_run_moves", "run_to_run_lessons"):
    make_append_only(SQLModel.metadata.tables[_name])
