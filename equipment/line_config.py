"""The line: which tools and testers there are, where they listen and how they are to be trusted.

Read from one YAML file that people write (`deploy/line.yaml`); every mistake in it is found at once, with its place.
File names in it are relative to the file. Nothing is connected here, and no secret is read before it is needed.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from equipment.opcua.security import is_loopback
from equipment.tags import TagTable
from equipment.tool_classes import TAG_TABLES, tag_table
from traceability.errors import Finding, InvalidInput

_NAME = r"^[A-Za-z][A-Za-z0-9_-]*$"
Name = Annotated[str, Field(pattern=_NAME, max_length=40)]


class Profile(StrEnum):
    """How a tool is driven."""

    JOB_CONTROL = "job_control"


class SecurityMode(StrEnum):
    """How the connection to a tool is protected."""

    NONE = "none"
    SIGN_AND_ENCRYPT = "sign_and_encrypt"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecurityConfig(_Strict):
    """How a tool is to be trusted, and trusts us.

    Attributes:
        mode: `none` is for loopback only.
        server_certificate: The tool's pinned certificate.
        client_certificate, client_key: Our own.
        user: The tool's account for us; empty for anonymous.
        password_file: Holds the account's password.
    """

    mode: SecurityMode = SecurityMode.NONE
    server_certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    user: str = ""
    password_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> SecurityConfig:
        if self.mode is SecurityMode.SIGN_AND_ENCRYPT:
            files = ("server_certificate", "client_certificate", "client_key")
            missing = [name for name in files if getattr(self, name) is None]
            if missing:
                raise ValueError(f"sign_and_encrypt needs {', '.join(missing)}")
        if bool(self.user) != (self.password_file is not None):
            raise ValueError("user and password_file belong together")
        return self

    def password(self) -> str | None:
        """The account's password, without the line's end; None where no account is configured.

        Raises:
            InvalidInput: The file can't be read.
        """
        return None if self.password_file is None else read_secret(self.password_file)


class ToolConfig(_Strict):
    """One tool.

    Attributes:
        name: As in the record.
        equipment_class: What recipes ask for; decides the tag table.
        profile: How it is driven.
        endpoint: `opc.tcp://host:port/…`.
        namespace_uri: Of the tool's own nodes, `urn:<site>:<tool>`.
        security: How it is trusted.
    """

    name: Name
    equipment_class: str = Field(alias="class")
    profile: Profile = Profile.JOB_CONTROL
    endpoint: str
    namespace_uri: str = Field(pattern=r"^urn:[^:]+:[^:]+$")
    security: SecurityConfig = SecurityConfig()

    @model_validator(mode="after")
    def _possible(self) -> ToolConfig:
        if self.equipment_class not in TAG_TABLES:
            raise ValueError(f"class {self.equipment_class} is not known; there are {', '.join(TAG_TABLES)}")
        address = urlsplit(self.endpoint)
        if address.scheme != "opc.tcp" or not address.hostname:
            raise ValueError(f"endpoint {self.endpoint} is no opc.tcp://host:port address")
        if self.security.mode is SecurityMode.NONE and not is_loopback(self.endpoint):
            raise ValueError(f"{self.endpoint} is not on this machine and needs security mode sign_and_encrypt")
        return self

    @property
    def tags(self) -> TagTable:
        """What the tool shows."""
        return tag_table(self.equipment_class)


class TesterConfig(_Strict):
    """One tester endpoint.

    Attributes:
        name: As in the record.
        kind: What it speaks and writes, e.g. `land`.
        url: Its address.
        token_file: Holds the bearer token for it.
        channels: How many cells it takes at once.
        capabilities: What it can do: `cycling`, `impedance`, `lifetime`.
        polls: It fetches its hand-offs itself, because nothing may call it; nothing is sent to it.
    """

    name: Name
    kind: str = Field(min_length=1)
    url: str
    token_file: Path | None = None
    channels: int = Field(ge=1, le=1024)
    capabilities: tuple[str, ...] = Field(min_length=1)
    polls: bool = False

    @model_validator(mode="after")
    def _possible(self) -> TesterConfig:
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"url {self.url} is no http:// or https:// address")
        return self

    def token(self) -> str | None:
        """The bearer token; None where the tester asks for none.

        Raises:
            InvalidInput: The file can't be read.
        """
        return None if self.token_file is None else read_secret(self.token_file)


class LineConfig(_Strict):
    """All tools and testers of a line.

    Attributes:
        site: Name of the laboratory or plant.
    """

    site: Name
    tools: tuple[ToolConfig, ...] = ()
    testers: tuple[TesterConfig, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> LineConfig:
        names = [*(tool.name for tool in self.tools), *(tester.name for tester in self.testers)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice")
        return self

    def tool(self, name: str) -> ToolConfig:
        """The tool of that name.

        Raises:
            LookupError: The line has none.
        """
        for tool in self.tools:
            if tool.name == name:
                return tool
        raise LookupError(f"the line has no tool {name!r}; it has {', '.join(tool.name for tool in self.tools)}")


def load_line(path: Path) -> LineConfig:
    """Read a line's configuration.

    Raises:
        InvalidInput: The file can't be read or says something impossible; the findings name every place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is no YAML: {error}.") from error
    try:
        return LineConfig.model_validate(_resolved(content, path.parent.resolve()))
    except ValidationError as error:
        findings = [
            Finding(
                "line_config",
                detail["msg"].removeprefix("Value error, "),
                f"Correct it in {path}.",
                ".".join(str(part) for part in detail["loc"]),
            )
            for detail in error.errors()
        ]
        listed = "; ".join(f"{finding.path}: {finding.message}".removeprefix(": ") for finding in findings)
        raise InvalidInput(f"{path} does not describe a line: {listed}.", findings) from error


def read_secret(path: Path) -> str:
    """The first line of a file that holds a password or token.

    Raises:
        InvalidInput: It can't be read, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}.") from error
    if not lines or not lines[0].strip():
        raise InvalidInput(f"{path} is empty; it should hold one line.")
    return lines[0].strip()


_FILES = frozenset({"server_certificate", "client_certificate", "client_key", "password_file", "token_file"})


def _resolved(content: Any, folder: Path) -> Any:
    """The same content with its file names made absolute."""
    if isinstance(content, list):
        return [_resolved(item, folder) for item in content]
    if not isinstance(content, dict):
        return content
    return {
        key: str(folder / value) if key in _FILES and isinstance(value, str) else _resolved(value, folder)
        for key, value in content.items()
    }
