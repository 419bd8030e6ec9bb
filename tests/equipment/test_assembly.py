"""A cell is closed from its stack with all evidence, and one that is shorted never reaches a tester."""

from __future__ import annotations

from decimal import Decimal

import pytest

from equipment.assembly import Part, assemble_cell, screen_cell
from equipment.run_records import find_run, positions_of
from recipes.routes import Route
from tests.equipment.line import GOOD_FILM, GOOD_STROKE, LIBRARY, PRESS, SPUTTER, Line
from traceability.acts import Actor
from traceability.errors import Refused
from traceability.genealogy import trace_back
from traceability.holds import holds_on
from traceability.items import ItemKind
from traceability.materials import find_lot
from traceability.measurements import measurements_of
from traceability.quantities import Quantity
from traceability.units import UnitStatus, find_unit

TORQUE = {"screw_torque_n_m": [Decimal("1.95"), Decimal("2.00"), Decimal("2.05")]}
SOUND = {"ocv_v": [Decimal("0.002")], "resistance_ohm": [Decimal(180)]}


def route(name: str) -> Route:
    found = LIBRARY[name]
    assert isinstance(found, Route)
    return found


COATED, PRISTINE = route("RT-SYMMETRIC-COATED"), route("RT-SYMMETRIC-PRISTINE")


def made_by(line: Line, run: str) -> list[str]:
    with line.database.read() as record:
        found = positions_of(record, find_run(record, run))
    return list(dict.fromkeys(p.result_serial for p in found if p.result_serial and p.use != "witness"))


def stack(line: Line, discs: list[str], product: str) -> str:
    (pellet,) = made_by(line, line.finish(PRESS, line.pellet(), GOOD_STROKE))
    attach = {**GOOD_STROKE, "mean_dwell_pressure_mpa": (360.0, "MPa")}
    (made,) = made_by(line, line.finish(PRESS, line.stack(pellet, discs, product), attach))
    return made


def coated_stack(line: Line) -> str:
    discs = made_by(line, line.finish(SPUTTER, line.film(line.discs(2)), GOOD_FILM))
    return stack(line, discs, "LI-LIALO2-DISC-10")


def parts(line: Line, stack_serial: str) -> list[Part]:
    return [
        Part("half_stack", stack_serial),
        Part("collector", line.ss_lot, Quantity(Decimal(2), "piece")),
        Part("screw", line.screw_lot, Quantity(Decimal(3), "piece")),
    ]


def test_a_symmetric_cell_is_closed_with_its_torques_and_everything_in_it(line: Line, operator: Actor) -> None:
    made = coated_stack(line)
    with line.database.write(operator) as record:
        cell = assemble_cell(record, route=COATED, step="assemble", parts=parts(line, made), logs=TORQUE)
    with line.database.read() as record:
        cell = find_unit(record, cell.serial)
        assert (cell.kind, cell.product, cell.status) == (ItemKind.CELL, "CELL-SYM-COATED", UnitStatus.AVAILABLE)
        assert cell.properties["configuration"] == "Li@LIALO2 | LGPS | Li@LIALO2"
        assert cell.properties["screw_torque_n_m"] == ["1.95", "2", "2.05"]
        assert cell.properties["area_cm2"] == "0.7854"
        assert cell.simulated
        inside = {node.serial for node in trace_back(record, cell.item_id)}
        assert {line.li_lot, line.lgps_lot, line.target, line.ss_lot, line.screw_lot, made} <= inside
        assert find_lot(record, line.ss_lot).left == Quantity(Decimal(18), "piece")
        assert find_lot(record, line.screw_lot).left == Quantity(Decimal(27), "piece")


def test_the_pristine_control_is_made_of_bare_discs(line: Line, operator: Actor) -> None:
    made = stack(line, line.discs(2), "LI-DISC-10")
    with line.database.write(operator) as record:
        cell = assemble_cell(record, route=PRISTINE, step="assemble", parts=parts(line, made), logs=TORQUE)
        assert cell.properties["configuration"] == "Li | LGPS | Li"


def test_bare_discs_do_not_make_a_coated_cell(line: Line, operator: Actor) -> None:
    made = stack(line, line.discs(2), "LI-DISC-10")
    with pytest.raises(Refused) as refusal, line.database.write(operator) as record:
        assemble_cell(record, route=COATED, step="assemble", parts=parts(line, made), logs=TORQUE)
    assert [finding.code for finding in refusal.value.findings].count("wrong_electrode") == 2


def test_everything_wrong_with_an_assembly_is_said_at_once(line: Line, operator: Actor) -> None:
    made = coated_stack(line)
    wrong = [
        Part("half_stack", made),
        Part("collector", line.screw_lot, Quantity(Decimal(1), "piece")),
        Part("gasket", line.ss_lot, Quantity(Decimal(1), "piece")),
    ]
    torque = {"screw_torque_n_m": [Decimal("2.5"), Decimal(2)]}
    with pytest.raises(Refused) as refusal, line.database.write(operator) as record:
        assemble_cell(record, route=COATED, step="assemble", parts=wrong, logs=torque)
    codes = {finding.code for finding in refusal.value.findings}
    assert {"wrong_material", "wrong_amount", "part_not_wanted", "log_incomplete", "log_out_of_limits"} <= codes
    with line.database.read() as record:
        assert find_unit(record, made).status is UnitStatus.AVAILABLE


def test_a_stack_is_used_once(line: Line, operator: Actor) -> None:
    made = coated_stack(line)
    with line.database.write(operator) as record:
        assemble_cell(record, route=COATED, step="assemble", parts=parts(line, made), logs=TORQUE)
    with pytest.raises(Refused) as refusal, line.database.write(operator) as record:
        assemble_cell(record, route=COATED, step="assemble", parts=parts(line, made), logs=TORQUE)
    assert "unit_used" in {finding.code for finding in refusal.value.findings}


def test_a_sound_cell_passes_its_screening_with_the_numbers_on_record(line: Line, operator: Actor) -> None:
    made = coated_stack(line)
    with line.database.write(operator) as record:
        cell = assemble_cell(record, route=COATED, step="assemble", parts=parts(line, made), logs=TORQUE)
        result = screen_cell(
            record, cell.serial, route=COATED, step="screen", logs=SOUND, instrument="multimeter M-1"
        )
        assert result.passed
    with line.database.read() as record:
        assert find_unit(record, cell.serial).properties["screening"] == "passed"
        values = {m.quantity_name: m.value for m in measurements_of(record, [cell.item_id])}
        assert values == {"ocv_v": 0.002, "resistance_ohm": 180.0}
        assert holds_on(record, [cell.serial]) == []


def test_a_shorted_cell_is_held_with_its_reason(line: Line, operator: Actor) -> None:
    made = coated_stack(line)
    with line.database.write(operator) as record:
        cell = assemble_cell(record, route=COATED, step="assemble", parts=parts(line, made), logs=TORQUE)
        shorted = {**SOUND, "resistance_ohm": [Decimal("0.4")]}
        result = screen_cell(record, cell.serial, route=COATED, step="screen", logs=shorted, instrument="M-1")
        assert not result.passed
    with line.database.read() as record:
        (hold,) = holds_on(record, [cell.serial])
        assert "resistance_ohm 0.4" in hold.reason
        assert find_unit(record, cell.serial).properties["screening"] == "failed"


def test_a_screening_without_a_value_is_refused(line: Line, operator: Actor) -> None:
    made = coated_stack(line)
    with line.database.write(operator) as record:
        cell = assemble_cell(record, route=COATED, step="assemble", parts=parts(line, made), logs=TORQUE)
    with pytest.raises(Refused, match="not complete"), line.database.write(operator) as record:
        screen_cell(record, cell.serial, route=COATED, step="screen", logs={"ocv_v": [Decimal(0)]}, instrument="M-1")
