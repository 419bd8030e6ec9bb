"""The line's file says everything or is refused with every mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipment.line_config import SecurityMode, load_line
from traceability.errors import InvalidInput

FOUNDING = Path(__file__).parents[2] / "deploy" / "line.yaml"


def test_the_founding_line_is_a_sputter_tool_a_press_and_a_tester() -> None:
    line = load_line(FOUNDING)
    assert [tool.name for tool in line.tools] == ["RH450", "PR1"]
    assert line.tool("PR1").tags.equipment_class == "glovebox_press"
    assert line.testers[0].name == "LAND1"
    assert line.testers[0].token() is None
    with pytest.raises(LookupError, match="RH450, PR1"):
        line.tool("PR2")


def test_every_mistake_is_found_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(
        """
site: lab
tools:
  - {name: A, class: oven, endpoint: "opc.tcp://127.0.0.1:1/", namespace_uri: "urn:lab:A"}
  - {name: B, class: glovebox_press, endpoint: "opc.tcp://press.lab:1/", namespace_uri: "urn:lab:B"}
  - {name: C, class: glovebox_press, endpoint: "http://127.0.0.1", namespace_uri: "C", colour: red}
testers:
  - {name: T, kind: land, url: "ftp://x", channels: 0, capabilities: []}
"""
    )
    with pytest.raises(InvalidInput) as caught:
        load_line(path)
    places = {finding.path: finding.message for finding in caught.value.findings}
    assert "oven is not known" in places["tools.0"]
    assert "sign_and_encrypt" in places["tools.1"]
    assert {"tools.2.namespace_uri", "tools.2.colour", "testers.0.channels", "testers.0.capabilities"} <= set(places)


def test_files_are_found_beside_the_configuration_and_secrets_read_when_needed(tmp_path: Path) -> None:
    (tmp_path / "tool.password").write_text("s3cret\n")
    path = tmp_path / "line.yaml"
    path.write_text(
        """
site: lab
tools:
  - name: A
    class: glovebox_press
    endpoint: opc.tcp://press.lab:4840/
    namespace_uri: urn:lab:A
    security:
      mode: sign_and_encrypt
      server_certificate: certs/a.pem
      client_certificate: certs/mes.pem
      client_key: certs/mes.key.pem
      user: mes
      password_file: tool.password
"""
    )
    security = load_line(path).tool("A").security
    assert security.mode is SecurityMode.SIGN_AND_ENCRYPT
    assert security.server_certificate == tmp_path / "certs" / "a.pem"
    assert security.password() == "s3cret"
    (tmp_path / "tool.password").unlink()
    with pytest.raises(InvalidInput, match="can't be read"):
        security.password()


@pytest.mark.parametrize(
    ("content", "what"), [("tools: [", "no YAML"), ("site: lab\ntools: 3", "tools"), ("- 1", "does not describe")]
)
def test_a_file_that_is_no_line_at_all_is_refused_in_words(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=what):
        load_line(path)
    with pytest.raises(InvalidInput, match="can't be read"):
        load_line(tmp_path / "none.yaml")


def test_two_things_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    tool = '{name: A, class: glovebox_press, endpoint: "opc.tcp://127.0.0.1:1/", namespace_uri: "urn:lab:A"}'
    path.write_text(f"site: lab\ntools: [{tool}, {tool}]\n")
    with pytest.raises(InvalidInput, match="A is named twice"):
        load_line(path)
