"""What the MES and a tester endpoint say to each other: the bodies of the hand-off contract, version 1.

Both sides read and write with these models, so that the published OpenAPI documents of both agree. Numbers are
decimal strings where they come from the record. Nothing is decided here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from equipment.testers.handoff_states import HandoffEvent, HandoffState
from equipment.testers.records import CellKind
from traceability.canonical import content_hash
from traceability.quantities import plain

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Serial = Annotated[str, Field(max_length=40, examples=["CEL-000042-7"])]
Channel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,20}$")]
Barcode = Annotated[str, StringConstraints(max_length=80, pattern=r"^[^\r\n]*$")]
Reason = Annotated[str, Field(max_length=1000)]
Number = Annotated[Decimal, Field(allow_inf_nan=False), PlainSerializer(plain, return_type=str, when_used="json")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Part(_Body):
    """Something that the cell is made of, directly or not."""

    serial: Serial
    kind: str
    """`disc`, `coated_disc`, `pellet`, `half_stack`, `lot` …"""
    product: str = ""
    role: Literal["electrode", "electrolyte", "other"] = "other"
    was: tuple[str, ...] = ()
    """Serials that the same body of matter had before: the bare disc of a coated one."""
    made_in: str = ""
    """The activity that made it, e.g. the run's serial."""
    water_pa_s: Number = Decimal(0)
    """Water dose on record."""


class Films(_Body):
    """One film of an electrode, by the best that is known of it."""

    serial: Serial
    material: str
    thickness_nm: Number
    basis: str
    """`measured`, `witness`, `in_situ` or `nominal`."""


class Traveller(_Body):
    """What goes with a cell: what it is made of and what is known about it."""

    cell_serial: Serial
    product: str
    parts: tuple[Part, ...]
    films: tuple[Films, ...]
    measurements: dict[str, str]
    """The cell's own, by quantity name: open-circuit voltage, resistance …"""

    def hash(self) -> str:
        """SHA-256 of the canonical traveller."""
        return content_hash(self.model_dump(mode="json"))


class ProtocolBody(_Body):
    """What the tester is to do."""

    reference: str
    """`id/version` of the protocol on record."""
    format: str
    version: int
    sha256: Sha256
    """Of the canonical JSON of the body."""
    body: dict[str, Any]


class Limits(_Body):
    """What must hold before the cell is armed, and ends the test when it no longer does."""

    voltage_limit_v: Number
    ocv_low_v: Number
    ocv_high_v: Number


class Offer(_Body):
    """A cell that is offered to a tester. The same uuid never stands for another body."""

    contract: Literal[1] = 1
    uuid: Uuid
    tester: str
    cell_serial: Serial
    cell_kind: CellKind
    polarity: Literal["normal", "reversed"]
    """How the cell is to lie in the channel."""
    area_cm2: Number
    """Of one electrode."""
    masses_mg: dict[str, Number]
    """`electrolyte`, and `active` where the cell has an active material."""
    parts: tuple[Serial, ...]
    traveller: Traveller
    traveller_sha256: Sha256
    protocol: ProtocolBody
    limits: Limits
    capability: str
    """What the tester must be able to do."""
    callback: str
    """Where events, results and blobs go: the MES's address up to `/api/v1`."""

    def hash(self) -> str:
        """SHA-256 of the canonical body."""
        return content_hash(self.model_dump(mode="json"))


class ChannelRequest(_Body):
    """A cell was put on a channel."""

    channel: Channel
    cell_barcode: Barcode
    channel_barcode: Barcode
    ocv_v: float = Field(allow_inf_nan=False)


class ReasonGiven(_Body):
    """Why."""

    reason: Reason


class EventReport(_Body):
    """Something happened to a hand-off at the tester. Numbers run 1, 2, 3 … without a gap."""

    seq: int = Field(ge=1)
    event: HandoffEvent
    at: AwareDatetime
    """Domain time of the tester PC."""
    reason: Reason = ""
    tester_serial: str = Field("", max_length=80)
    """Of the instrument; said when the hand-off is accepted."""
    simulated: bool = False
    """The tester is a simulator; said when the hand-off is accepted."""
    channel: Channel | None = None
    """Said when the cell is loaded."""
    channel_lease: int | None = Field(None, ge=1)
    """Fencing token of the channel: grows each time that a cell is put on it."""
    cell_barcode: Barcode | None = None
    channel_barcode: Barcode | None = None
    ocv_v: float | None = Field(None, allow_inf_nan=False)


class ResultReport(_Body):
    """A file that the tester wrote, uploaded before as a blob."""

    blob: Sha256
    file_name: str = Field(max_length=200)
    parser: str = Field(max_length=60)
    """Whose layout the file has, e.g. `argonaut-land`."""
    parser_version: str = Field(max_length=20)
    tester_serial: str = Field(max_length=80)
    channel: Channel
    channel_lease: int | None = Field(None, ge=1)
    first_at: AwareDatetime
    last_at: AwareDatetime
    """Times of the first and last record."""
    n_records: int = Field(ge=0)
    is_final: bool


class EndpointView(_Body):
    """A hand-off as its tester endpoint has it."""

    uuid: Uuid
    cell_serial: Serial
    state: HandoffState
    channel: Channel | None
    channel_lease: int | None
    reason: Reason
    progress: float = Field(ge=0, le=1)
    """Part of the longest possible test that is done."""
    offer_sha256: Sha256
    last_seq: int
    """Number of the last event."""
    waiting: int
    """Events and results that have not reached the MES."""
