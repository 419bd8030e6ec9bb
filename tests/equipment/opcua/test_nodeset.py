from __future__ import annotations

import hashlib
import re
from importlib import resources

import pytest

from equipment.jobs import JobVerb
from equipment.opcua.isa95 import variant
from equipment.opcua.nodeset import EXPORT_SITE, EXPORTED, isa95_nodeset, render
from equipment.opcua.units import NO_CODE, symbol_of, to_eu_information, unece_unit_id
from equipment.press import PRESS
from equipment.sputter import SPUTTER
from equipment.tags import TagType
from tests.equipment.opcua.tiny import TINY


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_nodesets_are_those_of_the_tag_tables(name: str) -> None:
    tool, table = EXPORTED[name]
    stored = (resources.files("equipment.nodesets") / name).read_text(encoding="utf-8")
    assert stored == render(table, EXPORT_SITE, tool), (
        f"{name} is not what its tag table makes: run `python -m equipment.opcua.nodeset` and commit the file"
    )


def test_a_nodeset_holds_every_tag_method_and_alarm() -> None:
    text = render(SPUTTER, "lab", "rh450")
    for string_id in [tag.string_id for tag in SPUTTER]:
        assert f'NodeId="ns=1;s={string_id}"' in text
    for verb in JobVerb:
        assert f'NodeId="ns=1;s=JobManagement.JobOrderControl.{verb}"' in text
    for alarm in SPUTTER.alarms:
        assert f'NodeId="ns=1;s=Alarms.{alarm.name}"' in text


def test_only_writable_tags_are_writable_in_the_nodeset() -> None:
    text = render(TINY, "lab", "tiny")
    writable = re.findall(r'NodeId="ns=1;s=([\w.]+)"[^>]*UserAccessLevel="3"', text)
    assert writable == [tag.string_id for tag in TINY if tag.writable]


def test_the_job_control_nodeset_is_the_one_that_its_readme_names() -> None:
    digest = hashlib.sha256(isa95_nodeset().read_bytes()).hexdigest()
    assert digest in (resources.files("equipment.nodesets") / "README.md").read_text(encoding="utf-8")


def test_a_unit_survives_the_way_to_the_wire_and_back() -> None:
    units = {tag.unit for table in (SPUTTER, PRESS) for tag in table} | {
        p.unit for table in (SPUTTER, PRESS) for p in (*table.job_parameters, *table.job_actuals)
    }
    for unit in units - {""}:
        assert symbol_of(to_eu_information(unit)) == unit


def test_units_carry_their_unece_codes() -> None:
    assert unece_unit_id("C81") == 4405297  # the example of OPC 10000-8, 5.6.3.3
    assert to_eu_information("Pa").UnitId == unece_unit_id("PAL")
    assert to_eu_information("%").UnitId == 20529
    assert to_eu_information("sccm").UnitId == NO_CODE


@pytest.mark.parametrize(("kind", "value"), [(TagType.DOUBLE, 1), (TagType.INT64, 1.0), (TagType.INT32, True)])
def test_a_value_of_another_type_is_not_sent(kind: TagType, value: bool | int | float) -> None:
    with pytest.raises(ValueError, match="not"):
        variant(kind, value)
