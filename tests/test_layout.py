"""The shape of the repository: which folders there are, what no file may be called, how long one may get."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
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

ONLY_UNDER: Mapping[str, tuple[str, ...]] = {
    "asyncua": ("equipment/opcua", "equipment/profiles", "equipment/simulators"),
    "equipment.simulators": ("equipment/simulators", "api/cli", "api/demo", "api/endpoints"),
    **dict.fromkeys(("fastapi", "starlette", "jinja2", "uvicorn", "apscheduler"), ("api",)),
}
"""Module → the folders of the product whose files may import it or what lies below it."""

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


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a file imports, wherever in it the statement stands.

    `from a import b` may mean the module `a.b`, and so counts as that.
    """
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("module", ONLY_UNDER)
def test_a_module_is_imported_only_where_it_belongs(module: str) -> None:
    importing = [
        (_relative(path), line)
        for path in _code()
        for line, name in _imported(path)
        if f"{name}.".startswith(f"{module}.")
    ]
    astray = [f"{file}:{line}" for file, line in importing if not _lies_under(file, ONLY_UNDER[module])]
    assert not astray, f"{module} belongs under {', '.join(ONLY_UNDER[module])}"


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("def later():\n    import asyncua.ua as ua", "asyncua.ua"),
        ("from equipment import simulators", "equipment.simulators"),
        ("from .simulators.line import tool_servers", "equipment.simulators.line.tool_servers"),
        ("from . import simulators", "equipment.simulators"),
    ],
)
def test_every_way_to_import_is_seen(
    statement: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "equipment" / "supervisor.py"
    file.parent.mkdir()
    file.write_text(statement, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert [found for _, found in _imported(file)] == [name]


def _lies_under(file: str, folders: tuple[str, ...]) -> bool:
    return any(file.startswith(f"{folder}/") for folder in folders)
