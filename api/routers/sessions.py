"""Signing in and out."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.auth import (
    clear_cookie,
    close_session,
    close_sessions_of,
    open_session,
    secret_of,
    set_cookie,
    terminal_of,
)
from api.dependencies import CurrentActor, Served
from traceability.acts import Actor, Role
from traceability.users import change_password

router = APIRouter(tags=["sessions"])


class Credentials(BaseModel):
    """Both components of an identity."""

    name: str = Field(max_length=64, examples=["olga"])
    password: str = Field(max_length=256)


class NewPassword(BaseModel):
    """A change of one's own password."""

    current: str = Field(max_length=256)
    new: str = Field(max_length=256)


class ActorView(BaseModel):
    """Who is signed in."""

    name: str = Field(examples=["olga"])
    full_name: str = Field(examples=["Olga Petrova"])
    roles: list[Role]
    scopes: list[str] | None = Field(None, description="Acts that a token is limited to; null for no limit.")

    @classmethod
    def of(cls, actor: Actor) -> ActorView:
        """What is shown of an actor."""
        scopes = None if actor.scopes is None else list(actor.scopes)
        return cls(name=actor.name, full_name=actor.full_name, roles=sorted(actor.roles), scopes=scopes)


class SessionView(BaseModel):
    """A fresh session. Browsers keep the cookie that comes with it; scripts send `token` as a bearer token."""

    actor: ActorView
    token: str
    csrf_token: str = Field(description="Sent as X-CSRF-Token with every request that acts by cookie.")
    expires_at: datetime


@router.post("/sessions", status_code=201, openapi_extra={"security": []})
def sign_in(credentials: Credentials, request: Request, response: Response, service: Served) -> SessionView:
    """Sign in. Five failures in a row lock the user; every attempt is on the record."""
    terminal = terminal_of(request)
    service.sign_in_limit.take(terminal)
    signed_in = open_session(
        service.database, credentials.name, credentials.password, terminal, service.settings.session_hours
    )
    set_cookie(response, signed_in)
    return SessionView(
        actor=ActorView.of(signed_in.actor),
        token=signed_in.secret,
        csrf_token=signed_in.csrf_token,
        expires_at=signed_in.expires_at,
    )


@router.get("/sessions/current")
def who_am_i(actor: CurrentActor) -> ActorView:
    """Who is signed in, with which rights."""
    return ActorView.of(actor)


@router.delete("/sessions/current", status_code=204)
def sign_out(actor: CurrentActor, request: Request, response: Response, service: Served) -> None:
    """Sign out; the session is worth nothing from now on."""
    close_session(service.database, actor, secret_of(request))
    clear_cookie(response)


@router.post("/sessions/current:change-password", status_code=204)
def change_own_password(body: NewPassword, actor: CurrentActor, response: Response, service: Served) -> None:
    """Change one's own password. All sessions end; sign in with the new one."""
    changed = change_password(service.database, actor, current=body.current, new=body.new)
    if changed.user_id is not None:
        close_sessions_of(service.database, changed.user_id)
    clear_cookie(response)
