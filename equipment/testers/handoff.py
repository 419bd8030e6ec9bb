"""Handing a cell to a tester: the offer with everything that forbids it, what the tester reports, what people decide.

Each function is one step within the caller's transaction. What is to be said to the tester is put into the outbox
with the step itself. How it gets there, and what becomes of result files, is not known here.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterator
from decimal import Decimal

from sqlalchemy import func
from sqlmodel import col, select

from equipment.line_config import TesterConfig
from equipment.testers.completion import ingest_if_complete
from equipment.testers.contract import EventReport, Limits, Offer, ProtocolBody
from equipment.testers.handoff_records import Handoff, find_handoff, on_channel, open_handoff, store
from equipment.testers.handoff_states import HANDOFF_STATES, REPORTED, HandoffEvent, HandoffState
from equipment.testers.handoff_steps import follow, move
from equipment.testers.outbox_queue import Message, enqueue, messages_of
from equipment.testers.reports import already_taken, keep_event, require_own, require_tester
from equipment.testers.traveller import CellFacts, cell_facts
from recipes.protocols import TestProtocol
from recipes.store import RecipeVersion, read_content, runnable
from traceability.database import RecordSession
from traceability.errors import ArgonautError, Finding, InvalidInput, Refused, refuse_for
from traceability.holds import holds_on
from traceability.items import ItemKind
from traceability.measurements import measurements_of
from traceability.units import Unit, UnitEvent, UnitStatus, advance_unit, find_unit

SCREENING = "ocv_v"
"""A cell counts as screened once its open-circuit voltage is on record; one that failed is on hold."""

_AREA_TOLERANCE = 0.01
_OCV_LIMITS = (Decimal("-0.05"), Decimal("0.05"))


def tester_scopes(tester: str) -> list[str]:
    """The scopes of the token by which a tester endpoint speaks to the MES, and for itself alone."""
    return ["handoff.reported", "result.received", f"tester:{tester}"]


def offer(
    record: RecordSession,
    *,
    cell_serial: str,
    tester: TesterConfig,
    protocol: str,
    callback: str,
    experiment: bool = False,
    reason: str = "",
) -> Handoff:
    """Offer a cell to a tester; from now on it is the tester's and nobody else's.

    Args:
        record: Open write session.
        cell_serial: A finished, screened cell.
        tester: Which one.
        protocol: `id`, for its effective version, or `id/version`.
        callback: Address of this service up to `/api/v1`.
        experiment: A protocol that is not effective may be used.
        reason: Why, in the person's words.

    Raises:
        InvalidInput: The serial is none.
        NotFound: There is no such cell.
        Refused: Something forbids it; all findings at once.
    """
    with record.act("handoff.offered", cell_serial, reason=reason) as act:
        cell = find_unit(record, cell_serial)
        findings = list(_cell_findings(record, cell))
        version, document = None, None
        try:
            version, document = _protocol(record, protocol, experiment)
        except ArgonautError as error:
            findings += error.findings or [
                Finding("protocol_unknown", error.message, "Choose a stored protocol.", protocol)
            ]
        facts = cell_facts(record, cell) if cell.kind is ItemKind.CELL else None
        if facts is not None:
            findings += facts.findings()
        if document is not None:
            findings += _protocol_findings(document, facts, tester, cell.serial)
        refuse_for(f"{cell.serial} can't be handed to {tester.name}.", findings)
        if version is None or document is None or facts is None or facts.kind is None or facts.area_cm2 is None:
            raise RuntimeError("an offer without findings is complete")
        advance_unit(record, cell.serial, UnitEvent.HAND_OVER)
        body = _body(facts, document, version, tester, callback)
        handoff = Handoff(
            uuid=body.uuid,
            item_id=cell.item_id,
            cell_serial=cell.serial,
            tester=tester.name,
            protocol_ref=version.reference,
            protocol_sha256=body.protocol.sha256,
            work_master=version.work_master,
            experiment=experiment,
            offer=body.model_dump(mode="json"),
            offer_sha256=body.hash(),
            area_cm2=facts.area_cm2,
            active_mg=facts.active_mg,
            state=HandoffState.OFFERED,
            offered_by=record.actor.name,
            offered_at=record.clock.now(),
        )
        store(record, handoff)
        if not tester.polls:
            enqueue(record, handoff, Message.OFFER)
        act.items.append(handoff.uuid)
        act.detail.update(tester=tester.name, protocol=version.reference, offer_sha256=handoff.offer_sha256)
    return handoff


def report(record: RecordSession, tester: str, uuid: str, news: EventReport) -> Handoff:
    """Take what a tester reports. The same report again changes nothing.

    Raises:
        NotFound: The tester has no such hand-off.
        Conflict: Another report came under that number, or the channel is taken.
        Refused: A number is missing before it, or the hand-off's state does not allow it.
    """
    with record.act("handoff.reported", uuid, detail={"seq": news.seq, "event": news.event}) as act:
        require_tester(record, tester)
        handoff = find_handoff(record, uuid, lock=True)
        require_own(handoff, tester)
        act.items.append(handoff.cell_serial)
        if already_taken(record, handoff, news):
            return handoff
        if news.event not in REPORTED:
            raise InvalidInput(f"A tester does not report {news.event}.")
        state = HANDOFF_STATES.next(handoff.state, news.event, uuid)
        if news.event is HandoffEvent.LOAD:
            _take_channel(record, handoff, news)
        if news.event is HandoffEvent.ACCEPT:
            handoff.tester_serial, handoff.simulated = news.tester_serial, news.simulated
        keep_event(record, handoff, news)
        handoff.last_seq = news.seq
        move(record, handoff, state, news.reason)
        follow(record, handoff, news.event, news.at)
        ingest_if_complete(record, handoff)
    return handoff


def cancel(record: RecordSession, uuid: str, *, reason: str, expected_version: int | None = None) -> Handoff:
    """Ask the tester to give the cell back; it is back when the tester says so.

    Raises:
        InvalidInput: There is no reason.
        Refused: The test is running or over.
    """
    _require_reason(reason)
    with record.act("handoff.cancel_requested", uuid, reason=reason) as act:
        handoff = find_handoff(record, uuid, expected_version, lock=True)
        act.items.append(handoff.cell_serial)
        HANDOFF_STATES.next(handoff.state, HandoffEvent.CANCEL, uuid)
        if not handoff.cancel_requested:
            handoff.cancel_requested = True
            handoff.version += 1
            store(record, handoff)
            # A tester that fetches its hand-offs was sent no offer and sees the wish where it fetches.
            if messages_of(record, handoff):
                enqueue(record, handoff, Message.CANCEL)
    return handoff


def resolve(
    record: RecordSession, uuid: str, event: HandoffEvent, *, reason: str, expected_version: int | None = None
) -> Handoff:
    """Say what became of a hand-off that nobody knows about, after having looked at the tester.

    Raises:
        InvalidInput: There is no reason.
        Refused: Its state is known, or that can't have become of it.
    """
    _require_reason(reason)
    with record.act("handoff.resolved", uuid, reason=reason, detail={"event": event}) as act:
        handoff = find_handoff(record, uuid, expected_version, lock=True)
        act.items.append(handoff.cell_serial)
        if handoff.state is not HandoffState.UNKNOWN:
            message = f"The hand-off is {handoff.state}: the tester says so."
            finding = Finding("state_known", message, "Only an unknown state is resolved by a person.", uuid)
            raise Refused(message, [finding])
        move(record, handoff, HANDOFF_STATES.next(handoff.state, event, uuid), reason)
        follow(record, handoff, event, record.clock.now())
    return handoff


def release(record: RecordSession, uuid: str, *, reason: str = "", expected_version: int | None = None) -> Handoff:
    """Take the cell off the tester once its result is in, or once it is clear that there will be none.

    Raises:
        Refused: The test is not over, or its result is still to come.
    """
    with record.act("handoff.released", uuid, reason=reason) as act:
        handoff = find_handoff(record, uuid, expected_version, lock=True)
        act.items.append(handoff.cell_serial)
        if handoff.state is not HandoffState.INGESTED:
            _require_reason(reason)
        move(record, handoff, HANDOFF_STATES.next(handoff.state, HandoffEvent.RELEASE, uuid), reason)
        follow(record, handoff, HandoffEvent.RELEASE, record.clock.now())
    return handoff


def answered(record: RecordSession, uuid: str, event: HandoffEvent, why: str) -> Handoff:
    """Take what follows from an endpoint's answer: it refuses the offer, never had it, or has another one.

    A hand-off that went on meanwhile is left as it is.
    """
    with record.act("handoff.answered", uuid, reason=why, detail={"event": event}) as act:
        handoff = find_handoff(record, uuid, lock=True)
        act.items.append(handoff.cell_serial)
        if event in HANDOFF_STATES.events_from(handoff.state):
            move(record, handoff, HANDOFF_STATES.next(handoff.state, event, uuid), why)
            follow(record, handoff, event, record.clock.now())
    return handoff


def cancel_refused(record: RecordSession, uuid: str, why: str) -> Handoff:
    """The tester keeps the cell although it was asked to give it back."""
    with record.act("handoff.answered", uuid, reason=why) as act:
        handoff = find_handoff(record, uuid, lock=True)
        act.items.append(handoff.cell_serial)
        handoff.cancel_requested = False
        move(record, handoff, handoff.state, why)
    return handoff


def _take_channel(record: RecordSession, handoff: Handoff, news: EventReport) -> None:
    if news.channel is None or news.channel_lease is None:
        raise InvalidInput("Loading a cell names its channel and the channel's lease.")
    findings = []
    if news.cell_barcode is not None and news.cell_barcode != handoff.cell_serial:
        message = f"The cell on channel {news.channel} is {news.cell_barcode}, not {handoff.cell_serial}."
        findings.append(Finding("wrong_barcode", message, "Put the right cell on the channel.", "cell_barcode"))
    other = on_channel(record, handoff.tester, news.channel)
    if other is not None and other.id != handoff.id:
        message = f"Channel {news.channel} of {handoff.tester} holds {other.cell_serial} ({other.state})."
        findings.append(Finding("channel_taken", message, "Use a free channel.", other.uuid))
    newest = record.exec(
        select(func.max(Handoff.channel_lease)).where(
            Handoff.tester == handoff.tester, Handoff.channel == news.channel, col(Handoff.id) != handoff.id
        )
    ).one()
    if newest is not None and news.channel_lease <= newest:
        message = f"Lease {news.channel_lease} of channel {news.channel} is out of date; {newest} was seen."
        action = "Look at what the tester has on the channel; its memory may be an old copy."
        findings.append(Finding("stale_lease", message, action, "channel_lease"))
    refuse_for(f"{handoff.cell_serial} can't be on channel {news.channel}.", findings)
    handoff.channel, handoff.channel_lease = news.channel, news.channel_lease
    handoff.channel_barcode, handoff.ocv_v = news.channel_barcode or "", news.ocv_v


def _cell_findings(record: RecordSession, cell: Unit) -> Iterator[Finding]:
    serial = cell.serial
    if cell.kind is not ItemKind.CELL:
        message = f"{serial} is a {cell.kind}, not a cell.".replace("_", " ")
        yield Finding("not_a_cell", message, "Scan a finished cell.", serial)
        return
    taken = open_handoff(record, cell.item_id)
    if taken is not None:
        message = f"{serial} is with {taken.tester} already ({taken.state})."
        yield Finding("handed_over", message, "Wait for its end, or cancel that hand-off.", taken.uuid)
    elif cell.status not in (UnitStatus.AVAILABLE, UnitStatus.TESTED):
        message = f"{serial} is {cell.status}.".replace("_", " ")
        yield Finding(f"unit_{cell.status}", message, "Use another cell.", serial)
    if not measurements_of(record, [cell.item_id], SCREENING):
        message = f"{serial} has not been screened for shorts."
        yield Finding("not_screened", message, "Measure its open-circuit voltage and resistance first.", serial)
    yield from (hold.finding for hold in holds_on(record, [serial]))


def _protocol(record: RecordSession, reference: str, experiment: bool) -> tuple[RecipeVersion, TestProtocol]:
    document_id, _, number = reference.partition("/")
    if number and not number.isdigit():
        raise InvalidInput(f"{reference} is no reference of a protocol; one looks like PT-SYM-01-01/1.")
    row = runnable(record, document_id, number=int(number) if number else None, experiment=experiment)
    document = read_content(record, row)
    if not isinstance(document, TestProtocol):
        message = f"{row.reference} is no test protocol."
        raise Refused(message, [Finding("not_a_protocol", message, "Choose a test protocol.", reference)])
    return row, document


def _protocol_findings(
    protocol: TestProtocol, facts: CellFacts | None, tester: TesterConfig, serial: str
) -> Iterator[Finding]:
    if protocol.capability not in tester.capabilities:
        message = f"{tester.name} can't do {protocol.capability}; it can do {', '.join(tester.capabilities)}."
        yield Finding("capability_missing", message, "Choose another tester.", tester.name)
    if facts is None:
        return
    if facts.kind is not None and facts.kind.value not in protocol.cell_kinds:
        message = f"{protocol.document_id} is for {', '.join(protocol.cell_kinds)} cells; {serial} is {facts.kind}."
        yield Finding("wrong_cell_kind", message, "Choose another protocol.", protocol.document_id)
    wanted = float(protocol.body.area_cm2)
    if facts.area_cm2 is not None and abs(float(facts.area_cm2) / wanted - 1.0) > _AREA_TOLERANCE:
        message = f"{protocol.document_id} is for {wanted:g} cm²; an electrode of {serial} has {facts.area_cm2} cm²."
        yield Finding("area_differs", message, "Choose a protocol for this area.", protocol.document_id)


def _body(
    facts: CellFacts, protocol: TestProtocol, version: RecipeVersion, tester: TesterConfig, callback: str
) -> Offer:
    if facts.kind is None or facts.area_cm2 is None:
        raise RuntimeError("an offer without findings is complete")
    low_v, high_v = _OCV_LIMITS
    traveller = facts.traveller
    return Offer(
        uuid=str(uuids.uuid4()),
        tester=tester.name,
        cell_serial=traveller.cell_serial,
        cell_kind=facts.kind,
        polarity="normal",
        area_cm2=facts.area_cm2,
        masses_mg=facts.masses_mg,
        parts=tuple(part.serial for part in traveller.parts),
        traveller=traveller,
        traveller_sha256=traveller.hash(),
        protocol=ProtocolBody(
            reference=version.reference,
            format=protocol.body.format,
            version=protocol.body.version,
            sha256=protocol.body.content_hash(),
            body=protocol.body.model_dump(mode="json"),
        ),
        limits=Limits(voltage_limit_v=protocol.body.voltage_limit_v, ocv_low_v=low_v, ocv_high_v=high_v),
        capability=protocol.capability,
        callback=callback,
    )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidInput("This needs a reason.")
