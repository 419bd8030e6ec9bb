"""The simulated line: a tool server for each tool that a line file names.

The file is the same that the service reads, so simulator and tool are exchanged by changing an address. Which class
of tool is simulated by which plant is known here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from equipment.line_config import LineConfig, SecurityMode, ToolConfig
from equipment.opcua.security import CertificatePair, fingerprint, load_certificate
from equipment.press import PRESS
from equipment.simulators.plant import Plant
from equipment.simulators.press_plant import PressPlant
from equipment.simulators.sputter_plant import SputterPlant
from equipment.simulators.tool_server import ToolServer
from equipment.simulators.tool_server_access import LOCAL_ANONYMOUS, ServerAccess
from equipment.sputter import SPUTTER
from traceability.clock import Clock
from traceability.errors import InvalidInput

PLANTS: dict[str, Callable[[int, str], Plant]] = {
    SPUTTER.equipment_class: lambda seed, serial: SputterPlant(seed, serial_number=serial),
    PRESS.equipment_class: lambda seed, serial: PressPlant(seed, serial_number=serial),
}


def state_file(folder: Path, tool: str) -> Path:
    """Where a simulated tool keeps what survives its restart, and the hidden truth of what it made."""
    return folder / f"{tool}.json"


def tool_servers(
    line: LineConfig,
    clock: Clock,
    state_folder: Path,
    *,
    seed: int = 1,
    certificates: Path | None = None,
) -> list[ToolServer]:
    """The servers of a line, not yet started.

    Args:
        line: As the service reads it.
        clock: Domain time.
        state_folder: Where the tools keep their state.
        seed: Of the whole line; each tool has its own, derived from it.
        certificates: Folder with `<tool>.pem` and `<tool>.key.pem` of tools that encrypt.

    Raises:
        InvalidInput: A class of tool has no plant, or a tool that encrypts has no key.
    """
    state_folder.mkdir(parents=True, exist_ok=True)
    return [
        _tool_server(tool, line.site, clock, state_folder, seed + number, certificates)
        for number, tool in enumerate(line.tools)
    ]


def _tool_server(
    tool: ToolConfig, site: str, clock: Clock, state_folder: Path, seed: int, certificates: Path | None
) -> ToolServer:
    if tool.equipment_class not in PLANTS:
        known = ", ".join(PLANTS)
        raise InvalidInput(f"{tool.name} is a {tool.equipment_class}, which nobody simulates; there are {known}.")
    return ToolServer(
        PLANTS[tool.equipment_class](seed, f"SIM-{tool.name}"),
        name=tool.name,
        site=site,
        endpoint=tool.endpoint,
        now=clock.now,
        access=_access(tool, certificates),
        state_path=state_file(state_folder, tool.name),
    )


def _access(tool: ToolConfig, certificates: Path | None) -> ServerAccess:
    security = tool.security
    password = security.password()
    users = {security.user: password} if password is not None else {}
    if security.mode is SecurityMode.NONE:
        return ServerAccess(users=users) if users else LOCAL_ANONYMOUS
    if certificates is None or security.client_certificate is None:
        raise InvalidInput(
            f"{tool.name} encrypts: name the folder that holds {tool.name}.pem and {tool.name}.key.pem."
        )
    own = CertificatePair(certificates / f"{tool.name}.pem", certificates / f"{tool.name}.key.pem")
    return ServerAccess(
        own, frozenset({fingerprint(load_certificate(security.client_certificate))}), users, anonymous=not users
    )
