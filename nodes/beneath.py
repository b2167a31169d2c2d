"""Walking through a folder that a hostile program has filled, without ever leaving it.

One name at a time from an open folder, by openat2(2) (Linux 5.6): no link of any kind is followed, no other file system
is entered, nothing blocks, and no path gets too long.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nodes.patterns import Pattern, State
from tasks.errors import NodeFault

_OPENAT2 = 437  # the same on every architecture
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8
_RESOLVE = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
_KINDS = {
    stat.S_IFLNK: "is a symbolic link",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFBLK: "is a device",
    stat.S_IFCHR: "is a device",
}

_OPEN_ERRORS = {errno.ELOOP: "is a symbolic link", errno.EXDEV: "is on another file system"}

_libc = ctypes.CDLL(None, use_errno=True)
Refuse = Callable[[str, str], None]


class Refusal(Exception):
    """A name is left behind; the text says why, to go after the name: "is a symbolic link"."""


@dataclass(frozen=True, slots=True)
class Found:
    """What looks like a regular file and is matched; ``folder`` is open, ``path`` relative to the root of the walk."""

    folder: int
    name: str
    path: str
    patterns: tuple[int, ...]


@dataclass(slots=True)
class _Level:
    folder: int
    path: str
    names: Iterator[str]
    states: tuple[State, ...]


def open_beneath(folder: int, name: str, flags: int = 0) -> int:
    """Open ``name`` of the open folder ``folder`` for reading. Refusal: it is a link, a mount, or cannot be opened."""
    how = struct.pack("QQQ", _FLAGS | flags, 0, _RESOLVE)
    opened: int = _libc.syscall(_OPENAT2, folder, os.fsencode(name), how, len(how))
    if opened < 0:
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            raise NodeFault("runtime_error", "the kernel has no openat2; Linux 5.6 or newer is needed")
        raise Refusal(_OPEN_ERRORS.get(number, f"cannot be opened: {os.strerror(number)}"))
    return opened


class Walk:
    """A walk over all that ``patterns`` match below ``root``, in the order of the names.

    ``depth`` is how many folders deep it goes, ``most_names`` how many names it looks at. What matches (or hides
    something that might) and is not a regular file goes to ``refuse(path, why)``. Nothing may change there meanwhile.
    """

    def __init__(self, root: Path, patterns: Sequence[Pattern], *, depth: int, most_names: int, refuse: Refuse) -> None:
        self._root, self._patterns = root, patterns
        self._depth, self._names_left = depth, most_names
        self._refuse = refuse

    def __iter__(self) -> Iterator[Found]:
        root = os.open(self._root, _FLAGS | os.O_DIRECTORY)
        stack = [self._level(root, "", tuple(pattern.start() for pattern in self._patterns))]
        try:
            while stack:
                level = stack[-1]
                name = next(level.names, None)
                if name is None:
                    os.close(stack.pop().folder)
                    continue
                found = self._look(level, name, stack)
                if found is not None:
                    yield found
        finally:
            for level in stack:
                os.close(level.folder)

    def _look(self, level: _Level, name: str, stack: list[_Level]) -> Found | None:
        """A file to give out; or goes down into a folder, or refuses, or passes by."""
        states = tuple(pattern.step(state, name) for pattern, state in zip(self._patterns, level.states, strict=True))
        if not any(states):
            return None
        path = level.path + name
        try:
            mode = os.stat(name, dir_fd=level.folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                self._descend(level, name, states, stack)
                return None
        except (OSError, Refusal) as error:  # OSError: a file system that lost data, because the node's disk is full
            self._refuse(path, str(error))
            return None
        matched = tuple(number for number, state in enumerate(states) if self._patterns[number].matches(state))
        if stat.S_ISREG(mode):
            return Found(level.folder, name, path, matched) if matched else None
        if matched or stat.S_ISLNK(mode):  # a link to a folder hides what might have matched
            self._refuse(path, _KINDS.get(stat.S_IFMT(mode), "is not a regular file"))
        return None

    def _descend(self, level: _Level, name: str, states: tuple[State, ...], stack: list[_Level]) -> None:
        path = level.path + name
        if len(stack) > self._depth:
            raise Refusal(f"is more than {self._depth} folders deep")
        folder = open_beneath(level.folder, name, os.O_DIRECTORY)
        try:
            stack.append(self._level(folder, f"{path}/", states))
        except OSError:
            os.close(folder)
            raise

    def _level(self, folder: int, path: str, states: tuple[State, ...]) -> _Level:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, self._names_left))
            if next(entries, None) is not None:
                self._refuse(path, "is not looked through to the end: too many names")
        self._names_left -= len(names)
        return _Level(folder, path, iter(names), states)


def check_regular(descriptor: int) -> os.stat_result:
    """What fstat(2) says of a file that may be brought home. Refusal: it may not."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Refusal("is not a regular file")
    if status.st_nlink != 1:
        raise Refusal(f"has {status.st_nlink} hard links")
    return status
