"""Settings of the service: the only place that reads the environment.

Every setting is an environment variable that starts with `ARGONAUT_`, or stands in a file `.env`. Secrets are
read from files, so that they show in no process list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What can be set, with its default."""

    model_config = SettingsConfigDict(env_prefix="ARGONAUT_", env_file=".env", extra="ignore", frozen=True)

    data_folder: Path = Field(Path("var"), description="Folder for the database, raw files, journals and keys.")
    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite `argonaut.db` in the data folder.")
    line_file: Path = Field(Path("deploy/line.yaml"), description="The tools and testers of the line.")
    host: str = Field("127.0.0.1", description="Address to serve on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to serve on.")
    public_url: str = Field("", description="How tester endpoints reach the service; empty means http://host:port.")
    tls_certificate: Path | None = Field(None, description="PEM certificate; with it the service speaks HTTPS.")
    tls_key: Path | None = Field(None, description="PEM key of the certificate.")
    clock_file: Path | None = Field(None, description="File of a shared accelerated clock; empty means real time.")
    drive_tools: bool = Field(True, description="Drive the line's tools whenever their leases can be had.")
    run_jobs: bool = Field(True, description="Run scheduled jobs while holding the scheduler's lease.")
    session_hours: float = Field(12.0, gt=0, le=24, description="How long a sign-in lasts.")
    signing_minutes: float = Field(15.0, gt=0, le=60, description="How long a signing session lasts.")
    max_upload_mb: int = Field(100, ge=1, le=1000, description="Largest file that can be attached or sent.")
    max_body_kb: int = Field(1024, ge=16, description="Largest request body that is not a file.")
    sign_in_rate_per_minute: int = Field(30, ge=1, description="Sign-in attempts a minute from one address.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or for people.")

    @model_validator(mode="after")
    def _whole_key_pair(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("ARGONAUT_TLS_CERTIFICATE and ARGONAUT_TLS_KEY go together")
        return self

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_folder / 'argonaut.db'}"

    @property
    def attachments_folder(self) -> Path:
        """Where raw files are kept by their hash."""
        return self.data_folder / "attachments"

    @property
    def journal_file(self) -> Path:
        """Where Stop and Abort are written when the database refuses them."""
        return self.data_folder / "command-journal.ndjson"

    @property
    def callback_url(self) -> str:
        """How tester endpoints reach the service."""
        scheme = "https" if self.tls_certificate else "http"
        return (self.public_url or f"{scheme}://{self.host}:{self.port}").rstrip("/")


def child_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment for a child of it, with settings of ours in place of those it has.

    Args:
        settings: Values by the name of the setting, e.g. `{"port": 8000}`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARGONAUT_")}
    return inherited | {f"ARGONAUT_{name.upper()}": str(value) for name, value in settings.items()}
