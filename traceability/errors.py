"""What can go wrong in the record, as a documented tree.

An error here says what was wrong and what to do; it knows no HTTP. `api/errors.py` maps each leaf to a problem
document. Every package has one root below `ArgonautError`; this one's is `RecordError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Severity(StrEnum):
    """Whether a finding forbids the act or only warns."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason, among possibly many, why something can't be done as asked.

    Attributes:
        code: Stable and short, e.g. `lot_on_hold`.
        message: What is wrong, one sentence.
        action: What to do about it, one sentence.
        path: Where in the input it is (`formula.rf_power_w`), or the serial of the thing concerned.
        severity: Errors forbid, warnings don't.
    """

    code: str
    message: str
    action: str = ""
    path: str = ""
    severity: Severity = Severity.ERROR


class ArgonautError(Exception):
    """Root of every error that the project raises on purpose.

    Attributes:
        code: Stable name of the kind of error; becomes the problem's `type`. By default the class's own name in
            snake case.
        recorded: A write that ends in this error leaves a refusal on the audit trail.
        findings: All reasons at once; may be empty where the message says everything.
    """

    code: ClassVar[str] = "error"
    recorded: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str, findings: Iterable[Finding] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.findings = tuple(findings)


class RecordError(ArgonautError):
    """Root of the record's errors."""


class NotFound(RecordError):
    """Nothing in the record has that name."""

    recorded = False


class InvalidInput(RecordError):
    """The input can't be understood: a wrong unit, a bad check character, a value out of range."""


class Refused(RecordError):
    """A rule of the record forbids the act; the findings say which and what to do."""


class Conflict(RecordError):
    """Something else exists already under that name or id."""


class StaleVersion(Conflict):
    """The thing was changed since it was read; read it again and decide anew."""


class NotPermitted(RecordError):
    """The person or token has no right to this act."""


class SignInRefused(RecordError):
    """Who asks could not prove to be who was said; the attempt is already on the trail."""

    code = "sign_in_refused"
    recorded = False


class SignatureRefused(RecordError):
    """An electronic signature could not be given."""


class StorageFailed(RecordError):
    """The database or the disk can't take the write; nothing of it was kept."""

    recorded = False


def refuse_for(message: str, findings: Iterable[Finding]) -> None:
    """Refuse with all findings at once, if any of them forbids.

    Raises:
        Refused: At least one finding is an error.
    """
    findings = tuple(findings)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise Refused(message, findings)
