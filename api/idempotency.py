"""Acting once: an `Idempotency-Key` and the act it names are kept in the same transaction.

A POST that acts opens its transaction through `Acting.write`. The first statement claims the key; the last stores
the answer, if it has content. So a process that dies in between has done neither, and a retry finds either nothing
or the whole answer, which is then given again without acting. The same key with another request is a conflict.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import ClassVar

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from sqlalchemy import Column, LargeBinary, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, SQLModel

from traceability.acts import Actor
from traceability.canonical import sha256_hex
from traceability.clock import wall_now
from traceability.columns import UtcDateTime
from traceability.database import Database, RecordSession
from traceability.errors import Conflict, InvalidInput

MAX_KEY_LENGTH = 128


class IdempotencyKey(SQLModel, table=True):
    """A key, what was asked under it, and the answer once there is one."""

    __tablename__ = "idempotency_keys"
    __unaudited__: ClassVar[str] = "repeats the answer to an act that is itself on the trail"

    actor: str = Field(primary_key=True)
    key: str = Field(primary_key=True, max_length=MAX_KEY_LENGTH)
    request_sha256: str = Field(max_length=64)
    claimed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    status: int | None = None
    location: str | None = None
    etag: str | None = None
    body: bytes | None = Field(default=None, sa_column=Column(LargeBinary))


class KeyReused(Conflict):
    """The key was used for another request."""

    code = "idempotency_key_reused"


class Replay(Exception):
    """The act was done before under this key; the stored answer is to be given again."""

    def __init__(self, response: Response) -> None:
        super().__init__("replayed")
        self.response = response


class Acting:
    """One request that acts: its actor, its transaction, its answer.

    Args:
        database: The record.
        actor: Who acts.
        key: `Idempotency-Key`, or None where the request brought none.
        asked: Method and path, `POST /api/v1/runs`: what a refusal says was attempted where no act had begun.
        request_sha256: Hash over method, path, query, If-Match and body.
        if_match: Version that the request was based on, or None.
    """

    def __init__(
        self,
        database: Database,
        actor: Actor,
        key: str | None,
        asked: str,
        request_sha256: str,
        if_match: int | None,
    ) -> None:
        if key is not None and not (0 < len(key) <= MAX_KEY_LENGTH and key.isprintable()):
            raise InvalidInput(f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} printable characters.")
        self.database = database
        self.actor = actor
        self.if_match = if_match
        self._key = key
        self._asked = asked
        self._request_sha256 = request_sha256
        self._record: RecordSession | None = None

    def covers(self, *parts: str) -> None:
        """Let what the request brings besides its body make it the request that it is, too: a file by its hash."""
        self._request_sha256 = sha256_hex("\0".join([self._request_sha256, *parts]).encode())

    @contextmanager
    def write(self) -> Iterator[RecordSession]:
        """The request's one transaction.

        Raises:
            Replay: The act was done before; its answer goes out again.
            KeyReused: The key belongs to another request.
        """
        with self.database.write(self.actor, asked=self._asked) as record:
            if self._key is not None:
                self._claim(record, self._key)
            self._record = record
            yield record

    def answer(
        self,
        view: BaseModel,
        *,
        status: int = 200,
        location: str | None = None,
        version: int | None = None,
        kept: BaseModel | None = None,
    ) -> Response:
        """The answer, kept under the key in the same transaction. Called last inside `write`.

        Args:
            view: What to show.
            status: HTTP status.
            location: Path of what was made.
            version: Row version, sent as the ETag.
            kept: What a repeated request is shown instead, where `view` holds a secret that is kept nowhere.
        """
        body = view.model_dump_json().encode()
        etag = None if version is None else etag_of(version)
        if self._key is not None:
            if self._record is None:
                raise RuntimeError("answer() belongs inside write()")
            self._record.connection().execute(
                update(IdempotencyKey)
                .where(_columns.actor == self.actor.name, _columns.key == self._key)
                .values(status=status, location=location, etag=etag, body=(kept or view).model_dump_json().encode())
            )
        return _response(status, body, location, etag)

    def _claim(self, record: RecordSession, key: str) -> None:
        dialect = postgresql if record.dialect == "postgresql" else sqlite
        claim = dialect.insert(IdempotencyKey).values(
            actor=self.actor.name,
            key=key,
            request_sha256=self._request_sha256,
            claimed_at=wall_now(),
            status=HTTPStatus.NO_CONTENT,
        )
        # A second request under the key waits here until the first has committed or rolled back.
        if record.connection().execute(claim.on_conflict_do_nothing().returning(_columns.key)).first() is not None:
            return
        stored = record.connection().execute(
            select(_columns.request_sha256, _columns.status, _columns.body, _columns.location, _columns.etag).where(
                _columns.actor == self.actor.name, _columns.key == key
            )
        )
        sha256, status, body, location, etag = stored.one()
        if sha256 != self._request_sha256:
            raise KeyReused(
                f"The Idempotency-Key {key!r} was used for another request; use a fresh key for each act."
            )
        raise Replay(_response(status, body, location, etag, replayed=True))


_columns = SQLModel.metadata.tables["idempotency_keys"].c


def etag_of(version: int) -> str:
    """The ETag of a row version."""
    return f'"{version}"'


def version_of(if_match: str | None) -> int | None:
    """The row version in an `If-Match` header; None for no header or `*`.

    Raises:
        InvalidInput: It is not an ETag that this service gave out.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"If-Match {if_match} is not an ETag of this service; send the one you read.")
    return int(text)


def fingerprint(method: str, path: str, query: str, if_match: str | None, body: bytes) -> str:
    """What makes two requests the same request: SHA-256 as hex."""
    return sha256_hex(b"\0".join([method.encode(), path.encode(), query.encode(), (if_match or "").encode(), body]))


def forget_keys(database: Database, actor: Actor, older_than: datetime) -> int:
    """Remove keys claimed before a moment (real time); the answer is how many."""
    with database.write(actor) as record:
        return record.connection().execute(delete(IdempotencyKey).where(_columns.claimed_at < older_than)).rowcount


def add_replay_handler(app: FastAPI) -> None:
    """Let a replayed act answer as it did the first time."""

    @app.exception_handler(Replay)
    def on_replay(request: Request, replay: Replay) -> Response:
        return replay.response


def _response(
    status: int, body: bytes | None, location: str | None, etag: str | None, *, replayed: bool = False
) -> Response:
    headers = {"Location": location, "ETag": etag, "Idempotent-Replay": "true" if replayed else None}
    return Response(
        body or b"", status, {k: v for k, v in headers.items() if v is not None}, media_type="application/json"
    )
