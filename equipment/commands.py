"""Command intents: what people ask of a tool, written before anything is sent.

Whoever asks only writes an intent; the holder of the tool's lease claims it, and stores every step before and after
each call to the tool, so that another process can go on from any point with the same job id. This module knows the
table, its states and their order of urgency. It knows no driver, and nothing of what a run is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from equipment.lease import Grant, require_lease
from equipment.run_records import find_run
from traceability.activities import next_serial
from traceability.columns import CanonicalJson, Choice, UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound
from traceability.transitions import TransitionTable


class CommandVerb(StrEnum):
    """What may be asked of a tool."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    ABORT = "abort"
    ACKNOWLEDGE_ALARM = "acknowledge_alarm"


class IntentState(StrEnum):
    """How far a command has come."""

    REQUESTED = "requested"
    CLAIMED = "claimed"  # from here on the tool may have been asked
    DOWNLOADED = "downloaded"  # the tool holds the order; not compared yet
    VERIFIED = "verified"  # read back and equal; from here on the job may have started
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


class IntentEvent(StrEnum):
    """What moves a command on."""

    CLAIM = "claim"
    DOWNLOAD = "download"
    VERIFY = "verify"
    BEGIN_AGAIN = "begin_again"
    FINISH = "finish"
    REFUSE = "refuse"
    FAIL = "fail"
    LOSE_TRACK = "lose_track"


UNFINISHED = (IntentState.REQUESTED, IntentState.CLAIMED, IntentState.DOWNLOADED, IntentState.VERIFIED)
_UNDER_WAY = UNFINISHED[1:]

INTENT_TRANSITIONS = TransitionTable(
    "command",
    [
        (IntentState.REQUESTED, IntentEvent.CLAIM, IntentState.CLAIMED),
        # A claim of what is under way: its holder has died, or its link was cut. What was reached stays known.
        *[(state, IntentEvent.CLAIM, state) for state in _UNDER_WAY],
        (IntentState.CLAIMED, IntentEvent.DOWNLOAD, IntentState.DOWNLOADED),
        (IntentState.DOWNLOADED, IntentEvent.VERIFY, IntentState.VERIFIED),
        # The tool provably never began the job and no longer holds the order.
        (IntentState.DOWNLOADED, IntentEvent.BEGIN_AGAIN, IntentState.CLAIMED),
        (IntentState.VERIFIED, IntentEvent.BEGIN_AGAIN, IntentState.CLAIMED),
        *[(state, IntentEvent.FINISH, IntentState.DONE) for state in _UNDER_WAY],
        *[(state, IntentEvent.REFUSE, IntentState.REFUSED) for state in _UNDER_WAY],
        *[(state, IntentEvent.FAIL, IntentState.FAILED) for state in _UNDER_WAY],
        *[(state, IntentEvent.LOSE_TRACK, IntentState.UNKNOWN) for state in _UNDER_WAY],
    ],
)

_URGENCY = {CommandVerb.ABORT: 0, CommandVerb.STOP: 1}
_LESS_URGENT = 2


class CommandIntent(SQLModel, table=True):
    """One command to one tool.

    Attributes:
        serial: `CMD-…`.
        run_serial: The run it concerns, which is also the job id at the tool; None for an alarm.
        detail: What the verb needs more: `{"alarm", "comment"}`.
        requested_at: Domain time.
        holder, epoch: Who claimed it last, under which lease epoch.
        attempts: How often it was claimed.
        boot_id: The tool's boot id when the order was downloaded.
        jobs_before: The tool's count of started jobs before Start was sent.
        findings: Why it was refused, failed, or is not known: `[{code, message, action, path, severity}]`.
        ended_at: Domain time.
    """

    __tablename__ = "command_intents"

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(unique=True)
    tool: str = Field(index=True)
    verb: CommandVerb = Field(sa_column=Column(Choice(CommandVerb), nullable=False))
    run_serial: str | None = Field(default=None, index=True)
    reason: str = ""
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(CanonicalJson, nullable=False))
    state: IntentState = Field(sa_column=Column(Choice(IntentState), nullable=False, index=True))
    requested_by: str
    requested_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    holder: str = ""
    epoch: int = 0
    attempts: int = 0
    boot_id: str = ""
    jobs_before: int | None = None
    findings: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(CanonicalJson, nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    version: int = 1

    @property
    def key(self) -> int:
        """The row's id, once it is stored."""
        if self.id is None:
            raise RuntimeError("the intent is not stored yet")
        return self.id

    @property
    def job_id(self) -> str:
        """The id that the tool knows the job by: the run's serial.

        Raises:
            LookupError: The command concerns no run.
        """
        if self.run_serial is None:
            raise LookupError(f"command {self.serial} concerns no run")
        return self.run_serial

    @property
    def finished(self) -> bool:
        """Nothing more will be sent for it."""
        return self.state not in UNFINISHED


def request_command(
    record: RecordSession,
    *,
    tool: str,
    verb: CommandVerb,
    run_serial: str | None = None,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
    expected_run_version: int | None = None,
) -> CommandIntent:
    """Write down that a tool shall do something. Whoever drives the tool will do it.

    Asking for what is already asked for and not finished, or for the start of a run that is started, answers with the
    intent that exists: a run starts once, however often it is asked for.

    Args:
        record: Open write session.
        tool: Name of the tool.
        verb: What it shall do.
        run_serial: The run; needed for all but an alarm's acknowledgement.
        reason: Why, in the actor's words.
        detail: `{"alarm": name, "comment": text}` for an acknowledgement.
        expected_run_version: Refuse when the run has changed since it was read.

    Raises:
        InvalidInput: The run or the alarm is not named, or the run belongs to another tool.
        NotFound: There is no such run.
        StaleVersion: The run has changed since.
    """
    detail = dict(detail or {})
    kind = "command.stop_requested" if verb in _URGENCY else "command.requested"
    with record.act(
        kind, *([run_serial] if run_serial else []), reason=reason, detail={"tool": tool, "verb": verb}
    ) as act:
        _check_request(record, tool, verb, run_serial, detail, expected_run_version)
        known = _same_request(record, tool, verb, run_serial, detail)
        if known is not None:
            act.detail["command"] = known.serial
            return known
        intent = CommandIntent(
            serial=next_serial(record, "CMD"),
            tool=tool,
            verb=verb,
            run_serial=run_serial,
            reason=reason,
            detail=detail,
            state=IntentState.REQUESTED,
            requested_by=record.actor.name,
            requested_at=record.clock.now(),
        )
        record.add(intent)
        record.flush()
        act.items.append(intent.serial)
        act.detail["command"] = intent.serial
    return intent


def find_intent(record: RecordSession, serial: str) -> CommandIntent:
    """The command with that serial.

    Raises:
        NotFound: There is none.
    """
    intent = record.exec(select(CommandIntent).where(CommandIntent.serial == serial)).first()
    if intent is None:
        raise NotFound(f"There is no command {serial}.")
    return intent


def intents_of_run(record: RecordSession, run_serial: str) -> Sequence[CommandIntent]:
    """Every command that concerned a run, oldest first."""
    query = select(CommandIntent).where(CommandIntent.run_serial == run_serial).order_by(col(CommandIntent.id))
    return record.exec(query).all()


def unfinished_intents(record: RecordSession, tool: str) -> Sequence[CommandIntent]:
    """What a tool still has to be asked, the most urgent first: Abort, Stop, then in the order of asking."""
    query = select(CommandIntent).where(CommandIntent.tool == tool, col(CommandIntent.state).in_(UNFINISHED))
    return sorted(record.exec(query), key=lambda intent: (_URGENCY.get(intent.verb, _LESS_URGENT), intent.key))


def is_withdrawn(record: RecordSession, run_serial: str) -> bool:
    """Somebody asked to stop or abort the run: it must not be started any more."""
    query = select(CommandIntent).where(
        CommandIntent.run_serial == run_serial,
        col(CommandIntent.verb).in_(list(_URGENCY)),
        col(CommandIntent.state).not_in([IntentState.REFUSED, IntentState.FAILED]),
    )
    return record.exec(query).first() is not None


def claim_intent(record: RecordSession, intent_id: int, grant: Grant) -> CommandIntent:
    """Take a command over, under the lease.

    Raises:
        LeaseLost: Somebody else drives the tool now.
        Refused: It is finished.
    """
    return move_intent(record, intent_id, grant, IntentEvent.CLAIM)


def move_intent(
    record: RecordSession,
    intent_id: int,
    grant: Grant,
    event: IntentEvent,
    *,
    findings: Iterable[Finding] = (),
    boot_id: str | None = None,
    jobs_before: int | None = None,
) -> CommandIntent:
    """Store how far a command has come.

    Args:
        record: Open write session of the lease's holder.
        intent_id: Row of the intent.
        grant: The lease under which the tool was asked.
        event: What has happened, or with `VERIFY` what is about to.
        findings: Why, for a refusal, a failure or a lost track.
        boot_id: The tool's boot id, with `DOWNLOAD`.
        jobs_before: The tool's count of started jobs, with `VERIFY`.

    Raises:
        LeaseLost: Somebody else drives the tool now.
        Refused: The command's state does not allow it.
    """
    require_lease(record, grant)
    intent = record.get(CommandIntent, intent_id)
    if intent is None:
        raise NotFound(f"There is no command number {intent_id}.")
    items = [intent.serial, *([intent.run_serial] if intent.run_serial else [])]
    with record.act("command.moved", *items, detail={"event": event, "verb": intent.verb, "epoch": grant.epoch}):
        intent.state = INTENT_TRANSITIONS.next(intent.state, event, intent.serial)
        intent.holder, intent.epoch = grant.holder, grant.epoch
        intent.version += 1
        if event is IntentEvent.CLAIM:
            intent.attempts += 1
        if boot_id is not None:
            intent.boot_id = boot_id
        if jobs_before is not None:
            intent.jobs_before = jobs_before
        found = [asdict(finding) for finding in findings]
        if found:
            intent.findings = found
        if intent.finished:
            intent.ended_at = record.clock.now()
        record.add(intent)
    return intent


def _check_request(
    record: RecordSession,
    tool: str,
    verb: CommandVerb,
    run_serial: str | None,
    detail: Mapping[str, Any],
    expected_run_version: int | None,
) -> None:
    if verb is CommandVerb.ACKNOWLEDGE_ALARM:
        if not detail.get("alarm"):
            raise InvalidInput("Name the alarm to acknowledge.")
        return
    if run_serial is None:
        raise InvalidInput(f"Name the run to {verb}.")
    run = find_run(record, run_serial, expected_run_version)
    if run.tool != tool:
        raise InvalidInput(f"Run {run_serial} is for {run.tool}, not for {tool}.")


def _same_request(
    record: RecordSession, tool: str, verb: CommandVerb, run_serial: str | None, detail: Mapping[str, Any]
) -> CommandIntent | None:
    states = [*UNFINISHED, *([IntentState.DONE, IntentState.UNKNOWN] if verb is CommandVerb.START else [])]
    query = select(CommandIntent).where(
        CommandIntent.tool == tool,
        CommandIntent.verb == verb,
        CommandIntent.run_serial == run_serial,
        col(CommandIntent.state).in_(states),
    )
    for intent in record.exec(query):
        if intent.detail.get("alarm") == detail.get("alarm"):
            return intent
    return None
