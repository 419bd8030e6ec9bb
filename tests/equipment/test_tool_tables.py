"""The tag tables of the two tools hold together: what names something names something that is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipment.press import PRESS
from equipment.simulators.sputter_watch import BARS_RESUMING, RESPONSES
from equipment.sputter import JUDGED_IN_DEPOSIT, SPUTTER, oxygen_flow_sccm
from equipment.tags import TagRole, TagTable, TagType


@pytest.mark.parametrize("table", [SPUTTER, PRESS], ids=lambda table: table.equipment_class)
def test_every_analogue_signal_has_unit_range_and_resolution(table: TagTable) -> None:
    for tag in table:
        if tag.role in (TagRole.PROCESS_VALUE, TagRole.SETPOINT):
            assert tag.unit, tag.name
            assert tag.low is not None
            assert tag.high is not None
            assert tag.low < tag.high
            assert tag.resolution
        if tag.setpoint:
            assert table[tag.setpoint].role is TagRole.SETPOINT
            assert table[tag.setpoint].unit == tag.unit


@pytest.mark.parametrize("table", [SPUTTER, PRESS], ids=lambda table: table.equipment_class)
def test_every_number_of_a_job_has_hard_limits_and_every_alarm_its_reasons(table: TagTable) -> None:
    for parameter in table.job_parameters:
        if parameter.type is not TagType.STRING:
            assert parameter.unit, parameter.name
            assert parameter.low is not None
            assert parameter.high is not None
            assert parameter.low < parameter.high
    for alarm in table.alarms:
        assert 1 <= alarm.severity <= 1000
        assert all(text.endswith(".") for text in (alarm.message, alarm.cause, alarm.consequence, alarm.action))


def test_what_the_tool_answers_and_what_is_judged_is_in_its_table() -> None:
    alarms = {alarm.name for alarm in SPUTTER.alarms}
    assert set(RESPONSES) <= alarms
    assert set(BARS_RESUMING) <= alarms
    for parameter, tag in JUDGED_IN_DEPOSIT.items():
        assert parameter in {known.name for known in SPUTTER.job_parameters}
        assert SPUTTER[tag].role is TagRole.PROCESS_VALUE


@given(argon=st.floats(1.0, 100.0), fraction=st.floats(0.0, 0.5))
def test_the_oxygen_flow_makes_its_share_of_the_gas(argon: float, fraction: float) -> None:
    oxygen = oxygen_flow_sccm(argon, fraction)
    assert oxygen / (argon + oxygen) == pytest.approx(fraction, abs=1e-12)


def test_an_impossible_share_of_oxygen_is_refused() -> None:
    with pytest.raises(ValueError, match="oxygen fraction"):
        oxygen_flow_sccm(30.0, 1.0)
