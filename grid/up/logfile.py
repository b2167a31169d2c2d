"""A child's output in a file that does not grow for ever, with its last lines at hand."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 10 * 1024**2
KEPT_FILES = 2
TAIL_LINES = 12
MAX_LINE_BYTES = 64 * 1024


class LogFile:
    """Appends lines to ``path``; at ``max_bytes`` the file becomes ``path.1`` and a new one begins."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab")
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Append a line; what cannot be written (a full disk) is dropped, for the grid matters more than its log."""
        with self._lock:
            self._tail.append(line.decode(errors="replace").rstrip())
            try:
                self._stream.write(line)
                self._stream.flush()
                if self._stream.tell() >= self._max_bytes:
                    self._rotate()
            except OSError:
                return

    def tail(self) -> list[str]:
        """The last lines."""
        with self._lock:
            return list(self._tail)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _rotate(self) -> None:
        self._stream.close()
        for number in range(KEPT_FILES, 0, -1):
            older = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number}"))
        self._stream = self.path.open("ab")


def copy_lines(source: BinaryIO, log: LogFile) -> None:
    """Copy ``source`` to ``log`` line by line until it ends."""
    with source:
        while line := source.readline(MAX_LINE_BYTES):
            log.write(line)
