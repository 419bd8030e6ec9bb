"""Routes and test protocols say all that a line and a tester need, and mistakes in them are all found."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
import yaml

from recipes.kinds import founding_library, validate
from recipes.master import MasterRecipe
from recipes.protocols import MAX_RECORDS, CyclingBody, TestProtocol
from recipes.routes import Route, log_findings

LIBRARY = founding_library()
TEXTS = {document.document_id: document.to_yaml() for document in LIBRARY}
PROTOCOLS = [document for document in LIBRARY if isinstance(document, TestProtocol)]
ROUTES = [document for document in LIBRARY if isinstance(document, Route)]
Edit = Callable[[dict[str, Any]], object]


def codes(document_id: str, edit: Edit) -> set[tuple[str, str]]:
    data = yaml.safe_load(TEXTS[document_id])
    edit(data)
    return {(finding.code, finding.path) for finding in validate(data).findings}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.document_id)
def test_everything_that_a_founding_route_names_is_in_the_library(route: Route) -> None:
    by_id = {document.document_id: document for document in LIBRARY}
    assert route.uses() <= set(by_id)
    for step in route.steps:
        for name in step.recipes:
            recipe = by_id[name]
            assert isinstance(recipe, MasterRecipe)
            assert recipe.equipment_class is step.equipment_class
            assert step.produces is not None
            assert step.produces.material in {material.material for material in recipe.materials_out}
            for material in recipe.materials_in:
                line = next(line for line in step.materials if line.use == material.use)
                assert line.material in {material.material, *material.alternatives}


def test_a_cell_is_pressed_assembled_screened_and_handed_over_in_this_order() -> None:
    route = next(route for route in ROUTES if route.document_id == "RT-SYMMETRIC-COATED")
    assert [step.step for step in route.steps] == ["discs", "pellet", "attach", "assemble", "screen", "handoff"]


ROUTE_MISTAKES: list[tuple[str, Edit, str, str]] = [
    ("step twice", lambda d: d["steps"][1].update(step="discs"), "step_twice", "steps.1.step"),
    ("waiting for the future", lambda d: d["steps"][2]["waits"][0].update(since_step="assemble"),
     "not_an_earlier_step", "steps.2.waits.0.since_step"),
    ("taken from nowhere", lambda d: d["steps"][2]["materials"][0].update(from_step="pelet"), "not_an_earlier_step",
     "steps.2.materials.0.from_step"),
    ("taken from where it is not made", lambda d: d["steps"][3]["materials"][0].update(from_step="pellet"),
     "not_made_there", "steps.3.materials.0.from_step"),
    ("equipment without recipe", lambda d: d["steps"][1].pop("recipes"), "missing_field", "steps.1.recipes"),
    ("manual with recipe", lambda d: d["steps"][3].update(recipes=["PR-PELLET-240"]), "unknown_field",
     "steps.3.recipes"),
    ("hand-off without protocol", lambda d: d["steps"][5].pop("protocols"), "missing_field", "steps.5.protocols"),
    ("product never made", lambda d: d["product"].update(material="CELL-X"), "product_not_made", "product"),
    ("limits crossed", lambda d: d["steps"][3]["logs"][0].update(low=3), "limits_crossed", "steps.3.logs.0.low"),
    ("no such kind", lambda d: d["steps"][0].update(kind="magic"), "invalid_value", "steps.0.kind"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "code", "path"), [m[1:] for m in ROUTE_MISTAKES], ids=[m[0] for m in ROUTE_MISTAKES]
)
def test_each_mistake_in_a_route_is_found_at_its_place(edit: Edit, code: str, path: str) -> None:
    assert (code, path) in codes("RT-SYMMETRIC-COATED", edit)


def test_logged_torques_are_checked_one_a_screw() -> None:
    step = next(r for r in ROUTES if r.document_id == "RT-SYMMETRIC-COATED").step("assemble")
    assert log_findings(step, {"screw_torque_n_m": [Decimal("2.0"), Decimal("1.9"), Decimal("2.1")]}) == []
    findings = log_findings(step, {"screw_torque_n_m": [Decimal("2.0"), Decimal("2.5")], "mood": [Decimal(1)]})
    assert {finding.code for finding in findings} == {"log_incomplete", "log_out_of_limits", "unknown_log"}


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.document_id)
def test_a_protocol_body_is_complete_and_keeps_its_records_few(protocol: TestProtocol) -> None:
    body = protocol.body
    assert body.expected_records <= MAX_RECORDS
    assert CyclingBody.from_canonical(body.canonical_json()) == body
    told = orjson.loads(body.canonical_json())
    assert (told["format"], told["version"]) == ("argonaut-cycling", 1)
    assert Decimal(told["area_cm2"]) == Decimal("0.7854")


def test_the_long_test_of_the_paper_takes_one_hour_each_way_for_3000_hours() -> None:
    body = next(p for p in PROTOCOLS if p.document_id == "PT-SYM-01-01").body
    assert body.half_cycle_s == 3600
    assert body.expected_duration_h == 3001
    assert body.current_ma == Decimal("0.07854")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda d: d["body"].update(max_duration_h=1), "duration_too_short"),
        (lambda d: d["body"]["record"].update(interval_s=1800), "too_few_records"),
        (lambda d: d["body"]["record"].update(interval_s=10), "too_many_records"),
        (lambda d: d["body"].update(version=2), "invalid_value"),
        (lambda d: d["body"].update(current_density_ma_cm2=0), "invalid_value"),
    ],
)
def test_each_mistake_in_a_protocol_is_found(edit: Edit, code: str) -> None:
    assert code in {found for found, _ in codes("PT-SYM-01-01", edit)}


def test_a_document_of_no_known_format_is_told_which_there_are() -> None:
    (finding,) = validate({"format": "argonaut-rout"}).findings
    assert finding.code == "unknown_format"
    assert "argonaut-route" in finding.action
