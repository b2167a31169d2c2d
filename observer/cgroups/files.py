"""Reading and writing the small files of a group."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from observer.cgroups.layout import Layout

_LONGEST = 1 << 16


class Files:
    """The files of one group's folder, opened once and read again by position: a read costs a few microseconds.

    Everything answers None when the file is not there, or not any more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._open: dict[str, int] = {}

    def text(self, name: str) -> str | None:
        """The content of the file ``name``."""
        try:
            if name not in self._open:
                self._open[name] = os.open(f"{self._folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._open[name], _LONGEST, 0).decode()
        except OSError:  # ENOENT: an older kernel; ENODEV: the group is gone
            return None

    def number(self, name: str) -> int | None:
        """The content of a file that holds one number; None also for ``max``."""
        text = (self.text(name) or "").strip()
        return int(text) if text.isdecimal() else None

    def value(self, name: str, key: str) -> int | None:
        """The number after ``key`` in a file of lines ``key number``."""
        words = (self.text(name) or "").split()
        return int(words[words.index(key) + 1]) if key in words else None

    def close(self) -> None:
        """Let go of the open files; reading opens them again."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


def below(folder: str) -> Iterator[str]:
    """Every group below ``folder``, parents first; none when it is not there (any more).

    A group's folder has two links and one more for each child, so that most calls cost one ``stat``.
    """
    todo = [folder]
    while todo:
        here = todo.pop()
        try:
            if os.stat(here).st_nlink == 2:
                continue
            with os.scandir(here) as entries:
                children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        yield from children
        todo += children


def processes(folder: str) -> Iterator[int]:
    """The processes of a group and of those below it, as numbers of our own pid namespace (0 for those outside)."""
    for each in (folder, *below(folder)):
        yield from map(int, read(f"{each}/cgroup.procs").split())


def read(path: str) -> str:
    """The content of a small file; empty when it is not there, or not any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = iter(lambda: os.read(descriptor, _LONGEST), b"")
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def write(path: str, text: str) -> bool:
    """Write a control file; False when the kernel refuses or the file is not there."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
        return True
    return False


def cpu_seconds(layout: Layout, where: str) -> float | None:
    """The processor time of a group and all below it, those that are gone too; None when the group is not there."""
    if layout.version == 1:
        folder = layout.v1.get("cpuacct", Path("/nonexistent"))
        text = read(f"{folder}/{where}/cpuacct.usage").strip()
        return int(text) / 1e9 if text.isdecimal() else None
    words = read(f"{layout.unified}/{where}/cpu.stat").split()
    return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else None


def held_bytes(layout: Layout, where: str) -> int:
    """The memory of a group and all below it that the kernel cannot simply drop; 0 when the group is not there."""
    folder = layout.v1.get("memory", Path("/nonexistent")) if layout.version == 1 else layout.unified
    words = read(f"{folder}/{where}/memory.stat").split()
    found = dict(zip(words[::2], words[1::2], strict=False))
    names = ("total_rss", "total_shmem") if layout.version == 1 else ("anon", "shmem")
    return sum(int(found.get(name, 0)) for name in names)
