"""Alarms through the API: what stands, what to do, and an acknowledgement that waits for the tool."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from equipment.alarms import Alarm, record_alarm
from equipment.profiles.driver import AlarmEvent
from tests.api.builders import LINE, SPUTTER, V1, Lab, problem


def tell(lab: Lab, at: datetime, *, active: bool, acknowledged: bool, name: str = "no_strike") -> Alarm | None:
    """What the line controller stores when the tool tells of an alarm."""
    event = AlarmEvent(
        name, active, acknowledged, True, 600, "The plasma did not strike.", at, at.isoformat().encode()
    )
    with lab.service.database.write(LINE) as record:
        return record_alarm(record, SPUTTER, event, None)


@pytest.fixture
def raised_at(lab: Lab) -> datetime:
    at = lab.service.clock.now()
    tell(lab, at, active=True, acknowledged=False)
    return at


def listed(lab: Lab, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.olga.get(f"{V1}/alarms", params=filters).json()["items"]
    return found


def test_a_standing_alarm_says_why_it_is_there_and_what_to_do(lab: Lab, raised_at: datetime) -> None:
    (alarm,) = listed(lab)
    assert (alarm["tool"], alarm["name"], alarm["priority"]) == (SPUTTER, "no_strike", "medium")
    assert alarm["state"] == "unacknowledged"
    assert all(alarm[text] for text in ("message", "cause", "consequence", "action"))
    assert datetime.fromisoformat(alarm["raised_at"]) == raised_at
    assert lab.olga.get(f"{V1}/alarms/{alarm['id']}").json() == alarm


def test_an_acknowledgement_stands_when_the_tool_says_so(lab: Lab, raised_at: datetime) -> None:
    (alarm,) = listed(lab)
    path = f"{V1}/alarms/{alarm['id']}"
    etag = lab.olga.get(path).headers["etag"]
    answer = lab.olga.post(f"{path}:acknowledge", json={"comment": "gas line opened"}, headers={"If-Match": etag})
    assert answer.status_code == 202
    assert (answer.json()["verb"], answer.json()["state"]) == ("acknowledge_alarm", "requested")
    assert lab.olga.get(path).json()["state"] == "unacknowledged"
    tell(lab, raised_at + timedelta(seconds=5), active=True, acknowledged=True)
    seen = lab.olga.get(path).json()
    assert (seen["state"], seen["acknowledged_by"], seen["comment"]) == ("acknowledged", "olga", "gas line opened")
    problem(lab.olga.post(f"{path}:acknowledge", json={}), 409)
    problem(lab.olga.post(f"{path}:acknowledge", json={}, headers={"If-Match": etag}), 412)


def test_alarms_that_are_over_are_found_when_asked_for(lab: Lab, raised_at: datetime) -> None:
    tell(lab, raised_at + timedelta(seconds=5), active=False, acknowledged=True)
    assert listed(lab) == []
    assert [alarm["state"] for alarm in listed(lab, standing=False, tool=SPUTTER)] == ["normal"]
    assert listed(lab, standing=False, priority="high") == []
    problem(lab.olga.get(f"{V1}/alarms/4711"), 404)


def test_somebody_who_runs_no_tools_acknowledges_no_alarms(lab: Lab, raised_at: datetime) -> None:
    (alarm,) = listed(lab)
    assert "role_missing" in problem(lab.quentin.post(f"{V1}/alarms/{alarm['id']}:acknowledge", json={}), 403)
