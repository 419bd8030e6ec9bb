"""People and machines prove who they are, every attempt is on the record, and names mean one person for ever."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest
from sqlalchemy import text
from sqlmodel import col, select

from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor, Role, system_actor
from traceability.audit import AuditEvent, SealedEvent
from traceability.clock import ManualClock, wall_now
from traceability.database import Database
from traceability.errors import Conflict, InvalidInput, NotPermitted, Refused, SignInRefused, StaleVersion
from traceability.passwords import password_findings
from traceability.tokens import issue_token, revoke_token, token_actor
from traceability.users import (
    FAILURES_TO_LOCK,
    actor_of,
    change_password,
    change_user,
    create_user,
    deactivate_user,
    find_user,
    reset_password,
    sign_in,
    sign_out,
    unlock_user,
)

GOOD = "copper kettle seven"
BETTER = "granite umbrella nine"


def _kinds(database: Database) -> list[str]:
    with database.read() as record:
        return [event.kind for event in record.exec(select(AuditEvent).order_by(col(AuditEvent.seq)))]


def _first_admin(database: Database) -> Actor:
    with database.write(system_actor("set-up")) as record:
        ada = create_user(
            record, name="ada", full_name="Ada Volta", password=GOOD, roles=[Role.ADMIN], temporary=False
        )
        record.flush()
        return actor_of(ada, "cli")


def _add(database: Database, admin: Actor, name: str = "olga", temporary: bool = False) -> None:
    with database.write(admin) as record:
        create_user(
            record, name=name, full_name="Olga Ohm", password=GOOD, roles=[Role.OPERATOR], temporary=temporary
        )


def test_a_person_signs_in_with_name_and_password_and_it_is_recorded(database: Database, admin: Actor) -> None:
    """21 CFR 11.10(d), 11.300(a): access is limited to authorized individuals."""
    _add(database, admin)
    olga = sign_in(database, "olga", GOOD, "tablet-1")
    assert (olga.name, olga.full_name, olga.roles, olga.terminal) == (
        "olga",
        "Olga Ohm",
        {Role.OPERATOR},
        "tablet-1",
    )
    with database.write(olga) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    sign_out(database, olga)
    assert _kinds(database) == ["user.created", "user.signed_in", "activity.started", "user.signed_out"]


def test_five_wrong_passwords_lock_and_are_reported_at_once(database: Database, admin: Actor) -> None:
    """21 CFR 11.300(d): attempts at unauthorized use are detected and reported immediately."""
    _add(database, admin)
    heard: list[SealedEvent] = []
    database.publisher.subscribe(heard.extend)
    for _ in range(FAILURES_TO_LOCK):
        with pytest.raises(SignInRefused, match="name or the password is wrong"):
            sign_in(database, "olga", "not her password", "tablet-1")
    assert [event.kind for event in heard] == ["user.sign_in_failed"] * 5 + ["user.locked"]
    with pytest.raises(SignInRefused, match="is locked"):
        sign_in(database, "olga", GOOD, "tablet-1")
    with pytest.raises(SignInRefused, match="wrong"):
        sign_in(database, "olga", "still not hers", "tablet-1")
    with database.write(admin) as record:
        unlock_user(record, "olga", reason="She called me.")
    assert sign_in(database, "olga", GOOD, "tablet-1").name == "olga"


def test_a_right_password_forgets_the_wrong_ones_before(database: Database, admin: Actor) -> None:
    _add(database, admin)
    for _ in range(FAILURES_TO_LOCK - 1):
        with pytest.raises(SignInRefused):
            sign_in(database, "olga", "not her password", "tablet-1")
    sign_in(database, "olga", GOOD, "tablet-1")
    with database.read() as record:
        assert find_user(record, "olga").failures == 0


def test_an_unknown_name_is_refused_in_the_same_words_and_its_text_is_not_kept(
    database: Database, admin: Actor
) -> None:
    _add(database, admin)
    with pytest.raises(SignInRefused) as unknown:
        sign_in(database, "my secret typed here", GOOD, "tablet-1")
    with pytest.raises(SignInRefused) as wrong:
        sign_in(database, "olga", "not her password", "tablet-1")
    assert unknown.value.message == wrong.value.message
    with database.read() as record:
        bodies = "".join(event.body for event in record.exec(select(AuditEvent)))
    assert "my secret typed here" not in bodies
    assert _kinds(database).count("user.sign_in_failed") == 2


def test_neither_password_nor_its_hash_stands_on_the_trail(database: Database, admin: Actor) -> None:
    _add(database, admin)
    with database.read() as record:
        stored = find_user(record, "olga").password_hash
        (body,) = record.exec(select(AuditEvent.body)).all()
    assert stored.startswith(b"$argon2id$")
    assert GOOD not in body
    assert "argon2" not in body
    assert set(orjson.loads(body)["changes"][0]["new"]["password_hash"]) == {"sha256", "size"}


def test_a_name_is_never_given_to_somebody_else(database: Database, admin: Actor) -> None:
    """21 CFR 11.100(a): a signature's owner is unique and never reassigned."""
    _first_admin(database)
    _add(database, admin)
    with database.write(admin) as record:
        deactivate_user(record, "olga", reason="She left.")
    with pytest.raises(SignInRefused, match="deactivated"):
        sign_in(database, "olga", GOOD, "tablet-1")
    with pytest.raises(Conflict, match="never reused"):
        _add(database, admin)


def test_the_last_administrator_can_not_go(database: Database) -> None:
    ada = _first_admin(database)
    with pytest.raises(Refused, match="last active administrator"), database.write(ada) as record:
        deactivate_user(record, "ada", reason="Enough.")
    with pytest.raises(Refused, match="last active administrator"), database.write(ada) as record:
        change_user(record, "ada", roles=[Role.QA], reason="Promotion.")
    assert sign_in(database, "ada", GOOD, "cli").roles == {Role.ADMIN}


def test_with_a_temporary_password_only_the_password_can_be_changed(database: Database, admin: Actor) -> None:
    """21 CFR 11.300(b): who hands out a password can't go on using it."""
    _add(database, admin, temporary=True)
    olga = sign_in(database, "olga", GOOD, "tablet-1")
    with pytest.raises(NotPermitted), database.write(olga) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    with pytest.raises(InvalidInput, match="current one"):
        change_password(database, olga, current=GOOD, new=GOOD)
    with pytest.raises(SignInRefused):
        change_password(database, olga, current="not her password", new=BETTER)
    olga = change_password(database, olga, current=GOOD, new=BETTER)
    with database.write(olga) as record:
        begin_activity(record, ActivityKind.ASSEMBLY)
    with pytest.raises(SignInRefused):
        sign_in(database, "olga", GOOD, "tablet-1")
    assert sign_in(database, "olga", BETTER, "tablet-1").scopes is None
    with database.write(admin) as record:
        reset_password(record, "olga", temporary_password="violet hammer four", reason="She forgot it.")
    assert sign_in(database, "olga", "violet hammer four", "tablet-1").scopes == (
        "user.password_changed",
        "user.signed_out",
    )


def test_a_weak_password_is_refused_with_all_reasons() -> None:
    codes = [finding.code for finding in password_findings("olga1olga", name="olga", full_name="Olga Ohm")]
    assert codes == ["password_length", "password_monotonous", "password_personal"]
    assert password_findings(GOOD, name="olga", full_name="Olga Ohm") == []


def test_training_and_roles_change_with_a_reason_and_not_over_a_stale_read(database: Database, admin: Actor) -> None:
    _first_admin(database)
    _add(database, admin)
    with database.write(admin) as record:
        user = change_user(record, "olga", trained_for=["sputter"], reason="Course of 2 March", expected_version=1)
        assert (user.trained_for, user.version) == (["sputter"], 2)
    with pytest.raises(StaleVersion), database.write(admin) as record:
        change_user(record, "olga", trained_for=["press"], reason="Course of 3 March", expected_version=1)


def test_an_operator_can_not_make_users(database: Database, operator: Actor) -> None:
    """21 CFR 11.10(g): authority checks."""
    with pytest.raises(NotPermitted):
        _add(database, operator)


def test_a_token_acts_under_its_own_name_within_its_scopes_until_it_is_revoked(
    database: Database, admin: Actor, clock: ManualClock
) -> None:
    expires = wall_now() + timedelta(days=1)
    with database.write(admin) as record:
        token, secret = issue_token(
            record, name="balance", roles=[Role.OPERATOR], scopes=["activity.*"], expires_at=expires
        )
        assert secret.encode() not in token.secret_hash
    machine = token_actor(database, secret, "10.0.0.7")
    assert (machine.name, machine.user_id) == ("token:balance", None)
    with database.write(machine) as record:
        begin_activity(record, ActivityKind.MEASUREMENT)
    with pytest.raises(NotPermitted, match="token"), database.write(machine) as record, record.act("lot.received"):
        pass
    with pytest.raises(SignInRefused):
        token_actor(database, secret, "10.0.0.7", now=expires)
    with pytest.raises(SignInRefused):
        token_actor(database, secret + "x", "10.0.0.7")
    with database.write(admin) as record:
        revoke_token(record, "balance", reason="Balance sold.")
    with pytest.raises(SignInRefused):
        token_actor(database, secret, "10.0.0.7")
    assert _kinds(database).count("token.refused") == 3
    with pytest.raises(Conflict), database.write(admin) as record:
        issue_token(record, name="balance", roles=[Role.OPERATOR], scopes=["lot.*"], expires_at=expires)


def test_no_secret_of_a_token_stands_in_the_database(database: Database, admin: Actor) -> None:
    with database.write(admin) as record:
        _, secret = issue_token(
            record,
            name="balance",
            roles=[Role.OPERATOR],
            scopes=["activity.*"],
            expires_at=wall_now() + timedelta(days=1),
        )
    with database.connect() as connection:
        rows = [
            *connection.execute(text("SELECT * FROM api_tokens")),
            *connection.execute(text("SELECT body FROM audit_events")),
        ]
    assert secret not in repr(rows)
