"""What forbids a run is said all at once, and what could be done next is worked out from orders and routes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from equipment.dispatch import blockers
from equipment.maintenance import record_calibration, register_target
from equipment.orders import OrderEvent, move_order, place_order
from equipment.ready import ReadyStep, ready_list
from equipment.runs import plan_run, start_run
from equipment.states import ToolState
from equipment.utilisation import note_link, set_tool_state
from recipes.authoring import create_draft
from recipes.control import BoundMaterial, ControlRecipe
from tests.equipment.line import COMPLETED, GOOD_FILM, LIBRARY, LINE, PRESS, RUNNING, SPUTTER, Line
from traceability.acts import Actor, Role, system_actor
from traceability.clock import ManualClock
from traceability.errors import NotFound, Refused, Severity
from traceability.exposure import Atmosphere, count_dose
from traceability.holds import place_hold
from traceability.items import ItemKind
from traceability.materials import quarantine_lot
from traceability.units import UnitEvent, advance_unit
from traceability.users import create_user


def codes(line: Line, tool: str, control: ControlRecipe, *, starting: bool = False) -> set[str]:
    with line.database.read() as record:
        found = blockers(record, tool=tool, control=control, actor=LINE, starting=starting)
    return {finding.code for finding in found if finding.severity is Severity.ERROR}


def test_nothing_forbids_a_good_run(line: Line) -> None:
    assert codes(line, SPUTTER, line.film(line.discs(7)), starting=True) == set()


def test_everything_that_forbids_a_run_is_said_at_once(line: Line, clock: ManualClock) -> None:
    used, scrapped, waiting, wet, held = line.discs(5)
    line.finish(SPUTTER, line.film([used]), GOOD_FILM)
    with line.database.write(LINE) as record:
        register_target(record, line.serialise(record, line.lialo2_lot, ItemKind.TARGET, "LIALO2-TARGET-76")[0])
        advance_unit(record, scrapped, UnitEvent.SCRAP, reason="dropped")
        place_hold(record, held, reason="dark spot")
        count_dose(record, wet, Atmosphere.AIR, clock.now() - timedelta(hours=1), clock.now(), 5000, 0, 1e5)
        record_calibration(record, SPUTTER, "pressure gauge", due_at=clock.now() + timedelta(hours=2))
        set_tool_state(record, SPUTTER, ToolState.UNSCHEDULED_DOWN, reason="water leak")
        note_link(record, SPUTTER, False, note="no route to host")
    clock.advance(hours=9)
    with line.database.write(LINE) as record:
        fresh = line.serialise(record, line.li_lot, ItemKind.DISC, "LI-DISC-10")[0]
    line.plan(PRESS, line.pellet())
    control = line.film([used, scrapped, waiting, wet, held, fresh])
    assert codes(line, SPUTTER, control, starting=True) == {
        "unit_used",
        "unit_scrapped",
        "queue_time_exceeded",
        "water_dose_exceeded",
        "held",
        "calibration_due",
        "tool_down",
        "tool_not_linked",
    }


def test_a_target_at_the_end_of_its_life_is_not_used(line: Line) -> None:
    with line.database.write(LINE) as record:
        register_target(record, line.target, life_kwh=Decimal(2), energy_kwh=Decimal(2))
    assert codes(line, SPUTTER, line.film(line.discs(1))) == {"target_used_up"}


def test_a_disc_is_planned_once(line: Line) -> None:
    discs = line.discs(1)
    line.plan(SPUTTER, line.film(discs))
    assert codes(line, SPUTTER, line.film(discs)) == {"unit_taken"}


def test_powder_is_promised_once(line: Line) -> None:
    for _ in range(3):
        line.plan(PRESS, line.pellet())
    assert codes(line, PRESS, line.pellet()) == {"lot_promised"}


def test_powder_in_quarantine_is_not_pressed(line: Line) -> None:
    with line.database.write(LINE) as record:
        quarantine_lot(record, line.lgps_lot, reason="moisture in doubt")
    assert codes(line, PRESS, line.pellet()) == {"lot_in_quarantine"}


def test_a_run_needs_a_tool_of_its_class_that_is_free(line: Line) -> None:
    assert codes(line, PRESS, line.film(line.discs(1))) >= {"wrong_tool"}
    serial = line.plan(SPUTTER, line.film(line.discs(1)))
    line.start(serial)
    line.observe(serial, RUNNING)
    control = line.film(line.discs(1))
    assert codes(line, SPUTTER, control) == set()
    assert codes(line, SPUTTER, control, starting=True) == {"tool_busy"}
    with line.database.read() as record, pytest.raises(NotFound):
        blockers(record, tool="sputter-9", control=control, actor=LINE)


def test_things_of_the_wrong_kind_or_without_a_place_are_named(line: Line) -> None:
    control = line.film(line.discs(1))
    wrong = control.model_copy(
        update={
            "materials": (
                BoundMaterial(use="disc", material="LI-DISC-10", serial=line.li_lot, position=1),
                BoundMaterial(use="disc", material="LI-DISC-10", serial=line.discs(1)[0]),
                BoundMaterial(use="witness", material="SI-WITNESS", serial="WIT-999999-9", position=8),
                BoundMaterial(use="target", material="LIALO2-TARGET-76", serial=line.target),
            )
        }
    )
    assert codes(line, SPUTTER, wrong) == {"wrong_kind", "position_missing", "bad_serial"}


def test_product_needs_an_effective_recipe(line: Line) -> None:
    assert codes(line, SPUTTER, line.film(line.discs(1), experiment=False)) == {"recipe_not_effective"}


def test_a_recipe_that_changed_since_it_was_frozen_is_not_run(line: Line) -> None:
    control = line.film(line.discs(1))
    stale = control.model_copy(update={"work_master": control.work_master[:-1] + "x"})
    assert codes(line, SPUTTER, stale) == {"recipe_changed"}


def test_only_trained_people_run_a_tool(line: Line) -> None:
    with line.database.write(system_actor("setup")) as record:
        user = create_user(
            record, name="nora", full_name="Nora", password="correct horse battery", roles=[Role.OPERATOR]
        )
    nora = Actor(name="nora", user_id=user.id, roles=frozenset({Role.OPERATOR}))
    control = line.film(line.discs(1))
    with pytest.raises(Refused) as refusal, line.database.write(nora) as record:
        plan_run(record, tool=SPUTTER, control_recipe=control)
    assert [f.code for f in refusal.value.findings if f.severity is Severity.ERROR] == ["not_trained"]


def test_a_hold_between_planning_and_start_stops_the_start(line: Line, operator: Actor) -> None:
    discs = line.discs(1)
    serial = line.plan(SPUTTER, line.film(discs))
    with line.database.write(LINE) as record:
        place_hold(record, discs[0], reason="scratch")
    with pytest.raises(Refused) as refusal, line.database.write(operator) as record:
        start_run(record, serial)
    assert "held" in {finding.code for finding in refusal.value.findings}


# -- what could be done next ---------------------------------------------------------------------------------------


def order_routes(line: Line, route_id: str, quantity: int) -> str:
    with line.database.write(LINE) as record:
        route = LIBRARY[route_id]
        create_draft(record, route)
        return place_order(
            record, product="CELL", route_id=route_id, route_version=route.version, quantity=quantity
        ).serial


def ready(line: Line, tool: str | None) -> dict[str, ReadyStep]:
    with line.database.read() as record:
        return {step.step: step for step in ready_list(record, tool)}


def test_an_order_makes_its_steps_ready_as_their_parts_appear(line: Line) -> None:
    order = order_routes(line, "RT-COATED-DISC", 3)
    (step,) = ready(line, SPUTTER).values()
    assert (step.order, step.step, step.remaining, step.ready) == (order, "sputter", 3, False)
    assert {finding.path for finding in step.missing} == {"LI-DISC-10", "SI-WITNESS"}
    discs, witness = line.discs(2), line.witness()
    (step,) = ready(line, SPUTTER).values()
    assert step.ready
    assert step.candidates == {"disc": tuple(discs), "witness": (witness,), "target": (line.target,)}
    assert "SP-LIALO2-200" in step.recipes
    assert ready(line, PRESS) == {}


def test_what_is_planned_or_made_is_not_asked_for_again(line: Line) -> None:
    order = order_routes(line, "RT-COATED-DISC", 3)
    discs, witness = line.discs(2), line.witness()
    with line.database.write(LINE) as record:
        serial = plan_run(record, tool=SPUTTER, control_recipe=line.film(discs, witness), order=order).serial
    assert ready(line, SPUTTER)["sputter"].remaining == 1
    line.start(serial)
    line.observe(serial, RUNNING)
    line.observe(serial, COMPLETED, GOOD_FILM)
    assert ready(line, SPUTTER)["sputter"].remaining == 1
    with line.database.write(LINE) as record:
        move_order(record, order, OrderEvent.HOLD, reason="customer asks")
    assert ready(line, SPUTTER) == {}


def test_a_cell_order_asks_for_pellets_stacks_and_hands(line: Line) -> None:
    order_routes(line, "RT-SYMMETRIC-COATED", 2)
    steps = ready(line, PRESS)
    assert {name: step.ready for name, step in steps.items()} == {"pellet": True, "attach": False}
    assert steps["pellet"].remaining == 2
    assert steps["pellet"].candidates == {"powder": (line.lgps_lot,)}
    by_hand = ready(line, None)
    assert list(by_hand) == ["assemble"]
    assert {finding.path for finding in by_hand["assemble"].missing} == {"SYMMETRIC-STACK-10"}


def test_discs_that_are_held_or_waited_too_long_are_no_candidates(line: Line, clock: ManualClock) -> None:
    order_routes(line, "RT-COATED-DISC", 3)
    old = line.discs(1)
    clock.advance(hours=9)
    held, good = line.discs(2)
    with line.database.write(LINE) as record:
        place_hold(record, held, reason="spot")
    candidates = ready(line, SPUTTER)["sputter"].candidates["disc"]
    assert candidates == (good,)
    assert old[0] not in candidates
