"""The end of a run makes what was made, once and whole, and says what was not finished."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlmodel import select

from equipment.maintenance import count_wear, find_target, register_target
from equipment.press import PRESS as PRESS_TABLE
from equipment.profiles.driver import TagSample
from equipment.run_records import DeviationGrade, DeviationKind, deviations_of, find_run, positions_of
from equipment.states import RunState
from equipment.traces import TraceWriter
from tests.equipment.line import (
    ABORTED,
    COMPLETED,
    GOOD_FILM,
    GOOD_STROKE,
    HELD,
    LINE,
    PRESS,
    RUNNING,
    SPUTTER,
    STOPPED,
    Line,
)
from traceability.activities import ActivityRow
from traceability.clock import ManualClock
from traceability.database import RecordSession
from traceability.exposure import Atmosphere, exposure_of
from traceability.genealogy import trace_back, trace_forward
from traceability.holds import holds_on, place_hold
from traceability.items import ItemKind, find_item
from traceability.layers import layers
from traceability.materials import find_lot
from traceability.quantities import Quantity
from traceability.stock import split_lot
from traceability.units import Unit, UnitStatus, find_unit


def results(record: RecordSession, serial: str, use: str = "disc") -> list[Unit]:
    run = find_run(record, serial)
    return [find_unit(record, p.result_serial) for p in positions_of(record, run) if p.use == use and p.result_serial]


def kinds(record: RecordSession, serial: str) -> dict[DeviationKind, DeviationGrade]:
    return {d.kind: d.grade for d in deviations_of(record, find_run(record, serial))}


def test_a_completed_run_makes_coated_discs_with_their_film(line: Line) -> None:
    discs = line.discs(3)
    serial = line.finish(SPUTTER, line.film(discs), GOOD_FILM)
    with line.database.read() as record:
        coated = results(record, serial)
        assert [unit.kind for unit in coated] == [ItemKind.COATED_DISC] * 3
        assert {unit.product for unit in coated} == {"LI-LIALO2-DISC-10"}
        assert {find_unit(record, disc).status for disc in discs} == {UnitStatus.CONSUMED}
        for place, (disc, unit) in enumerate(zip(discs, coated, strict=True), 1):
            assert unit.status is UnitStatus.AVAILABLE
            assert unit.simulated
            assert unit.properties["run"] == serial
            (film,) = layers(record, unit.serial)
            assert (film.position, film.nominal_thickness_nm, film.measured_thickness_nm) == (place, 200.0, 201.5)
            assert film.material_code == "LIALO2"
            found = {node.serial for node in trace_back(record, unit.item_id)}
            assert {disc, line.li_lot, line.target, line.lialo2_lot} <= found
        assert kinds(record, serial) == {}
        assert record.get_one(ActivityRow, find_run(record, serial).activity_id).outcome == "completed"


def test_the_witness_gets_the_same_film_and_its_own_serial(line: Line) -> None:
    witness = line.witness()
    serial = line.finish(SPUTTER, line.film(line.discs(1), witness), GOOD_FILM)
    with line.database.read() as record:
        (coupon,) = results(record, serial, "witness")
        assert coupon.kind is ItemKind.WITNESS
        assert coupon.serial != witness
        assert layers(record, coupon.serial)[0].position == 8


def test_each_run_wears_its_target_by_the_energy_it_used(line: Line) -> None:
    for _ in range(2):
        line.finish(SPUTTER, line.film(line.discs(1)), GOOD_FILM)
    with line.database.read() as record:
        target = find_target(record, line.target)
        assert (target.energy_kwh, target.runs) == (Decimal("0.425"), 2)
        assert find_unit(record, line.target).status is UnitStatus.AVAILABLE


def test_discs_take_the_chambers_dose_and_keep_it_after_coating(line: Line, clock: ManualClock) -> None:
    discs = line.discs(1)
    serial = line.plan(SPUTTER, line.film(discs))
    line.start(serial)
    clock.advance(hours=3)
    line.observe(serial, RUNNING, lasting=timedelta(hours=3))
    line.observe(serial, COMPLETED, GOOD_FILM, lasting=timedelta(hours=3))
    with line.database.read() as record:
        (coated,) = results(record, serial)
        found = exposure_of(record, coated.serial)
    assert found.water_pa_s == pytest.approx(1.5e-4 * 3 * 3600)
    assert found.seconds_in[Atmosphere.CHAMBER] == pytest.approx(3 * 3600)


def test_a_stopped_deposition_leaves_held_discs_and_a_critical_deviation(line: Line) -> None:
    discs = line.discs(2)
    partial = {**GOOD_FILM, "thickness_qcm_nm": (88.0, "nm"), "thickness_remaining_nm": (112.0, "nm")}
    serial = line.finish(SPUTTER, line.film(discs), partial, STOPPED)
    with line.database.read() as record:
        coated = results(record, serial)
        assert [unit.properties["complete"] for unit in coated] == [False, False]
        holds = holds_on(record, [unit.serial for unit in coated])
        assert len(holds) == 2
        assert "112.0 of 200 nm are missing" in holds[0].reason
        assert kinds(record, serial)[DeviationKind.INCOMPLETE] is DeviationGrade.CRITICAL
        assert layers(record, coated[0].serial)[0].measured_thickness_nm == 88.0


def test_an_abort_before_any_film_gives_the_discs_back(line: Line) -> None:
    discs, witness = line.discs(2), line.witness()
    nothing = {"deposit_time_s": (0.0, "s"), "energy_kwh": (0.0, "kW.h")}
    serial = line.finish(SPUTTER, line.film(discs, witness), nothing, ABORTED)
    with line.database.read() as record:
        assert results(record, serial) == []
        assert {find_unit(record, thing).status for thing in (*discs, witness)} == {UnitStatus.AVAILABLE}
        assert holds_on(record, discs) == []
        assert find_run(record, serial).state is RunState.ABORTED


def test_an_abort_that_tells_nothing_is_taken_for_the_worst(line: Line) -> None:
    discs = line.discs(1)
    serial = line.finish(SPUTTER, line.film(discs), {}, ABORTED)
    with line.database.read() as record:
        (coated,) = results(record, serial)
        assert len(holds_on(record, [coated.serial])) == 1


def test_an_interrupted_film_stays_flagged_for_ever(line: Line) -> None:
    discs = line.discs(1)
    serial = line.plan(SPUTTER, line.film(discs))
    line.start(serial)
    line.observe(serial, RUNNING)
    line.observe(serial, HELD, {"interruption_count": (1, "1")})
    line.observe(serial, RUNNING, {"interruption_count": (1, "1")})
    line.observe(serial, COMPLETED, {**GOOD_FILM, "interruption_count": (1, "1")})
    with line.database.read() as record:
        run = find_run(record, serial)
        assert run.interrupted
        assert kinds(record, serial)[DeviationKind.INTERRUPTION] is DeviationGrade.MAJOR
        (coated,) = results(record, serial)
        assert coated.properties["interrupted"] is True
        assert coated.status is UnitStatus.AVAILABLE


@pytest.mark.parametrize(
    ("name", "value", "unit", "grade"),
    [
        ("thickness_qcm_nm", 215.0, "nm", None),
        ("thickness_qcm_nm", 225.0, "nm", DeviationGrade.MAJOR),
        ("thickness_qcm_nm", 300.0, "nm", DeviationGrade.CRITICAL),
        ("mean_power_w", 125.0, "W", DeviationGrade.CRITICAL),
        ("base_pressure_pa", 4e-4, "Pa", DeviationGrade.MAJOR),
        ("peak_substrate_temp_c", 66.0, "Cel", DeviationGrade.MAJOR),
    ],
)
def test_what_was_is_held_against_what_was_set(
    line: Line, name: str, value: float, unit: str, grade: DeviationGrade | None
) -> None:
    serial = line.finish(SPUTTER, line.film(line.discs(1)), {**GOOD_FILM, name: (value, unit)})
    with line.database.read() as record:
        assert kinds(record, serial).get(DeviationKind.OUT_OF_TOLERANCE) is grade


def test_a_pellet_takes_exactly_its_powder(line: Line) -> None:
    serial = line.finish(PRESS, line.pellet(), GOOD_STROKE)
    with line.database.read() as record:
        (pellet,) = results(record, serial, "powder")
        assert (pellet.kind, pellet.product) == (ItemKind.PELLET, "LGPS-PELLET-10")
        assert pellet.properties["thickness_mm"] == "1.162"
        assert pellet.properties["powder_mass_mg"] == "150"
        assert find_lot(record, line.lgps_lot).left == Quantity(Decimal(350), "mg")
        (node,) = [node for node in trace_back(record, pellet.item_id) if node.depth]
        assert node.serial == line.lgps_lot


def test_powder_that_was_never_pressed_stays_in_its_lot(line: Line) -> None:
    serial = line.finish(PRESS, line.pellet(), {"peak_force_kn": (0.0, "kN")}, ABORTED)
    with line.database.read() as record:
        assert results(record, serial, "powder") == []
        assert find_lot(record, line.lgps_lot).left == Quantity(Decimal(500), "mg")


def test_a_broken_pellet_is_held(line: Line) -> None:
    serial = line.finish(PRESS, line.pellet(), {**GOOD_STROKE, "fractured": (True, "")})
    with line.database.read() as record:
        (pellet,) = results(record, serial, "powder")
        assert "broke" in holds_on(record, [pellet.serial])[0].reason


def test_two_discs_and_a_pellet_become_one_stack(line: Line) -> None:
    discs = line.discs(2)
    film = line.finish(SPUTTER, line.film(discs), GOOD_FILM)
    stroke = line.finish(PRESS, line.pellet(), GOOD_STROKE)
    with line.database.read() as record:
        coated = [unit.serial for unit in results(record, film)]
        (pellet,) = results(record, stroke, "powder")
    attach = {**GOOD_STROKE, "mean_dwell_pressure_mpa": (359.0, "MPa"), "stack_thickness_mm": (2.08, "mm")}
    serial = line.finish(PRESS, line.stack(pellet.serial, coated), attach)
    with line.database.read() as record:
        stacks = {unit.serial for unit in results(record, serial)}
        assert len(stacks) == 1
        stack = find_unit(record, stacks.pop())
        assert (stack.kind, stack.product) == (ItemKind.HALF_STACK, "SYMMETRIC-STACK-10")
        found = {node.serial for node in trace_back(record, stack.item_id)}
        assert {*discs, *coated, pellet.serial, line.lgps_lot, line.target} <= found
        assert {find_unit(record, part).status for part in (*coated, pellet.serial)} == {UnitStatus.CONSUMED}
        powder = find_item(record, line.lgps_lot)
        assert stack.serial in {node.serial for node in trace_forward(record, powder.key)}


def test_discs_take_the_dose_of_the_box_while_they_are_pressed(line: Line, clock: ManualClock) -> None:
    discs = line.discs(2)
    stroke = line.finish(PRESS, line.pellet(), GOOD_STROKE)
    with line.database.read() as record:
        (pellet,) = results(record, stroke, "powder")
    serial = line.plan(PRESS, line.stack(pellet.serial, discs, "LI-DISC-10"))
    line.start(serial)
    writer = TraceWriter(line.database, line.run(serial).key, PRESS_TABLE)
    for name, values in (("glovebox_h2o_ppm", (0.05, 0.15)), ("glovebox_o2_ppm", (0.4, 0.6))):
        writer.append([TagSample(name, value, clock.now()) for value in values])
    writer.seal()
    clock.advance(minutes=10)
    line.observe(serial, RUNNING, lasting=timedelta(minutes=10))
    line.observe(serial, COMPLETED, GOOD_STROKE, lasting=timedelta(minutes=10))
    with line.database.read() as record:
        found = exposure_of(record, discs[0])
    assert found.water_pa_s == pytest.approx(0.1e-6 * 101_325 * 600)
    assert found.oxygen_pa_s == pytest.approx(0.5e-6 * 101_325 * 600)


def test_a_hold_that_comes_during_the_run_does_not_lose_the_run_but_follows_the_discs(line: Line) -> None:
    discs = line.discs(1)
    serial = line.plan(SPUTTER, line.film(discs))
    line.start(serial)
    line.observe(serial, RUNNING)
    with line.database.write(LINE) as record:
        place_hold(record, line.li_lot, reason="supplier recall")
    assert line.observe(serial, COMPLETED, GOOD_FILM) is RunState.COMPLETED
    with line.database.read() as record:
        (coated,) = results(record, serial)
        assert [hold.origin for hold in holds_on(record, [coated.serial])] == [line.li_lot]


def test_powder_that_was_taken_elsewhere_meanwhile_is_a_deviation_and_no_lost_run(line: Line) -> None:
    serial = line.plan(PRESS, line.pellet())
    line.start(serial)
    with line.database.write(LINE) as record:
        split_lot(record, line.lgps_lot, [Quantity(Decimal(400), "mg")])
    line.observe(serial, COMPLETED, GOOD_STROKE)
    with line.database.read() as record:
        assert find_lot(record, line.lgps_lot).quantity == 0
        assert kinds(record, serial)[DeviationKind.DOUBTFUL] is DeviationGrade.MAJOR


def test_a_completion_that_cannot_be_stored_leaves_no_half_of_it(
    line: Line, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    discs = line.discs(2)
    serial = line.plan(SPUTTER, line.film(discs))
    line.start(serial)
    line.observe(serial, RUNNING)

    def full(moment: datetime) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(line.database.engine.dialect, "do_commit", full)
        with pytest.raises(OSError, match="disk full"):
            line.observe(serial, COMPLETED, GOOD_FILM)
    with line.database.read() as record:
        assert find_run(record, serial).state is RunState.RUNNING
        assert record.exec(select(Unit).where(Unit.kind == ItemKind.COATED_DISC)).all() == []
    assert line.observe(serial, COMPLETED, GOOD_FILM) is RunState.COMPLETED
    with line.database.read() as record:
        assert len(results(record, serial)) == 2


def test_an_end_that_many_tell_at_once_is_completed_once(line: Line) -> None:
    serial = line.plan(SPUTTER, line.film(line.discs(2)))
    line.start(serial)
    line.observe(serial, RUNNING)
    with ThreadPoolExecutor(6) as pool:
        states = list(pool.map(lambda _: line.observe(serial, COMPLETED, GOOD_FILM), range(6)))
    assert set(states) == {RunState.COMPLETED}
    with line.database.read() as record:
        assert len(record.exec(select(Unit).where(Unit.kind == ItemKind.COATED_DISC)).all()) == 2
        assert find_target(record, line.target).runs == 1


def test_a_target_at_the_end_of_its_life_says_so(line: Line) -> None:
    with line.database.write(LINE) as record:
        register_target(record, line.target, life_kwh=Decimal(1))
        assert count_wear(record, line.target, Decimal("0.95")).used == Decimal("0.95")
    with line.database.read() as record:
        assert find_target(record, line.target).energy_kwh == Decimal("0.95")
