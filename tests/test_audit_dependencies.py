"""The audit of the locked requirements fails by what is wrong, never by a service that nobody can reach."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.audit_dependencies import LOCK, judge, locked_requirements

LOCKED = 3
REFUSED = (
    "Traceback (most recent call last):\n  ...\nrequests.exceptions.ConnectionError: HTTPSConnectionPool"
    "(host='service.test', port=443): Max retries exceeded with url: /pypi/aiosqlite/0.22.1/json\n"
)
NO_FEED = "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\nERROR:pip_audit._cli:Tip: …\n"


def clean(name: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": []}


def unknown(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": f"Dependency not found on PyPI and could not be audited: {name} (1.0)"}


def vulnerable(name: str, finding: str, *aliases: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [{"id": finding, "aliases": list(aliases), "fix_versions": []}]}


def audit(*dependencies: dict[str, Any]) -> tuple[bool, str]:
    passes, lines = judge(json.dumps({"dependencies": dependencies, "fixes": []}), "", LOCKED)
    return passes, "\n".join(lines)


def test_an_answer_without_findings_for_every_requirement_passes() -> None:
    assert audit(clean("alembic"), clean("numpy"), clean("scipy")) == (True, "audited 3 of 3")


def test_a_finding_fails_and_is_named() -> None:
    passes, told = audit(clean("alembic"), vulnerable("numpy", "PYSEC-2026-1"), clean("scipy"))
    assert not passes
    assert "FOUND: numpy 1.0: PYSEC-2026-1" in told


def test_an_accepted_finding_passes_under_any_of_its_names_but_only_for_its_package() -> None:
    passes, told = audit(vulnerable("opcua", "PYSEC-0", "CVE-2022-25304"))
    assert passes
    assert "accepted (tests only): opcua 1.0: PYSEC-0" in told
    assert not audit(vulnerable("asyncua", "PYSEC-0", "CVE-2022-25304"))[0]


def test_a_missing_answer_fails_where_the_service_answered_for_others() -> None:
    passes, told = audit(clean("alembic"), unknown("numpy"), clean("scipy"))
    assert not passes
    assert told.startswith("audited 2 of 3")
    assert "NO ANSWER for: numpy" in told


def test_no_answer_at_all_passes_and_says_that_nothing_was_audited() -> None:
    passes, told = audit(unknown("alembic"), unknown("numpy"), unknown("scipy"))
    assert passes
    assert told.startswith("audited 0 of 3")
    assert "nothing was audited" in told


@pytest.mark.parametrize("stderr", [REFUSED, NO_FEED])
@pytest.mark.parametrize("stdout", ["", "<html>proxy</html>"])
def test_a_service_that_cannot_be_reached_passes_and_says_so(stdout: str, stderr: str) -> None:
    passes, lines = judge(stdout, stderr, LOCKED)
    assert passes
    assert lines[0] == "audited 0 of 3"
    assert "can't be reached" in lines[1]


@pytest.mark.parametrize("stdout", ["", "no JSON", "[]", "{}"])
def test_an_audit_that_broke_off_for_another_reason_fails_with_that_reason(stdout: str) -> None:
    passes, lines = judge(stdout, "ERROR:pip_audit._cli:requirement nonsense is not pinned", LOCKED)
    assert not passes
    assert lines[0] == "audited 0 of 3"
    assert "requirement nonsense is not pinned" in lines[1]


def test_requirements_of_other_platforms_are_not_counted() -> None:
    lock = "alembic==1 \\\n    --hash=sha256:00\ncolorama==0.4 ; sys_platform == 'nowhere' \\\n    --hash=sha256:01\n"
    assert [pin.name for pin in locked_requirements(lock)] == ["alembic"]


def test_the_lock_for_development_holds_all_that_runs() -> None:
    runtime, development = (
        {str(pin) for pin in locked_requirements(lock.read_text(encoding="utf-8"))}
        for lock in (LOCK.with_name("requirements.lock"), LOCK)
    )
    assert runtime <= development
