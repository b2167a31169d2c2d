"""What the machine looks like, as far as hostile tasks could have changed it. Other programs may be at work on it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodes.config import NodeConfig
from tests.support.containers import containers

_SETTINGS = ("kernel", "vm", "fs")
# What the kernel counts there, or sets by itself; and "stat_refresh", which does something when it is read.
_VOLATILE = ("random", "nr", "state", "pid", "detect_count", "sample_rate", "perf_cpu", "next_id", "refresh", "quota")


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: a folder that nobody may touch, the node that ran the tasks, and the mark of their processes.

    The mark is a word that every task has in its environment.
    """

    canary: Path
    node: NodeConfig
    mark: str


@dataclass(frozen=True, slots=True)
class Host:
    """The machine at one moment; two of them are equal when nothing has changed.

    ``canary`` and ``node`` are files with their kind, mode, owner and hash. ``settings`` are those of ``/proc/sys``.
    """

    canary: Mapping[str, str]
    settings: Mapping[str, str]
    mounts: frozenset[str]
    loops: frozenset[str]
    groups: frozenset[str]
    containers: frozenset[str]
    volumes: frozenset[str]
    processes: frozenset[str]
    segments: frozenset[str]
    swaps: str
    node: Mapping[str, str]


def look(place: Place) -> Host:
    """The machine now."""
    attempts = (place.node.attempts, place.node.workspaces, place.node.spool)
    return Host(
        canary=_files(place.canary),
        settings=_settings(),
        mounts=frozenset(_mounts(str(place.node.directory))),
        loops=frozenset(_loops(str(place.node.directory))),
        groups=frozenset(_groups(place.node.identity)),
        containers=frozenset(one.id for one in containers(place.node.identity)),
        volumes=frozenset(_volumes(place.mark)),
        processes=frozenset(_processes(place)),
        segments=frozenset(line for line in Path("/proc/sysvipc/shm").read_text().splitlines() if "65532" in line),
        swaps=Path("/proc/swaps").read_text(),
        node={path: kind for folder in attempts for path, kind in _files(folder).items() if ".templates" not in path},
    )


def clock_offset_seconds() -> float:
    """How far the clock that can be set is from one that cannot."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def broken_blobs(folder: Path) -> list[str]:
    """The cached input files whose content is not what their names say."""
    blobs = (path for path in folder.glob("??/*") if len(path.name) == 64)
    return [path.name for path in blobs if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]


def _files(folder: Path) -> dict[str, str]:
    """Each name below the folder with all that can be changed about it."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            with contextlib.suppress(FileNotFoundError):  # goes away while we look
                status = path.lstat()
                content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
                found[str(path)] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {status.st_mtime_ns} {content}"
    return found


def _settings() -> dict[str, str]:
    found = {}
    for path in (path for part in _SETTINGS for path in Path("/proc/sys", part).rglob("*")):
        if any(word in str(path.relative_to("/proc/sys")) for word in _VOLATILE) or not path.is_file():
            continue
        with contextlib.suppress(OSError):  # only to be written
            found[str(path)] = path.read_text(errors="replace")
    return found


def _mounts(folder: str) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if folder in line:
            yield line


def _loops(folder: str) -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if folder in (text := backing.read_text()):
                yield text


def _groups(identity: str) -> Iterator[str]:
    """The control groups of attempts, in every hierarchy."""
    for where, folders, _ in os.walk("/sys/fs/cgroup"):
        if f"/{identity}" in where or f"-{identity}" in where:
            yield from (f"{where}/{name}" for name in folders)


def _volumes(mark: str) -> list[str]:
    """Volumes and networks that a task has made at the engine, by the word that it would give them as a name."""
    told = ""
    for kind in ("volume", "network"):
        told += subprocess.run(["docker", kind, "ls", "--quiet"], capture_output=True, text=True, check=True).stdout
    return [name for name in told.split() if mark in name]


def _processes(place: Place) -> Iterator[str]:
    """The processes of tasks: by their groups, and by what they have in their environment wherever they went."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "environ").read_bytes() + (folder / "cgroup").read_bytes()
            if place.mark.encode() in told or place.node.identity.encode() in told:
                yield f"{folder.name} {(folder / 'comm').read_text().strip()}"
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or more than root: not a task
            continue
