"""Ports of this machine: finding a free one, taking one, and telling who has it."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from tasks.errors import GridError

HOST = "127.0.0.1"
BACKLOG = 1024
_LISTENING = "0A"


def is_free(port: int) -> bool:
    """True when nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def find_free(wanted: int = 0) -> int:
    """``wanted`` when it is free, else some other free port."""
    if wanted and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def listen(port: int, patience_seconds: float = 1.0) -> socket.socket:
    """A socket that listens on the port. Raises GridError, which tells who else does.

    It is patient for a moment, for what a killed grid has left behind takes some milliseconds to disappear.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection. The server does not know that a socket it is given speaks TCP and would leave
        # the delay on: an answer whose body follows its header would take 40 ms longer.
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            taken.bind((HOST, port))
            taken.listen(BACKLOG)
        except OSError as error:
            taken.close()
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise GridError(f"port {port} is taken{_by(port)}; choose another with --port, or --port 0") from error
        return taken


def answers(
    address: int | Path | tuple[str, int], request: bytes, expected: bytes, timeout_seconds: float = 0.5
) -> bool:
    """True when a program there answers ``request`` with something that has ``expected`` in it.

    ``address`` is a port of this machine, the path of a socket, or a host and a port.
    """
    kind = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    where = str(address) if isinstance(address, Path) else (HOST, address) if isinstance(address, int) else address
    try:
        with socket.socket(kind) as link:
            link.settimeout(timeout_seconds)
            link.connect(where)
            link.sendall(request)
            received = b""
            while expected not in received:
                chunk = link.recv(4096)
                if not chunk:
                    return False
                received += chunk
    except OSError:
        return False
    return True


def _by(port: int) -> str:
    found = owner_of(port)
    return f" by {found}" if found else ""


def owner_of(port: int) -> str:
    """The process that listens on the port, as ``name (process 123)``; empty when that cannot be seen."""
    inodes = _inodes(port)
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, inodes):
            # Processes end while we look, and those of others are closed to us.
            with suppress(OSError):
                name = (process / "comm").read_text().strip()
                return f"{name} (process {process.name})"
    return ""


def _holds(process: Path, inodes: set[str]) -> bool:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(entry) in inodes:
                    return True
    return False


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return found
