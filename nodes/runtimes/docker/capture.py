"""Keeping what a program writes: two files, so many bytes of both together, the rest counted and thrown away."""

from __future__ import annotations

import os
from pathlib import Path

from nodes.faults import FULL
from nodes.runtimes.docker.stream import STDERR, STDOUT
from tasks.errors import NodeFault


class Capture:
    """Appends the streams to their files. Raises NodeFault (node_disk) when the node has no room for what may be kept.

    Equal paths mean merged, in order of arrival. With ``again=True`` the streams come from their beginning once more
    (the engine's log, after a restart of ours): what the files hold already is not written twice. Merged files are
    written anew then, because the engine's log may have put the two streams in another order than they arrived in.
    """

    def __init__(self, stdout: Path, stderr: Path, limit_bytes: int | None, *, again: bool = False) -> None:
        self.total_bytes = 0
        self._limit = limit_bytes
        merged = stdout == stderr
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if again and merged else 0)
        first = os.open(stdout, flags, 0o640)
        self._files = {STDOUT: first, STDERR: first if merged else os.open(stderr, flags, 0o640)}
        self._skip = {number: os.fstat(file).st_size for number, file in self._files.items()} if again else {}
        self.kept_bytes = sum(self._skip.values()) if again and not merged else 0

    @property
    def cut_bytes(self) -> int:
        """How much was thrown away."""
        return max(self.total_bytes - self.kept_bytes, 0)

    def write(self, stream: int, data: bytes) -> None:
        """Take a piece of a stream."""
        if stream not in self._files:
            return
        self.total_bytes += len(data)
        if skip := min(self._skip.get(stream, 0), len(data)):
            self._skip[stream] -= skip
            data = data[skip:]
        room = len(data) if self._limit is None else min(len(data), max(self._limit - self.kept_bytes, 0))
        if room:
            self._append(self._files[stream], data[:room])
            self.kept_bytes += room

    def close(self) -> None:
        """Close the files."""
        for file in set(self._files.values()):
            os.close(file)
        self._files = {}

    @staticmethod
    def _append(file: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(file, view) :]
            except OSError as error:
                if error.errno in FULL:
                    raise NodeFault("node_disk", "no room on the node for the task's output") from error
                raise
