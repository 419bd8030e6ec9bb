"""The record's side of executing commands: what is claimed, what each step does to the run, and what came by journal.

Every transaction here checks the lease first, so whoever was overtaken can't write what a tool did. Knows no driver.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import TypeVar

from sqlalchemy import bindparam, text

from equipment.commands import (
    UNFINISHED,
    CommandIntent,
    CommandVerb,
    IntentEvent,
    IntentState,
    claim_intent,
    intents_of_run,
    is_withdrawn,
    move_intent,
    unfinished_intents,
)
from equipment.execution import Command
from equipment.journal import DONE, JournalEntry
from equipment.lease import Grant, LeaseKeeper, require_lease
from equipment.profiles.driver import AlarmEvent
from equipment.runs import build_order, mark_unknown, run_starting, start_refused
from equipment.writer import Writer
from traceability.activities import next_serial
from traceability.database import RecordSession
from traceability.errors import ArgonautError, Finding, StorageFailed

Answer = TypeVar("Answer")

_ANY_UNFINISHED = text("SELECT 1 FROM command_intents WHERE tool = :tool AND state IN :states LIMIT 1").bindparams(
    bindparam("states", expanding=True)
)


async def _nothing(run_serial: str) -> None:
    """What happens before a start where nobody records."""


class CommandRecord:
    """Claims the commands of one tool and stores their steps. An `IntentLog`.

    Args:
        tool: Name of the tool.
        writer: Does the database work.
        lease: Of the tool.
        before_start: Awaited with the run's serial before a start is stored as about to be sent.
    """

    def __init__(
        self,
        tool: str,
        writer: Writer,
        lease: LeaseKeeper,
        before_start: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        self._tool = tool
        self._writer = writer
        self._lease = lease
        self._before_start = before_start

    async def next_command(self, alarms: Mapping[str, AlarmEvent]) -> Command | None:
        """Claim the most urgent command that is not finished; None when there is none.

        A start that the record itself forbids by now is refused here and never reaches the tool.

        Raises:
            LeaseLost: Somebody else drives the tool.
            StorageFailed: The database does not take it.
        """
        if not await self._writer.call(self._anything_to_do):
            return None
        grant = self._lease.check()
        first = await self._writer.read(lambda record: unfinished_intents(record, self._tool)[:1])
        if not first:
            return None
        intent = first[0]
        try:
            return await self._fenced(grant, lambda record: _claim(record, intent.key, grant, alarms))
        except StorageFailed:
            raise
        except ArgonautError as refusal:
            findings = refusal.findings or (Finding(refusal.code, refusal.message, "", intent.run_serial or ""),)
            claimed = await self._fenced(grant, lambda record: claim_intent(record, intent.key, grant))
            await self.move(claimed, IntentEvent.REFUSE, findings=findings)
            return None

    async def move(
        self,
        intent: CommandIntent,
        event: IntentEvent,
        *,
        findings: Iterable[Finding] = (),
        boot_id: str | None = None,
        jobs_before: int | None = None,
    ) -> CommandIntent:
        """Store a step, with what it means to the run, in one transaction."""
        grant = self._lease.check()
        found = tuple(findings)
        starts = intent.verb is CommandVerb.START
        if starts and event is IntentEvent.VERIFY:
            await self._before_start(intent.job_id)

        def store(record: RecordSession) -> CommandIntent:
            moved = move_intent(
                record, intent.key, grant, event, findings=found, boot_id=boot_id, jobs_before=jobs_before
            )
            if starts and moved.state in (IntentState.REFUSED, IntentState.FAILED):
                start_refused(record, intent.job_id, found)
            elif starts and moved.state is IntentState.UNKNOWN:
                mark_unknown(record, intent.job_id, " ".join(finding.message for finding in found))
            return moved

        return await self._fenced(grant, store)

    async def enter(self, entry: JournalEntry, grant: Grant) -> None:
        """Put a command that went out by the journal into the record, once however often this is called."""
        await self._fenced(grant, lambda record: enter_journaled(record, entry, grant))

    def _anything_to_do(self) -> bool:
        with self._writer.database.connect() as connection:
            states = [state.value for state in UNFINISHED]
            return connection.execute(_ANY_UNFINISHED, {"tool": self._tool, "states": states}).first() is not None

    async def _fenced(self, grant: Grant, work: Callable[[RecordSession], Answer]) -> Answer:
        return await self._writer.run(fenced(grant, work))


def fenced(grant: Grant, work: Callable[[RecordSession], Answer]) -> Callable[[RecordSession], Answer]:
    """The same work, done only if nobody has taken the lease over.

    Raises:
        LeaseLost: Somebody has; raised by the answer when it is called.
    """

    def checked(record: RecordSession) -> Answer:
        require_lease(record, grant)
        return work(record)

    return checked


def enter_journaled(record: RecordSession, entry: JournalEntry, grant: Grant) -> CommandIntent:
    """Put a command into the record that went out without it; entering it again changes nothing.

    Raises:
        LeaseLost: Somebody else drives the tool now.
    """
    require_lease(record, grant)
    for known in intents_of_run(record, entry.run_serial):
        if known.detail.get("journal") == entry.key:
            return known
    state = IntentState.DONE if entry.outcome == DONE else IntentState.REFUSED
    findings = (
        [] if state is IntentState.DONE else [asdict(Finding("tool_refused", entry.outcome, "", entry.run_serial))]
    )
    detail = {"tool": entry.tool, "verb": entry.verb, "requested_by": entry.requested_by, "journal": entry.key}
    with record.act("command.reconciled", entry.run_serial, reason=entry.reason, detail=detail) as act:
        intent = CommandIntent(
            serial=next_serial(record, "CMD"),
            tool=entry.tool,
            verb=entry.verb,
            run_serial=entry.run_serial,
            reason=entry.reason,
            detail={"journal": entry.key},
            state=state,
            requested_by=entry.requested_by,
            requested_at=entry.requested_at,
            holder=grant.holder,
            epoch=grant.epoch,
            attempts=1,
            findings=findings,
            ended_at=record.clock.now(),
        )
        record.add(intent)
        record.flush()
        act.items.append(intent.serial)
    return intent


def _claim(record: RecordSession, intent_id: int, grant: Grant, alarms: Mapping[str, AlarmEvent]) -> Command:
    intent = claim_intent(record, intent_id, grant)
    if intent.run_serial is None:
        return Command(intent, alarms=alarms)
    if intent.verb is not CommandVerb.START:
        return Command(intent, start_open=_start_is_open(record, intent.run_serial))
    run_starting(record, intent.run_serial, intent.key)
    order = build_order(record, intent.run_serial, grant.epoch)
    return Command(intent, order=order, withdrawn=is_withdrawn(record, intent.run_serial))


def _start_is_open(record: RecordSession, run_serial: str) -> bool:
    return any(
        intent.verb is CommandVerb.START and not intent.finished for intent in intents_of_run(record, run_serial)
    )
