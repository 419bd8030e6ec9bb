"""Whether a port can be had, asked before anything is started that would need it.

It knows sockets only; how the answer is told is the caller's business.
"""

from __future__ import annotations

import errno
import socket


def port_problem(host: str, port: int) -> str:
    """Why nobody could listen there now, as a clause ("Port 8000 on 127.0.0.1 is in use ..."); empty if one could."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = "is in use by another program" if error.errno == errno.EADDRINUSE else f"{error.strerror}"
            return f"Port {port} on {host} {reason}"
    return ""
