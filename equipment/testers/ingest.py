"""Results of testers on the record: taken in, superseded by later ones, made into measurements, or quarantined.

A file is examined first (`examination`), held against its hand-off (`quarantine`), and then stored here in one
transaction with all that follows from it. The raw file is on record whatever becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from sqlmodel import select

from equipment.testers.completion import ingest_if_complete, measure
from equipment.testers.contract import ResultReport
from equipment.testers.examination import Examination
from equipment.testers.handoff_records import (
    Handoff,
    ResultStatus,
    TesterResult,
    find_handoff,
    results_of,
)
from equipment.testers.quarantine import doubts
from equipment.testers.reports import require_own, require_tester
from traceability.activities import next_serial
from traceability.attachments import Stored, attach
from traceability.canonical import canonical_value
from traceability.database import RecordSession
from traceability.errors import Finding, InvalidInput, NotFound, Refused
from traceability.items import require_version

_FOR_GOOD = "This result was decided already."


def receive(
    record: RecordSession, tester: str, uuid: str, said: ResultReport, stored: Stored, read: Examination
) -> TesterResult:
    """Take in a file. The same file again changes nothing.

    Args:
        record: Open write session.
        tester: Who sends it.
        uuid: The hand-off it is of.
        said: What the tester says of it.
        stored: The raw file in the attachment store.
        read: What it says itself.

    Raises:
        NotFound: There is no such hand-off.
        Refused: The hand-off is with another tester.
    """
    with record.act("result.received", uuid, detail={"blob": said.blob, "is_final": said.is_final}) as act:
        require_tester(record, tester)
        handoff = find_handoff(record, uuid, lock=True)
        require_own(handoff, tester)
        act.items.append(handoff.cell_serial)
        known = record.exec(
            select(TesterResult).where(TesterResult.handoff_id == handoff.key, TesterResult.blob_sha256 == said.blob)
        ).one_or_none()
        if known is not None and (known.is_final or not said.is_final):
            return known
        findings = list(doubts(handoff, said, read, record.clock.now()))
        row = known or TesterResult(
            serial=next_serial(record, "RES"),
            handoff_id=handoff.key,
            blob_sha256=said.blob,
            file_name=said.file_name,
            parser=said.parser,
            parser_version=said.parser_version,
            profile=read.profile,
            tester_serial=said.tester_serial,
            channel=said.channel,
            first_at=said.first_at,
            last_at=said.last_at,
            n_records=said.n_records,
            is_final=said.is_final,
            received_at=record.clock.now(),
            status=ResultStatus.QUARANTINED,
        )
        row.is_final, row.analysis, row.findings = said.is_final, read.to_json(), _plain(findings)
        row.status = ResultStatus.QUARANTINED if findings else ResultStatus.INGESTED
        record.add(row)
        record.flush()
        # A file in doubt is not said to be the cell's.
        about = None if findings else handoff.cell_serial
        attach(record, stored, item_serial=about, file_name=said.file_name, media_type="text/csv")
        act.items.append(row.serial)
        act.detail.update(status=row.status, findings=[finding.code for finding in findings])
        if not findings:
            _take_in(record, handoff, row)
    return row


def accept(
    record: RecordSession, serial: str, stored: Stored, *, reason: str, expected_version: int | None = None
) -> TesterResult:
    """Let a result out of quarantine: it is this cell's after all.

    Raises:
        InvalidInput: There is no reason.
        NotFound: There is no such result.
        Refused: It is not in quarantine, or nothing could be read from it.
    """
    with record.act("result.accepted", serial, reason=_reason(reason)) as act:
        row = _quarantined(record, serial, expected_version)
        if row.analysis is None:
            message = f"Nothing could be read from {row.file_name}, so there is nothing to accept."
            raise Refused(message, [Finding("unreadable", message, "Reject it and send the file anew.", serial)])
        handoff = record.get_one(Handoff, row.handoff_id)
        act.items.append(handoff.cell_serial)
        attach(record, stored, item_serial=handoff.cell_serial, file_name=row.file_name, media_type="text/csv")
        _decide(record, row, ResultStatus.INGESTED, reason)
        _take_in(record, find_handoff(record, handoff.uuid, lock=True), row)
    return row


def reject(record: RecordSession, serial: str, *, reason: str, expected_version: int | None = None) -> TesterResult:
    """Say that a result in quarantine is not this cell's, or worthless; the raw file stays.

    Raises:
        InvalidInput: There is no reason.
        NotFound: There is no such result.
        Refused: It is not in quarantine.
    """
    with record.act("result.rejected", serial, reason=_reason(reason)) as act:
        row = _quarantined(record, serial, expected_version)
        act.items.append(record.get_one(Handoff, row.handoff_id).cell_serial)
        _decide(record, row, ResultStatus.REJECTED, reason)
    return row


def find_result(record: RecordSession, serial: str) -> TesterResult:
    """The result of that serial.

    Raises:
        NotFound: There is none.
    """
    row = record.exec(select(TesterResult).where(TesterResult.serial == serial)).one_or_none()
    if row is None:
        raise NotFound(f"There is no result {serial}.")
    return row


def _take_in(record: RecordSession, handoff: Handoff, row: TesterResult) -> None:
    """Let the fullest result count; both that and what it supersedes stay."""
    others = [
        other
        for other in results_of(record, handoff)
        if other.status is ResultStatus.INGESTED and other.superseded_by is None and other.id != row.id
    ]
    for other in others:
        older, newer = (other, row) if _fullness(other) <= _fullness(row) else (row, other)
        older.superseded_by = newer.key
        older.version += 1
        record.add(older)
    record.flush()
    if row.superseded_by is not None:
        return
    ingest_if_complete(record, handoff)
    if row.is_final and handoff.state.over and others:
        measure(record, handoff, row)


def _fullness(row: TesterResult) -> tuple[bool, datetime, int]:
    return row.is_final, row.last_at, row.n_records


def _quarantined(record: RecordSession, serial: str, expected_version: int | None) -> TesterResult:
    row = find_result(record, serial)
    require_version(serial, row.version, expected_version)
    if row.status is not ResultStatus.QUARANTINED:
        message = f"{serial} is {row.status}. {_FOR_GOOD}"
        raise Refused(message, [Finding("not_quarantined", message, "Nothing is to be done.", serial)])
    return row


def _decide(record: RecordSession, row: TesterResult, status: ResultStatus, reason: str) -> None:
    row.status, row.decision, row.decided_by = status, reason, record.actor.name
    row.version += 1
    record.add(row)
    record.flush()


def _reason(reason: str) -> str:
    if not reason.strip():
        raise InvalidInput("Deciding about a result needs a reason.")
    return reason.strip()


def _plain(findings: Iterable[Finding]) -> list[dict[str, str]]:
    return [{name: str(canonical_value(value)) for name, value in asdict(finding).items()} for finding in findings]
