"""How much a container has written into its own root file system, where that can be written.

The engine puts no limit on it. So it is looked at while the program runs: between two looks a program can write more
than it may, as fast as the disk takes it; it is ended at the next one, and all of it goes with the container.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nodes.runtimes.docker.engine import Engine
from tasks.limits import Limits
from tasks.units import human_size

_DU_SECONDS = 10
_BLOCK = 512
_BESIDE = ("HostsPath", "HostnamePath", "ResolvConfPath")
_OPEN = ("fd", "map_files")


@dataclass(frozen=True, slots=True)
class Written:
    """What is in the layer: bytes on the disk, and names; ``countless`` when counting them was given up."""

    size: int = 0
    files: int = 0
    countless: bool = False

    def beyond(self, limits: Limits, workspace_bytes: int) -> str:
        """Why that is too much, together with what is in the workspace; empty when it is not."""
        if self.countless:
            return f"what it made outside of its folder could not be counted within {_DU_SECONDS}s"
        if limits.storage is not None and self.size + workspace_bytes > limits.storage:
            stored = human_size(self.size + workspace_bytes)
            return f"it stored {stored}, {human_size(self.size)} of it outside of its folder"
        if limits.files is not None and self.files > limits.files:
            return f"it made {self.files} files and folders outside of its folder"
        return ""


class Layer:
    """The layer of one container; ``folder`` is where the engine keeps it, None where only the engine can look."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine, self._container = engine, container
        self._beside: tuple[Path, ...] = ()
        found = engine.inspect(container).get("GraphDriver") or {}
        upper = Path((found.get("Data") or {}).get("UpperDir") or "/nonexistent")
        self.folder = upper if found.get("Name", "").startswith("overlay") and upper.is_dir() else None

    def written(self, processes: Iterable[int]) -> Written:
        """What was written so far; files that ``processes`` hold open count also when their names are gone.

        Raises EngineError and EngineGone where the engine has to be asked.
        """
        if self.folder is None:
            return Written(self._engine.written_bytes(self._container))
        try:
            sizes = _du(self.folder, "--block-size=1"), _du(self.folder, "--inodes")
        except subprocess.TimeoutExpired:
            return Written(countless=True)
        return Written(sizes[0] + self._bytes_beside() + _nameless_bytes(processes), sizes[1])

    def _bytes_beside(self) -> int:
        """What is in the files of the engine's own that are mounted into the container and can be written as well."""
        if not self._beside:  # there are none before the container has started
            told = self._engine.inspect(self._container)
            self._beside = tuple(Path(path) for name in _BESIDE if (path := told.get(name)))
        return sum(path.stat().st_size for path in self._beside if path.is_file())


def workspace_bytes(workspace: Path) -> int:
    """What is in the workspace, where it is a file system of its own."""
    if not os.path.ismount(workspace):
        return 0
    status = os.statvfs(workspace)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _du(folder: Path, unit: str) -> int:
    """By du(1), which goes down to any depth and follows no link, whatever the program does meanwhile.

    0: the folder is gone. subprocess.TimeoutExpired: it takes too long.
    """
    command = ["du", "--summarize", "--one-file-system", unit, str(folder)]
    # What vanishes while it looks makes du complain; it counts the rest.
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DU_SECONDS)
    first = done.stdout.split(maxsplit=1)[:1]
    return int(first[0]) if first and first[0].isdecimal() else 0


def _nameless_bytes(processes: Iterable[int]) -> int:
    """What open and mapped files hold that have no name any more."""
    found: dict[tuple[int, int], int] = {}
    for pid in processes:
        with contextlib.suppress(OSError):
            root = os.stat(f"/proc/{pid}/root").st_dev
            for status in _open_files(pid):
                if status.st_nlink == 0 and status.st_dev == root:
                    found[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
    return sum(found.values())


def _open_files(pid: int) -> Iterator[os.stat_result]:
    for kind in _OPEN:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/{kind}") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    yield entry.stat()
