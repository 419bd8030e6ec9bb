"""What QA exports can be read anywhere, holds exactly what was asked for, and proves itself offline."""

from __future__ import annotations

import ast
import csv
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.pool import QueuePool
from sqlmodel import select

from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor
from traceability.audit import AuditEvent
from traceability.canonical import canonical_bytes, sha256_hex
from traceability.checkpoints import make_checkpoint
from traceability.clock import ManualClock
from traceability.database import Database
from traceability.errors import NotPermitted
from traceability.exports import audit_trail, verify_export
from traceability.exports.audit_trail import AuditFilter, ExportFormat, count_events, export_audit_trail
from traceability.exports.bundle import export_bundle

KEY = Ed25519PrivateKey.generate()
REASON = '=HYPERLINK("http://evil")'


@pytest.fixture
def lived_in(database: Database, operator: Actor, engineer: Actor, qa: Actor, clock: ManualClock) -> Database:
    """Six events an hour apart, a checkpoint over the fifth."""
    for number in range(5):
        with database.write(engineer if number == 2 else operator) as record:
            activity = begin_activity(record, ActivityKind.ASSEMBLY)
            with record.act("activity.ended", activity.serial, reason=REASON):
                pass
        clock.advance(hours=1)
    with database.write(qa) as record:
        make_checkpoint(record, KEY)
    return database


def _export(database: Database, actor: Actor, chosen: AuditFilter, form: ExportFormat) -> tuple[int, bytes]:
    export = export_audit_trail(database, actor, chosen, form)
    return export.count, b"".join(export.chunks)


def test_an_ndjson_line_holds_the_events_own_bytes_and_their_hash(lived_in: Database, qa: Actor) -> None:
    """21 CFR 11.10(b), Annex 11 §8: complete copies in electronic form."""
    count, content = _export(lived_in, qa, AuditFilter(), ExportFormat.NDJSON)
    lines = content.splitlines()
    assert count == len(lines) == 11
    for number, line in enumerate(lines, 1):
        parsed = orjson.loads(line)
        assert parsed["event"]["seq"] == number
        assert sha256_hex(canonical_bytes(parsed["event"])) == parsed["hash"]


def test_a_csv_has_the_same_events_and_no_cell_is_a_formula(lived_in: Database, qa: Actor) -> None:
    _, content = _export(lived_in, qa, AuditFilter(), ExportFormat.CSV)
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert [row["seq"] for row in rows] == [str(number) for number in range(1, 12)]
    assert rows[1]["reason"] == f"'{REASON}"
    assert rows[0]["full_name"] == "Olga"
    assert orjson.loads(rows[0]["changes"])[0]["table"] == "activities"
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


def test_filters_choose_by_time_person_item_and_kind_and_can_be_counted_before(
    lived_in: Database, qa: Actor, clock: ManualClock
) -> None:
    start = clock.now() - timedelta(hours=5)
    with lived_in.read() as record:
        body = record.exec(select(AuditEvent.body).where(AuditEvent.seq == 3)).one()
        serial = orjson.loads(body)["items"][0]
        filters = {
            "time": AuditFilter(since=start + timedelta(hours=1), until=start + timedelta(hours=3)),
            "actor": AuditFilter(actor="emil"),
            "item": AuditFilter(item=serial),
            "kind": AuditFilter(kind="activity.started"),
            "kinds": AuditFilter(kind="activity.*"),
            "both": AuditFilter(kind="activity.*", actor="emil", until=start),
            "odd": AuditFilter(kind="a%*"),
        }
        counts = {name: count_events(record, chosen) for name, chosen in filters.items()}
    assert counts == {"time": 4, "actor": 2, "item": 2, "kind": 5, "kinds": 10, "both": 0, "odd": 0}
    count, content = _export(lived_in, qa, filters["time"], ExportFormat.NDJSON)
    assert count == 4
    assert [orjson.loads(line)["event"]["seq"] for line in content.splitlines()] == [3, 4, 5, 6]


def test_an_export_is_itself_on_the_trail_and_only_qa_may(lived_in: Database, qa: Actor, operator: Actor) -> None:
    """Annex 11 §8.1, 21 CFR 11.10(g)."""
    _export(lived_in, qa, AuditFilter(actor="olga"), ExportFormat.CSV)
    with lived_in.read() as record:
        body = orjson.loads(record.exec(select(AuditEvent.body).where(AuditEvent.kind == "audit.exported")).one())
    assert body["detail"] == {"count": 8, "filter": {"actor": "olga", "last_seq": 11}, "format": "csv"}
    with pytest.raises(NotPermitted):
        export_audit_trail(lived_in, operator, AuditFilter(), ExportFormat.CSV)


Bundle = Callable[[AuditFilter], Path]


@pytest.fixture
def bundle(lived_in: Database, qa: Actor, tmp_path: Path) -> Bundle:
    def bundle(chosen: AuditFilter) -> Path:
        path = tmp_path / "bundle.zip"
        with path.open("wb") as file:
            file.writelines(export_bundle(lived_in, qa, chosen, public_key=KEY.public_key()).chunks)
        return path

    return bundle


def _offline(*arguments: str | Path, script: str | Path = verify_export.__file__) -> tuple[int, str]:
    """Run the verifier as on a laptop with a bare Python: isolated, without site packages."""
    command = [sys.executable, "-I", "-S", str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def _repack(path: Path, name: str, old: bytes, new: bytes, fix_manifest: bool = False) -> None:
    """Change a file inside the bundle, and the manifest with it if asked."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    assert old in members[name]
    members[name] = members[name].replace(old, new, 1)
    if fix_manifest:
        manifest = orjson.loads(members["MANIFEST.json"])
        for entry in manifest["files"]:
            entry["sha256"], entry["bytes"] = sha256_hex(members[entry["name"]]), len(members[entry["name"]])
        members["MANIFEST.json"] = orjson.dumps(manifest)
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in members.items():
            archive.writestr(entry, content)


def _rewrite_chain(path: Path) -> None:
    """Change the first event and recompute all later hashes and the manifest."""
    with zipfile.ZipFile(path) as archive:
        old = archive.read("audit_trail.ndjson")
    previous, lines = "0" * 64, []
    for line in old.splitlines():
        event = {**orjson.loads(line)["event"], "prev": previous}
        if event["seq"] == 1:
            event["reason"] = "never happened"
        body = canonical_bytes(event)
        previous = sha256_hex(body)
        lines.append(b'{"hash":"' + previous.encode() + b'","event":' + body + b"}\n")
    _repack(path, "audit_trail.ndjson", old, b"".join(lines), fix_manifest=True)


def test_a_bundle_is_verified_offline_by_its_own_script(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle(AuditFilter())
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    status, said = _offline(script=tmp_path / "unpacked" / "verify_export.py")
    assert (status, said.splitlines()[-1]) == (0, "INTACT")
    assert "events: 11" in said
    assert "checkpoints: 1 of 1" in said
    assert "compare it with QA's" in said
    key = tmp_path / "qa.pub"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    status, said = _offline(path, "--key", key)
    assert (status, "key:" in said) == (0, False)


def test_a_selection_is_verified_too_and_says_what_it_can_not_show(bundle: Bundle) -> None:
    status, said = _offline(bundle(AuditFilter(actor="emil")))
    assert status == 0
    assert "gaps between them are not checked" in said
    assert "LEFT OUT: no checkpoint covers" in said


@pytest.mark.parametrize(
    ("old", "new", "fix_manifest", "problem"),
    [
        (b"olga", b"otto", False, "audit_trail.ndjson is not the file that was exported"),
        (b"olga", b"otto", True, "event 1 was changed"),
        (b'"event":{', b'"event":[', True, "line 1 of audit_trail.ndjson is no event"),
    ],
)
def test_an_event_changed_in_the_bundle_is_named(
    bundle: Bundle, old: bytes, new: bytes, fix_manifest: bool, problem: str
) -> None:
    path = bundle(AuditFilter())
    _repack(path, "audit_trail.ndjson", old, new, fix_manifest)
    status, said = _offline(path)
    assert status == 1
    assert f"BAD: {problem}" in said


def test_an_event_taken_out_of_the_bundle_is_named(bundle: Bundle) -> None:
    path = bundle(AuditFilter())
    with zipfile.ZipFile(path) as archive:
        third = archive.read("audit_trail.ndjson").splitlines(keepends=True)[2]
    _repack(path, "audit_trail.ndjson", third, b"", fix_manifest=True)
    status, said = _offline(path)
    assert status == 1
    assert "BAD: event 3 is missing" in said


def test_a_chain_rewritten_in_the_bundle_contradicts_its_checkpoint(bundle: Bundle) -> None:
    path = bundle(AuditFilter())
    _rewrite_chain(path)
    status, said = _offline(path)
    assert status == 1
    assert "BAD: event 10 is not the one that checkpoints/checkpoint-000000000010.json was signed over" in said


def test_a_checkpoint_forged_for_a_rewritten_chain_is_not_signed_with_qas_key(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle(AuditFilter())
    with zipfile.ZipFile(path) as archive:
        checkpoint = orjson.loads(archive.read("checkpoints/checkpoint-000000000010.json"))
    _repack(
        path, "checkpoints/checkpoint-000000000010.json", checkpoint["hash"].encode(), b"f" * 64, fix_manifest=True
    )
    status, said = _offline(path)
    assert status == 1
    assert "BAD: checkpoints/checkpoint-000000000010.json is not signed with this key" in said


def test_something_else_than_a_bundle_gets_a_sentence(tmp_path: Path) -> None:
    other = tmp_path / "other.zip"
    other.write_bytes(b"no zip")
    status, said = _offline(other)
    assert status == 1
    assert "can't be read as a bundle" in said


def test_the_verifier_needs_nothing_but_python_3_9() -> None:
    tree = ast.parse(Path(verify_export.__file__).read_text(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def test_the_verifiers_own_ed25519_agrees_with_the_library() -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    for message in (b"", b"a head", b"\xff" * 200):
        signature = key.sign(message)
        assert verify_export.ed25519_verify(public, signature, message)
        assert not verify_export.ed25519_verify(public, signature, message + b"x")
        assert not verify_export.ed25519_verify(public, signature[:-1] + bytes([signature[-1] ^ 1]), message)


@pytest.mark.parametrize("form", list(ExportFormat))
def test_an_export_that_is_fetched_slowly_holds_no_connection_and_misses_nothing(
    lived_in: Database, qa: Actor, form: ExportFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = _export(lived_in, qa, AuditFilter(last_seq=11), form)
    monkeypatch.setattr(audit_trail, "_FETCH", 3)
    export = export_audit_trail(lived_in, qa, AuditFilter(last_seq=11), form)
    fetched = []
    for chunk in export.chunks:
        fetched.append(chunk)
        assert isinstance(lived_in.engine.pool, QueuePool)
        assert lived_in.engine.pool.checkedout() == 0
    assert len(fetched) > 3
    assert b"".join(fetched) == whole
