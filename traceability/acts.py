"""Who may do what: every act that changes the record, named once, with the roles that may perform it.

A change happens inside an act (`RecordSession.act`), and an act's kind must stand in a table like the one below.
Each package lists its own acts in an `acts.py`; the service puts them together. The outermost act of a
transaction is what a person asked for and is checked; acts inside it are its consequences and are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from traceability.errors import Finding, NotPermitted


class Role(StrEnum):
    """What a person is in the lab. A person may have several."""

    OPERATOR = "operator"
    ENGINEER = "engineer"
    QA = "qa"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Act:
    """A kind of change.

    Attributes:
        kind: `noun.participle`, e.g. `lot.received`.
        roles: Who may perform it; empty means only the system itself.
        summary: One sentence for people.
    """

    kind: str
    roles: frozenset[Role]
    summary: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, from where, with which rights.

    Attributes:
        name: User name, or the name of a part of the system.
        user_id: Row of the user; None for the system.
        full_name: Printed name, for signatures and records.
        roles: The user's roles.
        terminal: Where the act comes from: enrolled tablet, address, `cli`.
        scopes: Patterns of act kinds (`lot.*`) that a token is limited to; None for no limit.
        system: A part of the service itself; may perform every act.
    """

    name: str
    user_id: int | None = None
    full_name: str = ""
    roles: frozenset[Role] = frozenset()
    terminal: str = ""
    scopes: tuple[str, ...] | None = None
    system: bool = False


def system_actor(part: str) -> Actor:
    """The actor for a part of the service: `system_actor("line-controller")`."""
    return Actor(name=f"system:{part}", full_name=part, terminal="service", system=True)


class ActTable:
    """All kinds of act of a running service."""

    def __init__(self, acts: Iterable[Act]) -> None:
        self._acts: dict[str, Act] = {}
        for act in acts:
            if act.kind in self._acts:
                raise ValueError(f"the act {act.kind} is defined twice")
            self._acts[act.kind] = act

    def __iter__(self) -> Iterator[Act]:
        return iter(self._acts.values())

    def known(self, kind: str) -> Act:
        """The act of that kind.

        Raises:
            LookupError: No package defines it: a mistake in the code.
        """
        if kind not in self._acts:
            raise LookupError(f"no package defines the act {kind!r}; add it to its acts.py")
        return self._acts[kind]

    def require(self, actor: Actor, kind: str) -> None:
        """Check that the actor may perform the act.

        Raises:
            NotPermitted: Neither a role nor the token's scope allows it.
        """
        act = self.known(kind)
        if actor.system:
            return
        if not (actor.roles & act.roles):
            allowed = ", ".join(sorted(act.roles)) or "nobody but the service itself"
            raise NotPermitted(
                f"{actor.name} may not do this ({act.summary.rstrip('.')}).",
                [Finding("role_missing", f"{kind} is for: {allowed}.", "Ask somebody with that role.", kind)],
            )
        if actor.scopes is not None and not any(fnmatchcase(kind, pattern) for pattern in actor.scopes):
            raise NotPermitted(
                f"This token may not do this ({act.summary.rstrip('.')}).",
                [Finding("scope_missing", f"The token's scopes do not cover {kind}.", "Use a wider token.", kind)],
            )


_ALL = frozenset(Role)
_LINE = frozenset({Role.OPERATOR, Role.ENGINEER})
_QA = frozenset({Role.QA})
_ADMIN = frozenset({Role.ADMIN})

ACTS: tuple[Act, ...] = (
    Act("act.refused", frozenset(), "An act was refused."),
    Act("user.created", _ADMIN, "Create a user."),
    Act("user.changed", _ADMIN, "Change a user's roles or training."),
    Act("user.deactivated", _ADMIN, "Deactivate a user for good."),
    Act("user.unlocked", _ADMIN, "Unlock a user after failed sign-ins."),
    Act("user.password_changed", _ALL, "Change one's own password."),
    Act("user.signed_in", frozenset(), "A person signed in."),
    Act("user.signed_out", _ALL, "Sign out."),
    Act("user.sign_in_failed", frozenset(), "A sign-in failed."),
    Act("user.password_confirmed", frozenset(), "A person proved the current password to change it."),
    Act("user.password_refused", frozenset(), "The current password was wrong when it was to be changed."),
    Act("user.locked", frozenset(), "A user was locked after failed sign-ins."),
    Act("token.issued", _ADMIN, "Issue a scoped token for a machine."),
    Act("token.revoked", _ADMIN, "Revoke a token."),
    Act("token.refused", frozenset(), "A token was refused."),
    Act("signature.session_opened", frozenset(), "A person proved both components to sign."),
    Act("signature.confirmed", frozenset(), "A person proved the password to sign once more."),
    Act("signature.failed", frozenset(), "A proof of identity for a signature failed."),
    Act("signature.given", _ALL, "Sign something."),
    Act("material.defined", frozenset({Role.ENGINEER}), "Define a material."),
    Act("lot.received", _LINE, "Receive a lot."),
    Act("lot.released", _QA, "Release a lot from quarantine."),
    Act("lot.quarantined", _QA, "Take a lot back into quarantine."),
    Act("lot.split", _LINE, "Split a lot."),
    Act("lot.merged", _LINE, "Merge lots."),
    Act("lot.consumed", _LINE, "Take a quantity from a lot."),
    Act("lot.moved", _LINE, "Move a lot."),
    Act("lot.scrapped", _LINE, "Scrap a lot."),
    Act("unit.created", _LINE, "Make a serialised unit."),
    Act("unit.changed", _LINE, "Change a unit's state."),
    Act("unit.moved", _LINE, "Move a unit."),
    Act("unit.scrapped", _LINE, "Scrap a unit."),
    Act("unit.layer_added", frozenset(), "A film was deposited on a unit."),
    Act("genealogy.linked", frozenset(), "An edge was added to the genealogy."),
    Act("activity.started", _LINE, "Begin an activity."),
    Act("activity.ended", _LINE, "End an activity."),
    Act("exposure.recorded", frozenset(), "Exposure to an atmosphere was counted."),
    Act("hold.placed", frozenset({Role.OPERATOR, Role.ENGINEER, Role.QA}), "Place a hold."),
    Act("hold.released", _QA, "Release a hold."),
    Act("nonconformance.opened", frozenset({Role.OPERATOR, Role.ENGINEER, Role.QA}), "Open a non-conformance."),
    Act("nonconformance.disposed", _QA, "Decide a non-conformance."),
    Act("measurement.recorded", _LINE, "Record a measurement."),
    Act("measurement.corrected", _LINE | _QA, "Correct a measurement."),
    Act("attachment.stored", frozenset({Role.OPERATOR, Role.ENGINEER, Role.QA}), "Attach a file."),
    Act("audit.exported", _QA, "Export the audit trail."),
    Act("audit.verified", frozenset({Role.QA, Role.ADMIN}), "Verify the audit trail."),
    Act("audit.checkpointed", _QA, "Sign a checkpoint of the audit trail."),
    Act("history.exported", frozenset({Role.QA, Role.ENGINEER}), "Export a history record."),
)
