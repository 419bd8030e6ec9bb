"""People and machines that may act."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlmodel import col, select

from api.auth import close_sessions_of
from api.dependencies import Act, CurrentActor, Served, needs_version, require_role
from api.idempotency import etag_of
from api.pages import Cursor, Limit, Page, page_of
from api.views import Reason
from traceability import tokens, users
from traceability.acts import Role
from traceability.clock import wall_now
from traceability.users import User

router = APIRouter(tags=["users"])


class NewUser(BaseModel):
    """A person to add. The password is temporary: the person changes it at the first sign-in."""

    name: str = Field(examples=["olga"])
    full_name: str = Field(examples=["Olga Petrova"])
    password: str = Field(max_length=256)
    roles: list[Role]
    trained_for: list[str] = Field([], description="Equipment classes the person may run.")


class UserChange(BaseModel):
    """What is to change; what is left out stays."""

    full_name: str | None = None
    roles: list[Role] | None = None
    trained_for: list[str] | None = None
    reason: str = Field(min_length=3)


class UserView(BaseModel):
    """A person."""

    name: str
    full_name: str
    roles: list[Role]
    trained_for: list[str]
    active: bool
    locked: bool
    version: int

    @classmethod
    def of(cls, user: User) -> UserView:
        """What is shown of a user."""
        return cls(
            name=user.name,
            full_name=user.full_name,
            roles=[Role(role) for role in user.roles],
            trained_for=user.trained_for,
            active=user.active,
            locked=user.locked_at is not None,
            version=user.version,
        )


class NewToken(BaseModel):
    """A token for a machine."""

    name: str = Field(examples=["press-dashboard"])
    roles: list[Role]
    scopes: list[str] = Field(description="Patterns of acts it may perform, e.g. `lot.*`; empty for reading only.")
    days: int = Field(90, ge=1, le=366)


class TokenView(BaseModel):
    """A token. Its secret is shown once and kept nowhere."""

    name: str
    roles: list[Role]
    scopes: list[str]
    expires_at: datetime
    secret: str


@router.get("/users")
def list_users(service: Served, actor: CurrentActor, cursor: Cursor = None, limit: Limit = 50) -> Page[UserView]:
    """Everybody who may or might act."""
    require_role(actor, Role.ADMIN, Role.QA, what="the list of users")
    with service.database.read() as record:
        return page_of(record, select(User), col(User.id), UserView.of, cursor=cursor, limit=limit)


@router.post("/users", status_code=201, response_model=UserView)
def add_user(body: NewUser, act: Act) -> Response:
    """Add a person."""
    with act.write() as record:
        user = users.create_user(
            record,
            name=body.name,
            full_name=body.full_name,
            password=body.password,
            roles=body.roles,
            trained_for=body.trained_for,
        )
        return act.answer(UserView.of(user), status=201, location=f"/api/v1/users/{user.name}", version=user.version)


@router.get("/users/{name}")
def show_user(name: str, service: Served, actor: CurrentActor, response: Response) -> UserView:
    """One person."""
    if actor.name != name:
        require_role(actor, Role.ADMIN, Role.QA, what="other users")
    with service.database.read() as record:
        user = users.find_user(record, name)
    response.headers["ETag"] = etag_of(user.version)
    return UserView.of(user)


@router.patch("/users/{name}", response_model=UserView)
def change_user(name: str, body: UserChange, act: Act) -> Response:
    """Change a person's roles, training or printed name."""
    with act.write() as record:
        user = users.change_user(
            record,
            name,
            roles=body.roles,
            trained_for=body.trained_for,
            full_name=body.full_name,
            reason=body.reason,
            expected_version=needs_version(act),
        )
        return act.answer(UserView.of(user), version=user.version)


@router.post("/users/{name}:deactivate", response_model=UserView)
def deactivate_user(name: str, body: Reason, act: Act) -> Response:
    """Take all rights from a person for good. Users are never deleted, and their names never reused."""
    with act.write() as record:
        user = users.deactivate_user(record, name, reason=body.reason, expected_version=act.if_match)
        answer = act.answer(UserView.of(user), version=user.version)
    if user.id is not None:
        close_sessions_of(act.database, user.id)
    return answer


@router.post("/users/{name}:unlock", response_model=UserView)
def unlock_user(name: str, body: Reason, act: Act) -> Response:
    """Unlock a person who failed to sign in too often."""
    with act.write() as record:
        user = users.unlock_user(record, name, reason=body.reason, expected_version=act.if_match)
        return act.answer(UserView.of(user), version=user.version)


@router.post("/tokens", status_code=201, response_model=TokenView)
def issue_token(body: NewToken, act: Act) -> Response:
    """Issue a token for a machine."""
    with act.write() as record:
        token, secret = tokens.issue_token(
            record,
            name=body.name,
            roles=body.roles,
            scopes=body.scopes,
            expires_at=wall_now() + timedelta(days=body.days),
        )
        view = TokenView(
            name=token.name,
            roles=[Role(role) for role in token.roles],
            scopes=token.scopes,
            expires_at=token.expires_at,
            secret=secret,
        )
        return act.answer(view, status=201, kept=view.model_copy(update={"secret": ""}))


@router.post("/tokens/{name}:revoke", status_code=204)
def revoke_token(name: str, body: Reason, act: Act) -> None:
    """Make a token worthless."""
    with act.write() as record:
        tokens.revoke_token(record, name, reason=body.reason)
