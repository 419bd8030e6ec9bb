"""The nightly verification leaves its result on the trail, good or bad."""

from __future__ import annotations

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from sqlmodel import col, select

from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor
from traceability.audit import AuditEvent
from traceability.checkpoints import make_checkpoint
from traceability.database import Database
from traceability.errors import NotPermitted
from traceability.jobs import Job, record_jobs, verify_and_record


def test_the_nightly_verification_reports_what_it_saw(database: Database, operator: Actor) -> None:
    """Annex 11 §9: audit trails are regularly reviewed."""
    with database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    (job,) = record_jobs(database)
    job.run()
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE activities SET person = 'otto'"))
    job.run()
    with database.read() as record:
        bodies = record.exec(
            select(AuditEvent.body).where(AuditEvent.kind == "audit.verified").order_by(col(AuditEvent.seq))
        ).all()
    good, bad = (orjson.loads(body)["detail"] for body in bodies)
    assert (good["intact"], good["events"], good["first"]) == (True, 1, [])
    assert (bad["intact"], bad["events"], bad["discrepancies"]) == (False, 2, 1)
    assert "activities [1]: person is" in bad["first"][0][1]


def test_a_job_says_when_it_runs_in_one_way() -> None:
    with pytest.raises(ValueError, match="either"):
        Job("x", lambda: None)
    with pytest.raises(ValueError, match="either"):
        Job("x", lambda: None, every_s=1, cron="* * * * *")


def test_the_checkpoints_in_the_database_are_compared_too_and_only_qa_may_ask(
    database: Database, operator: Actor, qa: Actor
) -> None:
    with database.write(operator) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    with database.write(qa) as record:
        make_checkpoint(record, Ed25519PrivateKey.generate())
    assert verify_and_record(database, actor=qa).checkpoints == 1
    with pytest.raises(NotPermitted):
        verify_and_record(database, actor=operator)
