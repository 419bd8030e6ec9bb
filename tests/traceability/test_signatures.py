"""A signature is one person's, for one content, and nobody else can give or move it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select

from traceability.acts import Actor, Role
from traceability.audit import AuditEvent
from traceability.canonical import content_hash
from traceability.clock import ManualClock
from traceability.database import Database
from traceability.errors import InvalidInput, Refused, SignatureRefused
from traceability.signatures import (
    Meaning,
    Signature,
    open_signing,
    require_second_person,
    sign,
    signature_covers,
    signatures_of,
)
from traceability.users import FAILURES_TO_LOCK, deactivate_user

PASSWORD = "copper kettle seven"  # the one that `enrol` gives
CONTENT = b"LiAlO2, 200 nm, version 3"

Enrol = Callable[..., Actor]


def _kinds(database: Database) -> list[str]:
    with database.read() as record:
        return [event.kind for event in record.exec(select(AuditEvent).order_by(col(AuditEvent.seq)))]


def test_a_signature_shows_printed_name_time_and_meaning_and_is_bound_to_the_content(
    database: Database, enrol: Enrol, clock: ManualClock
) -> None:
    """21 CFR 11.50(a) and 11.70: name, date and time, meaning; linked to the record so that it can't be moved."""
    quentin = enrol("quentin", Role.QA)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    with database.write(quentin) as record:
        sign(record, signing, meaning=Meaning.APPROVED, subject="recipe lialo2 version 3", content=CONTENT)
    with database.read() as record:
        (signature,) = signatures_of(record, CONTENT)
        assert signatures_of(record, b"another recipe") == []
    assert (signature.printed_name, signature.meaning, signature.signed_at) == ("Q. Person", "approved", clock.now())
    assert signature_covers(signature, CONTENT)
    assert not signature_covers(signature, CONTENT + b" ")


def test_content_may_be_given_as_its_hash(database: Database, enrol: Enrol) -> None:
    quentin = enrol("quentin", Role.QA)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    digest = content_hash({"thickness_nm": 200})
    with database.write(quentin) as record:
        signature = sign(record, signing, meaning="authored", subject="recipe", content=digest)
        assert signature.content_sha256 == digest
    with pytest.raises(InvalidInput, match="SHA-256"), database.write(quentin) as record:
        sign(record, signing, meaning="authored", subject="recipe", content="LiAlO2")


def test_the_first_signature_takes_both_components_and_each_next_one_the_password(
    database: Database, enrol: Enrol
) -> None:
    """21 CFR 11.200(a)(1): two components at the first signing, at least one at each following."""
    quentin = enrol("quentin", Role.QA)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    with database.write(quentin) as record:
        sign(record, signing, meaning="reviewed", subject="one", content=b"1")
    with pytest.raises(SignatureRefused, match="needs the password"), database.write(quentin) as record:
        sign(record, signing, meaning="reviewed", subject="two", content=b"2")
    with pytest.raises(SignatureRefused, match="Not signed"):
        signing.confirm(database, "not the password", "tablet-1")
    signing.confirm(database, PASSWORD, "tablet-1")
    with database.write(quentin) as record:
        sign(record, signing, meaning="reviewed", subject="two", content=b"2")
    kinds = _kinds(database)
    assert kinds.count("signature.given") == 2
    assert kinds.count("signature.failed") == 1


def test_a_signing_session_ends(database: Database, enrol: Enrol) -> None:
    """21 CFR 11.200(a)(1)(ii): outside one continuous period all components are needed."""
    quentin = enrol("quentin", Role.QA)
    now_s = 0.0
    signing = open_signing(database, quentin, "quentin", PASSWORD, lifetime_s=60, monotonic=lambda: now_s)
    now_s = 60.0
    with pytest.raises(SignatureRefused, match="expired"), database.write(quentin) as record:
        sign(record, signing, meaning="reviewed", subject="one", content=b"1")
    with pytest.raises(SignatureRefused, match="expired"):
        signing.confirm(database, PASSWORD, "tablet-1")


def test_nobody_signs_for_somebody_else_not_even_an_administrator(database: Database, enrol: Enrol) -> None:
    """21 CFR 11.200(a)(2): a signature is used only by its genuine owner."""
    boss, quentin = enrol("boss", Role.ADMIN, Role.QA), enrol("quentin", Role.QA)
    with pytest.raises(SignatureRefused, match="can't sign as quentin"):
        open_signing(database, boss, "quentin", PASSWORD)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    with pytest.raises(SignatureRefused, match="can't use the signature"), database.write(boss) as record:
        sign(record, signing, meaning="approved", subject="one", content=b"1")
    machine = replace(quentin, name="token:robot", user_id=None)
    with pytest.raises(SignatureRefused), database.write(machine) as record:
        sign(record, signing, meaning="approved", subject="one", content=b"1")
    assert _kinds(database).count("act.refused") == 3


def test_a_password_that_somebody_else_knows_signs_nothing(database: Database, enrol: Enrol) -> None:
    quentin = enrol("quentin", Role.QA, temporary=True)
    with pytest.raises(SignatureRefused, match="change it"):
        open_signing(database, quentin, "quentin", PASSWORD)


def test_failed_signings_count_towards_the_lock(database: Database, enrol: Enrol) -> None:
    """21 CFR 11.300(d)."""
    quentin = enrol("quentin", Role.QA)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    for _ in range(FAILURES_TO_LOCK):
        with pytest.raises(SignatureRefused):
            open_signing(database, quentin, "quentin", "not the password")
    with pytest.raises(SignatureRefused, match="locked"), database.write(quentin) as record:
        sign(record, signing, meaning="approved", subject="one", content=b"1")
    assert _kinds(database).count("user.locked") == 1


def test_a_deactivated_person_can_not_use_an_open_session(database: Database, enrol: Enrol, admin: Actor) -> None:
    quentin = enrol("quentin", Role.QA)
    enrol("boss", Role.ADMIN)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    with database.write(admin) as record:
        deactivate_user(record, "quentin", reason="He left.")
    with pytest.raises(SignatureRefused, match="deactivated"), database.write(quentin) as record:
        sign(record, signing, meaning="approved", subject="one", content=b"1")


def test_where_two_people_are_asked_one_can_not_be_both(database: Database, enrol: Enrol) -> None:
    quentin, emil = enrol("quentin", Role.QA), enrol("emil", Role.QA)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    with pytest.raises(SignatureRefused, match="second person"):
        require_second_person(signing, "olga", "quentin")
    require_second_person(open_signing(database, emil, "emil", PASSWORD), "olga", "quentin")


def test_a_signature_stands_or_falls_with_the_act_it_is_for(database: Database, enrol: Enrol) -> None:
    quentin = enrol("quentin", Role.QA)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    with pytest.raises(Refused), database.write(quentin) as record:
        sign(record, signing, meaning="approved", subject="one", content=b"1")
        raise Refused("The recipe has changed.")
    with database.read() as record:
        assert record.exec(select(Signature)).all() == []


def test_the_database_itself_refuses_to_move_a_signature(database: Database, enrol: Enrol) -> None:
    """21 CFR 11.70: signatures can't be excised, copied or transferred."""
    quentin = enrol("quentin", Role.QA)
    signing = open_signing(database, quentin, "quentin", PASSWORD)
    with database.write(quentin) as record:
        sign(record, signing, meaning="approved", subject="one", content=CONTENT)
    for statement in ("UPDATE signatures SET content_sha256 = 'x'", "DELETE FROM signatures"):
        with pytest.raises(DBAPIError, match="append-only"), database.engine.begin() as connection:
            connection.execute(text(statement))
