"""The lock that keeps a second agent from working in the same folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from tasks.errors import GridError


class AlreadyRunning(GridError):
    """Another agent on this machine has this folder."""


class NodeLock:
    """Holds the folder of a node until the process ends, and not longer, even when it is killed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = _lock(directory / "node.lock", f"the folder {directory}")

    def release(self) -> None:
        """Let go of it."""
        self._file.close()


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
