"""Who may enter a simulated tool.

asyncua's own user manager accepts everybody and makes an administrator of whoever calls himself admin; it also lets
an unencrypted session in on a server that offers encryption only. This one does none of that: everybody who enters
is an operator, who may call methods and write what is writable.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncua.crypto.permission_rules import User, UserRole

from equipment.opcua.security import CertificatePair


@dataclass(frozen=True)
class ServerAccess:
    """Certificates and accounts of one tool.

    Attributes:
        own: The tool's certificate; None offers no encryption, which only loopback allows.
        trusted_clients: SHA-256 fingerprints of the clients that may connect; needed with `own`.
        users: Name → password of the operator accounts.
        anonymous: Sessions without an account may enter; only on loopback.
    """

    own: CertificatePair | None = None
    trusted_clients: frozenset[str] = frozenset()
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    anonymous: bool = False

    def check(self, *, loopback: bool) -> None:
        """See whether this is safe where the tool listens.

        Raises:
            ValueError: It is not; the message says what is missing.
        """
        if not loopback and (self.own is None or self.anonymous):
            raise ValueError("beyond loopback a tool needs a certificate and accounts, and no anonymous sessions")
        if not self.users and not self.anonymous:
            raise ValueError("nobody could enter: name an account, or allow anonymous sessions on loopback")

    def get_user(
        self, _server: Any, username: str | None = None, password: str | None = None, certificate: bytes | None = None
    ) -> Any:
        """The user of a session that asks to be activated, or None; called by asyncua.

        `certificate` is that of the secure channel, DER, whose possession has been proved; empty when it is
        unencrypted.
        """
        if self.own is not None and not self._trusts(certificate):
            return None
        if username is None:
            return User(role=UserRole.User, name="anonymous") if self.anonymous else None
        expected = self.users.get(username)
        known = hmac.compare_digest((password or "").encode(), (expected or "").encode())
        return User(role=UserRole.User, name=username) if known and expected is not None else None

    def _trusts(self, certificate: bytes | None) -> bool:
        return bool(certificate) and hashlib.sha256(certificate or b"").hexdigest() in self.trusted_clients


LOCAL_ANONYMOUS = ServerAccess(anonymous=True)
"""For loopback only."""
