"""What can go wrong between the MES and its equipment, as one documented tree.

This module alone knows the names; what an error means to an HTTP client is decided elsewhere.

    EquipmentError
    ├── LinkError                   the tool can't be spoken to now; trying again later makes sense
    │   ├── ToolUnreachable         no connection could be made
    │   ├── LinkLost                a connection that stood has gone
    │   └── OutcomeUnknown          a command was cut in flight: it may or may not have been carried out
    ├── SecurityRefused             we, or the tool, refuse to talk at all; a person must act
    │   ├── UntrustedCertificate    the tool shows a certificate that nobody pinned
    │   ├── ChangedCertificate      the tool shows another certificate than the pinned one
    │   ├── ExpiredCertificate      out of its period of validity
    │   ├── EncryptionRequired      an unencrypted connection beyond loopback
    │   └── AccessDenied            the tool doesn't accept our certificate, user or password
    ├── ToolRefused                 the tool answered, and said no to a job method
    ├── WriteRefused                the tool answered, and said no to a write
    ├── TagMismatch                 the tool's address space is not that of its tag table
    └── ProtocolViolation           the tool answered something that its profile doesn't allow
"""

from __future__ import annotations

from collections.abc import Sequence

from equipment.jobs import JobVerb, ReturnStatus
from traceability.errors import ArgonautError


class EquipmentError(ArgonautError):
    """Root of all errors of this package."""


class LinkError(EquipmentError):
    """The tool can't be spoken to now."""


class ToolUnreachable(LinkError):
    """No connection to the tool could be made."""


class LinkLost(LinkError):
    """The connection to the tool has gone, or has fallen silent."""


class OutcomeUnknown(LinkError):
    """A command was cut in flight.

    Attributes:
        command: What was asked, e.g. `StoreAndStart`.
        job_id: The job it concerned; "" for a write.
    """

    def __init__(self, command: str, job_id: str, why: str) -> None:
        super().__init__(
            f"{command} {job_id}".strip() + f" was cut in flight ({why}): ask the tool before sending it again"
        )
        self.command = command
        self.job_id = job_id


class SecurityRefused(EquipmentError):
    """No connection is made because it would not be safe, or the tool doesn't let us in."""


class UntrustedCertificate(SecurityRefused):
    """The tool shows a certificate that was never pinned."""


class ChangedCertificate(UntrustedCertificate):
    """The tool shows another certificate than the one pinned for it."""


class ExpiredCertificate(UntrustedCertificate):
    """A certificate is not valid now: not yet, or no longer."""


class EncryptionRequired(SecurityRefused):
    """An unencrypted connection was asked for to something that is not on loopback."""


class AccessDenied(SecurityRefused):
    """The tool accepts neither our certificate, nor our user and password."""


class ToolRefused(EquipmentError):
    """The tool said no to a job method.

    Attributes:
        verb: The method.
        job_id: The job.
        status: The bits of the answer.
        why: What the tool says about it, or what its bits mean.
    """

    def __init__(self, verb: JobVerb, job_id: str, status: ReturnStatus, why: str = "") -> None:
        self.verb = verb
        self.job_id = job_id
        self.status = status
        self.why = why or explain(status)
        super().__init__(f"the tool refused {verb} of job {job_id}: {self.why}")


class WriteRefused(EquipmentError):
    """The tool said no to a write.

    Attributes:
        tag: Name of the tag.
        why: The tool's status.
    """

    def __init__(self, tag: str, why: str) -> None:
        super().__init__(f"the tool refused to write {tag}: {why}")
        self.tag = tag
        self.why = why


class TagMismatch(EquipmentError):
    """The tool's address space is not that of its tag table.

    Attributes:
        problems: One sentence each.
    """

    def __init__(self, tool: str, problems: Sequence[str]) -> None:
        super().__init__(f"{tool} is not what its tag table says: " + "; ".join(problems))
        self.tool = tool
        self.problems = tuple(problems)


class ProtocolViolation(EquipmentError):
    """The tool answered something that its profile doesn't allow."""


def explain(status: ReturnStatus) -> str:
    """The bits of a ReturnStatus in words."""
    meanings = {
        ReturnStatus.UNKNOWN_JOB: "it knows no job of that id",
        ReturnStatus.INVALID_STATUS: "the job's state does not allow it",
        ReturnStatus.CANNOT_ACCEPT: "it accepts nothing of the kind now, or not from an older epoch",
        ReturnStatus.INVALID_REQUEST: "the request is not valid",
        ReturnStatus.ALREADY_ACCEPTED: "it had accepted the same before",
    }
    said = [words for bit, words in meanings.items() if status & bit]
    return ", ".join(said) or f"status bits {int(status):#x}"
