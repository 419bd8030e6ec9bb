"""What routes ask for: the service, who is asking, and the one transaction of a request that acts."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request
from starlette.concurrency import run_in_threadpool

from api.idempotency import Acting, fingerprint, version_of
from api.service import Service
from traceability.acts import Actor, Role
from traceability.errors import Finding, InvalidInput, NotPermitted


async def service_of(request: Request) -> Service:
    """The service that this application serves. Waits for nothing: `async` keeps it from taking a thread."""
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]


async def current_actor(request: Request, service: Served) -> Actor:
    """Who is asking; every route but sign-in, health and the published documents needs to know."""
    recent = service.identities.recent(request)
    # Not among the few threads that renew leases: whoever floods us with sign-ins must not keep those waiting.
    return recent if recent is not None else await run_in_threadpool(service.identities.find, request)


CurrentActor = Annotated[Actor, Depends(current_actor)]


async def acting(
    request: Request,
    service: Served,
    actor: CurrentActor,
    idempotency_key: Annotated[
        str | None,
        Header(description="Unique for each act. A repeated request with the same key acts once."),
    ] = None,
    if_match: Annotated[
        str | None, Header(description="ETag of the version that the request is based on; stale ones are refused.")
    ] = None,
) -> Acting:
    """A request that acts once."""
    sha256 = fingerprint(request.method, request.url.path, request.url.query, if_match, await request.body())
    return Acting(service.database, actor, idempotency_key, _asked(request), sha256, version_of(if_match))


Act = Annotated[Acting, Depends(acting)]


async def acting_with_file(
    request: Request,
    service: Served,
    actor: CurrentActor,
    idempotency_key: Annotated[str | None, Header(description="Unique for each act.")] = None,
) -> Acting:
    """A request that acts once and brings a file, which is not read here: the route calls `Acting.covers`."""
    sha256 = fingerprint(request.method, request.url.path, request.url.query, None, b"")
    return Acting(service.database, actor, idempotency_key, _asked(request), sha256, None)


ActWithFile = Annotated[Acting, Depends(acting_with_file)]


def _asked(request: Request) -> str:
    return f"{request.method} {request.url.path}"


def needs_version(act: Acting) -> int:
    """The version that a change is based on.

    Raises:
        InvalidInput: The request brought no If-Match.
    """
    if act.if_match is None:
        raise InvalidInput(
            "This change needs If-Match.",
            [
                Finding(
                    "if_match_missing",
                    "The header If-Match is missing.",
                    "Read the thing, and send its ETag as If-Match with the change.",
                    "header.if-match",
                )
            ],
        )
    return act.if_match


def require_role(actor: Actor, *roles: Role, what: str) -> None:
    """Let only people with one of the roles read something.

    Raises:
        NotPermitted: The actor has none of them.
    """
    if not (actor.system or actor.roles & set(roles)):
        names = ", ".join(sorted(roles))
        raise NotPermitted(
            f"{actor.name} may not see {what}.",
            [Finding("role_missing", f"{what} is for: {names}.", "Ask somebody with that role.")],
        )
