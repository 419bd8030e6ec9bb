"""A simulated LAND CT-2001A with its operator: takes cells, loads and checks them, cycles them, writes their files.

It follows the shared clock. All that it knows is in the endpoint's store or follows from the cell's truth and serial,
so a bench that was killed goes on where it was. Nothing here speaks HTTP.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import structlog
from pydantic import ValidationError

from api.endpoints.store import EndpointStore, Held
from api.endpoints.truth import NoTruth, PlantTruth
from equipment.simulators.cell import RecordingRule, end_of_test, simulate
from equipment.simulators.cell_law import CellTruth
from equipment.simulators.land_writer import ExportHeading, write_land_csv
from equipment.testers.contract import ChannelRequest, Offer, ResultReport
from equipment.testers.handoff_states import HANDOFF_STATES, ON_CHANNEL, HandoffEvent, HandoffState
from equipment.testers.land import PARSER, PARSER_VERSION
from equipment.testers.records import CyclingSteps, Polarity, Records, StepState
from recipes.protocols import CyclingBody
from traceability.canonical import content_hash
from traceability.clock import Clock
from traceability.errors import Finding

_log = structlog.get_logger(__name__)

OCV_SCATTER_V = 2e-3


@dataclass(frozen=True, slots=True)
class Plan:
    """The test of one cell: what it is, what is done to it, and which cell of its kind it is.

    Attributes:
        rest_s: Open circuit before the first half-cycle.
    """

    truth: CellTruth
    steps: CyclingSteps
    recording: RecordingRule
    rest_s: float
    seed: int

    @classmethod
    def of(cls, offer: Offer, truth: CellTruth) -> Plan:
        """The test that a hand-off asks for.

        Raises:
            ValueError: The protocol is not one of this tester.
        """
        body = CyclingBody.model_validate(offer.protocol.body)
        rest_s = float(body.rest_s)
        return cls(
            truth=truth,
            steps=CyclingSteps(
                current_density_ma_cm2=float(body.current_density_ma_cm2),
                areal_capacity_mah_cm2=float(body.areal_capacity_mah_cm2),
                cut_off_v=float(body.voltage_limit_v),
                max_cycles=body.max_cycles,
                max_duration_h=float(body.max_duration_h) - rest_s / 3600.0,
            ),
            recording=RecordingRule(float(body.record.interval_s), float(body.record.delta_voltage_v)),
            rest_s=rest_s,
            seed=int.from_bytes(hashlib.sha256(offer.cell_serial.encode()).digest()[:8], "big"),
        )

    @property
    def duration_h(self) -> float:
        """Until the end of the test."""
        return self.rest_s / 3600.0 + end_of_test(self.truth, self.steps, self.seed).time_h

    def records(self, started_at: datetime, until_h: float | None) -> Iterator[Records]:
        """What the tester has recorded by then, or in the whole test: the rest, then the cycling."""
        started_s, rest_s = started_at.timestamp(), self.rest_s
        rested = rest_s > 0.0
        if rested and (until_h is None or until_h * 3600.0 >= rest_s):
            yield _rest(started_s, rest_s)
        cycling = simulate(
            self.truth,
            self.steps,
            self.seed,
            started_unix_s=started_s + rest_s,
            until_h=None if until_h is None else until_h - rest_s / 3600.0,
            recording=self.recording,
        )
        for batch in cycling:
            columns = batch.columns()
            columns["test_time_second"] = batch.test_time_second + rest_s
            columns["record_index"] = batch.record_index + int(rested)
            columns["step_index"] = batch.step_index + int(rested)
            yield Records(**columns)


def _rest(started_s: float, rest_s: float) -> Records:
    one = np.ones(1)
    return Records(
        record_index=np.ones(1, np.int64),
        test_time_second=rest_s * one,
        step_time_second=rest_s * one,
        unix_time_second=(started_s + rest_s) * one,
        voltage_volt=0.0 * one,
        current_ampere=0.0 * one,
        step_capacity_ah=0.0 * one,
        step_energy_wh=0.0 * one,
        temperature_t1_celsius=np.nan * one,
        cycle_count=np.ones(1, np.int64),
        step_index=np.ones(1, np.int64),
        state=np.full(1, StepState.REST, np.int8),
    )


@dataclass
class Bench:
    """The tester and who stands at it.

    Attributes:
        name: Of the tester, as the MES calls it.
        serial: Of the instrument.
        channels: How many cells it takes.
        capabilities: What it can do.
        folder: Where its files are written.
        snapshot_h: Test time after which the file of a running test is sent again.
        snapshot_every_s: And not more often than so, real time.
    """

    store: EndpointStore
    truth: PlantTruth
    clock: Clock
    name: str
    serial: str
    channels: int
    capabilities: tuple[str, ...]
    folder: Path
    snapshot_h: float = 100.0
    snapshot_every_s: float = 2.0
    _plans: dict[str, Plan] = field(default_factory=dict)
    _written_s: dict[str, float] = field(default_factory=dict)

    def problems(self, offer: Offer) -> list[Finding]:
        """Why the tester would not take a cell."""
        found = []
        if offer.tester != self.name:
            found.append(_no("other_tester", f"This is {self.name}, not {offer.tester}.", "tester"))
        if offer.capability not in self.capabilities:
            message = f"{self.name} can't do {offer.capability}; it can do {', '.join(self.capabilities)}."
            found.append(_no("capability_missing", message, "capability"))
        if offer.traveller.hash() != offer.traveller_sha256:
            found.append(_no("wrong_hash", "The traveller does not fit its SHA-256.", "traveller_sha256"))
        if content_hash(offer.protocol.body) != offer.protocol.sha256:
            found.append(_no("wrong_hash", "The protocol does not fit its SHA-256.", "protocol.sha256"))
        try:
            CyclingBody.model_validate(offer.protocol.body)
        except ValidationError as error:
            found += [_no("bad_protocol", e["msg"], ".".join(map(str, e["loc"]))) for e in error.errors()]
        try:
            self.truth.of(offer)
        except NoTruth as error:
            found += error.findings
        return found

    def step(self) -> bool:
        """Do what can be done now; True where anything moved."""
        moved = [self._step(held) for held in self.store.all(only_open=True)]
        return any(moved)

    def abort(self, uuid: str, reason: str) -> Held:
        """End a running test; what it has measured is sent as its result.

        Raises:
            Refused: It is not running.
        """
        held, now = self.store.get(uuid), self.clock.now()
        HANDOFF_STATES.next(held.state, HandoffEvent.ABORT, uuid)
        self._write(held, _elapsed_h(held, now), end=(HandoffEvent.ABORT, now, reason))
        return self.store.get(uuid)

    def _step(self, held: Held) -> bool:
        now = self.clock.now()
        match held.state:
            case HandoffState.OFFERED:
                self._judge(held, now)
            case HandoffState.ACCEPTED:
                return self._load(held, now)
            case HandoffState.LOADED:
                self._check(held, now)
            case HandoffState.ARMED:
                self.store.start(held.uuid, now, self._plan(held).duration_h)
            case HandoffState.RUNNING:
                return self._cycle(held, now)
            case _:
                return False
        return True

    def _judge(self, held: Held, now: datetime) -> None:
        found = self.problems(held.offer)
        if found:
            why = " ".join(finding.message for finding in found)
            self.store.advance(held.uuid, HandoffEvent.REJECT, now, reason=why[:1000])
            return
        self.store.advance(held.uuid, HandoffEvent.ACCEPT, now, tester_serial=self.serial, simulated=True)

    def _load(self, held: Held, now: datetime) -> bool:
        taken = {each.channel for each in self.store.all(only_open=True) if each.state in ON_CHANNEL}
        free = [name for name in map(str, range(1, self.channels + 1)) if name not in taken]
        if not free:
            return False
        scatter = np.random.default_rng(self._plan(held).seed).normal(0.0, OCV_SCATTER_V)
        where = ChannelRequest(
            channel=free[0],
            cell_barcode=held.offer.cell_serial,
            channel_barcode=f"{self.name}-{free[0]}",
            ocv_v=round(float(scatter), 5),
        )
        self.store.load(held.uuid, where, now)
        return True

    def _check(self, held: Held, now: datetime) -> None:
        """Open-circuit voltage and polarity, before any current flows."""
        limits, ocv_v = held.offer.limits, held.ocv_v
        sign = Polarity.NORMAL if held.offer.polarity == "normal" else Polarity.REVERSED
        if ocv_v is None or not float(limits.ocv_low_v) <= sign * ocv_v <= float(limits.ocv_high_v):
            why = f"The open-circuit voltage {ocv_v} V is outside {limits.ocv_low_v} to {limits.ocv_high_v} V."
            self.store.advance(held.uuid, HandoffEvent.FAIL, now, reason=why)
            return
        self.store.advance(held.uuid, HandoffEvent.ARM, now, ocv_v=ocv_v)

    def _cycle(self, held: Held, now: datetime) -> bool:
        if held.duration_h is None or held.started_at is None:
            raise RuntimeError(f"{held.uuid} runs without a start")
        elapsed_h = _elapsed_h(held, now)
        if elapsed_h >= held.duration_h:
            ended_at = held.started_at + timedelta(hours=held.duration_h)
            self._write(held, held.duration_h, end=(HandoffEvent.COMPLETE, ended_at, ""))
            return True
        waited_s = time.monotonic() - self._written_s.get(held.uuid, -self.snapshot_every_s)
        if elapsed_h - held.reported_h < self.snapshot_h or waited_s < self.snapshot_every_s:
            return False
        self._write(held, elapsed_h, end=None)
        return True

    def _write(self, held: Held, until_h: float, *, end: tuple[HandoffEvent, datetime, str] | None) -> None:
        """Write the file of a test as far as it is, whole or not at all, and let it be sent."""
        if held.started_at is None or held.channel is None:
            raise RuntimeError(f"{held.uuid} has measured nothing yet")
        offer = held.offer
        heading = ExportHeading(
            cell_barcode=offer.cell_serial,
            channel_barcode=f"{self.name}-{held.channel}",
            channel=held.channel,
            tester_serial=self.serial,
            started_at=held.started_at,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{offer.cell_serial}_ch{held.channel}_{held.channel_lease}_{round(until_h * 3600)}s.csv"
        path, draft = self.folder / name, self.folder / f"{name}.part"
        span = _Span(held.started_at)
        whole = held.duration_h is not None and until_h >= held.duration_h
        records = self._plan(held).records(held.started_at, None if whole else until_h)
        with draft.open("w", encoding="utf-8", newline="") as file:
            count = write_land_csv(file, span.through(records), heading)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        report = ResultReport(
            blob=hashlib.sha256(path.read_bytes()).hexdigest(),
            file_name=name,
            parser=PARSER,
            parser_version=PARSER_VERSION,
            tester_serial=self.serial,
            channel=held.channel,
            channel_lease=held.channel_lease,
            first_at=span.first,
            last_at=span.last,
            n_records=count,
            is_final=end is not None,
        )
        self.store.wrote(held.uuid, report, path, until_h, end)
        self._written_s[held.uuid] = time.monotonic()
        _log.info("file_written", cell=offer.cell_serial, file=name, records=count, is_final=end is not None)

    def _plan(self, held: Held) -> Plan:
        if held.uuid not in self._plans:
            self._plans[held.uuid] = Plan.of(held.offer, self.truth.of(held.offer))
        return self._plans[held.uuid]


class _Span:
    """Times of the first and last record that went by."""

    def __init__(self, start: datetime) -> None:
        self.first = self.last = start
        self._any = False

    def through(self, batches: Iterator[Records]) -> Iterator[Records]:
        for batch in batches:
            clock_s = batch.unix_time_second
            if len(clock_s):
                self.first = self.first if self._any else datetime.fromtimestamp(float(clock_s[0]), UTC)
                self.last = datetime.fromtimestamp(float(clock_s[-1]), UTC)
                self._any = True
            yield batch


def _elapsed_h(held: Held, now: datetime) -> float:
    if held.started_at is None:
        return 0.0
    elapsed_h = (now - held.started_at).total_seconds() / 3600.0
    return elapsed_h if held.duration_h is None else min(elapsed_h, held.duration_h)


def _no(code: str, message: str, path: str) -> Finding:
    return Finding(code, message, "Correct the offer and send it under another uuid.", path)
