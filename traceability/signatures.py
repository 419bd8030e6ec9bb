"""Electronic signatures: who signed what content, when and meaning what; bound to the content by its SHA-256.

A person opens a signing session with both components, name and password; the proof covers one signature, and each
further one takes the password again. What the content is and who must sign it is known to the callers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column, ForeignKey, Integer
from sqlmodel import Field, SQLModel, col, select

from traceability.acts import Actor
from traceability.append_only import make_append_only
from traceability.canonical import sha256_hex
from traceability.clock import wall_now
from traceability.columns import UtcDateTime
from traceability.database import Database, RecordSession
from traceability.errors import Finding, InvalidInput, SignatureRefused, SignInRefused
from traceability.users import Proof, User, authenticate

LIFETIME_S = 600.0

_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class Meaning(StrEnum):
    """What a signature says."""

    AUTHORED = "authored"
    REVIEWED = "reviewed"
    APPROVED = "approved"
    RELEASED = "released"
    WITNESSED = "witnessed"
    DISPOSED = "disposed"
    WITHDRAWN = "withdrawn"


class Signature(SQLModel, table=True):
    """A signature as given. The database refuses to change it.

    Attributes:
        name: User name of who signed.
        printed_name: Full name at that time.
        meaning: One of `Meaning`, or another single word.
        subject: What was signed, for people: `recipe lialo2-200nm version 3`, a hold, a serial.
        content_sha256: SHA-256 of the signed content, 64 hex digits.
        signed_at: Domain time.
        wall_at: Real time.
    """

    __tablename__ = "signatures"

    id: int | None = Field(default=None, primary_key=True)
    user_id: int = Field(sa_column=Column(Integer, ForeignKey("users.id"), nullable=False))
    name: str
    printed_name: str
    meaning: str
    subject: str = Field(index=True)
    content_sha256: str = Field(max_length=64, index=True)
    terminal: str = ""
    signed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    wall_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


make_append_only(SQLModel.metadata.tables["signatures"])


class SigningSession:
    """One person's continuous period of signing, in the memory of the process that it began in.

    Made by `open_signing`; it is good for one signature and then needs `confirm`.

    Attributes:
        user_id: Who signs.
        name: User name.
        printed_name: Full name.
    """

    def __init__(self, user: User, lifetime_s: float, monotonic: Callable[[], float]) -> None:
        if user.id is None:
            raise RuntimeError("the user is not stored yet")
        self.user_id = user.id
        self.name = user.name
        self.printed_name = user.full_name
        self._monotonic = monotonic
        self._ends_at = monotonic() + lifetime_s
        self._proved = True

    def __repr__(self) -> str:
        return f"SigningSession({self.name!r})"

    @property
    def expired(self) -> bool:
        """Whether both components are needed again."""
        return self._monotonic() >= self._ends_at

    def confirm(self, database: Database, password: str, terminal: str) -> None:
        """Prove the password again, for the next signature of the session.

        Raises:
            SignatureRefused: The session has expired, or the password is wrong; that is on the trail and counts.
        """
        if self.expired:
            raise SignatureRefused("The signing session has expired; give name and password again.")
        _prove(database, self.name, password, terminal, "signature.confirmed")
        self._proved = True

    def spend(self) -> None:
        """Use the proof up for one signature.

        Raises:
            SignatureRefused: It is used up already, or the session has expired.
        """
        if self.expired:
            raise SignatureRefused("The signing session has expired; give name and password again.")
        if not self._proved:
            raise SignatureRefused("Each signature needs the password; give it again.")
        self._proved = False


def open_signing(
    database: Database,
    actor: Actor,
    name: str,
    password: str,
    *,
    lifetime_s: float = LIFETIME_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> SigningSession:
    """Begin to sign, by both components.

    Args:
        database: Where users are kept; runs in transactions of its own.
        actor: Who is signed in; nobody signs for somebody else.
        name: User name, typed again.
        password: The password.
        lifetime_s: Real seconds after which both components are needed again.
        monotonic: Real time in seconds.

    Raises:
        SignatureRefused: Another person's name, a wrong password, or a password that is still the temporary one.
            It is on the trail, and a wrong password counts towards locking.
    """
    if name != actor.name or actor.user_id is None:
        raise _refuse(database, actor, f"{actor.name} is signed in and can't sign as {name}.")
    user = _prove(database, name, password, actor.terminal, "signature.session_opened")
    if user.password_temporary:
        raise _refuse(database, actor, "Somebody else knows this password; change it before you sign.")
    return SigningSession(user, lifetime_s, monotonic)


def sign(
    record: RecordSession,
    signing: SigningSession,
    *,
    meaning: str,
    subject: str,
    content: bytes | str,
) -> Signature:
    """Sign content, in the transaction of the act that the signature is for.

    The proof is used up even if that transaction fails.

    Args:
        record: Open write session of the signer.
        signing: The signer's session.
        meaning: One of `Meaning`, or another single word.
        subject: What is signed, for people.
        content: The bytes that are signed, or their SHA-256 as 64 hex digits.

    Raises:
        SignatureRefused: The session is somebody else's, expired or used up, or the user can't sign any more.
        InvalidInput: Meaning or subject is missing, or `content` is text but no SHA-256.
    """
    with record.act("signature.given", subject) as act:
        if not meaning or not subject:
            raise InvalidInput("A signature needs a meaning and a subject.")
        digest = _digest(content)
        if record.actor.user_id != signing.user_id or record.actor.name != signing.name:
            raise SignatureRefused(f"{record.actor.name} can't use the signature of {signing.name}.")
        user = record.get(User, signing.user_id, with_for_update=True, populate_existing=True)
        if user is None or not user.active or user.locked_at is not None:
            raise SignatureRefused(f"The user {signing.name} is locked or deactivated and can't sign.")
        signing.spend()
        signature = Signature(
            user_id=signing.user_id,
            name=signing.name,
            printed_name=user.full_name,
            meaning=meaning,
            subject=subject,
            content_sha256=digest,
            terminal=record.actor.terminal,
            signed_at=record.clock.now(),
            wall_at=wall_now(),
        )
        record.add(signature)
        act.detail.update(meaning=meaning, printed_name=user.full_name, content_sha256=digest, signer=user.name)
    return signature


def require_second_person(signing: SigningSession, *others: str) -> None:
    """Refuse a signature by somebody who had a part in the thing already.

    Args:
        signing: Who is about to sign.
        others: User names of those who made, changed or signed it.

    Raises:
        SignatureRefused: It is the same person.
    """
    if signing.name in others:
        raise SignatureRefused(
            f"{signing.name} had a part in this; a second person must sign.",
            [Finding("second_person", "Two different people are asked.", "Ask a colleague to sign.", signing.name)],
        )


def signature_covers(signature: Signature, content: bytes | str) -> bool:
    """Whether the signature was given for exactly this content (bytes, or their SHA-256)."""
    return signature.content_sha256 == _digest(content)


def signatures_of(record: RecordSession, content: bytes | str) -> Sequence[Signature]:
    """All signatures given for exactly this content, in the order they were given."""
    return record.exec(
        select(Signature).where(Signature.content_sha256 == _digest(content)).order_by(col(Signature.id))
    ).all()


def _prove(database: Database, name: str, password: str, terminal: str, passed: str) -> User:
    try:
        return authenticate(database, name, password, terminal, Proof(passed, "signature.failed"))
    except SignInRefused as error:
        raise SignatureRefused(f"Not signed. {error.message}") from error


def _refuse(database: Database, actor: Actor, message: str) -> SignatureRefused:
    refusal = SignatureRefused(message)
    database.record_refusal(actor, "signature.given", [f"user:{actor.name}"], refusal)
    return refusal


def _digest(content: bytes | str) -> str:
    if isinstance(content, bytes):
        return sha256_hex(content)
    if not _SHA256.match(content):
        raise InvalidInput("the content to sign must be bytes or a SHA-256 of 64 lower-case hex digits.")
    return content
