"""Who is asking: browser sessions in a cookie, or a bearer secret of a session or a machine.

A session is opaque: the browser holds a random secret, the database its SHA-256. A cookie alone is not enough to
act: the request must come from our own origin and bring the session's synchroniser token as well. Users, passwords
and tokens of machines belong to `traceability.users`. Sessions live in real time.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar
from urllib.parse import urlsplit

import orjson
from fastapi import Request, Response
from sqlalchemy import Column, ForeignKey, Integer, delete, text
from sqlmodel import Field, SQLModel

from traceability.acts import Actor, Role, system_actor
from traceability.audit import SealedEvent
from traceability.canonical import sha256_hex
from traceability.clock import wall_now
from traceability.columns import UtcDateTime
from traceability.database import Database
from traceability.errors import RecordError
from traceability.tokens import TOKEN_PREFIX, token_actor
from traceability.users import TEMPORARY_SCOPES, sign_in, sign_out

COOKIE = "__Host-argonaut"
CSRF_HEADER = "X-CSRF-Token"
FRESH_S = 2.0
"""How long a reading request may rely on an identity found before, real time."""
_MOST_KNOWN = 1_000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DOOR = system_actor("sign-in")


class NotSignedIn(RecordError):
    """The request brings no valid session or token."""

    recorded = False


class ForeignOrigin(RecordError):
    """A request with a session cookie comes from another site or lacks the synchroniser token."""


class HttpSession(SQLModel, table=True):
    """A signed-in browser or script."""

    __tablename__ = "http_sessions"
    __unaudited__: ClassVar[str] = "sign-in and sign-out are on the trail themselves"

    secret_sha256: str = Field(primary_key=True, max_length=64)
    user_id: int = Field(sa_column=Column(Integer, ForeignKey("users.id"), nullable=False))
    csrf_token: str
    terminal: str
    expires_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A fresh session, with the secrets that only its owner gets."""

    actor: Actor
    secret: str
    csrf_token: str
    expires_at: datetime


_columns = SQLModel.metadata.tables["http_sessions"].c

_FIND = text(
    "SELECT u.id, u.name, u.full_name, u.roles, u.password_temporary, s.csrf_token, s.terminal, s.expires_at "
    "FROM http_sessions s JOIN users u ON u.id = s.user_id "
    "WHERE s.secret_sha256 = :secret AND u.active AND u.locked_at IS NULL"
).columns(expires_at=UtcDateTime)


def open_session(database: Database, name: str, password: str, terminal: str, hours: float) -> SignedIn:
    """Sign a person in.

    Raises:
        SignInRefused: Name or password is wrong, or the user is locked; the attempt is on the trail.
    """
    actor = sign_in(database, name, password, terminal)
    if actor.user_id is None:
        raise RuntimeError("only people sign in")
    signed_in = SignedIn(
        actor, secrets.token_urlsafe(32), secrets.token_urlsafe(24), wall_now() + timedelta(hours=hours)
    )
    with database.write(_DOOR) as record:
        record.add(
            HttpSession(
                secret_sha256=sha256_hex(signed_in.secret.encode()),
                user_id=actor.user_id,
                csrf_token=signed_in.csrf_token,
                terminal=terminal,
                expires_at=signed_in.expires_at,
            )
        )
    return signed_in


def close_session(database: Database, actor: Actor, secret: str) -> None:
    """Sign a person out: the secret is worth nothing from now on."""
    with database.write(_DOOR) as record:
        record.connection().execute(delete(HttpSession).where(_columns.secret_sha256 == sha256_hex(secret.encode())))
    sign_out(database, actor)


def close_sessions_of(database: Database, user_id: int) -> None:
    """End every session of a person: after a change of password, roles or state."""
    with database.write(_DOOR) as record:
        record.connection().execute(delete(HttpSession).where(_columns.user_id == user_id))


def forget_sessions(database: Database) -> None:
    """Remove sessions that have expired."""
    with database.write(_DOOR) as record:
        record.connection().execute(delete(HttpSession).where(_columns.expires_at < wall_now()))


def actor_of_request(database: Database, request: Request) -> Actor:
    """Who sends this request.

    Raises:
        NotSignedIn: No valid session or token came with it.
        ForeignOrigin: A cookie came with it, but not from our own page.
        SignInRefused: The bearer secret is not valid.
    """
    terminal = terminal_of(request)
    authorization = request.headers.get("authorization", "")
    if authorization:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise NotSignedIn("Only bearer tokens are understood; sign in or send Authorization: Bearer ….")
        if found := _session(database, secret):
            return found[0]
        if not secret.startswith(TOKEN_PREFIX):
            # A script goes on asking with the session it had: that is no attempt on a token.
            raise NotSignedIn("The session has ended; sign in and send the request again.")
        return token_actor(database, secret, terminal)
    secret = request.cookies.get(COOKIE, "")
    found = _session(database, secret) if secret else None
    if found is None:
        raise NotSignedIn("You are not signed in, or the session has ended; sign in and send the request again.")
    actor, csrf_token = found
    if request.method not in SAFE_METHODS:
        _require_own_origin(request, csrf_token)
    return actor


class Identities:
    """Who reads, remembered for a moment: a page that polls ten times a second is not looked up each time.

    Only requests that change nothing are answered from here. A sign-out, a lock, a change of a user or token in
    this process forgets everybody at once; one in another process counts after `FRESH_S`.

    Args:
        database: Where sessions, users and tokens are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, str, str], tuple[float, Actor]] = {}
        database.publisher.subscribe(self._forget)

    def recent(self, request: Request) -> Actor | None:
        """Who sends this reading request, if that was found out a moment ago."""
        if request.method not in SAFE_METHODS:
            return None
        known = self._known.get(_shown(request))
        return known[1] if known is not None and time.monotonic() - known[0] < FRESH_S else None

    def find(self, request: Request) -> Actor:
        """Who sends this request, from the database; see `actor_of_request`."""
        if len(self._known) >= _MOST_KNOWN:
            self._known = {}
        # Taken before the look-up: what is found while everybody is forgotten is forgotten as well.
        known, asked_at = self._known, time.monotonic()
        actor = actor_of_request(self._database, request)
        known[_shown(request)] = (asked_at, actor)
        return actor

    def _forget(self, events: Sequence[SealedEvent]) -> None:
        if any(event.kind.startswith(("user.", "token.")) for event in events):
            self._known = {}


def _shown(request: Request) -> tuple[str, str, str]:
    """What a request shows of its sender."""
    return request.headers.get("authorization", ""), request.cookies.get(COOKIE, ""), terminal_of(request)


def secret_of(request: Request) -> str:
    """The secret that the request showed; empty if none."""
    _, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret or request.cookies.get(COOKIE, "")


def terminal_of(request: Request) -> str:
    """Where the request comes from: its address."""
    return request.client.host if request.client else ""


def set_cookie(response: Response, signed_in: SignedIn) -> None:
    """Let the browser keep the session; no script can read it, and no other site makes it be sent."""
    response.set_cookie(
        COOKIE,
        signed_in.secret,
        expires=signed_in.expires_at,
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )


def clear_cookie(response: Response) -> None:
    """Let the browser forget the session."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


def _session(database: Database, secret: str) -> tuple[Actor, str] | None:
    with database.connect() as connection:
        row = connection.execute(_FIND, {"secret": sha256_hex(secret.encode())}).first()
    if row is None or row.expires_at <= wall_now():
        return None
    roles = frozenset(Role(role) for role in orjson.loads(row.roles))
    scopes = TEMPORARY_SCOPES if row.password_temporary else None
    return Actor(row.name, row.id, row.full_name, roles, row.terminal, scopes), row.csrf_token


def _require_own_origin(request: Request, csrf_token: str) -> None:
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise ForeignOrigin(f"This request comes from {origin}, which is not this service.")
    if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token.encode()):
        raise ForeignOrigin(f"The header {CSRF_HEADER} is missing or old; reload the page and try again.")
