"""The folder of a grid on one machine: one supervisor at a time, and what has to be remembered between two starts."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from tasks.errors import GridError
from tasks.model import Record

PASSWORD_BYTES = 24


class AlreadyRunning(GridError):
    """Another supervisor has the folder."""


class Memory(Record):
    """What is kept of one start for the next: ports and passwords stay the same while the folder lives."""

    node: str
    broker_password: str
    flower_password: str
    broker_port: int = 0
    flower_port: int = 0
    web_port: int = 0
    user: str = ""
    user_token: str = ""
    node_token: str = ""


class Place:
    """The folder ``path``, held by this process until ``close``.

    Raises AlreadyRunning when another process holds it, GridError when it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("logs", "broker", "node", "flower"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.path / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise GridError(f"cannot use the folder {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 1000).decode(errors="replace").strip()
            os.close(self._lock)
            raise AlreadyRunning(f"a grid runs in {self.path} already{f': {holder}' if holder else ''}") from None

    def announce(self, server: str) -> None:
        """Say to others who asks for the folder where the grid is."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{server} (process {os.getpid()})\n".encode(), 0)

    def close(self) -> None:
        """Give the folder free."""
        os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recall(self) -> Memory:
        """What the last start left, or fresh values. Raises GridError when it cannot be read."""
        path = self.path / "up.json"
        try:
            return Memory.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Memory(
                node=machine_name(),
                broker_password=secrets.token_urlsafe(PASSWORD_BYTES),
                flower_password=secrets.token_urlsafe(PASSWORD_BYTES),
            )
        except (OSError, ValidationError) as error:
            raise GridError(f"cannot read {path}; move it away and start again ({error})") from error

    def remember(self, memory: Memory) -> None:
        """Keep ``memory`` for the next start."""
        self.write("up.json", json.dumps(memory.model_dump(), indent=2) + "\n")

    def write(self, name: str, text: str) -> Path:
        """Write a file that only its owner may read, and return its path."""
        path = self.path / name
        fresh = path.with_name(f".{path.name}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(text)
        fresh.replace(path)
        return path


def machine_name() -> str:
    """This machine's name, as far as it can be the name of a node."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname().split(".")[0]).lstrip("-._")[:63] or "local"
