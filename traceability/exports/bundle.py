"""The audit trail as a zip that proves itself: events, checkpoints, hashes and a verifier that needs no server.

The zip is streamed while it is made; its manifest comes last, when all hashes are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from stat import S_IFREG
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from stream_zip import ZIP_64, stream_zip

from traceability.acts import Actor
from traceability.canonical import timestamp
from traceability.checkpoints import Checkpoint, stored_checkpoints
from traceability.database import Database
from traceability.exports.audit_trail import AuditFilter, csv_chunks, ndjson_chunks, record_export

FORMAT = "argonaut-audit-bundle/1"
MEDIA_TYPE = "application/zip"

_READ_ME = """An audit trail exported from Argonaut.

audit_trail.ndjson   one event a line, {"hash": ..., "event": ...}; the hash is the SHA-256 of the event's bytes
audit_trail.csv      the same for spreadsheets
checkpoints/         heads of the chain, signed by QA
MANIFEST.json        what was exported, with the SHA-256 of every file
verify_export.py     checks all of it: python3 verify_export.py

Take QA's public key from QA and not from here, and verify with --key.
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that is ready to be streamed.

    Attributes:
        filter: Which events.
        count: How many.
        chunks: The zip's bytes; to be read once.
    """

    filter: AuditFilter
    count: int
    chunks: Iterable[bytes]


def export_bundle(
    database: Database,
    actor: Actor,
    chosen: AuditFilter,
    *,
    public_key: Ed25519PublicKey | None = None,
    reason: str = "",
) -> Bundle:
    """Record that the trail is exported, then give it out as a bundle.

    Args:
        database: Where the trail is.
        actor: Who exports.
        chosen: Which events; all of them make a bundle whose chain can be followed whole.
        public_key: QA's, put in for convenience.
        reason: Why.

    Raises:
        NotPermitted: The actor may not export.
    """
    with database.read() as record:
        checkpoints = stored_checkpoints(record)
    chosen, count = record_export(database, actor, chosen, "bundle", reason)
    about = {
        "format": FORMAT,
        "exported_at": timestamp(database.clock.now()),
        "exported_by": actor.name,
        "filter": chosen.as_json(),
        "complete": chosen.everything,
        "events": count,
        "last_seq": chosen.last_seq,
    }
    members = _members(database, chosen, checkpoints, public_key)
    return Bundle(chosen, count, stream_zip(_with_manifest(members, about, database.clock.now())))


_Member = tuple[str, Iterable[bytes]]
_ZipMember = tuple[str, datetime, int, Any, Iterable[bytes]]


def _members(
    database: Database, chosen: AuditFilter, checkpoints: Sequence[Checkpoint], public_key: Ed25519PublicKey | None
) -> Iterator[_Member]:
    yield "README.txt", [_READ_ME.encode()]
    yield "verify_export.py", [files("traceability.exports").joinpath("verify_export.py").read_bytes()]
    yield "audit_trail.ndjson", ndjson_chunks(database, chosen)
    yield "audit_trail.csv", csv_chunks(database, chosen)
    for checkpoint in checkpoints:
        if chosen.last_seq is None or checkpoint.seq <= chosen.last_seq:
            content = orjson.dumps(checkpoint.as_json(), option=orjson.OPT_INDENT_2)
            yield f"checkpoints/checkpoint-{checkpoint.seq:012d}.json", [content]
    if public_key is not None:
        yield "public_key.pem", [public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)]


def _with_manifest(members: Iterator[_Member], about: dict[str, Any], now: datetime) -> Iterator[_ZipMember]:
    entries: list[dict[str, Any]] = []
    modified_at = now.astimezone(UTC)
    for name, chunks in members:
        yield name, modified_at, S_IFREG | 0o644, ZIP_64, _hashed(name, chunks, entries)
    manifest = orjson.dumps({**about, "files": entries}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    yield "MANIFEST.json", modified_at, S_IFREG | 0o644, ZIP_64, [manifest]


def _hashed(name: str, chunks: Iterable[bytes], entries: list[dict[str, Any]]) -> Iterator[bytes]:
    """The chunks as they are; when they end, their hash and size are among the entries."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    entries.append({"name": name, "sha256": digest.hexdigest(), "bytes": size})
