"""What the driver adds to bare asyncua, as a client of the same simulated tool in another process.

For each change that a subscription brings: processor time of the whole client process. For a method call: its time.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from asyncua import Client, ua

from equipment.opcua.nodeset import JOB_RESULTS_PATH, REQUEST_RESPONSE_BY_ID, tool_namespace
from equipment.opcua.security import ToolSecurity
from equipment.opcua.streams import KEEP_ALIVE_COUNT, LIFETIME_COUNT, PUBLISHING_MS
from equipment.profiles.job_control import JobControlDriver
from equipment.sputter import SPUTTER
from tests.benchmarks.figures import Figure, Measure, Scale, medians
from tests.benchmarks.opcua_server import SITE, TOOL
from tests.benchmarks.processes import server_process

OVERHEAD_GOAL = 1.5
"""Names, types, bounds and the account of what was lost may add half."""
_UNKNOWN_JOB = "RUN-999999-0"
_QUEUE = 50_000
_SETTLE_S = 0.3


def measure(scale: Scale) -> Iterator[Figure]:
    """Changes, calls."""
    with server_process("tests.benchmarks.opcua_server", scale.folder / "tool.log") as port:
        endpoint = f"opc.tcp://127.0.0.1:{port}/"
        seconds, calls = scale.seconds(2.0), scale.size(300, 10)
        value, limit = medians(
            scale.size(5, 1),
            _run(lambda: _cpu_a_change(_driver_changes(endpoint), seconds)),
            _run(lambda: _cpu_a_change(_bare_changes(endpoint), seconds)),
        )
        yield Figure(
            "driver: processor time of a change",
            value * 1e6,
            "µs/change",
            limit * 1e6,
            OVERHEAD_GOAL,
            "asyncua: a subscription as iterator",
        )
        value, limit = medians(
            scale.size(5, 1),
            _run(lambda: _driver_call(endpoint, calls)),
            _run(lambda: _bare_call(endpoint, calls)),
        )
        yield Figure(
            "driver: a method call, median",
            value * 1e3,
            "ms",
            limit * 1e3,
            OVERHEAD_GOAL,
            "asyncua: Node.call_method",
        )


def _run(measure: Callable[[], Awaitable[float]]) -> Measure:
    async def run() -> float:
        return await measure()

    return lambda: asyncio.run(run())


async def _cpu_a_change(changes: AsyncGenerator[object, None], seconds: float) -> float:
    """Processor seconds a change, once the first burst of present values is through."""
    begun = time.monotonic()
    count, start_cpu = 0, 0.0
    async for _ in changes:
        now = time.monotonic()
        if now < begun + _SETTLE_S:
            start_cpu = time.process_time()
            continue
        count += 1
        if now >= begun + _SETTLE_S + seconds:
            break
    used = time.process_time() - start_cpu
    await changes.aclose()
    return used / count


async def _driver_changes(endpoint: str) -> AsyncGenerator[object, None]:
    async with _driver(endpoint) as driver, aclosing(driver.subscribe()) as changes:
        async for change in changes:
            yield change


async def _bare_changes(endpoint: str) -> AsyncGenerator[object, None]:
    async with Client(endpoint) as client:
        index = await client.get_namespace_index(tool_namespace(SITE, TOOL))
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=PUBLISHING_MS,
            RequestedLifetimeCount=LIFETIME_COUNT,
            RequestedMaxKeepAliveCount=KEEP_ALIVE_COUNT,
            PublishingEnabled=True,
        )
        nodes = [client.get_node(ua.NodeId(tag.string_id, index)) for tag in SPUTTER]
        async with await client.create_subscription(parameters, queue_maxsize=_QUEUE) as subscription:
            await subscription.subscribe_data_change(nodes, queuesize=1_000, sampling_interval=0.0)
            async for change in subscription:
                yield change


async def _driver_call(endpoint: str, calls: int) -> float:
    async with _driver(endpoint) as driver:
        return await _median_s(lambda: driver.response(_UNKNOWN_JOB), calls)


async def _bare_call(endpoint: str, calls: int) -> float:
    async with Client(endpoint) as client:
        index = await client.get_namespace_index(tool_namespace(SITE, TOOL))
        results = ".".join(JOB_RESULTS_PATH)
        node = client.get_node(ua.NodeId(results, index))
        method = ua.NodeId(f"{results}.{REQUEST_RESPONSE_BY_ID}", index)
        argument = ua.Variant(_UNKNOWN_JOB, ua.VariantType.String)
        return await _median_s(lambda: node.call_method(method, argument), calls)


async def _median_s(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        await call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@asynccontextmanager
async def _driver(endpoint: str) -> AsyncIterator[JobControlDriver]:
    driver = JobControlDriver(endpoint, SITE, TOOL, SPUTTER, ToolSecurity())
    await driver.connect()
    try:
        yield driver
    finally:
        await driver.disconnect()
