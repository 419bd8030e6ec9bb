"""What the documents say is there: commands, targets, files, tests, links, and every setting.

`python -m tests.test_docs` writes docs/settings.md anew.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from annotated_types import Ge, Gt, Le, Lt
from fastapi.routing import APIRoute
from pydantic.fields import FieldInfo
from typer.core import TyperGroup

from api.app import ROUTERS
from api.cli.application import app
from api.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ROOT / "docs" / "settings.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_HEADING = """# Settings

Every setting is an environment variable, or a line of a file `.env` in the working folder. This page is made from
`api/settings.py` by `python -m tests.test_docs`; a test compares them.

| variable | values | default | what |
|---|---|---|---|
"""


def settings_page() -> str:
    """docs/settings.md as it should be."""
    rows = [
        f"| `ARGONAUT_{name.upper()}` | {_values(field)} | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return _HEADING + "\n".join(rows) + "\n"


def _values(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    name = {Path: "path", str: "text", bool: "`true`, `false`", int: "integer", float: "number"}[kind]
    bounds = [_bound(limit) for limit in field.metadata]
    return " ".join([name, *filter(None, bounds)])


def _bound(limit: object) -> str:
    match limit:
        case Ge(ge=value):
            return f"≥ {value}"
        case Gt(gt=value):
            return f"> {value}"
        case Le(le=value):
            return f"≤ {value}"
        case Lt(lt=value):
            return f"< {value}"
    return ""


def _default(value: object) -> str:
    if value is None or value == "":
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@cache
def _text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def _shell_lines(document: Path) -> Iterator[list[str]]:
    """The words of each command in a shell block, continued lines joined, without what is piped on."""
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", _text(document), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words[: words.index("|")] if "|" in words else words


def _command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and what is left of them."""
    command: Any = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        assert words, f"a command of `{command.name}` is missing"
        assert words[0] in command.commands, f"there is no `{words[0]}` in `{command.name}`"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def _each(kind: str) -> list[tuple[Path, list[str]]]:
    return [(document, words) for document in DOCUMENTS for words in _shell_lines(document) if words[0] == kind]


def _ids(case: object) -> str:
    return " ".join(case) if isinstance(case, list) else getattr(case, "name", str(case))


def test_the_settings_page_is_that_of_the_settings() -> None:
    assert SETTINGS.read_text(encoding="utf-8") == settings_page(), "write it anew: python -m tests.test_docs"


@pytest.mark.parametrize(("document", "words"), _each("argonaut"), ids=_ids)
def test_every_argonaut_command_that_is_shown_exists(document: Path, words: list[str]) -> None:
    command, rest = _command(words[1:])
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help"}
    for word in rest:
        if word.startswith("-"):
            assert word.split("=")[0] in options, f"{document.name}: `{command.name}` has no option {word}"


@pytest.mark.parametrize(("document", "words"), _each("make"), ids=_ids)
def test_every_make_target_that_is_shown_exists(document: Path, words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = [word for word in words[1:] if "=" not in word]
    assert asked, f"{document.name}: `{' '.join(words)}` names no target"
    assert set(asked) <= targets, f"{document.name}: the Makefile has {', '.join(sorted(targets))}"


def test_every_address_in_the_tour_is_a_route() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    shown = set(re.findall(r"\$api(/[^\s\"'?)]+)", _text(ROOT / "README.md")))
    assert shown
    unknown = [path for path in shown if not any(route.path_regex.match(path) for route in routes)]
    assert not unknown


def test_the_first_two_commands_of_the_readme_are_demo_and_test() -> None:
    commands = [" ".join(words) for words in _shell_lines(ROOT / "README.md")]
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(_text(document))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        if not found.exists() or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert not broken


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _text(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_test_and_file_that_is_named_exists(document: Path) -> None:
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", _text(document)))
    assert named <= tests, f"no such tests: {sorted(named - tests)}"
    paths = re.findall(r"`((?:api|deploy|docs|equipment|recipes|tests|traceability)/[\w./-]+)`", _text(document))
    missing = [path for path in paths if not (ROOT / path).exists() and path not in _IMAGINED]
    assert not missing, f"no such files: {missing}"


_IMAGINED = {"equipment/furnace.py", "equipment/simulators/furnace_plant.py"}
"""Of the example in docs/adding-a-tool.md."""


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = {f"ARGONAUT_{name.upper()}" for name in Settings.model_fields} | {"ARGONAUT_TEST_POSTGRES"}
    named = {name for document in DOCUMENTS for name in re.findall(r"\bARGONAUT_[A-Z_]+\b", _text(document))}
    assert named <= known, f"no such settings: {sorted(named - known)}"


def test_nothing_claims_compliance() -> None:
    claims = [d.name for d in DOCUMENTS if re.search(r"\bcomplian(t|ce) (with|to)\b|\bis compliant\b", _text(d))]
    assert not claims


if __name__ == "__main__":
    SETTINGS.write_text(settings_page(), encoding="utf-8")
