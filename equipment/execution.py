"""From an intent to a tool that did it, once: ask first, send then, with the same job id however often.

Each step is stored before and after the call it is about, so that a process that dies between any two of them
leaves its successor enough to go on. The rules: a job that the tool holds with the same content counts as accepted;
other content under the id is refused; only a job that is provably not there is sent again; and what can't be known
is UNKNOWN, for a person. A lost link is no outcome: it is raised, and the intent stays open. Knows a driver; knows
no database, no lease table and no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from equipment.commands import CommandIntent, CommandVerb, IntentEvent, IntentState
from equipment.errors import EquipmentError, LinkError, ProtocolViolation, ToolRefused, WriteRefused
from equipment.jobs import JobOrder, JobResponse, JobState, JobStatus, JobSubstate, ReturnStatus
from equipment.lease import Grant, LeaseLost
from equipment.order_comparison import compare_orders
from equipment.profiles.driver import AlarmEvent, ToolDriver
from traceability.errors import Finding

StepHook = Callable[[str], None]
"""Told each boundary between two steps by its name; whoever tests what a death there does hands one in."""

_LOOK = "Look at the tool and decide what became of it."
_BEGUN = frozenset({JobState.RUNNING, JobState.INTERRUPTED, JobState.ENDED, JobState.ABORTED})
_OVER = frozenset({JobState.ENDED, JobState.ABORTED})


def ignore_step(step: str) -> None:
    """The hook when nobody listens."""


@dataclass(frozen=True, slots=True)
class Command:
    """A claimed intent with all that its execution needs.

    Attributes:
        intent: As it was claimed.
        order: For a start: what to send.
        withdrawn: For a start: somebody asked to stop the run meanwhile.
        start_open: For a stop: the run's start is asked for and not finished.
        alarms: For an acknowledgement: the alarms that stand, by name.
    """

    intent: CommandIntent
    order: JobOrder | None = None
    withdrawn: bool = False
    start_open: bool = False
    alarms: Mapping[str, AlarmEvent] = field(default_factory=dict)


class IntentLog(Protocol):
    """Where each step is stored; when it answers, the step is on the disk."""

    async def move(
        self,
        intent: CommandIntent,
        event: IntentEvent,
        *,
        findings: Iterable[Finding] = (),
        boot_id: str | None = None,
        jobs_before: int | None = None,
    ) -> CommandIntent:
        """Store a step and answer with the intent as it is then.

        Raises:
            LeaseLost: Somebody else drives the tool.
        """


class CommandExecution:
    """Brings one claimed command to its end over one driver.

    Args:
        command: What to do.
        driver: Connected.
        log: Where each step is stored.
        check: Answers with the lease if it may be used this moment, else raises `LeaseLost`; asked before each call.
        hook: Told each boundary between two steps.
    """

    def __init__(
        self,
        command: Command,
        driver: ToolDriver,
        log: IntentLog,
        check: Callable[[], Grant],
        hook: StepHook = ignore_step,
    ) -> None:
        self._command = command
        self._intent = command.intent
        self._driver = driver
        self._log = log
        self._check = check
        self._hook = hook

    async def run(self) -> CommandIntent:
        """Execute it.

        Returns:
            The finished intent.

        Raises:
            LinkError: The link was lost; the intent stays open and is to be executed again with a fresh driver.
            LeaseLost: Somebody else drives the tool; it is theirs now.
            StorageFailed: A step could not be stored; the intent stays open.
        """
        self._hook("claimed")
        try:
            if self._intent.verb is CommandVerb.START:
                await self._start()
            elif self._intent.verb is CommandVerb.ACKNOWLEDGE_ALARM:
                await self._acknowledge()
            else:
                await self._change()
        except (LinkError, LeaseLost):
            raise
        except EquipmentError as error:
            await self._end_in_doubt(error)
        return self._intent

    # -- start --------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        order = self._command.order
        if order is None:
            raise ValueError(f"command {self._intent.serial} starts a run and has no order")
        held = await self._driver.response(order.job_id)
        if held is None:
            if self._intent.state is IntentState.VERIFIED and await self._may_have_begun():
                await self._lose(f"The tool no longer knows job {order.job_id}, which may have begun.")
                return
            if self._command.withdrawn:
                await self._refuse([_withdrawn(order)])
                return
            if self._intent.state is not IntentState.CLAIMED:
                await self._move(IntentEvent.BEGIN_AGAIN)
            try:
                held = await self._download(order)
            except ToolRefused as refusal:
                await self._refuse([_refused_by_tool(refusal)])
                return
        if self._intent.state is IntentState.CLAIMED:
            boot_id = (await self._driver.read_all())["boot_id"].value
            await self._move(IntentEvent.DOWNLOAD, boot_id=str(boot_id))
            self._hook("downloaded")
        await self._start_held(order, held)

    async def _download(self, order: JobOrder) -> JobResponse:
        """Send the order, and read back what the tool made of it."""
        self._check()
        self._hook("before_store")
        await self._driver.store(order)
        self._hook("stored")
        held = await self._driver.response(order.job_id)
        self._hook("read_back")
        if held is None:
            raise ProtocolViolation(f"the tool accepted job {order.job_id} and does not hold it")
        return held

    async def _start_held(self, order: JobOrder, held: JobResponse) -> None:
        """Start a job that the tool holds, unless it holds another one than was sent."""
        differences = compare_orders(order, held.order, self._driver.tags)
        begun = held.status.state in _BEGUN
        if begun and differences:
            await self._lose(f"Job {order.job_id} was begun with other content than ours.", differences)
        elif begun:
            await self._finish()
        elif differences or self._command.withdrawn:
            await self._take_back(order, differences or [_withdrawn(order)])
        else:
            await self._begin(order)

    async def _begin(self, order: JobOrder) -> None:
        if self._intent.state is not IntentState.VERIFIED:
            counter = (await self._driver.read_all())["last_job_counter"].value
            await self._move(IntentEvent.VERIFY, jobs_before=counter if isinstance(counter, int) else None)
            self._hook("verified")
        epoch = self._check().epoch
        self._hook("before_start")
        try:
            await self._driver.start(order.job_id, epoch)
        except ToolRefused as refusal:
            # An attempt that was cut may have got through after all.
            now = await self._driver.response(order.job_id)
            if now is None or now.status.state not in _BEGUN:
                await self._take_back(order, [_refused_by_tool(refusal)])
                return
        self._hook("started")
        await self._finish()

    async def _take_back(self, order: JobOrder, findings: Iterable[Finding]) -> None:
        """Refuse a start and leave no order at the tool that somebody could start there."""
        epoch = self._check().epoch
        self._hook("before_cancel")
        try:
            await self._driver.cancel(order.job_id, epoch)
        except ToolRefused as refusal:
            findings = [*findings, _refused_by_tool(refusal)]
        self._hook("cancelled")
        await self._refuse(findings)

    async def _may_have_begun(self) -> bool:
        """Whether a job that was there and is gone may have run: only the tool's own counters can rule it out."""
        tags = await self._driver.read_all()
        return (
            tags["boot_id"].value != self._intent.boot_id
            or self._intent.jobs_before is None
            or tags["last_job_counter"].value != self._intent.jobs_before
            or tags["last_job_id"].value == self._intent.job_id
        )

    # -- pause, resume, stop, abort -----------------------------------------------------------------------------

    async def _change(self) -> None:
        verb, job_id = self._intent.verb, self._intent.job_id
        held = await self._driver.response(job_id)
        if held is None:
            if self._command.start_open:
                await self._finish()  # the start will find that it is withdrawn
            else:
                await self._refuse([_no_job(self._intent)])
            return
        if _is_done(verb, held.status):
            await self._finish()
            return
        epoch = self._check().epoch
        self._hook("before_call")
        try:
            await change_job(self._driver, verb, held.status, epoch)
        except ToolRefused as refusal:
            # It may have been carried out meanwhile, by an attempt that was cut or by the process itself.
            now = await self._driver.response(job_id)
            if now is None or not _is_done(verb, now.status):
                await self._refuse([_refused_by_tool(refusal)])
                return
        self._hook("called")
        await self._finish()

    # -- alarms -------------------------------------------------------------------------------------------------

    async def _acknowledge(self) -> None:
        detail = self._intent.detail
        alarm = self._command.alarms.get(str(detail.get("alarm")))
        if alarm is None or alarm.acknowledged:
            await self._finish()
            return
        self._check()
        self._hook("before_call")
        try:
            await self._driver.acknowledge(alarm, str(detail.get("comment", "")))
        except WriteRefused as refusal:
            await self._refuse([Finding("alarm_changed", f"{refusal}.", "Look at the alarm again.", alarm.name)])
            return
        self._hook("called")
        await self._finish()

    # -- ends ---------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        await self._move(IntentEvent.FINISH)
        self._hook("finished")

    async def _refuse(self, findings: Iterable[Finding]) -> None:
        await self._move(IntentEvent.REFUSE, findings=findings)
        self._hook("refused")

    async def _lose(self, why: str, more: Iterable[Finding] = ()) -> None:
        finding = Finding("outcome_unknown", why, _LOOK, self._intent.job_id)
        await self._move(IntentEvent.LOSE_TRACK, findings=[finding, *more])

    async def _end_in_doubt(self, error: EquipmentError) -> None:
        """The tool behaves as its profile forbids. A job whose start was never sent has not begun even so."""
        event = IntentEvent.LOSE_TRACK if self._intent.state is IntentState.VERIFIED else IntentEvent.FAIL
        await self._move(event, findings=[Finding("tool_misbehaves", f"{error}.", _LOOK, self._intent.tool)])

    async def _move(
        self,
        event: IntentEvent,
        *,
        findings: Iterable[Finding] = (),
        boot_id: str | None = None,
        jobs_before: int | None = None,
    ) -> None:
        self._intent = await self._log.move(
            self._intent, event, findings=findings, boot_id=boot_id, jobs_before=jobs_before
        )


async def change_job(driver: ToolDriver, verb: CommandVerb, status: JobStatus, epoch: int) -> ReturnStatus:
    """Pause, resume, stop or abort a job; one that has not begun is taken back instead of being stopped.

    Raises:
        ToolRefused: The tool says no.
        OutcomeUnknown: The call was cut in flight.
    """
    if verb in (CommandVerb.STOP, CommandVerb.ABORT) and status.state not in _BEGUN:
        return await driver.cancel(status.job_id, epoch)
    calls = {
        CommandVerb.PAUSE: driver.pause,
        CommandVerb.RESUME: driver.resume,
        CommandVerb.STOP: driver.stop,
        CommandVerb.ABORT: driver.abort,
    }
    return await calls[verb](status.job_id, epoch)


def _is_done(verb: CommandVerb, status: JobStatus) -> bool:
    """Whether a job is already where a command would bring it."""
    if verb in (CommandVerb.STOP, CommandVerb.ABORT):
        return status.state in _OVER
    if verb is CommandVerb.PAUSE:
        return status.state is JobState.INTERRUPTED and status.substate is JobSubstate.SUSPENDED
    return status.state is JobState.RUNNING


def _refused_by_tool(refusal: ToolRefused) -> Finding:
    return Finding("tool_refused", f"{refusal}.", "Remove the cause at the tool, then ask again.", refusal.job_id)


def _withdrawn(order: JobOrder) -> Finding:
    return Finding("withdrawn", f"Run {order.job_id} was stopped before it was started.", "", order.job_id)


def _no_job(intent: CommandIntent) -> Finding:
    message = f"The tool holds no job {intent.job_id}; there is nothing to {intent.verb}."
    return Finding("no_such_job", message, "Look at the run's state.", intent.job_id)
