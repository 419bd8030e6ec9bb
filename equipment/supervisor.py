"""Keeps one tool linked: a fresh driver for each connection, everything bounded in time, every outage accounted for.

A connection begins by taking the tool over under the lease's epoch and ends with the first thing that goes wrong: a
cut, a silent stream, a heartbeat that stands still, a lost lease. Then everything is thrown away and begun anew after
a short, jittered pause. A lost link never stops the tool, which runs its job by itself. What is sent is decided by
`execution`, what is recorded by `following`; no node id and no table is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import structlog

from equipment.alarms import record_alarm
from equipment.command_record import CommandRecord, fenced
from equipment.errors import EquipmentError, LinkLost, SecurityRefused, TagMismatch, ToolRefused, WriteRefused
from equipment.execution import CommandExecution, StepHook, change_job, ignore_step
from equipment.following import RunFollower
from equipment.journal import DONE, CommandJournal, JournalEntry
from equipment.lease import Grant, LeaseKeeper, LeaseLost, elapsed_s
from equipment.profiles.driver import AlarmEvent, Overflow, TagSample, ToolDriver
from equipment.tags import TagRole, TagTable
from equipment.tool_link import LinkState, ToolLink
from equipment.utilisation import note_link
from equipment.writer import Writer
from traceability.clock import Clock
from traceability.database import RecordSession
from traceability.errors import StorageFailed

_log = structlog.get_logger(__name__)

CONNECT_WITHIN_S = 10.0
HEARTBEAT_STILL_S = 2.0
BACKOFF_S = (0.2, 2.0)
POLL_COMMANDS_S = 0.1
OBSERVE_S = 1.0

_MES_HEARTBEAT_S = 1.0
_HAND_OVER_S = 0.05
_WATCH_S = 0.1
_STORAGE_RETRY_S = 0.5
_DISCONNECT_WITHIN_S = 3.0

Answer = TypeVar("Answer")


class Supervisor:
    """Drives one tool for as long as it runs.

    Args:
        tool: Name of the tool.
        tags: What it shows.
        make_driver: Makes a fresh driver for each connection.
        writer: Does the database work.
        lease: Of the tool; kept by somebody else.
        clock: Domain time.
        journal: Of commands that the database could not take.
        hook: Told each boundary between two steps of a command.
    """

    def __init__(
        self,
        tool: str,
        tags: TagTable,
        make_driver: Callable[[], ToolDriver],
        writer: Writer,
        lease: LeaseKeeper,
        clock: Clock,
        journal: CommandJournal | None = None,
        hook: StepHook = ignore_step,
    ) -> None:
        self.tool = tool
        self._make_driver = make_driver
        self._writer = writer
        self._lease = lease
        self._clock = clock
        self._journal = journal
        self._hook = hook
        self._follower = RunFollower(tool, tags, writer, self._record, clock)
        self._commands = CommandRecord(tool, writer, lease, self._follower.follow)
        self._watched = frozenset(tag.name for tag in tags if tag.role is TagRole.STATE)
        self._alarms: dict[str, AlarmEvent] = {}
        self._state, self._since, self._why = LinkState.WAITING, clock.now(), ""
        self._connections = 0
        self._mes_beats = 0
        self._boot_id: str | None = None
        self._restarted = False
        self._heard_s: float | None = None
        self._beat_s: float | None = None
        self._skew_s: float | None = None
        self._simulated = False
        self._command_wake = asyncio.Event()
        self._look = asyncio.Event()
        self._picked_up = asyncio.Event()

    # -- what others see ----------------------------------------------------------------------------------------

    @property
    def link(self) -> ToolLink:
        """How the link stands now."""
        grant = self._lease.grant
        return ToolLink(
            tool=self.tool,
            state=self._state,
            since=self._since,
            why=self._why,
            lease_epoch=None if grant is None else grant.epoch,
            fenced=grant is not None and not self._lease.held,
            connections=self._connections,
            sample_age_s=None if self._heard_s is None else elapsed_s() - self._heard_s,
            skew_s=self._skew_s,
        )

    @property
    def values(self) -> Mapping[str, TagSample]:
        """The last value heard of every tag."""
        return self._follower.latest

    @property
    def alarms(self) -> Mapping[str, AlarmEvent]:
        """Every alarm as last heard, by name."""
        return self._alarms

    def wake(self) -> None:
        """Look for commands at once. To be called on the event loop."""
        self._command_wake.set()

    # -- connections --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive the tool whenever this process holds its lease, until cancelled."""
        pause_s = BACKOFF_S[0]
        try:
            while True:
                if self._lease.grant is None:
                    self._become(LinkState.WAITING, self._why)
                grant = await self._lease.taken()
                self._become(LinkState.CONNECTING, self._why)
                self._beat_s = None
                error = await self._connection(grant)
                if self._was_heard:
                    pause_s = BACKOFF_S[0]
                await self._went(error)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
                pause_s = min(pause_s * 2, BACKOFF_S[1])
        finally:
            self._become(LinkState.STOPPED, "")
            with contextlib.suppress(StorageFailed):
                await self._follower.release()

    @property
    def _was_heard(self) -> bool:
        return self._beat_s is not None

    async def _connection(self, grant: Grant) -> Exception:
        """One connection from its making to its end; answers with what ended it."""
        driver = self._make_driver()
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await driver.connect()
                await self._take_over(driver, grant)
            async with asyncio.TaskGroup() as group:
                for work in (
                    self._lose_lease(grant),
                    self._tell_mes_lives(driver),
                    self._watch_heartbeat(),
                    self._listen(driver),
                    self._hand_over(),
                    self._hear_alarms(driver),
                    self._serve_commands(driver),
                    self._observe_runs(driver),
                ):
                    group.create_task(self._until_it_fails(work))
        except ExceptionGroup as several:
            return _first(several)
        except Exception as error:  # noqa: BLE001 - whatever it is, this connection is over and the next is tried
            return error
        finally:
            self._picked_up.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DISCONNECT_WITHIN_S):
                    await driver.disconnect()
        return LinkLost("the connection was given up")

    async def _until_it_fails(self, work: Awaitable[None]) -> None:
        """Tell at once that the link is gone, before what hangs on it is taken down."""
        try:
            await work
        except Exception as error:
            if self._state is LinkState.ONLINE:
                self._become(_state_after(error), _why(error))
            raise

    async def _take_over(self, driver: ToolDriver, grant: Grant) -> None:
        try:
            await driver.write_epoch(grant.epoch)
        except WriteRefused as refusal:
            raise LeaseLost(f"{self.tool} has been taken over: {refusal}") from refusal
        await self._beat_for_the_tool(driver)
        tags = await driver.read_all()
        boot_id = str(tags["boot_id"].value)
        self._restarted = self._boot_id not in (None, boot_id)
        if self._restarted:
            _log.warning("tool_restarted", tool=self.tool)
        self._boot_id = boot_id
        self._simulated = bool(tags["simulated"].value)
        self._connections += 1
        self._alarms.clear()
        self._become(LinkState.ONLINE, "")

    async def _went(self, error: Exception) -> None:
        """Account for the end of a connection."""
        if not isinstance(error, EquipmentError | TimeoutError):
            _log.error("link_failed", tool=self.tool, exc_info=error)
        self._follower.hand_over()
        why = _why(error)
        self._become(_state_after(error), why)
        _log.warning("link_lost", tool=self.tool, cause=why)
        if isinstance(error, LeaseLost) and self._lease.grant is None:
            with contextlib.suppress(StorageFailed):
                await self._follower.release()
            return
        with contextlib.suppress(StorageFailed, LeaseLost):
            await self._record(lambda record: note_link(record, self.tool, linked=False, note=why))

    def _become(self, state: LinkState, why: str) -> None:
        if state is not self._state:
            self._state, self._since = state, self._clock.now()
        self._why = why

    # -- what must go on ----------------------------------------------------------------------------------------

    async def _lose_lease(self, grant: Grant) -> None:
        await self._lease.lost(grant)
        raise LeaseLost(f"{self.tool} is driven by somebody else now")

    async def _tell_mes_lives(self, driver: ToolDriver) -> None:
        while True:
            if self._lease.held:
                await self._beat_for_the_tool(driver)
            await asyncio.sleep(_MES_HEARTBEAT_S)

    async def _beat_for_the_tool(self, driver: ToolDriver) -> None:
        self._mes_beats += 1
        await driver.write_mes_heartbeat(self._mes_beats)

    async def _watch_heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._beat_s is not None and elapsed_s() - self._beat_s > HEARTBEAT_STILL_S:
                raise LinkLost(f"the tool's heartbeat has stood still for {HEARTBEAT_STILL_S:.0f} s")

    # -- telemetry ----------------------------------------------------------------------------------------------

    async def _listen(self, driver: ToolDriver) -> None:
        stream = driver.subscribe()
        first = await anext(stream)
        await self._picked_up.wait()
        await self._follower.catch_up(driver, self._why_it_was_away())
        self._beat_s = elapsed_s()
        await self._hear(first)
        async for item in stream:
            await self._hear(item)

    async def _hear(self, item: TagSample | Overflow) -> None:
        if isinstance(item, Overflow):
            await self._follower.note_overflow(item)
            return
        self._heard_s = elapsed_s()
        if item.name == "heartbeat":
            known = self._follower.latest.get(item.name)
            if known is None or known.value != item.value:
                self._beat_s = self._heard_s
                self._skew_s = (item.source_time - self._clock.now()).total_seconds()
        elif item.name in self._watched:
            self._look.set()
        self._follower.take(item)

    async def _hand_over(self) -> None:
        while True:
            await asyncio.sleep(_HAND_OVER_S)
            self._follower.hand_over()

    async def _hear_alarms(self, driver: ToolDriver) -> None:
        async for alarm in driver.alarms():
            self._alarms[alarm.name] = alarm
            await self._store(partial(self._record_alarm, event=alarm, run_serial=self._follower.run_serial))

    def _record_alarm(self, record: RecordSession, event: AlarmEvent, run_serial: str | None) -> None:
        record_alarm(record, self.tool, event, run_serial)

    def _why_it_was_away(self) -> str:
        return "the link to the tool was down" if self._connections > 1 else "the line controller was not running"

    # -- runs and commands --------------------------------------------------------------------------------------

    async def _observe_runs(self, driver: ToolDriver) -> None:
        await self._store(
            lambda record: note_link(
                record, self.tool, linked=True, simulated=self._simulated, boot_id=self._boot_id or ""
            )
        )
        while not self._picked_up.is_set():
            try:
                await self._follower.pick_up()
                self._picked_up.set()
            except StorageFailed:
                await asyncio.sleep(_STORAGE_RETRY_S)
        while True:
            self._look.clear()
            try:
                await self._follower.observe(driver, restarted=self._restarted)
                self._restarted = False
            except StorageFailed as error:
                _log.warning("run_not_recorded", tool=self.tool, cause=error.message)
            await asyncio.sleep(POLL_COMMANDS_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OBSERVE_S):
                    await self._look.wait()

    async def _serve_commands(self, driver: ToolDriver) -> None:
        while True:
            self._command_wake.clear()
            try:
                if await self._send_journaled(driver) or await self._send_next(driver):
                    self._look.set()
                    continue
            except StorageFailed as error:
                _log.warning("commands_wait", tool=self.tool, cause=error.message)
                await asyncio.sleep(_STORAGE_RETRY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_COMMANDS_S):
                    await self._command_wake.wait()

    async def _send_next(self, driver: ToolDriver) -> bool:
        """Execute the most urgent command; False when there is none, or it must wait for the lease."""
        if not (self._lease.held and self._picked_up.is_set()):
            return False
        command = await self._commands.next_command(self._alarms)
        if command is None:
            return False
        # A tool that has not heard us for a while, because this process was starved, refuses what is new.
        await self._beat_for_the_tool(driver)
        intent = await CommandExecution(command, driver, self._commands, self._lease.check, self._hook).run()
        _log.info("command_ended", tool=self.tool, command=intent.serial, verb=intent.verb, state=intent.state)
        return True

    async def _send_journaled(self, driver: ToolDriver) -> bool:
        """Send what the database could not take. The fence doesn't hold it back: the tool itself judges the epoch."""
        grant = self._lease.grant
        if self._journal is None or grant is None:
            return False
        journal = self._journal
        waiting = await asyncio.to_thread(journal.to_send, self.tool)
        for entry in waiting:
            outcome = await self._send_entry(driver, entry, grant)
            await asyncio.to_thread(journal.answered, entry, outcome)
            _log.warning("journaled_command_sent", tool=self.tool, verb=entry.verb, outcome=outcome)
        if self._lease.held:
            for entry in await asyncio.to_thread(journal.to_reconcile, self.tool):
                await self._commands.enter(entry, grant)
                await asyncio.to_thread(journal.reconciled, entry)
        return bool(waiting)

    async def _send_entry(self, driver: ToolDriver, entry: JournalEntry, grant: Grant) -> str:
        held = await driver.response(entry.run_serial)
        if held is None:
            return f"The tool holds no job {entry.run_serial}."
        try:
            await change_job(driver, entry.verb, held.status, grant.epoch)
        except ToolRefused as refusal:
            return f"{refusal}."
        return DONE

    # -- storing ------------------------------------------------------------------------------------------------

    def _record(self, work: Callable[[RecordSession], Answer]) -> Awaitable[Answer]:
        grant = self._lease.grant
        if grant is None:
            raise LeaseLost(f"{self.tool} is driven by somebody else now")
        return self._writer.run(fenced(grant, work))

    async def _store(self, work: Callable[[RecordSession], Answer]) -> Answer:
        """Store something however long the database takes to accept it."""
        while True:
            try:
                return await self._record(work)
            except StorageFailed as error:
                _log.warning("storage_waits", tool=self.tool, cause=error.message)
                await asyncio.sleep(_STORAGE_RETRY_S)


def _state_after(error: Exception) -> LinkState:
    return LinkState.REFUSED if isinstance(error, SecurityRefused | TagMismatch) else LinkState.OFFLINE


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The error that ended a group of tasks: the first, as all others were cancelled for it."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
