"""Ask pip-audit about every locked requirement, and say for how many it had an answer.

pip-audit reports "no known vulnerabilities" also when the service it asks told it nothing, so its JSON is read
here. A finding fails. A missing answer fails only where the service answered for others: then it can be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The old OPC UA client is only a counterpart in tests, on loopback; nothing of the service imports it.
# CVE-2022-25304: a server it talks to may exhaust it by chunks without end.
ACCEPTED = {("opcua", "CVE-2022-25304"), ("opcua", "GHSA-mfpj-3qhm-976m"), ("opcua", "PYSEC-2022-43165")}


def main() -> int:
    """Audit both locks; 0 if nothing is wrong."""
    status = 0
    for lock in ("requirements.lock", "requirements-dev.lock"):
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
        answer = subprocess.run([*command, "-r", str(ROOT / lock)], capture_output=True, text=True, check=False)
        try:
            dependencies = json.loads(answer.stdout)["dependencies"]
        except (ValueError, KeyError):
            print(f"{lock}: pip-audit gave no answer: {answer.stderr.strip()[-400:]}")
            return 1
        missing = [entry["name"] for entry in dependencies if "skip_reason" in entry]
        audited = len(dependencies) - len(missing)
        print(f"{lock}: audited {audited} of {len(dependencies)}")
        for entry in dependencies:
            for finding in entry.get("vulns", ()):
                names = {finding["id"], *finding.get("aliases", ())}
                if any((entry["name"], name) in ACCEPTED for name in names):
                    print(f"  accepted: {entry['name']} {finding['id']} (tests only)")
                    continue
                print(f"  FOUND: {entry['name']} {entry['version']}: {finding['id']}")
                status = 1
        if missing and audited:
            print(f"  NO ANSWER for: {', '.join(missing)}")
            status = 1
        elif missing:
            print("  the vulnerability service can't be reached from here; nothing was audited")
    return status


if __name__ == "__main__":
    sys.exit(main())
