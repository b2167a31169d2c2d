"""Whether a container engine answers on this machine, and what to do when none does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from grid.up import ports

SOCKET = "/var/run/docker.sock"
TIMEOUT_SECONDS = 5.0
_PING = b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"


def engine_problem(environ: Mapping[str, str] | None = None) -> str:
    """Empty when an engine answers, else what is wrong and what to type."""
    env = os.environ if environ is None else environ
    host = env.get("DOCKER_HOST") or f"unix://{SOCKET}"
    scheme, _, rest = host.partition("://")
    if scheme == "unix":
        return _socket_problem(Path(rest), env.get("DOCKER_HOST", ""))
    if scheme == "tcp" and not env.get("DOCKER_TLS_VERIFY"):
        name, _, port = rest.rpartition(":")
        address = (name.strip("[]"), int(port) if port.isascii() and port.isdigit() else 2375)
        return "" if _pings(address) else f"DOCKER_HOST is {host}, but no engine answers there; start it, or unset it"
    # What is left needs keys that only the node has a use for; it will say itself what is wrong.
    return ""


def _socket_problem(path: Path, configured: str) -> str:
    if _pings(path):
        return ""
    if configured:
        return f"DOCKER_HOST is {configured}, but no engine answers there; start it, or unset DOCKER_HOST"
    if path.exists() and not os.access(path, os.W_OK):
        return f"you may not use the Docker Engine at {path}; type: sudo usermod -aG docker $USER, and log in again"
    if path.exists():
        return f"the Docker Engine at {path} does not answer; type: sudo systemctl start docker"
    return "there is no Docker Engine; type: sudo apt-get update && sudo apt-get install -y docker.io"


def _pings(address: Path | tuple[str, int]) -> bool:
    return ports.answers(address, _PING, b" 200 ", TIMEOUT_SECONDS)
