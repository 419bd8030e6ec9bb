"""Finished cells and their hand-offs for the tests of testers, with files as a tester would write them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from equipment.line_config import TesterConfig
from equipment.simulators.cell import simulate
from equipment.simulators.cell_law import CellTruth
from equipment.simulators.land_writer import ExportHeading, write_land_csv
from equipment.testers import handoff as handoffs
from equipment.testers import ingest
from equipment.testers.contract import EventReport, ResultReport
from equipment.testers.examination import examine
from equipment.testers.handoff_records import Handoff, TesterResult, find_handoff
from equipment.testers.handoff_states import HandoffEvent
from equipment.testers.records import CyclingSteps
from recipes.authoring import create_draft
from recipes.kinds import founding_library
from traceability.activities import ActivityKind, begin_activity
from traceability.acts import Actor, Role, system_actor
from traceability.attachments import AttachmentStore, Stored
from traceability.clock import ManualClock
from traceability.database import Database, RecordSession
from traceability.items import ItemKind
from traceability.materials import MaterialKind, define_material, receive_lot
from traceability.measurements import record_measurement
from traceability.quantities import Quantity
from traceability.units import Source, create_unit, serialise_lot

SYSTEM = system_actor("test")
AUTHOR = Actor(name="emil", roles=frozenset({Role.ENGINEER}), terminal="test")
TESTER = TesterConfig(name="LAND1", kind="land", url="http://127.0.0.1:1", channels=8, capabilities=("cycling",))
PROTOCOL = "PT-SYM-01-01/1"
CALLBACK = "http://127.0.0.1:8000/api/v1"
STEPS = CyclingSteps(current_density_ma_cm2=0.1, areal_capacity_mah_cm2=0.1)
SERIAL = "CT2001A-7"


@dataclass(frozen=True)
class Export:
    """A tester's file and what is said of it."""

    content: bytes
    report: ResultReport


class Cells:
    """A record with powder, lithium and the founding protocols, in which cells are quickly made."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.store = AttachmentStore(folder / "attachments")
        with database.write(AUTHOR) as record:
            for document in founding_library():
                if document.document_id.startswith("PT-"):
                    create_draft(record, document)
        with database.write(SYSTEM) as record:
            self._lots = {}
            for code, kind, unit in (
                ("LI-DISC-10", MaterialKind.METAL_DISC, "piece"),
                ("LGPS", MaterialKind.ELECTROLYTE_POWDER, "mg"),
            ):
                define_material(record, code, code, kind, unit)
                lot = receive_lot(record, material_code=code, quantity=Quantity(Decimal(5000), unit), released=True)
                self._lots[code] = lot.serial

    def cell(self, *, screened: bool = True, active_mg: str | None = None, diameter_mm: str = "10") -> str:
        """The serial of a cell: two bare discs on a pellet; with an active mass, a disc and a cathode."""
        with self.database.write(SYSTEM) as record:
            activity = begin_activity(record, ActivityKind.ASSEMBLY, simulated=True)
            pressed = {"die_diameter_mm": diameter_mm, "powder_mass_mg": "150"}
            powder = Source(self._lots["LGPS"], quantity=Quantity(Decimal(150), "mg"))
            pellet = create_unit(record, ItemKind.PELLET, activity=activity, properties=pressed, sources=[powder])
            count = 2 if active_mg is None else 1
            discs = serialise_lot(record, self._lots["LI-DISC-10"], count, ItemKind.DISC, product="LI-DISC-10")
            electrodes = [disc.serial for disc in discs]
            if active_mg is not None:
                mass = {"active_mass_mg": active_mg}
                some = Source(self._lots["LGPS"], quantity=Quantity(Decimal(10), "mg"))
                cathode = create_unit(
                    record, ItemKind.CATHODE_BATCH, activity=activity, properties=mass, sources=[some]
                )
                electrodes.append(cathode.serial)
            stack = create_unit(
                record,
                ItemKind.HALF_STACK,
                activity=activity,
                properties=pressed,
                sources=[Source(pellet.serial), *(Source(serial) for serial in electrodes)],
            )
            cell = create_unit(record, ItemKind.CELL, activity=activity, sources=[Source(stack.serial)])
            if screened:
                self._screen(record, cell.serial)
            return cell.serial

    def offer(
        self,
        cell: str,
        *,
        by: Actor = SYSTEM,
        tester: TesterConfig = TESTER,
        protocol: str = PROTOCOL,
        callback: str = CALLBACK,
    ) -> str:
        """The uuid of a hand-off."""
        with self.database.write(by) as record:
            return handoffs.offer(
                record,
                cell_serial=cell,
                tester=tester,
                protocol=protocol,
                callback=callback,
                experiment=True,
            ).uuid

    def report(self, uuid: str, *events: HandoffEvent, **said: object) -> None:
        """What a tester reports, one after the other; loading names a channel."""
        for event in events:
            with self.database.write(SYSTEM) as record:
                row = find_handoff(record, uuid)
                more = dict(said)
                if event is HandoffEvent.LOAD:
                    more = {"channel": "1", "channel_lease": row.id, **more}
                if event is HandoffEvent.ACCEPT:
                    more = {"tester_serial": SERIAL, "simulated": True, **more}
                news = EventReport(seq=row.last_seq + 1, event=event, at=record.clock.now(), **more)
                handoffs.report(record, row.tester, uuid, news)

    def running(self, cell: str | None = None, channel: str = "1") -> str:
        """The uuid of a hand-off whose test runs."""
        uuid = self.offer(cell or self.cell())
        self.report(uuid, HandoffEvent.ACCEPT)
        self.report(uuid, HandoffEvent.LOAD, channel=channel)
        self.report(uuid, HandoffEvent.ARM, HandoffEvent.START)
        return uuid

    def let_pass(self, hours: float) -> None:
        """Domain time goes on."""
        assert isinstance(self.database.clock, ManualClock)
        self.database.clock.advance(hours=hours)

    def find(self, uuid: str) -> Handoff:
        with self.database.read() as record:
            return find_handoff(record, uuid)

    def export(self, uuid: str, until_h: float, *, is_final: bool = False, **heading: object) -> Export:
        """The file of a test of 200 nm films, as far as it is."""
        row = self.find(uuid)
        start = row.started_at or datetime(2026, 3, 2, 8, tzinfo=UTC)
        truth = CellTruth(film_thickness_nm=(200.0, 200.0))
        batches = list(simulate(truth, STEPS, 7, started_unix_s=start.timestamp(), until_h=until_h))
        stream = io.StringIO(newline="")
        head = ExportHeading(
            cell_barcode=row.cell_serial,
            channel_barcode="LAND1-1",
            channel=row.channel or "1",
            tester_serial=SERIAL,
            started_at=start,
        )
        count = write_land_csv(stream, batches, replace(head, **heading))  # type: ignore[arg-type]
        content = stream.getvalue().encode()
        stored = self.store.put(io.BytesIO(content))
        report = ResultReport(
            blob=stored.sha256,
            file_name=f"{row.cell_serial}.csv",
            parser="argonaut-land",
            parser_version="1",
            tester_serial=SERIAL,
            channel=row.channel or "1",
            channel_lease=row.channel_lease,
            first_at=start,
            last_at=start + timedelta(hours=until_h),
            n_records=count,
            is_final=is_final,
        )
        return Export(content, report)

    def send(self, uuid: str, export: Export, **changes: object) -> TesterResult:
        """What the MES makes of a file; `changes` are other things that the tester says of it."""
        said = export.report.model_copy(update=changes)
        stored = self.store.put(io.BytesIO(export.content))
        said = said.model_copy(update={"blob": stored.sha256})
        row = self.find(uuid)
        read = examine(self.store.open(stored.sha256), said.file_name, row, is_final=said.is_final)
        with self.database.write(SYSTEM) as record:
            return ingest.receive(record, row.tester, uuid, said, stored, read)

    def stored(self, sha256: str) -> Stored:
        with self.store.open(sha256) as file:
            return Stored(sha256, file.seek(0, 2))

    def _screen(self, record: RecordSession, serial: str) -> None:
        for name, value, unit in (("ocv_v", 0.001, "V"), ("resistance_ohm", 310.0, "Ohm")):
            record_measurement(
                record,
                item_serial=serial,
                quantity_name=name,
                value=value,
                unit=unit,
                uncertainty=None,
                instrument="DMM",
                method="screening",
                measured_at=record.clock.now(),
            )


def codes(findings: Iterable[object]) -> set[str]:
    return {finding["code"] if isinstance(finding, dict) else finding.code for finding in findings}
