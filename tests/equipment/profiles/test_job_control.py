from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from typing import Any

import pytest

from equipment.errors import LinkLost, OutcomeUnknown, TagMismatch, ToolRefused, ToolUnreachable, WriteRefused
from equipment.jobs import JobOrder, JobState, JobStatus, JobSubstate, JobVerb, Parameter, ReturnStatus
from equipment.opcua.nodeset import EXPORT_SITE, ORDER_VERBS
from equipment.opcua.security import ToolSecurity
from equipment.press import PRESS
from equipment.profiles.driver import AlarmEvent, TagSample, ToolDriver
from equipment.profiles.job_control import JobControlDriver
from equipment.simulators.maintenance import CLAMP_PARAMETER, CORRUPT_PARAMETER
from equipment.simulators.tool_server import ToolServer
from equipment.sputter import SPUTTER
from equipment.tags import JobParameter, Tag, TagTable, TagType, TagValue
from tests.equipment.opcua.tiny import TINY, TinyPlant, order
from tests.equipment.opcua.tools import connected, endpoint, tiny_server
from traceability.clock import wall_now

pytestmark = pytest.mark.anyio

BOUND_S = 30.0


async def until_job(driver: ToolDriver, job_id: str, state: JobState, substate: JobSubstate) -> None:
    """Wait for a state, by the changes that the tool publishes, not by time."""
    async with asyncio.timeout(BOUND_S), aclosing(driver.subscribe()) as changes:
        async for _ in changes:
            if JobStatus(job_id, state, substate) in await driver.jobs():
                return


async def next_alarm(alarms: AsyncIterator[AlarmEvent]) -> AlarmEvent:
    async with asyncio.timeout(BOUND_S):
        return await anext(alarms)


async def test_every_tag_is_read_with_its_type(driver: JobControlDriver) -> None:
    samples = await driver.read_all()
    assert set(samples) == {tag.name for tag in TINY}
    assert all(type(samples[tag.name].value) is tag.type.python_type for tag in TINY)
    assert all(sample.good for sample in samples.values())
    assert samples["simulated"].value is True


async def test_a_subscription_tells_present_values_first_and_then_changes(driver: JobControlDriver) -> None:
    seen: dict[str, list[TagValue | None]] = {}
    async with asyncio.timeout(BOUND_S), aclosing(driver.subscribe()) as changes:
        async for item in changes:
            assert isinstance(item, TagSample)
            seen.setdefault(item.name, []).append(item.value)
            if len(seen) == len(TINY.tags) and len(seen["heartbeat"]) >= 3:
                break
    beats = [int(value) for value in seen["heartbeat"] if value is not None]
    assert beats == list(range(beats[0], beats[0] + len(beats)))


async def test_an_order_is_read_back_as_it_was_sent(driver: JobControlDriver) -> None:
    sent = order("J-1")
    assert await driver.store(sent) == ReturnStatus.OK
    response = await driver.response("J-1")
    assert response is not None
    assert response.order is not None
    assert response.order.content_hash() == sent.content_hash()
    assert response.order.parameters == sent.parameters
    assert response.order.materials == sent.materials
    assert response.status == JobStatus("J-1", JobState.NOT_ALLOWED_TO_START, JobSubstate.READY)
    assert response.started_at is None


async def test_the_same_order_twice_is_accepted_once(driver: JobControlDriver, server: ToolServer) -> None:
    assert await driver.store_and_start(order("J-1")) == ReturnStatus.OK
    again = await driver.store_and_start(order("J-1"))
    assert again == ReturnStatus.OK | ReturnStatus.ALREADY_ACCEPTED
    assert await driver.start("J-1", 1) == ReturnStatus.OK | ReturnStatus.ALREADY_ACCEPTED
    assert [job.job_id for job in await driver.jobs()] == ["J-1"]


async def test_other_content_under_a_known_id_is_refused(driver: JobControlDriver) -> None:
    await driver.store(order("J-1"))
    with pytest.raises(ToolRefused, match="other content") as refusal:
        await driver.store(order("J-1", temperature_c=41.0))
    assert refusal.value.status == ReturnStatus.INVALID_REQUEST


def changed(base: JobOrder, *parameters: Parameter) -> JobOrder:
    by_name = {p.name: p for p in (*base.parameters, *parameters)}
    return JobOrder(base.job_id, base.work_master, tuple(by_name.values()), base.materials, base.epoch)


@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        (Parameter("temperature_c", 401.0, "Cel"), "within"),
        (Parameter("temperature_c", float("nan"), "Cel"), "within"),
        (Parameter("temperature_c", 40.0, "K"), "is in K, not Cel"),
        (Parameter("temperature_c", 40, "Cel"), "not Double"),
        (Parameter("cycles", 2.0, "1"), "not Int64"),
        (Parameter("gentle", 1), "not Boolean"),
        (Parameter("pressure_pa", 1.0, "Pa"), "not known"),
    ],
)
async def test_an_order_with_a_wrong_parameter_is_refused_with_the_reason(
    driver: JobControlDriver, parameter: Parameter, why: str
) -> None:
    with pytest.raises(ToolRefused, match=why) as refusal:
        await driver.store(changed(order("J-1"), parameter))
    assert refusal.value.status == ReturnStatus.INVALID_REQUEST
    assert await driver.jobs() == []


async def test_an_order_without_a_required_parameter_is_refused(driver: JobControlDriver) -> None:
    bare = JobOrder("J-1", "tiny-recipe/1/0", (Parameter("duration_s", 1.0, "s"),), epoch=1)
    with pytest.raises(ToolRefused, match="temperature_c is missing"):
        await driver.store(bare)


async def test_a_job_runs_through_pause_resume_and_stop(driver: JobControlDriver) -> None:
    await driver.store(order("J-1"))
    assert await driver.start("J-1", 1) == ReturnStatus.OK
    assert await driver.jobs() == [JobStatus("J-1", JobState.RUNNING)]
    await driver.pause("J-1", 1)
    await until_job(driver, "J-1", JobState.INTERRUPTED, JobSubstate.SUSPENDED)
    await driver.resume("J-1", 1)
    await until_job(driver, "J-1", JobState.RUNNING, JobSubstate.NONE)
    await driver.stop("J-1", 1)
    await until_job(driver, "J-1", JobState.ENDED, JobSubstate.CLOSED)
    response = await driver.response("J-1")
    assert response is not None
    assert response.started_at is not None
    assert response.ended_at is not None
    assert response.ended_at > response.started_at
    elapsed = response.actuals["elapsed_s"]
    assert elapsed.unit == "s"
    assert isinstance(elapsed.value, float)
    await driver.clear("J-1", 1)
    assert await driver.response("J-1") is None


async def test_a_job_that_runs_to_its_end_is_completed(driver: JobControlDriver) -> None:
    await driver.store_and_start(order("J-1", duration_s=0.2))
    await until_job(driver, "J-1", JobState.ENDED, JobSubstate.COMPLETED)
    samples = await driver.read_all()
    assert samples["last_job_id"].value == "J-1"


async def test_an_aborted_job_is_aborted_at_once(driver: JobControlDriver) -> None:
    await driver.store_and_start(order("J-1"))
    await driver.abort("J-1", 1)
    assert await driver.jobs() == [JobStatus("J-1", JobState.ABORTED)]


async def test_a_stored_job_can_be_cancelled_and_a_running_one_can_not(driver: JobControlDriver) -> None:
    await driver.store(order("J-1"))
    await driver.cancel("J-1", 1)
    assert await driver.jobs() == []
    await driver.store_and_start(order("J-2"))
    with pytest.raises(ToolRefused) as refusal:
        await driver.cancel("J-2", 1)
    assert refusal.value.status == ReturnStatus.INVALID_STATUS


async def test_a_stored_job_can_be_updated(driver: JobControlDriver) -> None:
    await driver.store(order("J-1"))
    await driver.update(order("J-1", temperature_c=60.0))
    response = await driver.response("J-1")
    assert response is not None
    assert response.order is not None
    assert response.order.parameter("temperature_c") == 60.0


@pytest.mark.parametrize("verb", sorted(set(JobVerb) - ORDER_VERBS))
async def test_every_verb_on_an_unknown_job_says_so(driver: JobControlDriver, verb: JobVerb) -> None:
    methods: dict[JobVerb, Any] = {
        JobVerb.START: driver.start, JobVerb.REVOKE_START: driver.revoke_start, JobVerb.PAUSE: driver.pause,
        JobVerb.RESUME: driver.resume, JobVerb.STOP: driver.stop, JobVerb.ABORT: driver.abort,
        JobVerb.CANCEL: driver.cancel, JobVerb.CLEAR: driver.clear,
    }  # fmt: skip
    with pytest.raises(ToolRefused) as refusal:
        await methods[verb]("nobody", 1)
    assert refusal.value.status == ReturnStatus.UNKNOWN_JOB


async def test_a_busy_tool_starts_no_second_job(driver: JobControlDriver) -> None:
    await driver.store_and_start(order("J-1"))
    with pytest.raises(ToolRefused, match="J-1 is being worked on") as refusal:
        await driver.store_and_start(order("J-2"))
    assert refusal.value.status == ReturnStatus.CANNOT_ACCEPT
    assert [job.job_id for job in await driver.jobs()] == ["J-1"]


async def test_a_permissive_of_the_plant_refuses_the_start_and_says_which(
    driver: JobControlDriver, server: ToolServer
) -> None:
    plant = server.receiver.plant
    assert isinstance(plant, TinyPlant)
    plant.door_open = True
    try:
        with pytest.raises(ToolRefused, match="the door is open"):
            await driver.store_and_start(order("J-1"))
    finally:
        plant.door_open = False
    assert await driver.jobs() == []


async def test_an_old_epoch_is_refused_for_orders_verbs_and_writes(driver: JobControlDriver) -> None:
    await driver.write_epoch(7)
    await driver.store(order("J-1", epoch=7))
    for act in (driver.store(order("J-2", epoch=6)), driver.start("J-1", 6), driver.store_and_start(order("J-1"))):
        with pytest.raises(ToolRefused, match="older than 7") as refusal:
            await act
        assert refusal.value.status == ReturnStatus.CANNOT_ACCEPT
    with pytest.raises(WriteRefused, match="BadInvalidState"):
        await driver.write_epoch(6)
    assert (await driver.read_all())["controller_epoch"].value == 7
    await driver.start("J-1", 8)
    with pytest.raises(ToolRefused, match="older than 8"):
        await driver.abort("J-1", 7)
    assert await driver.jobs() == [JobStatus("J-1", JobState.RUNNING)]


@pytest.mark.parametrize(
    ("fault", "settings", "held"),
    [
        (CLAMP_PARAMETER, {"parameter": "temperature_c", "limit": 30.0}, 30.0),
        (CORRUPT_PARAMETER, {"parameter": "temperature_c", "factor": 1.1}, 44.0),
    ],
)
async def test_a_tool_that_changes_a_parameter_is_caught_by_reading_back(
    driver: JobControlDriver, server: ToolServer, fault: str, settings: dict[str, object], held: float
) -> None:
    server.maintenance.inject(fault, True, settings)
    try:
        sent = order("J-1", temperature_c=40.0)
        assert await driver.store(sent) == ReturnStatus.OK
        response = await driver.response("J-1")
    finally:
        server.maintenance.inject(fault, False, {})
    assert response is not None
    assert response.order is not None
    assert response.order.parameter("temperature_c") == pytest.approx(held)
    assert response.order.content_hash() != sent.content_hash()


async def test_an_alarm_is_raised_acknowledged_and_cleared(driver: JobControlDriver, server: ToolServer) -> None:
    async with aclosing(driver.alarms()) as alarms:
        server.maintenance.inject("too_hot", True, {})
        raised = await next_alarm(alarms)
        assert (raised.name, raised.active, raised.acknowledged, raised.retain) == ("too_hot", True, False, True)
        assert raised.severity == 700
        await driver.acknowledge(raised, "seen")
        seen = await next_alarm(alarms)
        assert (seen.active, seen.acknowledged, seen.retain) == (True, True, True)
        with pytest.raises(WriteRefused, match="BadEventIdUnknown"):
            await driver.acknowledge(raised)
        with pytest.raises(WriteRefused, match="BadConditionBranchAlreadyAcked"):
            await driver.acknowledge(seen)
        server.maintenance.inject("too_hot", False, {})
        gone = await next_alarm(alarms)
        assert (gone.active, gone.acknowledged, gone.retain) == (False, True, False)


async def test_an_alarm_that_went_unseen_is_retained_and_told_to_who_comes_later(
    driver: JobControlDriver, server: ToolServer
) -> None:
    async with aclosing(driver.alarms()) as alarms:
        server.maintenance.inject("too_hot", True, {})
        await next_alarm(alarms)
        server.maintenance.inject("too_hot", False, {})
        assert (await next_alarm(alarms)).retain
    async with aclosing(driver.alarms()) as alarms:
        refreshed = await next_alarm(alarms)
        assert (refreshed.active, refreshed.acknowledged, refreshed.retain) == (False, False, True)
        await driver.acknowledge(refreshed)
        assert not (await next_alarm(alarms)).retain


async def test_history_fills_the_gap_that_a_cut_leaves(driver: JobControlDriver, server: ToolServer) -> None:
    began = wall_now()
    await driver.store_and_start(order("J-1", duration_s=0.6))
    await until_job(driver, "J-1", JobState.ENDED, JobSubstate.COMPLETED)
    samples = await driver.history("temperature_c", began - timedelta(seconds=1))
    values = [sample.value for sample in samples if sample.source_time >= began]
    assert len(values) >= 5
    times = [sample.source_time for sample in samples]
    assert times == sorted(times)
    middle = times[len(times) // 2]
    assert [s.source_time for s in await driver.history("temperature_c", middle)] == [t for t in times if t >= middle]
    until = await driver.history("temperature_c", times[0], middle)
    assert [s.source_time for s in until] == [t for t in times if t <= middle]


async def test_two_tools_at_other_namespace_indexes_both_understand_their_orders(server: ToolServer) -> None:
    async with tiny_server(namespace_padding=5) as other, connected(server) as near, connected(other) as far:
        for driver in (near, far, near):
            job_id = f"J-{id(driver)}"
            assert (await driver.store(order(job_id))).accepted
            response = await driver.response(job_id)
            assert response is not None
            assert response.order is not None
            assert response.order.content_hash() == order(job_id).content_hash()
        await near.cancel(f"J-{id(near)}", 1)


async def test_a_tool_that_is_not_there_is_unreachable() -> None:
    driver = JobControlDriver(endpoint(), "lab", "tiny", TINY, ToolSecurity())
    with pytest.raises(ToolUnreachable, match="can't be reached"):
        await driver.connect()
    with pytest.raises(LinkLost):
        await driver.read_all()


async def test_a_tool_with_another_address_space_is_named_with_all_differences(server: ToolServer) -> None:
    table = TagTable(
        "tiny", (), tuple(
            _altered(tag) for tag in TINY.tags if tag.name in ("temperature_c", "phase_name", "strokes", "heartbeat")
        ), (JobParameter("x", TagType.DOUBLE),), (), (),
    )  # fmt: skip
    driver = JobControlDriver(server.endpoint, "lab", "tiny", table, ToolSecurity())
    with pytest.raises(TagMismatch) as mismatch:
        await driver.connect()
    assert mismatch.value.problems == (
        "tag phase_name is not a Int32",
        "tag strokes (Components.Heater.Blows) is missing",
        "tag temperature_c is in Cel, not K",
        "tag strokes is in no unit, not 1",
    )
    stranger = JobControlDriver(server.endpoint, "lab", "furnace", TINY, ToolSecurity())
    with pytest.raises(TagMismatch, match="urn:lab:furnace is missing"):
        await stranger.connect()


def _altered(tag: Tag) -> Tag:
    match tag.name:
        case "temperature_c":
            return replace(tag, unit="K", setpoint=None)
        case "phase_name":
            return replace(tag, type=TagType.INT32)
        case "strokes":
            return replace(tag, path=("Components", "Heater", "Blows"))
    return tag


async def test_a_tool_that_goes_away_ends_streams_and_leaves_commands_unknown() -> None:
    server = tiny_server()
    await server.start()
    driver = JobControlDriver(server.endpoint, "lab", "tiny", TINY, ToolSecurity())
    await driver.connect()
    try:
        async with asyncio.timeout(BOUND_S), aclosing(driver.subscribe()) as changes:
            await anext(changes)
            await server.stop()
            with pytest.raises(LinkLost):
                async for _ in changes:
                    pass
        with pytest.raises((OutcomeUnknown, LinkLost)):
            await driver.store(order("J-1"))
    finally:
        await driver.disconnect()


@pytest.mark.parametrize(("name", "tool", "table"), [("argonaut_sputter.xml", "sputter", SPUTTER),
                                                     ("argonaut_press.xml", "press", PRESS)])  # fmt: skip
async def test_the_driver_works_against_an_exported_nodeset(name: str, tool: str, table: TagTable) -> None:
    nodeset = (resources.files("equipment.nodesets") / name).read_text(encoding="utf-8")
    plant = StillPlant(table)
    async with tiny_server(plant=plant, name=tool, site=EXPORT_SITE, nodeset=nodeset, namespace_padding=2) as server:
        driver = JobControlDriver(server.endpoint, EXPORT_SITE, tool, table, ToolSecurity())
        await driver.connect()
        try:
            assert set(await driver.read_all()) == {tag.name for tag in table}
            sent = JobOrder("J-1", "r/1/0", tuple(_middle(p) for p in table.job_parameters), epoch=3)
            assert await driver.store(sent) == ReturnStatus.OK
            response = await driver.response("J-1")
            assert response is not None
            assert response.order is not None
            assert response.order.content_hash() == sent.content_hash()
            assert await driver.start("J-1", 3) == ReturnStatus.OK
            await driver.pause("J-1", 3)
            await until_job(driver, "J-1", JobState.INTERRUPTED, JobSubstate.SUSPENDED)
            await driver.resume("J-1", 3)
            await driver.stop("J-1", 3)
            await until_job(driver, "J-1", JobState.ENDED, JobSubstate.CLOSED)
            async with aclosing(driver.alarms()) as alarms:
                plant.standing = table.alarms[0].name
                assert (await next_alarm(alarms)).name == table.alarms[0].name
        finally:
            await driver.disconnect()


def _middle(definition: JobParameter) -> Parameter:
    low, high = definition.low or 0.0, definition.high or 1.0
    value: TagValue = {"Boolean": True, "String": "x"}.get(definition.type.value, (low + high) / 2)
    return Parameter(definition.name, definition.type.python_type(value), definition.unit)


class StillPlant(TinyPlant):
    """Has the tags of any table, and stands still."""

    def __init__(self, table: TagTable) -> None:
        super().__init__()
        self.tags = table
        self.standing = ""

    def start(self, order: JobOrder) -> list[str]:
        self._left_s = 1e9
        self.activity = self.activity.__class__.RUNNING
        return []

    def sample(self) -> dict[str, TagValue]:
        own = [t for t in self.tags if t.role not in ("link", "identification")]
        return {tag.name: tag.type.python_type(0) for tag in own} | {"interlock_ok": True}

    def alarms(self) -> dict[str, bool]:
        return {alarm.name: alarm.name == self.standing for alarm in self.tags.alarms}
