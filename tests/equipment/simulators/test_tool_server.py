from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from equipment.errors import ToolRefused
from equipment.jobs import JobOrder, JobState, JobStatus, JobSubstate, ReturnStatus
from equipment.opcua.isa95 import (
    ISA95_NAMESPACE,
    ISA95JobOrderDataType,
    ISA95JobResponseDataType,
    order_to_wire,
    pack,
    state_to_wire,
    unpack,
)
from equipment.opcua.security import ToolSecurity
from equipment.profiles.driver import TagSample
from equipment.profiles.job_control import JobControlDriver
from equipment.simulators.maintenance import FREEZE_HEARTBEAT, inject
from equipment.simulators.plant import Plant
from equipment.simulators.press_plant import PressPlant
from equipment.simulators.sputter_plant import SputterPlant
from equipment.simulators.tool_server import ToolServer, serve
from tests.equipment.opcua.tiny import TinyPlant, order
from tests.equipment.opcua.tools import connected, tiny_server
from tests.equipment.simulators.orders import press_order, sputter_order
from traceability.clock import wall_now

pytestmark = pytest.mark.anyio

BOUND_S = 30.0


async def until_value(driver: JobControlDriver, name: str, holds: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(BOUND_S), aclosing(driver.subscribe()) as changes:
        async for item in changes:
            if isinstance(item, TagSample) and item.name == name and holds(item.value):
                return


@asynccontextmanager
async def raw(server: ToolServer) -> AsyncIterator[tuple[Client, Callable[[str], Any]]]:
    """A bare client, and node ids of the tool by string identifier."""
    async with Client(server.endpoint) as client:
        index = await client.get_namespace_index("urn:lab:tiny")
        yield client, lambda string_id: ua.NodeId(string_id, index)


async def call(client: Client, node: Callable[[str], Any], method: str, *arguments: Any) -> Any:
    request = ua.CallMethodRequest(
        ObjectId=node("JobManagement.JobOrderControl"),
        MethodId=node(f"JobManagement.JobOrderControl.{method}"),
        InputArguments=list(arguments),
    )
    return (await client.uaclient.call([request]))[0]


TEXTS = ua.Variant([], ua.VariantType.LocalizedText, is_array=True)
JOB_ID = ua.Variant("J-1", ua.VariantType.String)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), ua.StatusCodes.BadArgumentsMissing),
        ((JOB_ID,), ua.StatusCodes.BadArgumentsMissing),
        ((JOB_ID, TEXTS, TEXTS), ua.StatusCodes.BadTooManyArguments),
        ((ua.Variant(1, ua.VariantType.Int32), TEXTS), ua.StatusCodes.BadInvalidArgument),
        ((JOB_ID, JOB_ID), ua.StatusCodes.BadInvalidArgument),
    ],
)
async def test_a_method_checks_count_and_types_of_its_arguments(
    server: ToolServer, arguments: tuple[Any, ...], status: int
) -> None:
    async with raw(server) as (client, node):
        result = await call(client, node, "Start", *arguments)
    assert result.StatusCode.value == status
    assert not result.OutputArguments


async def test_an_order_encoded_for_another_namespace_index_is_refused_and_not_half_read(server: ToolServer) -> None:
    async with raw(server) as (client, node):
        index = await client.get_namespace_index(ISA95_NAMESPACE)
        wire = order_to_wire(order("J-1"), {})
        other = ua.Variant(pack(wire, index + 1), ua.VariantType.ExtensionObject)
        whole = pack(wire, index)
        cut = ua.ExtensionObject(TypeId=whole.TypeId, Body=whole.Body[:-7])
        for bad in (other, ua.Variant(cut, ua.VariantType.ExtensionObject)):
            result = await call(client, node, "Store", bad, TEXTS)
            assert result.OutputArguments[0].Value == ReturnStatus.INVALID_REQUEST
        without_id = ua.Variant(pack(ISA95JobOrderDataType(), index), ua.VariantType.ExtensionObject)
        result = await call(client, node, "Store", without_id, TEXTS)
        assert "without an id" in result.InputArgumentDiagnosticInfos[0].AdditionalInfo
    assert server.receiver.jobs == {}


async def test_responses_are_found_by_state(driver: JobControlDriver, server: ToolServer) -> None:
    await driver.store(order("J-1"))
    await driver.store_and_start(order("J-2"))
    async with raw(server) as (client, node):
        results = "JobManagement.JobOrderResults"
        index = await client.get_namespace_index(ISA95_NAMESPACE)
        job_list = await client.get_node(node(f"{results}.JobOrderResponseList")).read_value()
        assert len(job_list) == 2
        levels = [pack(level, index) for level in state_to_wire(JobStatus("", JobState.RUNNING), index)]
        request = ua.CallMethodRequest(
            ObjectId=node(results),
            MethodId=node(f"{results}.RequestJobResponseByJobOrderState"),
            InputArguments=[ua.Variant(levels, ua.VariantType.ExtensionObject, is_array=True)],
        )
        (result,) = await client.uaclient.call([request])
    found = [unpack(ISA95JobResponseDataType, value, index).JobOrderID for value in result.OutputArguments[0].Value]
    assert found == ["J-2"]
    assert result.OutputArguments[1].Value == ReturnStatus.OK


async def test_a_restart_keeps_responses_aborts_what_ran_and_has_a_new_boot_id(tmp_path: Path) -> None:
    state = tmp_path / "tiny.json"
    async with tiny_server(state_path=state) as first, connected(first) as driver:
        await driver.store_and_start(order("J-1", epoch=4))
        await driver.abort("J-1", 4)
        await driver.store_and_start(order("J-2", epoch=4))
        await driver.store(order("J-3", epoch=4))
        before = await driver.response("J-1")
        boot = (await driver.read_all())["boot_id"].value
    async with tiny_server(state_path=state) as second, connected(second) as driver:
        assert await driver.response("J-1") == before
        assert set(await driver.jobs()) == {
            JobStatus("J-1", JobState.ABORTED),
            JobStatus("J-2", JobState.ABORTED),
            stored("J-3"),
        }
        aborted = await driver.response("J-2")
        assert aborted is not None
        assert aborted.ended_at is not None
        assert (await driver.store(order("J-2", epoch=4))) == ReturnStatus.OK | ReturnStatus.ALREADY_ACCEPTED
        with pytest.raises(ToolRefused, match="older than 4"):
            await driver.start("J-3", 3)
        samples = await driver.read_all()
        assert samples["boot_id"].value != boot
        assert samples["last_job_counter"].value == 2
        assert samples["last_job_id"].value == "J-2"
        assert samples["strokes"].value == 2


def stored(job_id: str) -> JobStatus:
    return JobStatus(job_id, JobState.NOT_ALLOWED_TO_START, JobSubstate.READY)


def test_the_state_file_is_json_and_never_half_written(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "tiny.json"
    server = tiny_server(state_path=state)
    server.receiver.store(order("J-1"))
    assert json.loads(state.read_text())["jobs"][0]["order"]["job_id"] == "J-1"
    assert [path.name for path in state.parent.iterdir()] == ["tiny.json"]


async def test_a_lost_mes_stops_new_jobs_but_not_the_one_that_runs() -> None:
    async with tiny_server(mes_lost_after_s=0.3) as server, connected(server) as driver:
        await driver.store_and_start(order("J-1"))
        async with asyncio.timeout(BOUND_S), aclosing(driver.alarms()) as alarms:
            await driver.write_mes_heartbeat(1)
            lost = await anext(alarms)
            assert (lost.name, lost.active) == ("lost_mes", True)
            assert await driver.jobs() == [JobStatus("J-1", JobState.RUNNING)]
            with pytest.raises(ToolRefused, match="heartbeat is lost") as refusal:
                await driver.store(order("J-2"))
            assert refusal.value.status == ReturnStatus.CANNOT_ACCEPT
            await driver.write_mes_heartbeat(2)
            assert not (await anext(alarms)).active
        await driver.write_mes_heartbeat(3)
        assert (await driver.store(order("J-2"))).accepted


async def test_a_frozen_heartbeat_stands_still_while_values_go_on(
    driver: JobControlDriver, server: ToolServer
) -> None:
    server.maintenance.inject(FREEZE_HEARTBEAT, True, {})
    try:
        await driver.store_and_start(order("J-1", temperature_c=400.0))
        beats, temperatures = set(), set()
        async with asyncio.timeout(BOUND_S), aclosing(driver.subscribe()) as changes:
            async for item in changes:
                assert isinstance(item, TagSample)
                if item.name == "heartbeat":
                    beats.add(item.value)
                temperatures |= {item.value} if item.name == "temperature_c" else set()
                if len(temperatures) > 20:
                    break
        assert len(beats) == 1
    finally:
        server.maintenance.inject(FREEZE_HEARTBEAT, False, {})


async def test_faults_are_switched_over_the_maintenance_object(driver: JobControlDriver, server: ToolServer) -> None:
    async with Client(server.endpoint) as client:
        await inject(client, "too_hot", True)
        async with asyncio.timeout(BOUND_S), aclosing(driver.alarms()) as alarms:
            assert (await anext(alarms)).name == "too_hot"
        await inject(client, "too_hot", False)
        with pytest.raises(ValueError, match="there is too_hot"):
            await inject(client, "earthquake", True)
        with pytest.raises(ValueError, match="takes parameter and limit"):
            await inject(client, "clamp_parameter", True, limit=1.0)


async def test_a_fast_clock_samples_no_more_often_than_the_limit_in_a_tick() -> None:
    start = wall_now()

    def fast() -> datetime:
        return start + (wall_now() - start) * 2000

    async with tiny_server(now=fast, max_samples_per_tick=3) as server, connected(server) as driver:
        await driver.store_and_start(order("J-1", temperature_c=400.0, duration_s=36_000.0))
        times: list[datetime] = []
        async with asyncio.timeout(BOUND_S), aclosing(driver.subscribe()) as changes:
            async for item in changes:
                assert isinstance(item, TagSample)
                if item.name == "temperature_c":
                    times.append(item.source_time)
                    if item.value == 400.0:
                        break
        steps = [after - before for before, after in pairwise(times[1:])]
        assert all(step >= timedelta(seconds=20) for step in steps)


async def test_two_jobs_that_end_keep_their_own_times(driver: JobControlDriver) -> None:
    for job_id in ("J-1", "J-2"):
        await driver.store_and_start(order(job_id, duration_s=0.1))
        await until_value(driver, "phase_name", lambda value: value == "completed")
    first, second = await driver.response("J-1"), await driver.response("J-2")
    assert first is not None
    assert second is not None
    assert first.ended_at is not None
    assert second.started_at is not None
    assert first.ended_at <= second.started_at


async def test_serving_ends_with_the_error_of_a_plant_that_breaks() -> None:
    class Broken(TinyPlant):
        def advance(self, dt_s: float) -> None:
            raise ArithmeticError("diverged")

    with pytest.raises(ExceptionGroup) as group:
        async with asyncio.timeout(BOUND_S):
            await serve(tiny_server(plant=Broken()))
    assert group.group_contains(ArithmeticError, match="diverged")


async def test_a_taken_port_is_told(server: ToolServer) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await tiny_server(endpoint=server.endpoint).start()


@pytest.mark.parametrize(
    ("plant", "tool", "sent"),
    [(SputterPlant(seed=1), "rh450", sputter_order()), (PressPlant(seed=1), "press", press_order())],
)
async def test_the_tools_of_the_line_are_served_read_and_run(plant: Plant, tool: str, sent: JobOrder) -> None:
    async with tiny_server(plant=plant, name=tool) as server:
        driver = JobControlDriver(server.endpoint, "lab", tool, plant.tags, ToolSecurity())
        await driver.connect()
        try:
            assert all(sample.good for sample in (await driver.read_all()).values())
            assert await driver.store(sent) == ReturnStatus.OK
            assert await driver.start(sent.job_id, 0) == ReturnStatus.OK
            await until_value(driver, "machinery_state", lambda state: state == 3)
            response = await driver.response(sent.job_id)
            assert response is not None
            assert response.order == sent
            await driver.abort(sent.job_id, 0)
            assert await driver.jobs() == [JobStatus(sent.job_id, JobState.ABORTED)]
        finally:
            await driver.disconnect()
