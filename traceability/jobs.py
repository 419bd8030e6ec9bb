"""What a service has to do by the clock, as plain data: each package lists its jobs, the service schedules them.

A job claims its work from the database or only reads; that it may run late, or twice, must do no harm. No
scheduler is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from traceability.acts import Actor, system_actor
from traceability.canonical import canonical_value
from traceability.checkpoints import Checkpoint, stored_checkpoints
from traceability.database import Database
from traceability.verification import Progress, SealedContent, VerificationReport, verify

_log = structlog.get_logger(__name__)

_VERIFIER = system_actor("nightly-verification")
_TOLD = 20


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done again and again. Either `every_s` or `cron` says when.

    Attributes:
        name: Unique in the service.
        run: Does it; called in a thread of its own.
        every_s: Real seconds between two starts.
        cron: Minute, hour, day of month, month, day of week; UTC.
        misfire_s: How late it may still start; later, that time is left out.
    """

    name: str
    run: Callable[[], None]
    every_s: float | None = None
    cron: str = ""
    misfire_s: float = 60.0

    def __post_init__(self) -> None:
        if (self.every_s is None) == (not self.cron):
            raise ValueError(f"the job {self.name} needs either every_s or cron")


def record_jobs(database: Database, sealed: Sequence[SealedContent] = ()) -> list[Job]:
    """The record's own jobs.

    Args:
        database: The record.
        sealed: Owners of sealed content, of all packages.
    """

    def verify_all() -> None:
        verify_and_record(database, sealed)

    return [Job("nightly-verification", verify_all, cron="15 2 * * *", misfire_s=6 * 3600.0)]


def verify_and_record(
    database: Database,
    sealed: Sequence[SealedContent] = (),
    *,
    actor: Actor = _VERIFIER,
    checkpoints: Iterable[Checkpoint] = (),
    public_key: Ed25519PublicKey | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Verify everything and put the result on the trail, where a live stream shows a bad one at once.

    Args:
        database: The record.
        sealed: Owners of sealed content.
        actor: Who verifies.
        checkpoints: Those that were kept elsewhere; the ones in the database are compared as well.
        public_key: QA's key, from where the service can't change it.
        progress: Told events done and events in all.

    Raises:
        NotPermitted: The actor may not.
    """
    database.acts.require(actor, "audit.verified")
    with database.read() as record:
        every = dict.fromkeys((*checkpoints, *stored_checkpoints(record)))
    report = verify(database, checkpoints=every, public_key=public_key, sealed=sealed, progress=progress)
    detail = {
        "intact": report.intact,
        "events": report.events,
        "head_hash": report.head_hash,
        "tables": report.tables,
        "sealed": report.sealed,
        "discrepancies": report.count,
        "first": [[found.kind, found.message, canonical_value(found.seq)] for found in report.discrepancies[:_TOLD]],
    }
    with database.write(actor) as record, record.act("audit.verified", detail=detail):
        pass
    if not report.intact:
        _log.error("record_not_intact", discrepancies=report.count, first=report.discrepancies[0].message)
    return report
