"""The whole line as it is run: service, simulated tools and tester endpoint, each by its command line in a process.

All live on loopback and on one shared clock, which the test leads. Any of them can be killed and started again.
The service's record begins with one administrator and a token for the tester, and nothing else.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from api.migration import migrate
from api.service import Service
from api.settings import Settings, child_environment
from equipment.simulators.line import state_file
from equipment.testers.handoff import tester_scopes
from traceability.acts import Role, system_actor
from traceability.clock import PiecewiseClock, wall_now
from traceability.tokens import issue_token
from traceability.users import create_user

ADMIN, PASSWORD = "ada", "solid argyrodite pellet"
TESTER = "LAND1"
READY_WITHIN_S = 60.0
TEST_LASTS = timedelta(hours=3005)
_STEPS_OF_THE_TEST = 10


@dataclass
class WholeLine:
    """The line's processes, none of them started yet.

    Attributes:
        folder: Of everything that they write.
        clock: Domain time, led by the test.
        settings: Of the service.
        url: Of the service.
    """

    folder: Path
    clock: PiecewiseClock
    settings: dict[str, Any]
    url: str
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start one of `tools`, `tester` and `service`."""
        shared = ("--line", str(self.settings["line_file"]), "--clock", str(self.settings["clock_file"]))
        state = ("--state", str(self.folder / "simulators"))
        commands = {
            "tools": ("simulate", *shared, *state, "--tools"),
            "tester": (
                *("simulate", *shared, *state, "--testers"),
                *("--mes-url", self.url, "--mes-token-file", str(self.folder / "tester.token")),
            ),
            "service": ("serve",),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "api.cli", *commands[name]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(self.settings),
            )

    def kill(self, name: str) -> None:
        """kill -9, whatever it is doing."""
        process = self._running.pop(name)
        assert process.poll() is None, f"{name} has ended by itself: {self.last_words(name)}"
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End everything, the service first."""
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def answers(self) -> bool:
        """Whether the service answers; it fails if the process has ended."""
        assert self._running["service"].poll() is None, self.last_words("service")
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2.0, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def last_words(self, name: str) -> str:
        """The end of a process's log."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def jobs_on(self, tool: str) -> list[str]:
        """The jobs that a tool has had since it was made, by its own memory."""
        memory = json.loads(state_file(self.folder / "simulators", tool).read_bytes())
        return [job["order"]["job_id"] for job in memory["jobs"]]

    def let_the_test_pass(self) -> None:
        """Jump over the tester's protocol in a few steps."""
        for _ in range(_STEPS_OF_THE_TEST):
            self.clock.jump(self.clock.now() + TEST_LASTS / _STEPS_OF_THE_TEST)


def make_whole_line(database_url: str, folder: Path) -> WholeLine:
    """A line with the sputter tool, the press and a LAND tester on free ports, and an empty record."""
    folder.mkdir(parents=True)
    clock_file, line_file = folder / "clock.json", folder / "line.yaml"
    clock = PiecewiseClock.create(clock_file, wall_now() - TEST_LASTS - timedelta(hours=48))
    sputter, press, tester, port = _free_ports(4)
    tools = [("RH450", "rf_magnetron_sputter", sputter), ("PR1", "glovebox_press", press)]
    line = {
        "site": "test",
        "tools": [
            {
                "name": name,
                "class": equipment_class,
                "profile": "job_control",
                "endpoint": f"opc.tcp://127.0.0.1:{at}/",
                "namespace_uri": f"urn:test:{name}",
            }
            for name, equipment_class, at in tools
        ],
        "testers": [
            {
                "name": TESTER,
                "kind": "land",
                "url": f"http://127.0.0.1:{tester}",
                "channels": 4,
                "capabilities": ["cycling", "lifetime"],
            }
        ],
    }
    line_file.write_text(yaml.safe_dump(line), encoding="utf-8")
    settings = {
        "data_folder": folder / "service",
        "database_url": database_url,
        "line_file": line_file,
        "clock_file": clock_file,
        "port": port,
        "log_level": "warning",
    }
    service = Service(Settings.model_validate({**settings, "drive_tools": False, "run_jobs": False}))
    migrate(service.database)
    with service.database.write(system_actor("test")) as record:
        create_user(
            record, name=ADMIN, full_name="Ada Example", password=PASSWORD, roles=[Role.ADMIN], temporary=False
        )
        _, secret = issue_token(
            record,
            name=TESTER.lower(),
            roles=[Role.OPERATOR],
            scopes=tester_scopes(TESTER),
            expires_at=wall_now() + timedelta(days=1),
        )
    service.database.close()
    (folder / "tester.token").write_text(secret)
    return WholeLine(folder, clock, settings, f"http://127.0.0.1:{port}")


def wait_for(what: str, is_so: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
    """Wait for a condition, asking twenty times a second."""
    ends = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < ends, f"waited {within_s:g} s in vain until {what}"
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
