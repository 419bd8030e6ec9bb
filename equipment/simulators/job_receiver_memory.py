"""The jobs of a simulated tool, and the file in which they survive a restart of the tool.

Written whole or not at all, and flushed to the disk before a method is answered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from equipment.jobs import (
    JobOrder,
    JobResponse,
    JobState,
    JobStatus,
    JobSubstate,
    MaterialRequirement,
    Parameter,
)


@dataclass
class HeldJob:
    """A job as the tool holds it.

    Attributes:
        order: As it was taken; what a read-back sees.
        content: Hash of the order as it was sent, by which a repetition is recognised.
        stopping: Stop was accepted; the plant shuts down by itself.
    """

    order: JobOrder
    content: str
    state: JobState = JobState.NOT_ALLOWED_TO_START
    substate: JobSubstate = JobSubstate.READY
    started_at: datetime | None = None
    ended_at: datetime | None = None
    actuals: tuple[Parameter, ...] = ()
    stopping: bool = False

    @property
    def status(self) -> JobStatus:
        """State for the outside."""
        return JobStatus(self.order.job_id, self.state, self.substate)

    def response(self) -> JobResponse:
        """The response so far."""
        return JobResponse(
            self.order.job_id,
            self.status,
            self.started_at,
            self.ended_at,
            {parameter.name: parameter for parameter in self.actuals},
            self.order,
        )


@dataclass(frozen=True)
class Memory:
    """All of a job receiver that survives a restart."""

    epoch: int
    jobs_started: int
    last_job_id: str
    jobs: list[HeldJob]


def write_memory(path: Path, memory: Memory, plant_state: Mapping[str, object]) -> None:
    """Replace the file.

    Raises:
        OSError: The folder can't be written; the former file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8") as file:
        json.dump({**asdict(memory), "plant": plant_state}, file, default=_encode)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_memory(path: Path) -> tuple[Memory, Mapping[str, object]]:
    """The receiver's and the plant's state.

    Raises:
        OSError, ValueError: The file can't be read, or was not written by `write_memory`.
    """
    state = json.loads(path.read_text(encoding="utf-8"))
    jobs = [_job_from_json(raw) for raw in state["jobs"]]
    return Memory(state["epoch"], state["jobs_started"], state["last_job_id"], jobs), state["plant"]


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} can't be kept in the tool's state file")


def _job_from_json(raw: Mapping[str, Any]) -> HeldJob:
    order = raw["order"]
    return HeldJob(
        order=JobOrder(
            **{
                **order,
                "parameters": tuple(Parameter(**p) for p in order["parameters"]),
                "materials": tuple(MaterialRequirement(**m) for m in order["materials"]),
            }
        ),
        content=raw["content"],
        state=JobState(raw["state"]),
        substate=JobSubstate(raw["substate"]),
        started_at=_moment(raw["started_at"]),
        ended_at=_moment(raw["ended_at"]),
        actuals=tuple(Parameter(**p) for p in raw["actuals"]),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
