"""The job receiver of a simulated tool: which job may go from which state to which, and what a method answers.

Follows the ISA95JobOrderReceiver state machine of OPC 10031-4 V2, by tables. A start that is accepted begins at
once, so AllowedToStart lasts no time; a tool that is busy refuses to start another job rather than queue it, as
people must unload it first. Knows the plant, the epoch fence and the file that survives a restart of the tool;
knows nothing of OPC UA, asyncio or real time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from equipment.jobs import (
    JobOrder,
    JobState,
    JobSubstate,
    JobVerb,
    ReturnStatus,
)
from equipment.simulators.job_receiver_checks import parameter_problems
from equipment.simulators.job_receiver_memory import HeldJob, Memory, read_memory, write_memory
from equipment.simulators.plant import Activity, Plant

MAX_JOBS = 100
"""How many jobs the tool holds; the oldest ended ones make room."""

_WAITING_STATES = frozenset({JobState.NOT_ALLOWED_TO_START, JobState.ALLOWED_TO_START})
ACTIVE_STATES = frozenset({JobState.RUNNING, JobState.INTERRUPTED})
OVER_STATES = frozenset({JobState.ENDED, JobState.ABORTED})

ALLOWED: Mapping[JobVerb, frozenset[JobState]] = {
    JobVerb.START: frozenset({JobState.NOT_ALLOWED_TO_START}),
    JobVerb.REVOKE_START: frozenset({JobState.ALLOWED_TO_START}),
    JobVerb.UPDATE: _WAITING_STATES,
    JobVerb.PAUSE: frozenset({JobState.RUNNING}),
    JobVerb.RESUME: frozenset({JobState.INTERRUPTED}),
    JobVerb.STOP: ACTIVE_STATES,
    JobVerb.ABORT: _WAITING_STATES | ACTIVE_STATES,
    JobVerb.CANCEL: _WAITING_STATES,
    JobVerb.CLEAR: OVER_STATES,
}
"""States of a job in which a method may be carried out."""

ALREADY: Mapping[JobVerb, frozenset[tuple[JobState, JobSubstate | None]]] = {
    JobVerb.START: frozenset((state, None) for state in ACTIVE_STATES | OVER_STATES | {JobState.ALLOWED_TO_START}),
    JobVerb.PAUSE: frozenset({(JobState.INTERRUPTED, JobSubstate.SUSPENDED)}),
    JobVerb.STOP: frozenset({(JobState.ENDED, JobSubstate.CLOSED)}),
    JobVerb.ABORT: frozenset({(JobState.ABORTED, None)}),
}
"""States in which a method has been carried out before, so that asking again changes nothing."""

FOLLOWS: Mapping[tuple[JobState, Activity], tuple[JobState, JobSubstate]] = {
    (JobState.RUNNING, Activity.HELD): (JobState.INTERRUPTED, JobSubstate.HELD),
    (JobState.RUNNING, Activity.SUSPENDED): (JobState.INTERRUPTED, JobSubstate.SUSPENDED),
    (JobState.INTERRUPTED, Activity.HELD): (JobState.INTERRUPTED, JobSubstate.HELD),
    (JobState.INTERRUPTED, Activity.SUSPENDED): (JobState.INTERRUPTED, JobSubstate.SUSPENDED),
    (JobState.INTERRUPTED, Activity.RUNNING): (JobState.RUNNING, JobSubstate.NONE),
    **{(state, Activity.COMPLETED): (JobState.ENDED, JobSubstate.COMPLETED) for state in ACTIVE_STATES},
    **{(state, Activity.STOPPED): (JobState.ENDED, JobSubstate.CLOSED) for state in ACTIVE_STATES},
    **{(state, Activity.ABORTED): (JobState.ABORTED, JobSubstate.NONE) for state in ACTIVE_STATES},
}
"""Where a running job goes by what its plant does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method answers, and why for people."""

    status: ReturnStatus
    why: str = ""


OK = Answer(ReturnStatus.OK)
ALREADY_DONE = Answer(ReturnStatus.OK | ReturnStatus.ALREADY_ACCEPTED, "it was done before")


@dataclass
class JobReceiver:
    """Takes orders and verbs for one plant.

    Attributes:
        now: Domain time, UTC.
        state_path: File that survives a restart, or None.
        accepts_new: False refuses new orders (the MES is lost).
        tamper: Changes an order on its way into the tool: a fault, to be caught by reading back.
        revision: Counts up with every change of any job.
    """

    plant: Plant
    now: Callable[[], datetime]
    state_path: Path | None = None
    accepts_new: bool = True
    tamper: Callable[[JobOrder], JobOrder] | None = None
    epoch: int = 0
    jobs_started: int = 0
    last_job_id: str = ""
    revision: int = 0
    jobs: dict[str, HeldJob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state_path is not None and self.state_path.exists():
            self._load(self.state_path)

    # -- the fence ----------------------------------------------------------------------------------------------

    def take_epoch(self, epoch: int) -> bool:
        """Take the tool over for a lease epoch; False when a higher one was seen."""
        if epoch < self.epoch:
            return False
        if epoch > self.epoch:
            self.epoch = epoch
            self.save()
        return True

    # -- orders -------------------------------------------------------------------------------------------------

    def store(self, order: JobOrder) -> Answer:
        """Store: take an order without starting it."""
        if not self.take_epoch(order.epoch):
            return self._too_old(order.epoch)
        content = order.content_hash()
        held = self.jobs.get(order.job_id)
        if held is not None:
            return ALREADY_DONE if held.content == content else _other_content(order.job_id)
        refusal = self._refusal(order)
        if refusal is not None:
            return refusal
        self._make_room()
        taken = self.tamper(order) if self.tamper is not None else order
        self.jobs[order.job_id] = HeldJob(taken, content)
        self._changed()
        return OK

    def store_and_start(self, order: JobOrder) -> Answer:
        """StoreAndStart: take an order and start it; a refused start leaves nothing behind."""
        known = order.job_id in self.jobs
        stored = self.store(order)
        if not stored.status.accepted:
            return stored
        started = self.verb(JobVerb.START, order.job_id, order.epoch)
        if not started.status.accepted and not known:
            del self.jobs[order.job_id]
            self._changed()
        return started

    def update(self, order: JobOrder) -> Answer:
        """Update: replace an order that has not been started."""
        if not self.take_epoch(order.epoch):
            return self._too_old(order.epoch)
        held = self.jobs.get(order.job_id)
        if held is None:
            return _unknown(order.job_id)
        if held.content == order.content_hash():
            return ALREADY_DONE
        if held.state not in ALLOWED[JobVerb.UPDATE]:
            return _wrong_state(JobVerb.UPDATE, held)
        problems = self.problems(order)
        if problems:
            return Answer(ReturnStatus.INVALID_REQUEST, "; ".join(problems))
        held.order = self.tamper(order) if self.tamper is not None else order
        held.content = order.content_hash()
        self._changed()
        return OK

    def problems(self, order: JobOrder) -> Sequence[str]:
        """Everything that is wrong with an order: names, types, units, ranges, and what the plant says."""
        found = list(parameter_problems(self.plant.tags, order))
        return found or list(self.plant.problems(order))

    # -- verbs --------------------------------------------------------------------------------------------------

    def verb(self, verb: JobVerb, job_id: str, epoch: int) -> Answer:
        """Any method that names a job it was given before."""
        if not self.take_epoch(epoch):
            return self._too_old(epoch)
        held = self.jobs.get(job_id)
        if held is None:
            return _unknown(job_id)
        already = ALREADY.get(verb, frozenset())
        if (held.state, None) in already or (held.state, held.substate) in already:
            return ALREADY_DONE
        if held.state not in ALLOWED[verb]:
            return _wrong_state(verb, held)
        answer = _CARRIED_OUT_BY[verb](self, held)
        if answer.status.accepted:
            self._changed()
        return answer

    def _start(self, held: HeldJob) -> Answer:
        active = self.active
        if active is not None:
            return Answer(ReturnStatus.CANNOT_ACCEPT, f"job {active.order.job_id} is being worked on")
        if not self.accepts_new:
            return Answer(ReturnStatus.CANNOT_ACCEPT, "the MES heartbeat is lost")
        blockers = self.plant.start(held.order)
        if blockers:
            return Answer(ReturnStatus.CANNOT_ACCEPT, "; ".join(blockers))
        held.state, held.substate = JobState.RUNNING, JobSubstate.NONE
        held.started_at = self.now()
        self.jobs_started += 1
        self.last_job_id = held.order.job_id
        return OK

    def _revoke_start(self, held: HeldJob) -> Answer:
        held.state, held.substate = JobState.NOT_ALLOWED_TO_START, JobSubstate.READY
        return OK

    def _pause(self, held: HeldJob) -> Answer:
        if held.stopping or not self.plant.pause():
            return Answer(ReturnStatus.CANNOT_ACCEPT, "the present phase can't be paused")
        self.follow()
        return OK

    def _resume(self, held: HeldJob) -> Answer:
        if not self.plant.resume():
            return Answer(ReturnStatus.CANNOT_ACCEPT, "what made the job hold still stands")
        self.follow()
        return OK

    def _stop(self, held: HeldJob) -> Answer:
        if held.stopping:
            return ALREADY_DONE
        if not self.plant.stop():
            return Answer(ReturnStatus.CANNOT_ACCEPT, "the present phase can't be stopped")
        held.stopping = True
        self.follow()
        return OK

    def _abort(self, held: HeldJob) -> Answer:
        if held.state in ACTIVE_STATES:
            self.plant.abort()
        self._finish(held, JobState.ABORTED, JobSubstate.NONE)
        return OK

    def _forget(self, held: HeldJob) -> Answer:
        del self.jobs[held.order.job_id]
        return OK

    # -- what the plant does ------------------------------------------------------------------------------------

    @property
    def active(self) -> HeldJob | None:
        """The job being worked on."""
        return next((job for job in self.jobs.values() if job.state in ACTIVE_STATES), None)

    def follow(self) -> None:
        """Bring the state of the active job in line with what its plant does."""
        held = self.active
        if held is None:
            return
        target = FOLLOWS.get((held.state, self.plant.activity))
        if target is None or target == (held.state, held.substate):
            return
        state, substate = target
        if state in OVER_STATES:
            self._finish(held, state, substate)
        else:
            held.state, held.substate = state, substate
        self._changed()

    def refresh_actuals(self) -> None:
        """Take the results so far from the plant, before a response is given."""
        held = self.active
        if held is not None:
            held.actuals = tuple(self.plant.actuals())

    def _finish(self, held: HeldJob, state: JobState, substate: JobSubstate) -> None:
        if held.state in ACTIVE_STATES:
            held.actuals = tuple(self.plant.actuals())
        held.state, held.substate, held.ended_at = state, substate, self.now()

    # -- refusals -----------------------------------------------------------------------------------------------

    def _refusal(self, order: JobOrder) -> Answer | None:
        if not self.accepts_new:
            return Answer(ReturnStatus.CANNOT_ACCEPT, "the MES heartbeat is lost")
        problems = self.problems(order)
        if problems:
            return Answer(ReturnStatus.INVALID_REQUEST, "; ".join(problems))
        if len([job for job in self.jobs.values() if job.state not in OVER_STATES]) >= MAX_JOBS:
            return Answer(ReturnStatus.CANNOT_ACCEPT, f"the tool holds {MAX_JOBS} jobs already")
        return None

    def _too_old(self, epoch: int) -> Answer:
        return Answer(ReturnStatus.CANNOT_ACCEPT, f"epoch {epoch} is older than {self.epoch}")

    def _make_room(self) -> None:
        over = [job_id for job_id, job in self.jobs.items() if job.state in OVER_STATES]
        for job_id in over[: max(0, len(self.jobs) - MAX_JOBS + 1)]:
            del self.jobs[job_id]

    # -- memory -------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self.revision += 1
        self.save()

    def save(self) -> None:
        """Write all that survives a restart, whole or not at all."""
        if self.state_path is not None:
            memory = Memory(self.epoch, self.jobs_started, self.last_job_id, list(self.jobs.values()))
            write_memory(self.state_path, memory, self.plant.snapshot())

    def _load(self, path: Path) -> None:
        memory, plant_state = read_memory(path)
        self.epoch, self.jobs_started, self.last_job_id = memory.epoch, memory.jobs_started, memory.last_job_id
        self.plant.restore(plant_state)
        for job in memory.jobs:
            if job.state in ACTIVE_STATES:  # the restart has aborted it
                job.state, job.substate, job.ended_at = JobState.ABORTED, JobSubstate.NONE, self.now()
            self.jobs[job.order.job_id] = job
        self._changed()


_CARRIED_OUT_BY: Mapping[JobVerb, Callable[[JobReceiver, HeldJob], Answer]] = {
    JobVerb.START: JobReceiver._start,
    JobVerb.REVOKE_START: JobReceiver._revoke_start,
    JobVerb.PAUSE: JobReceiver._pause,
    JobVerb.RESUME: JobReceiver._resume,
    JobVerb.STOP: JobReceiver._stop,
    JobVerb.ABORT: JobReceiver._abort,
    JobVerb.CANCEL: JobReceiver._forget,
    JobVerb.CLEAR: JobReceiver._forget,
}


def _other_content(job_id: str) -> Answer:
    return Answer(ReturnStatus.INVALID_REQUEST, f"job {job_id} is known with other content")


def _unknown(job_id: str) -> Answer:
    return Answer(ReturnStatus.UNKNOWN_JOB, f"no job {job_id} here")


def _wrong_state(verb: JobVerb, held: HeldJob) -> Answer:
    return Answer(ReturnStatus.INVALID_STATUS, f"job {held.order.job_id} is {held.state.name}, which forbids {verb}")
