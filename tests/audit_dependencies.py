"""Ask pip-audit about every locked requirement, and say for how many it had an answer.

pip-audit reports "no known vulnerabilities" also when the service it asks told it nothing, so its JSON is read
here. A finding fails. A missing answer fails only where the service answered for others: then it can be reached.
The lock for development holds all that the runtime's does, so it alone is asked about.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

LOCK = Path(__file__).resolve().parent.parent / "requirements-dev.lock"

# The old OPC UA client is only a counterpart in tests, on loopback; nothing of the service imports it.
# CVE-2022-25304: a server it talks to may exhaust it by chunks without end.
ACCEPTED = {("opcua", "CVE-2022-25304"), ("opcua", "GHSA-mfpj-3qhm-976m"), ("opcua", "PYSEC-2022-43165")}

# How pip-audit ends when nobody answers at the service's address: in its own words, or by the error of its client.
_UNREACHABLE = re.compile(
    r"^(?:ERROR:.*Could not connect to \S+ vulnerability feed"
    r"|requests\.exceptions\.(?:ConnectionError|ProxyError|ConnectTimeout|ReadTimeout):)",
    re.MULTILINE,
)
_NOTHING_AUDITED = "  the vulnerability service can't be reached from here; nothing was audited"


class Verdict(NamedTuple):
    """Whether the audit passes, and what to tell about it, line by line."""

    passes: bool
    lines: list[str]


def judge(stdout: str, stderr: str, locked: int) -> Verdict:
    """Judge an audit by what pip-audit wrote.

    Args:
        stdout: Its JSON; empty or something else where it broke off.
        stderr: Why it broke off.
        locked: How many requirements it was asked about.
    """
    try:
        dependencies = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return _judge_silence(stderr, locked)
    missing = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    audited = len(dependencies) - len(missing)
    found = list(_findings(dependencies))
    lines = [f"audited {audited} of {len(dependencies)}"]
    lines += [f"  accepted (tests only): {what}" if accepted else f"  FOUND: {what}" for accepted, what in found]
    if missing:
        lines.append(f"  NO ANSWER for: {', '.join(missing)}" if audited else _NOTHING_AUDITED)
    partial = bool(missing and audited)
    return Verdict(not partial and all(accepted for accepted, _ in found), lines)


def _judge_silence(stderr: str, locked: int) -> Verdict:
    lines = [f"audited 0 of {locked}"]
    if _UNREACHABLE.search(stderr):
        return Verdict(True, [*lines, _NOTHING_AUDITED])
    return Verdict(False, [*lines, f"  pip-audit gave no answer: {stderr.strip()[-400:]}"])


def _findings(dependencies: Iterable[dict[str, Any]]) -> Iterable[tuple[bool, str]]:
    """Each finding: whether it is accepted, and its description."""
    for entry in dependencies:
        for finding in entry.get("vulns", ()):
            names = (finding["id"], *finding.get("aliases", ()))
            accepted = any((entry["name"], name) in ACCEPTED for name in names)
            yield accepted, f"{entry['name']} {entry['version']}: {finding['id']}"


def locked_requirements(lock: str) -> list[Requirement]:
    """The requirements of a lock that are for this platform."""
    pins = (line.removesuffix("\\") for line in lock.splitlines() if line[:1].isalnum())
    requirements = [Requirement(pin.strip()) for pin in pins]
    return [pin for pin in requirements if pin.marker is None or pin.marker.evaluate()]


def main() -> int:
    """Audit the lock; 0 if nothing is wrong."""
    locked = len(locked_requirements(LOCK.read_text(encoding="utf-8")))
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    answer = subprocess.run([*command, "-r", str(LOCK)], capture_output=True, text=True, check=False)
    verdict = judge(answer.stdout, answer.stderr, locked)
    print("\n".join((f"{LOCK.name}: {verdict.lines[0]}", *verdict.lines[1:])))
    return 0 if verdict.passes else 1


if __name__ == "__main__":
    sys.exit(main())
