"""A dry run tells everything that is wrong with a recipe, at once, and never raises because of what it was given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import InvalidRecipe
from recipes.kinds import DocumentKind, founding_library, schema, validate
from recipes.limits import PRESS, RULES, SPUTTER, EquipmentClass
from recipes.validation import validate_master
from traceability.errors import Severity

LIBRARY = {document.document_id: document.to_yaml() for document in founding_library()}
Edit = Callable[[dict[str, Any]], object]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def plain(document_id: str) -> dict[str, Any]:
    """A founding document as plain data that a test may spoil."""
    data: dict[str, Any] = yaml.safe_load(LIBRARY[document_id])
    return data


def parameters(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["formula"]["parameters"]
    return found


def phase(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(p for operation in data["procedure"] for p in operation["phases"] if p["phase"] == name)


def codes(data: Any) -> set[tuple[str, str]]:
    return {(finding.code, finding.path) for finding in validate(data).findings}


@pytest.mark.parametrize("document_id", LIBRARY)
def test_the_founding_library_has_no_finding(document_id: str) -> None:
    assert validate(plain(document_id)).findings == ()


SPUTTER_MISTAKES: list[tuple[str, Edit, str, str]] = [
    ("wrong unit", lambda d: parameters(d)["rf_power_w"].update(unit="kW"), "wrong_unit",
     "formula.parameters.rf_power_w.unit"),
    ("beyond hard limit", lambda d: parameters(d)["rf_power_w"].update(target=150), "out_of_hard_limits",
     "formula.parameters.rf_power_w.target"),
    ("beyond soft limit", lambda d: parameters(d)["working_pressure_pa"].update(target=1.5), "out_of_soft_limits",
     "formula.parameters.working_pressure_pa.target"),
    ("hard limit widened", lambda d: parameters(d)["rf_power_w"].update(hard_high=200), "limit_widened",
     "formula.parameters.rf_power_w.hard_high"),
    ("limits crossed", lambda d: parameters(d)["rf_power_w"].update(hard_low=130, hard_high=100), "limits_crossed",
     "formula.parameters.rf_power_w.hard_low"),
    ("unknown parameter", lambda d: parameters(d).update(rf_powr_w={"target": 1, "unit": "W"}), "unknown_parameter",
     "formula.parameters.rf_powr_w"),
    ("missing parameter", lambda d: parameters(d).pop("rotation_rpm"), "missing_parameter",
     "formula.parameters.rotation_rpm"),
    ("time typed", lambda d: parameters(d).update(deposit_time_s={"target": 1, "unit": "s"}), "derived_parameter",
     "formula.parameters.deposit_time_s"),
    ("tolerance in percent", lambda d: parameters(d)["working_pressure_pa"].update(tolerance=10),
     "tolerance_too_wide", "formula.parameters.working_pressure_pa.tolerance"),
    ("unknown option", lambda d: d["formula"]["choices"].update(endpoint="clock"), "unknown_option",
     "formula.choices.endpoint"),
    ("missing choice", lambda d: d["formula"]["choices"].clear(), "missing_choice", "formula.choices.endpoint"),
    ("oxygen with lithium", lambda d: parameters(d).update(oxygen_fraction={"target": 0.05, "unit": "1"}),
     "oxygen_with_bare_lithium", "formula.parameters.oxygen_fraction.target"),
    ("strike below working pressure", lambda d: parameters(d)["working_pressure_pa"].update(target=4),
     "inconsistent_parameters", "formula.parameters.working_pressure_pa.target"),
    ("crystal without factor", lambda d: d["formula"]["choices"].update(endpoint="qcm"), "tooling_factor_missing",
     "formula.parameters.qcm_tooling_factor"),
    ("time-out below 1.3 times the prediction", lambda d: phase(d, "deposit").update(timeout_s=7000),
     "timeout_too_short", "procedure.2.phases.0.timeout_s"),
    ("time-out far above it", lambda d: phase(d, "deposit").update(timeout_s=90000), "timeout_too_long",
     "procedure.2.phases.0.timeout_s"),
    ("waiting longer than the time-out", lambda d: phase(d, "presputter").update(timeout_s=300), "never_completes",
     "procedure.1.phases.4.completion"),
    ("setting against waiting", lambda d: phase(d, "gas")["setpoints"].update(
        chamber_pressure_pa={"parameter": "working_pressure_pa"}), "never_completes",
     "procedure.1.phases.0.completion"),
    ("phases out of order", lambda d: d["procedure"].insert(0, d["procedure"].pop()), "unreachable_phase",
     "procedure.1.phases.0"),
    ("phase missing", lambda d: d["procedure"][1]["phases"].pop(1), "missing_phase", "procedure"),
    ("phase twice", lambda d: d["procedure"][0]["phases"].append(d["procedure"][0]["phases"][0]), "phase_twice",
     "procedure.0.phases.4"),
    ("unknown phase", lambda d: phase(d, "cool").update(phase="chill"), "unknown_phase", "procedure.3.phases.0"),
    ("unknown signal", lambda d: phase(d, "cool")["completion"].update(signal="oven_temp_c"), "unknown_signal",
     "procedure.3.phases.0.completion.signal"),
    ("signal in another unit", lambda d: phase(d, "rough")["completion"].update(unit="mbar"), "wrong_unit",
     "procedure.0.phases.1.completion"),
    ("setpoint without its parameter", lambda d: phase(d, "ramp")["setpoints"]["rf_forward_power_w"].update(
        rate="ramp"), "unknown_parameter", "procedure.1.phases.3.setpoints.rf_forward_power_w.rate"),
    ("condition without value", lambda d: phase(d, "rough")["completion"].pop("value"), "invalid_value",
     "procedure.0.phases.1.completion"),
    ("wrong type", lambda d: parameters(d)["rf_power_w"].update(target="much"), "invalid_value",
     "formula.parameters.rf_power_w.target"),
    ("true is no number", lambda d: parameters(d)["rf_power_w"].update(target=True), "invalid_value",
     "formula.parameters.rf_power_w.target"),
    ("unknown field", lambda d: d.update(titel="x"), "unknown_field", "titel"),
    ("missing field", lambda d: d.pop("family"), "missing_field", "family"),
    ("no target material", lambda d: d["materials_in"].pop(), "missing_material", "materials_in"),
    ("a use twice", lambda d: d["materials_in"].append(d["materials_in"][0]), "use_twice", "materials_in"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "code", "path"), [m[1:] for m in SPUTTER_MISTAKES], ids=[m[0] for m in SPUTTER_MISTAKES]
)
def test_each_mistake_in_a_sputter_recipe_is_found_at_its_place(edit: Edit, code: str, path: str) -> None:
    data = plain("SP-LIALO2-200")
    edit(data)
    assert (code, path) in codes(data)


def test_every_finding_says_what_to_do() -> None:
    for _, edit, _, _ in SPUTTER_MISTAKES:
        data = plain("SP-LIALO2-200")
        edit(data)
        for finding in validate(data).findings:
            assert finding.message.endswith((".", "?"))
            assert finding.action.endswith((".", "?")), finding


def test_all_mistakes_are_told_at_once_even_beside_a_broken_part() -> None:
    data = plain("SP-LIALO2-200")
    parameters(data)["rf_power_w"]["target"] = "much"
    parameters(data)["argon_flow_sccm"]["target"] = 500
    del parameters(data)["cool_to_c"]
    phase(data, "presputter")["timeout_s"] = 10
    phase(data, "rough")["held"] = "pray"
    data["titel"] = 1
    assert {code for code, _ in codes(data)} >= {
        "invalid_value",
        "out_of_hard_limits",
        "missing_parameter",
        "never_completes",
        "unknown_field",
    }
    with pytest.raises(InvalidRecipe) as refused:
        validate_master(data).accepted()
    assert len(refused.value.findings) >= 6


def test_a_warning_alone_does_not_refuse() -> None:
    data = plain("SP-LIALO2-200")
    parameters(data)["argon_flow_sccm"]["target"] = 80
    report = validate_master(data)
    assert [finding.severity for finding in report.findings] == [Severity.WARNING]
    assert report.document is not None


def test_a_typed_force_is_refused_and_its_disagreement_told() -> None:
    data = plain("PR-PELLET-240")
    parameters(data)["force_kn"] = {"target": 28.27, "unit": "kN"}
    (finding,) = validate(data).findings
    assert finding.code == "derived_parameter"
    assert "18.85 kN, not 28.27 kN" in finding.message
    parameters(data)["force_kn"]["target"] = 18.85
    (agreeing,) = validate(data).findings
    assert agreeing.code == "derived_parameter"
    assert "disagrees" not in agreeing.message


def test_a_force_beyond_the_press_is_refused() -> None:
    data = plain("PR-ATTACH-360")
    parameters(data)["die_diameter_mm"].update(target=16)
    assert ("force_above_press", "formula.parameters.pressure_mpa.target") in codes(data)


def test_the_limits_that_an_author_left_out_are_part_of_the_signed_content() -> None:
    recipe = validate_master(plain("SP-LIALO2-200")).accepted()
    power = recipe.formula.parameters["rf_power_w"]
    assert (power.hard_low, power.hard_high) == (SPUTTER.parameters["rf_power_w"].hard.low, Decimal(141))
    assert b'"hard_high":"141"' in recipe.canonical_json()


@given(JSON)
def test_anything_at_all_gives_a_report_and_no_exception(data: Any) -> None:
    assert validate({"format": "argonaut-master-recipe", "equipment_class": data}).errors
    assert validate(data if isinstance(data, dict) else {"format": data}).errors


@given(st.data(), JSON)
def test_a_recipe_spoiled_anywhere_gives_a_report_and_no_exception(data: st.DataObject, rubbish: Any) -> None:
    spoiled = copy.deepcopy(SPOILABLE)
    here: Any = spoiled
    while isinstance(here, dict | list) and here:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or data.draw(st.booleans()):
            here[key] = rubbish
            break
        here = here[key]
    validate(spoiled)


SPOILABLE = plain("SP-LIALO2-200")


@given(st.sampled_from(sorted(SPUTTER.parameters)), st.decimals(-1000, 1000, places=5))
def test_a_target_is_refused_exactly_when_it_is_outside_the_hard_limits(name: str, target: Decimal) -> None:
    data = copy.deepcopy(SPOILABLE)
    rule = SPUTTER.parameters[name]
    data["formula"]["parameters"][name] = {"target": str(target), "unit": rule.unit}
    refused = ("out_of_hard_limits", f"formula.parameters.{name}.target") in codes(data)
    assert refused == (target not in rule.hard)


@pytest.mark.parametrize("rules", [SPUTTER, PRESS], ids=["sputter", "press"])
def test_each_default_lies_inside_its_limits(rules: Any) -> None:
    for rule in rules.parameters.values():
        assert rule.default in rule.soft
        assert rule.default in rule.hard
        assert rule.soft.low >= rule.hard.low
        assert rule.soft.high <= rule.hard.high


def test_the_published_schema_accepts_the_library_and_refuses_what_validation_refuses() -> None:
    published = jsonschema_rs.Draft202012Validator(schema(DocumentKind.RECIPE))
    data = plain("SP-LIALO2-200")
    published.validate(data)
    parameters(data)["rf_power_w"]["target"] = 150
    with pytest.raises(jsonschema_rs.ValidationError, match="141"):
        published.validate(data)


@pytest.mark.parametrize("equipment_class", list(EquipmentClass))
def test_the_schema_gives_a_form_unit_limits_and_help_of_every_parameter(equipment_class: EquipmentClass) -> None:
    condition = next(
        entry
        for entry in schema(DocumentKind.RECIPE)["allOf"]
        if entry["if"]["properties"]["equipment_class"]["const"] == equipment_class
    )
    fields = condition["then"]["properties"]["formula"]["properties"]["parameters"]["properties"]
    assert set(fields) == set(RULES[equipment_class].parameters)
    for field in fields.values():
        assert field["description"]
        assert "const" in field["properties"]["unit"]
        assert field["properties"]["target"]["minimum"] <= field["properties"]["target"]["maximum"]
