"""The simulated testers of a line: an endpoint for each tester that a line file names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from api.endpoints.tester import EndpointSettings
from equipment.line_config import LineConfig


def endpoints_of_line(
    line: LineConfig, state_folder: Path, *, mes_url: str, mes_token: str, clock_file: Path | None = None
) -> list[EndpointSettings]:
    """What the endpoints of a line need to know.

    Args:
        line: As the service reads it.
        state_folder: Where the simulated tools keep their state; each tester has a folder of its own below.
        mes_url: Address of the service.
        mes_token: Token by which the testers speak to it.
        clock_file: The shared clock; None for real time.
    """
    return [
        EndpointSettings(
            name=tester.name,
            serial=f"SIM-{tester.name}",
            data_folder=state_folder / "testers" / tester.name,
            truth_folder=state_folder,
            mes_url=mes_url,
            mes_token=mes_token,
            token=tester.token(),
            host=urlsplit(tester.url).hostname or "127.0.0.1",
            port=urlsplit(tester.url).port or 80,
            channels=tester.channels,
            capabilities=tester.capabilities,
            clock_file=clock_file,
        )
        for tester in line.testers
    ]
