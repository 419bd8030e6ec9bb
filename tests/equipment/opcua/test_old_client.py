"""Tools and gateways built on the older `opcua` package must be able to work with our tools.

It runs in a process of its own: it starts threads, and warns of things that are errors in this suite.
"""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from equipment.simulators.tool_server import ToolServer

pytestmark = pytest.mark.anyio

PROGRAM = """
import json, sys, threading
from opcua import Client, ua

class Handler:
    def __init__(self):
        self.beats, self.events, self.enough = [], [], threading.Event()
    def datachange_notification(self, node, value, data):
        self.beats.append(value)
        if len(self.beats) >= 3:
            self.enough.set()
    def event_notification(self, event):
        self.events.append(event)

client = Client(sys.argv[1])
client.connect()
try:
    index = client.get_namespace_index("urn:lab:tiny")
    node = lambda text: client.get_node(ua.NodeId(text, index))
    root = client.get_objects_node().get_child([f"{index}:Machines", f"{index}:tiny"])
    process = root.get_child([f"{index}:Monitoring", f"{index}:Process", f"{index}:Temperature"])
    handler = Handler()
    subscription = client.create_subscription(100, handler)
    subscription.subscribe_data_change(node("Link.Heartbeat"))
    control = node("JobManagement.JobOrderControl")
    method = node("JobManagement.JobOrderControl.Start")
    comment = ua.Variant([ua.LocalizedText("epoch=1")], ua.VariantType.LocalizedText)
    answer = control.call_method(method, ua.Variant("nobody", ua.VariantType.String), comment)
    node("Link.MesHeartbeat").set_value(ua.Variant(5, ua.VariantType.UInt32))
    handler.enough.wait(10)
    unit = process.get_child("0:EngineeringUnits")
    print(json.dumps({
        "temperature": process.get_value(),
        "range_high": process.get_child("0:EURange").get_value().High,
        "unit": unit.get_value().DisplayName.Text,
        "answer": answer,
        "beats": handler.beats,
        "mes_heartbeat": node("Link.MesHeartbeat").get_value(),
    }))
finally:
    client.disconnect()
"""


async def test_the_older_opcua_client_reads_writes_calls_and_subscribes(server: ToolServer) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", PROGRAM, server.endpoint,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found = json.loads(output)
    beats = found.pop("beats")
    assert beats == list(range(beats[0], beats[0] + len(beats)))
    assert len(beats) >= 3
    assert found == {"temperature": 20.0, "range_high": 500.0, "unit": "Cel", "answer": 2, "mes_heartbeat": 5}
