"""Test protocols: what a tester is to do with a finished cell, as versioned and signed documents.

The body is what a tester endpoint executes; it carries its own format and version and is hashed by itself. Which
testers exist and how they are reached is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from recipes.documents import Document, Frozen, Identifier, Number, Sealed, Text, read
from recipes.errors import UnreadableDocument
from recipes.reading import Report, read_whole
from traceability.errors import Finding, Severity

MAX_RECORDS = 20_000
"""More records than this make the testers' spreadsheet exports unwieldy."""


class CellKind(StrEnum):
    """Kinds of cell that a protocol is for."""

    SYMMETRIC = "symmetric"


class RecordRule(Frozen):
    """When the tester writes a record: whichever comes first. Ends of half-cycles are always recorded."""

    interval_s: Annotated[Number, Field(ge=1, le=86_400)]
    """Seconds since the last record."""
    delta_voltage_v: Annotated[Number, Field(gt=0, le=5)]
    """Change of voltage since the last record."""


class CyclingBody(Sealed):
    """Galvanostatic cycling of a symmetric cell: charge and discharge by the same charge, over and over.

    Positive current charges. The tester stops at the voltage limit, at the number of cycles or at the duration,
    whichever comes first.
    """

    format: Literal["argonaut-cycling"] = "argonaut-cycling"
    """Tells the endpoint how to read it."""
    version: Literal[1] = 1
    """Of the format."""
    current_density_ma_cm2: Annotated[Number, Field(gt=0, le=50)]
    """Both directions."""
    areal_capacity_mah_cm2: Annotated[Number, Field(gt=0, le=50)]
    """Charge per area moved in each half-cycle."""
    area_cm2: Annotated[Number, Field(gt=0, le=100)]
    """Of the electrode; 0.7854 for a disc of 10 mm."""
    voltage_limit_v: Annotated[Number, Field(gt=0, le=10)]
    """A cell beyond it to either side has failed; the test ends."""
    rest_s: Annotated[Number, Field(ge=0, le=86_400)]
    """Open circuit before the first half-cycle."""
    max_cycles: Annotated[int, Field(ge=1, le=100_000)]
    """The test ends after as many."""
    max_duration_h: Annotated[Number, Field(gt=0, le=20_000)]
    """The test ends after as long."""
    record: RecordRule
    """When a record is written."""

    @property
    def current_ma(self) -> Decimal:
        """Current of the cell."""
        return self.current_density_ma_cm2 * self.area_cm2

    @property
    def half_cycle_s(self) -> float:
        """Duration of a half-cycle that reaches its charge."""
        return 3600.0 * float(self.areal_capacity_mah_cm2) / float(self.current_density_ma_cm2)

    @property
    def expected_duration_h(self) -> float:
        """Of a cell that does not fail."""
        cycling = (float(self.rest_s) + 2.0 * self.half_cycle_s * self.max_cycles) / 3600.0
        return min(cycling, float(self.max_duration_h))

    @property
    def expected_records(self) -> int:
        """Of a cell that does not fail and whose voltage is steady within a half-cycle."""
        rows = math.ceil(self.half_cycle_s / float(self.record.interval_s)) + 1
        return math.ceil(3600.0 * self.expected_duration_h / self.half_cycle_s) * rows


class TestProtocol(Document):
    """One version of one test protocol."""

    __test__ = False

    format: Literal["argonaut-test-protocol"] = "argonaut-test-protocol"
    """Tells the kind of document."""
    protocol_id: Identifier
    """The same for all versions."""
    description: Text = ""
    """What it is for."""
    cell_kinds: Annotated[tuple[CellKind, ...], Field(min_length=1)]
    """Kinds of cell that it may be run on."""
    capability: Literal["cycling"] = "cycling"
    """What the tester must be able to do."""
    body: CyclingBody
    """What the tester does."""

    @property
    def document_id(self) -> str:
        """The same for all versions."""
        return self.protocol_id


def validate_protocol(document: str | bytes | Mapping[str, Any]) -> Report[TestProtocol]:
    """Find everything that is wrong with a test protocol; never raises because of the input."""
    try:
        data = read(document)
    except UnreadableDocument as error:
        return Report[TestProtocol].unreadable(error)
    protocol, findings = read_whole(TestProtocol, data)
    return Report.judged(protocol, findings if protocol is None else [*findings, *_body_findings(protocol.body)])


def _body_findings(body: CyclingBody) -> Iterator[Finding]:
    half_cycle_h = body.half_cycle_s / 3600.0
    if half_cycle_h * 2 > float(body.max_duration_h):
        yield Finding(
            "duration_too_short",
            f"One cycle takes {2 * half_cycle_h:g} h, more than the whole test may take.",
            "Raise max_duration_h or lower areal_capacity_mah_cm2.",
            "body.max_duration_h",
        )
    if float(body.record.interval_s) * 4 > body.half_cycle_s:
        yield Finding(
            "too_few_records",
            f"A half-cycle of {body.half_cycle_s:.0f} s has fewer than four records.",
            f"Lower interval_s to {body.half_cycle_s / 4:.0f} or less.",
            "body.record.interval_s",
        )
    if body.expected_records > MAX_RECORDS:
        yield Finding(
            "too_many_records",
            f"The test writes about {body.expected_records} records; testers handle {MAX_RECORDS} well.",
            "Raise interval_s and let delta_voltage_v catch what matters.",
            "body.record.interval_s",
            Severity.WARNING,
        )
