"""The lock that keeps a second agent from working under the same name or in the same folder."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import TextIO

from tasks.errors import GridError


class AlreadyRunning(GridError):
    """Another agent on this machine has this name or this folder."""


class NodeLock:
    """Holds the folder and the name of a node until the process ends, and not longer, even when it is killed."""

    def __init__(self, name: str, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._files = [
            _lock(directory / "node.lock", f"the folder {directory}"),
            _lock(_names() / f"{name}.lock", f'the name "{name}"'),
        ]

    def release(self) -> None:
        """Let go of both."""
        while self._files:
            self._files.pop().close()


def _names() -> Path:
    """Where the machine's agents of this user meet: containers are told apart by the name of their node."""
    run = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
    folder = run / f"celery-grid-nodes-{os.geteuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.geteuid():
        raise AlreadyRunning(f"{folder} belongs to somebody else")
    return folder


def _lock(path: Path, what: str) -> TextIO:
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise AlreadyRunning(
            f"another node agent (pid {holder}) already has {what}; stop it or choose another"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
