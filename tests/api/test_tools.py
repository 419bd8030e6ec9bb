"""Tools as people see them: their state, link, run and worst alarm, how their time was divided, what wears out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from equipment.alarms import record_alarm
from equipment.maintenance import update_notices
from equipment.profiles.driver import AlarmEvent
from tests.api.builders import LINE, PRESS, SPUTTER, V1, Lab, made, problem, refusals

STATE_PATH = f"{V1}/tools/{PRESS}:set-state"


def tool(lab: Lab, name: str = PRESS) -> dict[str, Any]:
    shown: dict[str, Any] = lab.olga.get(f"{V1}/tools/{name}").json()
    return shown


def test_a_tool_shows_its_state_its_run_and_its_worst_alarm(lab: Lab) -> None:
    run = lab.planned_pellet()
    assert tool(lab)["run"] is None
    lab.begin(run)
    with lab.service.database.write(LINE) as record:
        for name, severity in (("glovebox_oxygen_high", 300), ("interlock_open", 900)):
            now = lab.service.clock.now()
            record_alarm(record, PRESS, AlarmEvent(name, True, False, True, severity, name, now, b"1"), run)
    shown = tool(lab)
    assert shown["state"] == "ENG"
    assert shown["state_word"] == "engineering"
    assert shown["run"] == {**shown["run"], "serial": run, "state": "running", "experiment": True}
    assert shown["worst_alarm"] == {**shown["worst_alarm"], "name": "interlock_open", "priority": "high"}
    assert shown["standing_alarms"] == 2
    assert shown["simulated"] is True
    assert shown["link"] is None
    listed = lab.olga.get(f"{V1}/tools").json()
    assert [entry["name"] for entry in listed] == [PRESS, SPUTTER]
    assert listed[0] == shown


def test_a_tool_whose_alarms_nobody_can_follow_shows_a_flood(lab: Lab) -> None:
    assert tool(lab)["alarm_flood"] is False
    with lab.service.database.write(LINE) as record:
        for number in range(11):
            now = lab.service.clock.now()
            record_alarm(record, PRESS, AlarmEvent(f"alarm_{number}", True, False, True, 300, "", now, b"1"), None)
    assert tool(lab)["alarm_flood"] is True
    assert tool(lab, SPUTTER)["alarm_flood"] is False


def test_a_tool_that_is_not_there_is_said_to_be_none(lab: Lab) -> None:
    problem(lab.olga.get(f"{V1}/tools/oven"), 404)


def test_a_tool_is_taken_down_and_returned_by_the_version_that_was_read(lab: Lab) -> None:
    etag = lab.olga.get(f"{V1}/tools/{PRESS}").headers["etag"]
    down = {"state": "UDT", "sub_state": "hydraulics", "reason": "oil on the floor"}
    answer = lab.olga.post(STATE_PATH, json=down, headers={"If-Match": etag})
    assert answer.status_code == 200
    assert (answer.json()["state_word"], answer.json()["reason"]) == ("unscheduled_down", "oil on the floor")
    problem(lab.olga.post(STATE_PATH, json=down, headers={"If-Match": etag}), 412)
    back = {"state": "SBY", "reason": "seal changed"}
    assert lab.olga.post(STATE_PATH, json=back, headers={"If-Match": answer.headers["etag"]}).status_code == 200
    assert tool(lab)["state"] == "SBY"


def test_productive_is_never_set_by_hand(lab: Lab) -> None:
    findings = problem(lab.olga.post(STATE_PATH, json={"state": "PRD", "reason": "looks busy"}), 409)
    assert findings["not_by_hand"]["action"] == "Start a run."
    assert refusals(lab.service)[-1]["attempted"] == "tool.state_changed"


def test_utilisation_names_its_denominator_and_accounts_for_all_time(lab: Lab) -> None:
    now = lab.service.clock.now()
    times = {"from": (now - timedelta(hours=1)).isoformat(), "to": now.isoformat()}
    shown = lab.olga.get(f"{V1}/tools/{PRESS}/utilisation", params=times).json()
    assert "operations time" in shown["denominator"]
    assert sum(shown["seconds"].values()) == shown["total_s"] == 3600
    problem(lab.olga.get(f"{V1}/tools/{PRESS}/utilisation", params={"from": times["to"], "to": times["from"]}), 422)


def test_a_calibration_is_recorded_with_the_date_of_the_next(lab: Lab) -> None:
    due = lab.service.clock.now() + timedelta(days=180)
    body = {"instrument": "load cell", "certificate": "CAL-118", "due_at": due.isoformat()}
    assert made(lab.emil, f"/tools/{PRESS}/calibrations", body)["done_by"] == "emil"
    (listed,) = lab.olga.get(f"{V1}/tools/{PRESS}/calibrations").json()
    assert listed["instrument"] == "load cell"
    late = {**body, "due_at": (due - timedelta(days=400)).isoformat()}
    assert "due_in_the_past" in problem(lab.emil.post(f"{V1}/tools/{PRESS}/calibrations", json=late), 409)


def test_the_wear_of_a_target_is_counted_from_its_registration(lab: Lab) -> None:
    target = lab.pieces(lab.lot("LIALO2-TARGET-76", "1"), "target", "LIALO2-TARGET-76")[0]
    shown = made(lab.olga, "/targets", {"serial": target, "life_kwh": "10", "energy_kwh": "9.5"})
    assert (shown["used"], shown["runs"]) == ("0.95", 0)
    assert lab.olga.get(f"{V1}/targets/{target}").json() == shown
    problem(lab.olga.post(f"{V1}/targets", json={"serial": target}), 409)
    assert [row["serial"] for row in lab.olga.get(f"{V1}/targets").json()["items"]] == [target]


def test_what_is_due_is_noticed_until_it_was_seen_to(lab: Lab) -> None:
    due = lab.service.clock.now() + timedelta(days=2)
    made(lab.emil, f"/tools/{PRESS}/calibrations", {"instrument": "load cell", "due_at": due.isoformat()})
    with lab.service.database.write(LINE) as record:
        update_notices(record)
    (notice,) = lab.olga.get(f"{V1}/maintenance-notices").json()
    assert (notice["code"], notice["subject"]) == ("calibration_due", f"{PRESS}: load cell")
    later = {"instrument": "load cell", "due_at": (due + timedelta(days=180)).isoformat()}
    made(lab.emil, f"/tools/{PRESS}/calibrations", later)
    with lab.service.database.write(LINE) as record:
        update_notices(record)
    assert lab.olga.get(f"{V1}/maintenance-notices").json() == []
