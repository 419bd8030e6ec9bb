"""The shape of the repository: which folders there are, what no file may be called, how long one may get."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("api", "equipment", "recipes", "traceability")
FOLDERS = {".ci", "api", "deploy", "docs", "equipment", "recipes", "tests", "traceability"}
FILES = {
    ".dockerignore", ".gitattributes", ".gitignore", ".python-version", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
    "Makefile", "README.md", "SECURITY.md", "openapi.json", "pyproject.toml", "requirements-dev.lock",
    "requirements.lock",
}  # fmt: skip
FORBIDDEN_NAMES = {"utils", "util", "common", "core", "helpers", "helper", "base", "manager", "misc"}
LONGEST = 420
"""About 400 lines; tables of data may be longer."""

LONGER: Mapping[str, str] = {
    "api/migrations/versions/0001_the_record.py": "the schema as statements: data",
}
"""Files that may be longer, each with why."""

REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted|registry\.npmjs|npmmirror|tuna\.tsinghua|mirrors?\.(aliyun|ustc)|proxy\.golang|crates\.io"
    r"|--index-url|--extra-index-url|find-links",
    re.IGNORECASE,
)


def _tracked() -> list[Path]:
    """Every file that belongs to the project."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to the project is not known")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _code() -> list[Path]:
    return [path for path in _tracked() if path.suffix == ".py" and _relative(path).split("/")[0] in PACKAGES]


def test_the_top_folders_and_files_are_those_agreed() -> None:
    files = {_relative(path) for path in _tracked() if path.parent == ROOT}
    assert files <= FILES, f"unexpected: {sorted(files - FILES)}"
    folders = {path.relative_to(ROOT).parts[0] for path in _tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert folders <= FOLDERS, f"unexpected: {sorted(folders - FOLDERS)}"
    assert set(PACKAGES) <= folders
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"}
    assert packages == set(PACKAGES)


def test_no_file_is_named_after_nothing() -> None:
    named = [_relative(path) for path in _tracked() if path.stem.lower() in FORBIDDEN_NAMES]
    named += [_relative(p) for p in _tracked() if FORBIDDEN_NAMES & {part.lower() for part in p.parent.parts}]
    assert not named


def test_code_files_are_short_enough_to_read() -> None:
    lengths = {_relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _code()}
    long = {name: length for name, length in lengths.items() if length > LONGEST and name not in LONGER}
    assert not long, f"split these: {long}"
    needless = [name for name in LONGER if lengths.get(name, 0) <= LONGEST]
    assert not needless, f"no exception needed any more: {needless}"


def test_every_module_says_what_it_knows() -> None:
    silent = [
        _relative(path)
        for path in _code()
        if path.read_text(encoding="utf-8").strip() and ast.get_docstring(ast.parse(path.read_bytes())) is None
    ]
    assert not silent


def test_no_file_names_a_registry_host() -> None:
    naming = []
    for path in _tracked():
        if path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        naming += [f"{_relative(path)}: {match.group()}" for match in REGISTRIES.finditer(text)]
    assert not naming


def test_nothing_is_left_for_later() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    left = [
        f"{_relative(path)}:{number}: {line.strip()}"
        for path in _code()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert not left
