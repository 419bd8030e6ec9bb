"""What is recorded of the runs that one tool has in hand: their telemetry without holes, and how they go on and end.

Samples are taken from the stream and handed to the writer; after an outage what is missing is fetched from the tool's
own history, and what it no longer has is noted as a gap. The tool's answers about a job move its run; at its end the
trace is sealed and then the run is completed. Knows no lease and no command.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import structlog
from sqlalchemy import text

from equipment.errors import ProtocolViolation
from equipment.jobs import JobResponse, JobState, JobStatus
from equipment.lease import elapsed_s
from equipment.profiles.driver import Overflow, TagSample, ToolDriver
from equipment.runs import RunState, find_run, mark_unknown, observe_job, open_runs
from equipment.tags import TagTable
from equipment.traces import TraceWriter, moment
from equipment.writer import Trace, Writer
from traceability.clock import Clock
from traceability.database import RecordSession

_log = structlog.get_logger(__name__)

HOLE_S = 2.0
"""Real seconds without any sample that a trace may have without a gap being noted."""

_LAST_SAMPLES_WITHIN_S = 1.5
_OVERLAP_S = 0.5
_OVER = frozenset({JobState.ENDED, JobState.ABORTED})
_LAST_STORED = text("SELECT MAX(end_us) FROM trace_chunks WHERE run_id = :run_id")

Answer = TypeVar("Answer")


class Recorder(Protocol):
    """Runs a transaction under the lease."""

    def __call__(self, work: Callable[[RecordSession], Answer], /) -> Awaitable[Answer]:
        """Run `work` in one write transaction.

        Raises:
            LeaseLost: Somebody else drives the tool.
            StorageFailed: The database does not take it.
        """


@dataclass(slots=True)
class _Followed:
    """A run in hand.

    Attributes:
        picked_up: The tool may have begun it while nobody here was listening.
        resume_at: Time of the last sample stored by whoever followed the run before.
        seen: What the tool told last, so that the same is not written again.
    """

    serial: str
    run_id: int
    trace: Trace
    picked_up: bool = False
    resume_at: datetime | None = None
    seen: tuple[JobStatus, object] | None = None
    samples: list[TagSample] = field(default_factory=list)


class RunFollower:
    """Follows the runs of one tool, over all its connections.

    Args:
        tool: Name of the tool.
        tags: What it shows.
        writer: Does the database work.
        record: Runs a transaction under the lease.
        clock: Domain time.
    """

    def __init__(self, tool: str, tags: TagTable, writer: Writer, record: Recorder, clock: Clock) -> None:
        self.latest: dict[str, TagSample] = {}
        self._tool = tool
        self._tags = tags
        self._traced = frozenset(tag.name for tag in tags.traced)
        self._written_by_us = frozenset(tag.name for tag in tags if tag.writable)
        self._writer = writer
        self._record = record
        self._clock = clock
        self._runs: dict[str, _Followed] = {}
        self._floor: Mapping[str, datetime] = {}
        self._heard_at: datetime | None = None

    @property
    def run_serial(self) -> str | None:
        """The run in hand; None without one."""
        return next(iter(self._runs), None)

    # -- which runs ---------------------------------------------------------------------------------------------

    async def pick_up(self) -> None:
        """Follow every run that the record says is on the tool, also those begun by a process that has died."""
        runs = await self._writer.read(lambda record: open_runs(record, self._tool))
        for run in runs:
            if run.state.on_tool:
                await self._follow(run.serial, run.key, picked_up=True)

    async def follow(self, run_serial: str) -> None:
        """Record a run that is about to start."""
        run = await self._writer.read(lambda record: find_run(record, run_serial))
        await self._follow(run.serial, run.key, picked_up=False)

    async def _follow(self, serial: str, run_id: int, *, picked_up: bool) -> None:
        if serial in self._runs:
            return
        trace = await self._writer.open(lambda: TraceWriter(self._writer.database, run_id, self._tags))
        resume_at = await self._writer.call(lambda: self._last_stored(run_id))
        followed = _Followed(serial, run_id, trace, picked_up, resume_at)
        if not picked_up and resume_at is None and self._heard_at is not None:
            # What does not change has no sample of its own after the beginning.
            now = self._heard_at
            followed.samples = [replace(s, source_time=now) for s in self.latest.values() if s.name in self._traced]
        self._runs[serial] = followed

    def _last_stored(self, run_id: int) -> datetime | None:
        with self._writer.database.connect() as connection:
            last_us = connection.execute(_LAST_STORED, {"run_id": run_id}).scalar()
        return None if last_us is None else moment(int(last_us))

    async def release(self) -> None:
        """Store what there is of every trace and let go of the runs: somebody else follows them now."""
        self.hand_over()
        runs, self._runs = self._runs, {}
        for followed in runs.values():
            await self._writer.close(followed.trace)

    # -- telemetry ----------------------------------------------------------------------------------------------

    def take(self, sample: TagSample) -> None:
        """Take a sample from the stream."""
        name = sample.name
        floor = self._floor.get(name)
        if floor is not None and sample.source_time <= floor:
            return
        self.latest[name] = sample
        if name not in self._written_by_us:
            # What we write ourselves may bear our time, which need not be the tool's.
            self._heard_at = sample.source_time
        if name in self._traced:
            for followed in self._runs.values():
                followed.samples.append(sample)

    def hand_over(self) -> None:
        """Give what was taken to the writer."""
        for followed in self._runs.values():
            if followed.samples:
                samples, followed.samples = followed.samples, []
                self._writer.offer(followed.trace, samples)

    async def note_overflow(self, lost: Overflow) -> None:
        """Note changes that were lost on their way here."""
        self.hand_over()
        for followed in self._runs.values():
            await self._writer.note_gap(followed.trace, lost.first, lost.last, f"{lost.lost} changes lost on the way")

    async def catch_up(self, driver: ToolDriver, why: str) -> None:
        """Fetch what happened since the last sample from the tool's history; what it has not is noted as a gap.

        To be called when a stream stands and nothing of it has been taken.

        Args:
            driver: Connected.
            why: Reason of the outage, for the gap.

        Raises:
            LinkLost: The link has gone again.
        """
        self._floor = {name: sample.source_time for name, sample in self.latest.items()}
        for followed in self._runs.values():
            if followed.picked_up and followed.resume_at is None:
                response = await driver.response(followed.serial)
                if response is not None and response.started_at is not None:
                    followed.resume_at = response.started_at - timedelta.resolution
            followed.picked_up = False
        starts = [start for start in map(self._missing_since, self._runs.values()) if start is not None]
        if not starts:
            return
        overlap = timedelta(seconds=_OVERLAP_S * max(self._clock.factor, 1.0))
        remembered = await self._history(driver, min(starts) - overlap)
        until = (await driver.read_all())["heartbeat"].source_time
        for followed in self._runs.values():
            start = self._missing_since(followed)
            if start is None:
                continue
            # A publication may have been cut in the middle, so each tag goes on where it was itself heard last.
            heard = {} if followed.resume_at is not None else self._floor
            found = [sample for sample in remembered if sample.source_time > heard.get(sample.name, start)]
            followed.resume_at = None
            self._writer.offer(followed.trace, found)
            for hole_start, hole_end in self._holes(start, until, found):
                await self._writer.note_gap(followed.trace, hole_start, hole_end, why)
            _log.info("trace_caught_up", tool=self._tool, run=followed.serial, samples=len(found))
        known = dict.fromkeys(self._traced, min(starts))
        self._floor = {**known, **self._floor, **{sample.name: sample.source_time for sample in remembered}}

    def _missing_since(self, followed: _Followed) -> datetime | None:
        return followed.resume_at if followed.resume_at is not None else self._heard_at

    async def _history(self, driver: ToolDriver, since: datetime) -> Sequence[TagSample]:
        remembered: list[TagSample] = []
        for tag in self._tags.traced:
            try:
                remembered += await driver.history(tag.name, since)
            except ProtocolViolation as error:
                _log.warning("no_history", tool=self._tool, tag=tag.name, cause=str(error))
        return sorted(remembered, key=lambda sample: sample.source_time)

    def _holes(
        self, start: datetime, end: datetime, found: Sequence[TagSample]
    ) -> Sequence[tuple[datetime, datetime]]:
        """Times between `start` and `end` without any sample that are too long to be the tool's own quiet."""
        if not found:
            return [(start, end)] if end > start else []
        quiet = timedelta(seconds=HOLE_S * max(self._clock.factor, 1.0))
        times = sorted([start, *(sample.source_time for sample in found), max(end, found[-1].source_time)])
        return [(before, after) for before, after in itertools.pairwise(times) if after - before > quiet]

    # -- how runs go on -----------------------------------------------------------------------------------------

    async def observe(self, driver: ToolDriver, *, restarted: bool) -> None:
        """Ask the tool for every run in hand and take in what it says.

        Args:
            driver: Connected.
            restarted: The tool was started anew since it was last asked.

        Raises:
            LinkLost: The link has gone.
            StorageFailed: The database does not take it; to be asked again.
        """
        for followed in list(self._runs.values()):
            response = await driver.response(followed.serial)
            if response is None:
                await self._missing(followed, restarted=restarted)
            elif response.status.state in _OVER:
                await self._end(followed, response)
            else:
                await self._go_on(followed, response)

    async def _go_on(self, followed: _Followed, response: JobResponse) -> None:
        interruptions = response.actuals.get("interruption_count")
        told = (response.status, interruptions)
        if told != followed.seen:
            await self._record(lambda record: observe_job(record, followed.serial, response))
            followed.seen = told

    async def _end(self, followed: _Followed, response: JobResponse) -> None:
        await self._hear_until(response.ended_at)
        self.hand_over()
        digest = await self._writer.seal(followed.trace)
        state = await self._record(lambda record: observe_job(record, followed.serial, response))
        self._runs.pop(followed.serial, None)
        _log.info("run_ended", tool=self._tool, run=followed.serial, state=state, trace=digest)

    async def _missing(self, followed: _Followed, *, restarted: bool) -> None:
        """The tool knows no such job: it was never sent, it was refused, or the tool has forgotten it."""
        run = await self._writer.read(lambda record: find_run(record, followed.serial))
        if run.state.ended:
            await self._writer.seal(followed.trace)
        elif run.state is RunState.STARTING:
            return
        else:
            why = "The tool was restarted and" if restarted else "The tool"
            why += f" no longer knows job {followed.serial}."
            await self._record(lambda record: mark_unknown(record, followed.serial, why))
            await self._writer.close(followed.trace)
        self._runs.pop(followed.serial, None)

    async def _hear_until(self, ended_at: datetime | None) -> None:
        """Wait, not for long, until the stream has brought what was measured up to the end."""
        give_up_s = elapsed_s() + _LAST_SAMPLES_WITHIN_S
        while ended_at is not None and elapsed_s() < give_up_s:
            if self._heard_at is not None and self._heard_at > ended_at:
                return
            await asyncio.sleep(0.05)
