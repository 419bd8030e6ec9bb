"""The tool that `bench_opcua` listens to, in a process of its own: a simulated sputter run on a fast clock."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta

from equipment.simulators.sputter_plant import SputterPlant
from equipment.simulators.tool_server import ToolServer, serve
from tests.equipment.simulators.orders import sputter_order
from traceability.clock import wall_now

FACTOR = 40.0
SITE, TOOL = "bench", "sputter"


def server(port: int) -> ToolServer:
    """A tool that deposits from the start, domain time running `FACTOR` times as fast as real time."""
    start, begun_s = wall_now(), time.monotonic()
    plant = SputterPlant(seed=3)
    if refusals := plant.start(sputter_order()):
        raise RuntimeError("; ".join(refusals))
    return ToolServer(
        plant,
        name=TOOL,
        site=SITE,
        endpoint=f"opc.tcp://127.0.0.1:{port}/",
        now=lambda: start + timedelta(seconds=(time.monotonic() - begun_s) * FACTOR),
        history_s=0.5,
    )


if __name__ == "__main__":
    asyncio.run(serve(server(int(sys.argv[1]))))
