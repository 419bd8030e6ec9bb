"""`argonaut demo`, as somebody meets it at a shell: six tested cells, a service, and an end that leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from api.demo.client import PASSWORD
from api.settings import child_environment

CAMPAIGN_S = 300.0
"""Bound of a wait: several times what it takes where nothing else is going on."""
END_S = 40.0


class Demo:
    """A demonstration in a session of its own, so that whatever it leaves behind can be found.

    Its environment names a proxy where nobody listens: all of it is on loopback and needs none.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.line_file, self._output = folder / "demo" / "line.yaml", folder / "output"
        proxy = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9") | {"no_proxy": ""}
        arguments = ["demo", "--folder", str(folder / "demo"), "--port", str(port)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environment({}) | proxy,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        ends = time.monotonic() + timeout_s
        while not is_so():
            assert self._process.poll() is None, self.said
            assert time.monotonic() < ends, self.said
            time.sleep(0.1)

    def terminate(self) -> int:
        """Ask the demonstration alone to end, as a supervisor does; answers with its status."""
        self._process.terminate()
        return self._process.wait(END_S)

    def has_processes(self) -> bool:
        """Whether any process of its session still is there."""
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(END_S)


@pytest.fixture
def demo(tmp_path: Path, free_port: int) -> Iterator[Demo]:
    demo = Demo(tmp_path, free_port)
    yield demo
    demo.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(CAMPAIGN_S + 2 * END_S)
def test_the_demonstration_makes_six_cells_goes_on_serving_and_leaves_nothing_behind_when_told_to_end(
    demo: Demo, free_port: int
) -> None:
    demo.wait_until(lambda: "It goes on serving" in demo.said and "sign in as ada" in demo.said, CAMPAIGN_S)
    rows = re.findall(r"(CEL-\S+) .* (/api/v1/items/(CEL-\S+)/history)", demo.said)
    assert len({cell for cell, *_ in rows}) == 6
    assert all(cell == in_link for cell, _, in_link in rows)
    assert "verified, intact." in demo.said

    address = f"http://127.0.0.1:{free_port}"
    with httpx.Client(base_url=address, timeout=30.0, trust_env=False) as client:
        cell, link, _ = rows[0]
        assert client.get(link).status_code == 401
        session = client.post("/api/v1/sessions", json={"name": "quentin", "password": PASSWORD}).json()
        history = client.get(link, headers={"Authorization": f"Bearer {session['token']}"})
        assert history.status_code == 200
        assert cell in history.text

    line = yaml.safe_load(demo.line_file.read_text(encoding="utf-8"))
    addresses = [*(tool["endpoint"] for tool in line["tools"]), *(tester["url"] for tester in line["testers"])]
    ports = [free_port, *(urlsplit(address).port for address in addresses)]
    assert len(ports) == 4
    assert all(map(listens, ports))
    assert demo.terminate() == 0, demo.said
    assert not demo.has_processes()
    assert not any(map(listens, ports))
    assert demo.said.rstrip().endswith("Stopped.")
