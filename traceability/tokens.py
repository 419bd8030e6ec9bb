"""Tokens: what machines show instead of a password, limited to certain acts and to a time.

A token acts under its own name and can't sign. Only the SHA-256 of its secret is stored.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary
from sqlmodel import Field, SQLModel, select

from traceability.acts import Actor, Role
from traceability.clock import wall_now
from traceability.columns import CanonicalJson, UtcDateTime
from traceability.database import Database, RecordSession
from traceability.errors import Conflict, InvalidInput, NotFound, SignInRefused
from traceability.users import DOOR, NAME, role_names

TOKEN_PREFIX = "argonaut_"
"""How the secret of every token begins; those of sessions don't."""


class ApiToken(SQLModel, table=True):
    """What a machine shows instead of a password.

    Attributes:
        name: Unique for ever, like a user's.
        secret_hash: SHA-256 of the secret, which has 256 random bits and needs no salt.
        scopes: Patterns of act kinds that it is limited to (`lot.*`).
        expires_at: Real time, as all that guards the door.
    """

    __tablename__ = "api_tokens"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    secret_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    roles: list[str] = Field(default_factory=list, sa_column=Column(CanonicalJson, nullable=False))
    scopes: list[str] = Field(default_factory=list, sa_column=Column(CanonicalJson, nullable=False))
    issued_by: int | None = Field(default=None, sa_column=Column(Integer, ForeignKey("users.id")))
    expires_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


def issue_token(
    record: RecordSession,
    *,
    name: str,
    roles: Iterable[Role],
    scopes: Sequence[str],
    expires_at: datetime,
) -> tuple[ApiToken, str]:
    """Make a token for a machine.

    Args:
        record: Open write session.
        name: Same shape as a user's.
        roles: What the machine is.
        scopes: Patterns of act kinds that it may perform; at least one.
        expires_at: Real time.

    Returns:
        The row, and the secret, which is shown this once and kept nowhere.

    Raises:
        InvalidInput: No scope, or it would be expired already.
        Conflict: The name is or was another token's.
    """
    with record.act("token.issued", f"token:{name}"):
        if not NAME.match(name):
            raise InvalidInput(
                f"{name!r} can't be a token's name; use 2 to 32 lower-case letters, digits, dots or dashes."
            )
        if not scopes:
            raise InvalidInput("A token needs at least one scope, such as `measurement.*`.")
        if expires_at <= wall_now():
            raise InvalidInput("The token would have expired already; choose a later time.")
        if record.exec(select(ApiToken).where(ApiToken.name == name)).first() is not None:
            raise Conflict(f"There is or was a token {name}, and names are never reused. Choose another.")
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        token = ApiToken(
            name=name,
            secret_hash=_secret_hash(secret),
            roles=role_names(roles),
            scopes=list(scopes),
            issued_by=record.actor.user_id,
            expires_at=expires_at,
        )
        record.add(token)
    return token, secret


def revoke_token(record: RecordSession, name: str, *, reason: str) -> ApiToken:
    """Make a token worthless at once. Doing it twice changes nothing.

    Raises:
        NotFound: There is none of that name.
    """
    with record.act("token.revoked", f"token:{name}", reason=reason):
        token = record.exec(select(ApiToken).where(ApiToken.name == name)).first()
        if token is None:
            raise NotFound(f"There is no token {name!r}.")
        token.revoked_at = token.revoked_at or record.clock.now()
        record.add(token)
    return token


def token_actor(database: Database, secret: str, terminal: str, *, now: datetime | None = None) -> Actor:
    """Who acts with a token.

    Args:
        database: Where tokens are kept.
        secret: What the machine showed.
        terminal: Where it is.
        now: Real time.

    Raises:
        SignInRefused: The secret is unknown, expired or revoked; the attempt is on the trail.
    """
    with database.read() as record:
        token = record.exec(select(ApiToken).where(ApiToken.secret_hash == _secret_hash(secret))).first()
    if token is not None and token.revoked_at is None and (now or wall_now()) < token.expires_at:
        return Actor(
            name=f"token:{token.name}",
            full_name=token.name,
            roles=frozenset(Role(role) for role in token.roles),
            terminal=terminal,
            scopes=tuple(token.scopes),
        )
    cause = "unknown" if token is None else "revoked" if token.revoked_at is not None else "expired"
    items = [f"token:{token.name}"] if token else []
    door = replace(DOOR, terminal=terminal)
    with database.write(door) as record, record.act("token.refused", *items, detail={"cause": cause}):
        pass
    raise SignInRefused("The token is unknown, expired or revoked.")


def _secret_hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
