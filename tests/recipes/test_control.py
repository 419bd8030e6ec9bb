"""A control recipe is the whole truth of one run: bound, corrected, derived, frozen, refused with all reasons."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from recipes.control import Adjustment, BoundMaterial, ControlRecipe, freeze
from recipes.errors import NotRunnable
from recipes.kinds import founding_library
from recipes.master import MasterRecipe
from recipes.run_to_run import Context, approve_beyond_clamp, begin, decide

RECIPES = {d.document_id: d for d in founding_library() if isinstance(d, MasterRecipe)}
SPUTTER = RECIPES["SP-LIALO2-200"]
PELLET = RECIPES["PR-PELLET-240"]
CONTEXT = Context("sputter-1", "TGT-000001-A", "LIALO2-0P5PA-120W", "LIALO2")


def discs(count: int = 2) -> list[BoundMaterial]:
    return [
        BoundMaterial(use="disc", material="LI-DISC-10", serial=f"DSC-{n}", position=n) for n in range(1, count + 1)
    ]


LOAD = [
    *discs(),
    BoundMaterial(use="witness", material="SI-WITNESS", serial="WIT-1", position=8),
    BoundMaterial(use="target", material="LIALO2-TARGET-76", serial="TGT-1"),
]
DIE = BoundMaterial(use="die", material="DIE-10", serial="DIE-7")


def powder(mass_mg: str) -> BoundMaterial:
    return BoundMaterial(use="powder", material="LGPS", serial="LOT-9", quantity=Decimal(mass_mg), unit="mg")


def codes(refused: pytest.ExceptionInfo[NotRunnable]) -> set[str]:
    return {finding.code for finding in refused.value.findings}


def test_a_control_recipe_carries_everything_and_names_its_master() -> None:
    control = freeze(SPUTTER, materials=LOAD)
    assert control.work_master == f"SP-LIALO2-200/1/{SPUTTER.content_hash()}"
    assert control.master == SPUTTER
    assert control.value("deposit_time_s") == Decimal("6000")
    assert control.value("max_deposit_time_s") == Decimal("7800")
    assert control.value("rf_power_w") == Decimal(120)
    assert {name for name, _, _ in control.job_parameters()} == {
        *SPUTTER.formula.parameters, "endpoint", "deposit_time_s", "max_deposit_time_s",
    }  # fmt: skip


def test_freezing_the_same_twice_gives_the_same_bytes_which_read_back() -> None:
    one, other = freeze(SPUTTER, materials=LOAD), freeze(SPUTTER, materials=LOAD)
    assert one.canonical_json() == other.canonical_json()
    assert one.content_hash() == other.content_hash()
    assert ControlRecipe.from_canonical(one.canonical_json()) == one
    assert freeze(SPUTTER, materials=LOAD, experiment=True).content_hash() != one.content_hash()


def test_the_run_to_run_time_is_used_and_told() -> None:
    move = decide(replace(begin(CONTEXT), level=-0.04, runs=5), 200, 2.0)
    control = freeze(SPUTTER, materials=LOAD, move=move)
    assert float(control.value("deposit_time_s")) == pytest.approx(move.time_s, abs=0.05)
    assert float(control.value("max_deposit_time_s")) == pytest.approx(1.3 * move.time_s, abs=0.05)
    (correction,) = control.corrections
    assert (correction.name, correction.master_value) == ("deposit_time_s", Decimal("6000"))
    assert float(control.expected_duration_s) > float(freeze(SPUTTER, materials=LOAD).expected_duration_s) + 200


def test_an_approval_beyond_the_clamp_stands_in_the_control_recipe() -> None:
    move = decide(replace(begin(CONTEXT), level=-0.4, runs=5), 200, 2.0)
    assert move.clamped
    control = freeze(SPUTTER, materials=LOAD, move=approve_beyond_clamp(move, "quentin"))
    assert "approved by quentin" in control.corrections[0].reason
    assert float(control.value("deposit_time_s")) == pytest.approx(move.wanted_time_s, abs=0.05)


def test_a_decision_for_another_thickness_is_refused() -> None:
    with pytest.raises(NotRunnable) as refused:
        freeze(SPUTTER, materials=LOAD, move=decide(begin(CONTEXT), 100, 2.0))
    assert codes(refused) == {"other_move"}


def test_force_and_die_of_a_press_stroke_are_derived() -> None:
    control = freeze(PELLET, materials=[DIE, powder("150")])
    assert control.value("force_kn") == Decimal("18.85")
    assert ("die_id", "DIE-7", "") in control.job_parameters()
    assert ("pressure_mpa", 240.0, "MPa") in control.job_parameters()


def test_a_weighed_mass_inside_the_tolerance_replaces_the_target_and_is_told() -> None:
    control = freeze(
        PELLET,
        materials=[DIE, powder("148.7")],
        adjustments={"powder_mass_mg": Adjustment(Decimal("148.7"), "weighed")},
    )
    assert control.value("powder_mass_mg") == Decimal("148.7")
    assert control.master.formula.target("powder_mass_mg") == Decimal(150)
    assert control.corrections[0].reason == "weighed"


def test_powder_bound_and_powder_reckoned_with_must_be_one_number() -> None:
    with pytest.raises(NotRunnable) as refused:
        freeze(PELLET, materials=[DIE, powder("148.7")])
    assert codes(refused) == {"wrong_amount"}


@pytest.mark.parametrize("name", ["powder_mass_mg", "dwell_s", "force"])
def test_an_adjustment_beyond_its_tolerance_is_refused(name: str) -> None:
    with pytest.raises(NotRunnable) as refused:
        freeze(PELLET, materials=[DIE, powder("150")], adjustments={name: Adjustment(Decimal(130), "so")})
    assert codes(refused) & {"outside_tolerance", "unknown_parameter"}


def test_everything_wrong_with_a_load_is_told_at_once() -> None:
    load = [
        *discs(8),
        BoundMaterial(use="disc", material="LI-DISC-10", serial="DSC-1", position=2),
        BoundMaterial(use="witness", material="SS-COLLECTOR-10", serial="COL-1"),
        BoundMaterial(use="spoon", material="SPOON", serial="SPN-1"),
    ]
    with pytest.raises(NotRunnable) as refused:
        freeze(SPUTTER, materials=load)
    assert codes(refused) == {
        "wrong_amount", "bound_twice", "position_twice", "wrong_material", "material_not_wanted", "material_missing",
    }  # fmt: skip


def test_a_coated_disc_may_take_the_place_of_a_bare_one_where_the_recipe_says_so() -> None:
    load = [
        DIE,
        BoundMaterial(use="pellet", material="LGPS-PELLET-10", serial="PEL-1"),
        *(BoundMaterial(use="disc", material="LI-LIALO2-DISC-10", serial=f"CDS-{n}") for n in (1, 2)),
    ]
    control = freeze(RECIPES["PR-ATTACH-360"], materials=load)
    assert control.value("force_kn") == Decimal("28.274")
