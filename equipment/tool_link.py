"""How the link to a tool stands, for those who look at it: the tablet, the API, the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class LinkState(StrEnum):
    """Where a supervisor stands with its tool."""

    WAITING = "waiting"  # for the lease: another process drives the tool
    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"  # it is tried again by itself
    REFUSED = "refused"  # for a reason that a person must remove; tried again all the same
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ToolLink:
    """A moment's view of the link to one tool.

    Attributes:
        tool: Name of the tool.
        state: Where it stands.
        since: Domain time of the last change of `state`.
        why: Reason of an outage, one sentence.
        lease_epoch: Of the lease under which the tool is driven; None without one.
        fenced: The lease may not be used: it could not be renewed in time.
        connections: How many were made since this process began.
        sample_age_s: Real seconds since the tool was last heard; None when it never was.
        skew_s: The tool's clock less ours in domain seconds, last measured; None when it never was.
    """

    tool: str
    state: LinkState
    since: datetime
    why: str
    lease_epoch: int | None
    fenced: bool
    connections: int
    sample_age_s: float | None
    skew_s: float | None
