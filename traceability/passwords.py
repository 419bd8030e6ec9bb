"""Passwords: which ones are good enough, and how they are kept so that nobody can read them.

Only a salted argon2id hash is ever stored. Who the password belongs to, and how often it may be wrong, is known to
`users`.
"""

from __future__ import annotations

from functools import cache

from pwdlib import PasswordHash

from traceability.errors import Finding, InvalidInput

SHORTEST = 12
LONGEST = 256
FEWEST_DIFFERENT = 6

_HASHER = PasswordHash.recommended()


def password_findings(password: str, *, name: str, full_name: str) -> list[Finding]:
    """All reasons why a password is too weak; empty if it will do.

    Long and not guessable from the person, as NIST SP 800-63B advises; no rules about kinds of characters.
    """
    findings = []
    if not SHORTEST <= len(password) <= LONGEST:
        findings.append(
            Finding(
                "password_length",
                f"A password has {SHORTEST} to {LONGEST} characters; this one has {len(password)}.",
                "Take a few words that have nothing to do with each other.",
                "password",
            )
        )
    if len(set(password)) < FEWEST_DIFFERENT:
        findings.append(
            Finding(
                "password_monotonous",
                f"A password has at least {FEWEST_DIFFERENT} different characters.",
                "Take a few words that have nothing to do with each other.",
                "password",
            )
        )
    known = {name, *full_name.split()}
    if any(len(part) > 2 and part.lower() in password.lower() for part in known):
        findings.append(
            Finding("password_personal", "The password holds the person's name.", "Leave it out.", "password")
        )
    return findings


def require_good_password(password: str, *, name: str, full_name: str) -> None:
    """Refuse a weak password.

    Raises:
        InvalidInput: With all reasons.
    """
    findings = password_findings(password, name=name, full_name=full_name)
    if findings:
        raise InvalidInput("This password is too weak.", findings)


def hash_password(password: str) -> bytes:
    """The salted argon2id hash, in its text form, as bytes."""
    return _HASHER.hash(password).encode()


def password_fits(password: str, stored: bytes | None) -> bool:
    """Whether the password is the one that was hashed.

    With `stored` None (nobody has that name) it takes as long and says no, so that the time tells nothing.
    """
    if len(password) > LONGEST:
        password = ""
    fits = _HASHER.verify(password, (stored or _nobody()).decode())
    return fits and stored is not None


@cache
def _nobody() -> bytes:
    return hash_password("the password of nobody at all")
