"""Raw files, put in and taken out by the hash of their content: streamed, never whole in memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Annotated, BinaryIO, cast

import anyio
import anyio.from_thread
from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.dependencies import CurrentActor, Served
from api.views import streamed
from traceability.errors import Finding, InvalidInput

router = APIRouter(tags=["blobs"])

LARGEST_BYTES = 1 << 30
"""What no setting allows to exceed; the limit that counts is `max_upload_mb`."""
_CHUNK = 1 << 20

Sha256 = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the content, 64 lower-case hex digits.")
]


class WrongHash(InvalidInput):
    """The content is not what its name says; nothing of it was kept."""


class BlobView(BaseModel):
    """A file in the store."""

    sha256: str
    size: int


@router.put(
    "/blobs/{sha256}",
    status_code=201,
    max_body_size=LARGEST_BYTES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_blob(sha256: Sha256, request: Request, service: Served, actor: CurrentActor) -> BlobView:
    """Upload a file. The same file again changes nothing; one that does not fit its hash is refused."""
    service.database.acts.require(actor, "result.received")
    limit = service.settings.max_upload_mb << 20
    require_size(request, limit)
    body = _Body(request.stream(), sha256, limit)
    stored = await run_in_threadpool(service.attachments.put, cast("BinaryIO", body))
    return BlobView(sha256=stored.sha256, size=stored.size)


@router.get("/blobs/{sha256}", response_class=StreamingResponse, responses=streamed("application/octet-stream"))
def get_blob(sha256: Sha256, service: Served, actor: CurrentActor) -> Response:
    """Download a file."""
    file = service.attachments.open(sha256)

    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := file.read(_CHUNK):
                yield chunk

    return StreamingResponse(
        chunks(),
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="{sha256}"', "etag": f'"{sha256}"'},
    )


class _Body:
    """A request's body as a stream that a thread reads: each read waits for the next chunk of the network."""

    def __init__(self, chunks: AsyncIterator[bytes], sha256: str, limit: int) -> None:
        self._chunks = chunks
        self._sha256 = sha256
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()

    def read(self, _: int = -1) -> bytes:
        """The next chunk; empty at the end, when the hash has been found right.

        Raises:
            WrongHash: The content is another one.
            HTTPException: It is too large.
        """
        chunk = anyio.from_thread.run(self._next)
        self._size += len(chunk)
        if self._size > self._limit:
            raise _too_large(self._limit)
        self._digest.update(chunk)
        if not chunk and self._digest.hexdigest() != self._sha256:
            found = self._digest.hexdigest()
            finding = Finding("wrong_hash", f"The content hashes to {found}.", "Send the file again.", "sha256")
            raise WrongHash("The content does not fit its hash; nothing was kept.", [finding])
        return chunk

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""


def require_size(request: Request, limit: int) -> None:
    """Refuse a file that says it is too large, before any of it is read.

    Raises:
        HTTPException: It is larger than `limit` bytes.
    """
    if int(request.headers.get("content-length", "0") or 0) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The file is larger than {limit >> 20} MB, which is the limit (ARGONAUT_MAX_UPLOAD_MB); nothing was kept.",
    )
