"""Observers of this machine for tests, and programs that speak to them from within containers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from observer.cgroups.files import below
from observer.cgroups.layout import detect
from observer.cgroups.membership import PREFIX
from observer.client import Client
from tests.support.images import BUSYBOX
from tests.support.node_api import eventually
from tests.support.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "/run/observer"
_SYSTEM = ("/usr", "/lib", "/lib64")
START_SECONDS = 30.0 * PATIENCE


@dataclass(frozen=True)
class RunningObserver:
    """An observer in a process of its own."""

    socket: Path
    process: subprocess.Popen[bytes]

    @property
    def client(self) -> Client:
        """A client of it."""
        return Client(self.socket, timeout_seconds=60.0 * PATIENCE)

    def raw(self, data: bytes) -> bytes:
        """The whole answer to these bytes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(60.0 * PATIENCE)
            connection.connect(str(self.socket))
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def stop(self) -> int:
        """Ask it to end, and wait for that; its exit status."""
        self.process.terminate()
        return self.process.wait(START_SECONDS)


@contextmanager
def running_observer(*options: str) -> Iterator[RunningObserver]:
    """An observer with a socket of its own, gone afterwards with all groups that were made."""
    folder = Path(tempfile.mkdtemp(prefix="observer-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        running = start_observer(folder / "socket", *options)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder)


def start_observer(path: Path, *options: str) -> RunningObserver:
    """An observer that answers."""
    command = [sys.executable, "-m", "observer", "serve", "--socket", str(path), *options]
    running = RunningObserver(path, subprocess.Popen(command, cwd=ROOT))

    def answers() -> bool:
        assert running.process.poll() is None, "the observer has ended"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(path)) == 0

    eventually(answers, START_SECONDS)
    # It can be reached before it has swept what a former one left; what it answers comes after that.
    running.client.sessions()
    return running


def groups_named(text: str) -> list[str]:
    """All groups of this machine's observers whose path holds ``text``."""
    return [path for root in detect().roots for path in below(str(root)) if PREFIX in path and text in path]


def container(
    observer: RunningObserver, code: str, *arguments: str, options: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """A Python program in a container with the observer's socket at ``INSIDE``; its output can be read.

    ``options`` are for ``docker run``.

    The image has no Python: it is lent that of this machine. Modules of ours can be imported.
    """
    lent = dict.fromkeys(path for path in (*_SYSTEM, sys.base_prefix, sys.prefix, str(ROOT)) if Path(path).exists())
    volumes = [word for path in lent for word in ("--volume", f"{path}:{path}:ro")]
    socket_there = [*options, "--volume", f"{observer.socket.parent}:{INSIDE}:ro", "--env", f"PYTHONPATH={ROOT}"]
    command = [
        "docker",
        "run",
        "--rm",
        "--interactive",
        "--network",
        "none",
        *volumes,
        *socket_there,
        BUSYBOX,
        sys.executable,
        "-c",
        code,
    ]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """All that a program prints, when it has ended well."""
    output, _ = process.communicate(timeout=120 * PATIENCE)
    assert process.returncode == 0, output
    return output
