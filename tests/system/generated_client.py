"""A client made from the published OpenAPI document by a generator that knows nothing of Argonaut, and its process.

The process sees the standard library, the generated package and the distributions that this package asks for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PACKAGE = "line_client"
CAMPAIGN = Path(__file__).with_name("generated_client_campaign.py")
_CONFIG = {
    "project_name_override": "line-client",
    "package_name_override": PACKAGE,
    "post_hooks": [f"{sys.executable} -m ruff format ."],
}


class GeneratedClient:
    """A generated package and what it may import.

    Args:
        document: The OpenAPI document as it was published.
        folder: Where the client and its surroundings are put.

    Attributes:
        said: What the generator had to say about the document.
    """

    def __init__(self, document: bytes, folder: Path) -> None:
        folder.mkdir()
        (folder / "openapi.json").write_bytes(document)
        (folder / "generator.json").write_text(json.dumps(_CONFIG))
        self._project, self._imports = folder / "client", folder / "imports"
        generator = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json"]
        generated = subprocess.run(
            [*generator, "--output-path", self._project, "--config", "generator.json"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        self.said = generated.stdout + generated.stderr
        assert generated.returncode == 0, self.said
        self._imports.mkdir()
        for package in self._packages():
            (self._imports / package.name).symlink_to(package)

    @property
    def operations(self) -> set[str]:
        """The names of the functions that it has for routes."""
        modules = (self._project / PACKAGE / "api").glob("*/*.py")
        return {module.stem for module in modules} - {"__init__"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the campaign in an isolated interpreter: no site-packages, no environment, no current folder."""
        bootstrap = (
            "import runpy, sys; imports, script, *sys.argv[1:] = sys.argv[1:]; sys.path.append(imports); "
            "runpy.run_path(script, run_name='__main__')"
        )
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", bootstrap, str(self._imports), str(CAMPAIGN), *arguments],
            cwd=self._project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={},
        )

    def _packages(self) -> Iterator[Path]:
        yield self._project / PACKAGE
        project = tomllib.loads((self._project / "pyproject.toml").read_text())
        wanted = [name for name in project["tool"]["poetry"]["dependencies"] if name != "python"]
        seen: set[str] = set()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            found = distribution(name)
            requirements = map(Requirement, found.requires or ())
            wanted += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
            tops = {file.parts[0] for file in found.files or () if file.suffix == ".py"}
            yield from (Path(str(found.locate_file(top))) for top in sorted(tops) if not top.startswith(".."))


def lines_of(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What the campaign says, line by line, until it ends; it must end well."""
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        yield json.loads(line)
    problem = process.stderr.read()
    assert process.wait(30) == 0, problem
