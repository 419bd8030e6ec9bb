"""Checkpoints: the chain's head, signed with a key that the service can't read, and carried off the host.

A chain that is rewritten whole is consistent in itself; only somebody who kept an earlier head can tell. QA keeps
the Ed25519 key in a passphrase-protected file and the checkpoint files elsewhere. How the chain is walked is known
to `verification`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from sqlalchemy import Column
from sqlmodel import Field, SQLModel, col, select

from traceability.append_only import make_append_only
from traceability.audit import AuditHead, BigKey
from traceability.canonical import canonical_bytes, timestamp
from traceability.columns import UtcDateTime
from traceability.database import RecordSession
from traceability.errors import Conflict, InvalidInput, Refused

FORMAT = "argonaut-audit-checkpoint/1"
SHORTEST_PASSPHRASE = 12


class AuditCheckpoint(SQLModel, table=True):
    """A checkpoint as it was made; the copy that counts is the one taken away."""

    __tablename__ = "audit_checkpoints"

    id: int | None = Field(default=None, primary_key=True)
    seq: int = Field(sa_column=Column(BigKey, nullable=False, index=True))
    hash: str = Field(max_length=64)
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    public_key: str
    signature: str


make_append_only(SQLModel.metadata.tables["audit_checkpoints"])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement that the chain had this head.

    Attributes:
        seq: Number of the last event.
        hash: Its hash, 64 hex digits.
        at: RFC 3339 domain time of signing.
        public_key: Raw Ed25519 public key, base64: tells keys apart, proves nothing by itself.
        signature: Ed25519 signature over `signed_bytes`, base64.
    """

    seq: int
    hash: str
    at: str
    public_key: str
    signature: str

    @property
    def signed_bytes(self) -> bytes:
        """What is signed: canonical JSON of format, number, hash and time."""
        return canonical_bytes({"format": FORMAT, "seq": self.seq, "hash": self.hash, "at": self.at})

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether the signature is of that key."""
        try:
            key.verify(base64.b64decode(self.signature, validate=True), self.signed_bytes)
        except (InvalidSignature, binascii.Error):
            return False
        return True

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "format": FORMAT,
            "seq": self.seq,
            "hash": self.hash,
            "at": self.at,
            "public_key": self.public_key,
            "signature": self.signature,
        }


def create_key(path: Path, passphrase: str) -> Ed25519PublicKey:
    """Make QA's signing key: `path` (PEM, encrypted, readable by its owner alone) and `path`.pub beside it.

    Raises:
        Conflict: The file is there already; a key is never overwritten.
        InvalidInput: The passphrase is too short.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise InvalidInput(f"The passphrase needs at least {SHORTEST_PASSPHRASE} characters.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(f"{path} is there already; a key is never overwritten. Choose another name.") from error
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    public = key.public_key()
    path.with_name(path.name + ".pub").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return public


def load_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """QA's signing key.

    Raises:
        InvalidInput: The file is no such key, or the passphrase is wrong.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase.encode())
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"{path} can't be opened as a signing key with this passphrase.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(f"{path} holds no Ed25519 key; make one with `argonaut audit key`.")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The public half, to verify with.

    Raises:
        InvalidInput: The file is no such key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} can't be read as a public key.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput(f"{path} holds no Ed25519 public key.")
    return key


def raw_public_key(key: Ed25519PublicKey) -> str:
    """The 32 bytes of a public key, base64."""
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def make_checkpoint(record: RecordSession, private_key: Ed25519PrivateKey) -> Checkpoint:
    """Sign the chain's present head and put the checkpoint on the record.

    Raises:
        Refused: Nothing has happened yet.
    """
    with record.act("audit.checkpointed") as act:
        head = record.exec(select(AuditHead)).one()
        if head.seq == 0:
            raise Refused("The audit trail is empty; there is nothing to sign.")
        at = record.clock.now()
        row = AuditCheckpoint(
            seq=head.seq,
            hash=head.hash,
            at=at,
            public_key=raw_public_key(private_key.public_key()),
            signature="",
        )
        row.signature = base64.b64encode(private_key.sign(_of_row(row).signed_bytes)).decode()
        record.add(row)
        act.detail.update(seq=row.seq, hash=row.hash)
        return _of_row(row)


def stored_checkpoints(record: RecordSession) -> Sequence[Checkpoint]:
    """All that were made here, oldest first."""
    rows = record.exec(select(AuditCheckpoint).order_by(col(AuditCheckpoint.id)))
    return [_of_row(row) for row in rows]


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write the file to take away; its name holds the event's number."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{checkpoint.seq:012d}.json"
    path.write_bytes(orjson.dumps(checkpoint.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint from its file.

    Raises:
        InvalidInput: The file is none.
    """
    try:
        content = orjson.loads(path.read_bytes())
        if content.pop("format") != FORMAT:
            raise InvalidInput(f"{path} is no checkpoint of a form known here ({FORMAT}).")
        checkpoint = Checkpoint(**content)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InvalidInput(f"{path} is no checkpoint file.") from error
    return checkpoint


def _of_row(row: AuditCheckpoint) -> Checkpoint:
    return Checkpoint(row.seq, row.hash, timestamp(row.at), row.public_key, row.signature)
