"""A small line for the tests of the record: materials, released lots, and the things made of them."""

from __future__ import annotations

from decimal import Decimal

from traceability.activities import ActivityKind, ActivityRow, begin_activity
from traceability.acts import Actor, system_actor
from traceability.database import Database, RecordSession
from traceability.genealogy import EdgeKind
from traceability.items import ItemKind
from traceability.materials import Lot, MaterialKind, define_material, receive_lot
from traceability.quantities import Quantity
from traceability.units import Source, Unit, create_unit, serialise_lot

LINE: Actor = system_actor("line-controller")


def define_materials(database: Database) -> None:
    with database.write(LINE) as record:
        define_material(record, "LI-10", "Lithium disc 10 mm x 0.5 mm", MaterialKind.METAL_DISC, "piece")
        define_material(record, "LGPS", "Li10GeP2S12 powder", MaterialKind.ELECTROLYTE_POWDER, "mg")
        define_material(record, "LALO", "LiAlO2 target", MaterialKind.TARGET, "piece")
        define_material(record, "SI", "Si witness coupon", MaterialKind.WITNESS, "piece")


def receive(record: RecordSession, code: str, amount: str, unit: str, released: bool = True) -> Lot:
    return receive_lot(record, material_code=code, quantity=Quantity(Decimal(amount), unit), released=released)


def sputter(record: RecordSession, disc: str, target: str, activity: ActivityRow | None = None) -> Unit:
    activity = activity or begin_activity(record, ActivityKind.SPUTTER_RUN)
    sources = [Source(disc, EdgeKind.TRANSFORMED), Source(target)]
    return create_unit(record, ItemKind.COATED_DISC, activity=activity, sources=sources)


def make_cell(record: RecordSession, powder: str, discs: list[str]) -> Unit:
    press = begin_activity(record, ActivityKind.PRESS_RUN)
    pellet = create_unit(
        record,
        ItemKind.PELLET,
        activity=press,
        sources=[Source(powder, quantity=Quantity(Decimal(150), "mg"))],
    )
    parts = [Source(pellet.serial), *(Source(disc) for disc in discs)]
    return create_unit(record, ItemKind.CELL, activity=press, sources=parts)


class Thread:
    """One symmetric cell of two coated discs, with all that went into it."""

    def __init__(self, database: Database) -> None:
        define_materials(database)
        with database.write(LINE) as record:
            self.lithium = receive(record, "LI-10", "20", "piece").serial
            self.powder = receive(record, "LGPS", "1000", "mg").serial
            targets = receive(record, "LALO", "1", "piece")
            self.target = serialise_lot(record, targets.serial, 1, ItemKind.TARGET)[0].serial
            self.discs = [unit.serial for unit in serialise_lot(record, self.lithium, 2, ItemKind.DISC)]
            run = begin_activity(record, ActivityKind.SPUTTER_RUN)
            self.coated = [sputter(record, disc, self.target, run).serial for disc in self.discs]
            self.cell = make_cell(record, self.powder, self.coated).serial
