"""People who act: who they are, what they may do, and how they prove it.

Users are never deleted and their names never given to somebody else: a name on the trail means one person for
ever. The password's hash is a byte column, of which the audit trail keeps only a SHA-256: it proves that it was not
exchanged and reveals nothing. Machines have `tokens`; HTTP sessions are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel, col, select

from traceability.acts import Actor, Role, system_actor
from traceability.columns import CanonicalJson, UtcDateTime
from traceability.database import Database, RecordSession
from traceability.errors import Conflict, Finding, InvalidInput, NotFound, Refused, SignInRefused, StaleVersion
from traceability.passwords import hash_password, password_fits, require_good_password

FAILURES_TO_LOCK = 5
TEMPORARY_SCOPES = ("user.password_changed", "user.signed_out")
"""All that somebody may do whose password is still the temporary one."""

NAME = re.compile(r"^[a-z][a-z0-9._-]{1,31}$")
DOOR = system_actor("sign-in")


class User(SQLModel, table=True):
    """A person.

    Attributes:
        name: Signs in with it; lower case, unique for ever.
        full_name: Printed on signatures.
        password_temporary: Somebody else knows the password; it must be changed before anything else.
        failures: Wrong passwords since the last right one.
        locked_at: Domain time of the fifth failure; None if not locked.
        trained_for: Equipment classes the person may run.
    """

    __tablename__ = "users"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    full_name: str
    password_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    password_temporary: bool = True
    roles: list[str] = Field(default_factory=list, sa_column=Column(CanonicalJson, nullable=False))
    trained_for: list[str] = Field(default_factory=list, sa_column=Column(CanonicalJson, nullable=False))
    active: bool = True
    failures: int = 0
    locked_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    version: int = 1


@dataclass(frozen=True, slots=True)
class Proof:
    """What a person proves an identity for: the kinds of event to leave when it passed and when it failed."""

    passed: str
    failed: str


def actor_of(user: User, terminal: str) -> Actor:
    """The user as who acts from a terminal.

    Somebody whose password is still the temporary one can do nothing but change it, or leave.
    """
    return Actor(
        name=user.name,
        user_id=user.id,
        full_name=user.full_name,
        roles=frozenset(Role(role) for role in user.roles),
        terminal=terminal,
        scopes=TEMPORARY_SCOPES if user.password_temporary else None,
    )


def find_user(record: RecordSession, name: str) -> User:
    """The user of that name.

    Raises:
        NotFound: There is none.
    """
    user = _user(record, name)
    if user is None:
        raise NotFound(f"There is no user {name!r}.")
    return user


def create_user(
    record: RecordSession,
    *,
    name: str,
    full_name: str,
    password: str,
    roles: Iterable[Role],
    trained_for: Iterable[str] = (),
    temporary: bool = True,
) -> User:
    """Add a person.

    Args:
        record: Open write session.
        name: 2 to 32 lower-case letters, digits, dots, dashes or underscores.
        full_name: Printed on signatures.
        password: The first one.
        roles: At least one.
        trained_for: Equipment classes.
        temporary: Who creates the user knows the password, so its owner must change it first of all.

    Raises:
        InvalidInput: The name has another shape, there is no role, or the password is weak.
        Conflict: The name is or was somebody's.
    """
    with record.act("user.created", f"user:{name}"):
        if not NAME.match(name):
            raise InvalidInput(
                f"{name!r} can't be a user name; use 2 to 32 lower-case letters, digits, dots or dashes."
            )
        if not full_name.strip():
            raise InvalidInput("A user needs a full name; it is printed on signatures.")
        if _user(record, name) is not None:
            raise Conflict(f"The name {name} is or was somebody's, and names are never reused. Choose another.")
        require_good_password(password, name=name, full_name=full_name)
        user = User(
            name=name,
            full_name=full_name.strip(),
            password_hash=hash_password(password),
            password_temporary=temporary,
            roles=role_names(roles),
            trained_for=sorted(set(trained_for)),
            created_at=record.clock.now(),
        )
        record.add(user)
    return user


def change_user(
    record: RecordSession,
    name: str,
    *,
    roles: Iterable[Role] | None = None,
    trained_for: Iterable[str] | None = None,
    full_name: str | None = None,
    reason: str,
    expected_version: int | None = None,
) -> User:
    """Change what a person may do, was trained for, or is called; None leaves it as it is.

    Raises:
        StaleVersion: The user was changed since it was read.
        Refused: It would leave no administrator.
    """
    with record.act("user.changed", f"user:{name}", reason=reason):
        user = _locked_row(record, name, expected_version)
        if roles is not None:
            user.roles = role_names(roles)
        if trained_for is not None:
            user.trained_for = sorted(set(trained_for))
        if full_name is not None:
            user.full_name = full_name
        _store(record, user)
        _require_an_admin(record)
    return user


def deactivate_user(record: RecordSession, name: str, *, reason: str, expected_version: int | None = None) -> User:
    """Shut a person out for good; the name stays taken.

    Raises:
        Refused: It would leave no administrator.
    """
    with record.act("user.deactivated", f"user:{name}", reason=reason):
        user = _locked_row(record, name, expected_version)
        user.active = False
        _store(record, user)
        _require_an_admin(record)
    return user


def unlock_user(record: RecordSession, name: str, *, reason: str, expected_version: int | None = None) -> User:
    """Let a person try again after too many wrong passwords."""
    with record.act("user.unlocked", f"user:{name}", reason=reason):
        user = _locked_row(record, name, expected_version)
        user.failures, user.locked_at = 0, None
        _store(record, user)
    return user


def reset_password(record: RecordSession, name: str, *, temporary_password: str, reason: str) -> User:
    """Give a person who forgot the password a temporary one, with which nothing but changing it is possible."""
    with record.act("user.changed", f"user:{name}", reason=reason, detail={"password": "reset"}):
        user = _locked_row(record, name, None)
        require_good_password(temporary_password, name=user.name, full_name=user.full_name)
        user.password_hash, user.password_temporary = hash_password(temporary_password), True
        _store(record, user)
    return user


def change_password(database: Database, actor: Actor, *, current: str, new: str) -> Actor:
    """Change one's own password; nobody can do it for somebody else.

    Returns:
        The actor with the rights that the new password gives.

    Raises:
        SignInRefused: The current password is wrong; it counts towards locking.
        InvalidInput: The new password is weak or the current one.
    """
    proof = Proof("user.password_confirmed", "user.password_refused")
    authenticate(database, actor.name, current, actor.terminal, proof)
    with database.write(actor) as record, record.act("user.password_changed", f"user:{actor.name}"):
        user = _locked_row(record, actor.name, None)
        require_good_password(new, name=user.name, full_name=user.full_name)
        if new == current:
            raise InvalidInput("The new password is the current one; choose another.")
        user.password_hash, user.password_temporary = hash_password(new), False
        _store(record, user)
        return actor_of(user, actor.terminal)


def sign_in(database: Database, name: str, password: str, terminal: str) -> Actor:
    """Let a person in by name and password.

    Runs in transactions of its own, so that a failure is on the trail too.

    Raises:
        SignInRefused: Name or password is wrong, or the user is locked or deactivated.
    """
    user = authenticate(database, name, password, terminal, Proof("user.signed_in", "user.sign_in_failed"))
    return actor_of(user, terminal)


def sign_out(database: Database, actor: Actor) -> None:
    """Record that a person left."""
    with database.write(actor) as record, record.act("user.signed_out", f"user:{actor.name}"):
        pass


def authenticate(database: Database, name: str, password: str, terminal: str, proof: Proof) -> User:
    """The active, unlocked user whose name and password these are.

    Success and failure are committed as events. Failures count; the fifth in a row locks the user, which is an
    event of its own, published at once. The time it takes does not tell whether the name exists.

    Raises:
        SignInRefused: Why, but only to somebody who knows the password.
    """
    with database.read() as record:
        known = _user(record, name)
    fits = password_fits(password, known.password_hash if known else None)
    actor = _at_the_door(known, terminal) if known is not None and fits else replace(DOOR, terminal=terminal)
    with database.write(actor) as record:
        # Read again under the row's lock: who guesses in parallel gains nothing.
        user = _user(record, name, lock=True)
        unchanged = user is not None and known is not None and user.password_hash == known.password_hash
        if user is not None and fits and unchanged and user.active and user.locked_at is None:
            with record.act(proof.passed, f"user:{user.name}"):
                user.failures = 0
                record.add(user)
            return user
        _record_failure(record, user, proof.failed)
    if user is not None and fits and not user.active:
        raise SignInRefused(f"The user {name} was deactivated.")
    if user is not None and fits and user.locked_at is not None:
        raise SignInRefused(f"The user {name} is locked after wrong passwords; an administrator can unlock it.")
    raise SignInRefused("The name or the password is wrong.")


def _user(record: RecordSession, name: str, *, lock: bool = False) -> User | None:
    statement = select(User).where(User.name == name)
    return record.exec(statement.with_for_update() if lock else statement).first()


def _locked_row(record: RecordSession, name: str, expected_version: int | None) -> User:
    user = _user(record, name, lock=True)
    if user is None:
        raise NotFound(f"There is no user {name!r}.")
    if expected_version is not None and expected_version != user.version:
        raise StaleVersion(f"The user {name} was changed since you read it; look again.")
    return user


def _store(record: RecordSession, user: User) -> None:
    user.version += 1
    record.add(user)
    record.flush()


def role_names(roles: Iterable[Role]) -> list[str]:
    """The roles as they are stored.

    Raises:
        InvalidInput: There is none.
    """
    names = sorted({Role(role).value for role in roles})
    if not names:
        raise InvalidInput("At least one role is needed.")
    return names


def _require_an_admin(record: RecordSession) -> None:
    active = record.exec(select(User).where(col(User.active).is_(True))).all()
    if not any(Role.ADMIN in user.roles for user in active):
        raise Refused(
            "The last active administrator must stay one.",
            [Finding("last_admin", "Nobody could manage users any more.", "Make somebody else admin first.")],
        )


def _record_failure(record: RecordSession, user: User | None, kind: str) -> None:
    if user is None:
        # The name that was typed is not kept: people type passwords into the wrong field.
        with record.act(kind, detail={"cause": "unknown user"}):
            return
    item = f"user:{user.name}"
    if user.locked_at is not None or not user.active:
        with record.act(kind, item, detail={"cause": "locked" if user.active else "deactivated"}):
            return
    with record.act(kind, item, detail={"cause": "wrong password"}):
        user.failures += 1
        record.add(user)
    if user.failures >= FAILURES_TO_LOCK:
        with record.act("user.locked", item, detail={"failures": user.failures}):
            user.locked_at = record.clock.now()
            _store(record, user)


def _at_the_door(user: User, terminal: str) -> Actor:
    return Actor(user.name, user.id, user.full_name, terminal=terminal, system=True)
