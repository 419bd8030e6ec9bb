"""A head that QA signed and took away betrays a chain that was rewritten whole, or cut."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor
from traceability.canonical import canonical_bytes, sha256_hex
from traceability.checkpoints import (
    Checkpoint,
    create_key,
    load_key,
    load_public_key,
    make_checkpoint,
    read_checkpoint,
    stored_checkpoints,
    write_checkpoint,
)
from traceability.database import Database
from traceability.errors import Conflict, InvalidInput, NotPermitted, Refused
from traceability.verification import verify

PASSPHRASE = "kept in the safe of QA"
KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def checkpoint(database: Database, operator: Actor, qa: Actor) -> Checkpoint:
    """Signed over event 5, with five more after it."""
    _work(database, operator, 5)
    with database.write(qa) as record:
        checkpoint = make_checkpoint(record, KEY)
    _work(database, operator, 5)
    return checkpoint


def _work(database: Database, operator: Actor, count: int) -> None:
    for _ in range(count):
        with database.write(operator) as record:
            begin_activity(record, ActivityKind.ASSEMBLY)


def _unprotect(database: Database) -> None:
    with database.engine.begin() as connection:
        if database.engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER audit_events_no_update"))
            connection.execute(text("DROP TRIGGER audit_events_no_delete"))
            connection.execute(text("DROP TRIGGER audit_event_items_no_delete"))
        else:
            for table in ("audit_events", "audit_event_items"):
                connection.execute(text(f"DROP TRIGGER {table}_append_only ON {table}"))


def _rewrite(database: Database, seq: int, old: str, new: str) -> None:
    """Change one event and recompute the hashes of all that follow, as an administrator of the database could."""
    _unprotect(database)
    with database.engine.begin() as connection:
        rows = connection.execute(
            text("SELECT seq, body, hash FROM audit_events WHERE seq >= :seq ORDER BY seq"), {"seq": seq}
        ).all()
        previous = orjson.loads(rows[0].body)["prev"]
        for row in rows:
            body = row.body.replace(old, new) if row.seq == seq else row.body
            rewritten = canonical_bytes({**orjson.loads(body), "prev": previous})
            previous = sha256_hex(rewritten)
            connection.execute(
                text("UPDATE audit_events SET body = :body, hash = :hash WHERE seq = :seq"),
                {"body": rewritten.decode(), "hash": previous, "seq": row.seq},
            )
        connection.execute(text("UPDATE audit_head SET hash = :hash"), {"hash": previous})


def _cut(database: Database, after: int) -> None:
    _unprotect(database)
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_events WHERE seq > :after"), {"after": after})
        connection.execute(text("DELETE FROM audit_event_items WHERE seq > :after"), {"after": after})
        connection.execute(
            text("UPDATE audit_head SET seq = :after, hash = (SELECT hash FROM audit_events WHERE seq = :after)"),
            {"after": after},
        )


def test_an_honest_chain_agrees_with_its_checkpoint(database: Database, checkpoint: Checkpoint) -> None:
    report = verify(database, checkpoints=[checkpoint], public_key=KEY.public_key())
    assert report.intact
    assert report.checkpoints == 1
    assert report.left_out == []


def test_a_chain_rewritten_whole_is_found_by_the_checkpoint_alone(database: Database, checkpoint: Checkpoint) -> None:
    """21 CFR 11.10(e)."""
    _rewrite(database, 3, '"reason":""', '"reason":"never happened"')
    unaided = verify(database)
    assert unaided.intact
    assert any("rewritten" in sentence for sentence in unaided.left_out)
    report = verify(database, checkpoints=[checkpoint], public_key=KEY.public_key())
    assert [(found.kind, found.seq) for found in report.discrepancies] == [("chain_rewritten", 5)]


def test_a_tail_cut_with_its_head_is_found_by_the_checkpoint(database: Database, checkpoint: Checkpoint) -> None:
    _cut(database, 4)
    unaided = verify(database, records=False)
    assert unaided.intact
    report = verify(database, records=False, checkpoints=[checkpoint], public_key=KEY.public_key())
    assert [(found.kind, found.seq) for found in report.discrepancies] == [("tail_missing", 5)]


def test_rows_whose_events_were_cut_away_show_without_any_checkpoint(
    database: Database, checkpoint: Checkpoint
) -> None:
    _cut(database, 4)
    assert {found.kind for found in verify(database).discrepancies} == {"row_inserted"}


def test_a_checkpoint_signed_with_another_key_proves_nothing(database: Database, checkpoint: Checkpoint) -> None:
    _rewrite(database, 3, '"reason":""', '"reason":"never happened"')
    with database.connect() as connection:
        head = connection.execute(text("SELECT hash FROM audit_events WHERE seq = 5")).scalar_one()
    forger = Ed25519PrivateKey.generate()
    unsigned = replace(checkpoint, hash=head)
    forged = replace(unsigned, signature=base64.b64encode(forger.sign(unsigned.signed_bytes)).decode())
    report = verify(database, checkpoints=[forged], public_key=KEY.public_key())
    assert [found.kind for found in report.discrepancies] == ["checkpoint_forged"]
    edited = replace(checkpoint, hash=head)
    assert not edited.signed_by(KEY.public_key())


def test_checkpoints_stay_on_the_record_and_in_files_to_take_away(
    database: Database, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = write_checkpoint(checkpoint, tmp_path / "checkpoints")
    assert path.name == "checkpoint-000000000005.json"
    assert read_checkpoint(path) == checkpoint
    with database.read() as record:
        assert stored_checkpoints(record) == [checkpoint]
    path.write_text('{"format": "something else"}')
    with pytest.raises(InvalidInput, match="no checkpoint"):
        read_checkpoint(path)


def test_the_key_is_kept_under_a_passphrase_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "qa.pem"
    public = create_key(path, PASSPHRASE)
    assert path.stat().st_mode & 0o077 == 0
    assert b"ENCRYPTED" in path.read_bytes()
    assert load_public_key(tmp_path / "qa.pem.pub") == public
    assert load_key(path, PASSPHRASE).public_key() == public
    with pytest.raises(InvalidInput, match="passphrase"):
        load_key(path, "a wrong passphrase")
    with pytest.raises(Conflict, match="never overwritten"):
        create_key(path, PASSPHRASE)
    with pytest.raises(InvalidInput, match="12 characters"):
        create_key(tmp_path / "other.pem", "short")


def test_only_qa_makes_checkpoints_and_only_of_something(database: Database, qa: Actor, operator: Actor) -> None:
    with pytest.raises(Refused, match="empty"), database.write(qa) as record:
        make_checkpoint(record, KEY)
    with pytest.raises(NotPermitted), database.write(operator) as record:
        make_checkpoint(record, KEY)
