"""Watches how full workspaces get while their tasks run: what is deleted before the end was there all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from nodes.workspace import Workspace

INTERVAL_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Fill:
    """The most that a workspace has held so far, and whether it was ever full."""

    room: Workspace
    peak_bytes: int | None = None
    storage_full: bool = False
    files_full: bool = False

    def look(self) -> None:
        """Look once more. Nothing is learned from a workspace that is gone."""
        with suppress(OSError):
            now = self.room.fullness()
            if now.bytes_used is not None:
                self.peak_bytes = max(self.peak_bytes or 0, now.bytes_used)
            self.storage_full |= now.storage_full
            self.files_full |= now.files_full


class RoomWatch:
    """One thread for all workspaces of the node; it sleeps while there are none."""

    def __init__(self) -> None:
        self._fills: set[Fill] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="rooms", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        self._wake.set()

    @contextmanager
    def watching(self, room: Workspace) -> Iterator[Fill]:
        """Watch ``room`` as long as the context lasts, and at its very end."""
        fill = Fill(room)
        with self._lock:
            self._fills.add(fill)
        self._wake.set()
        try:
            yield fill
        finally:
            with self._lock:
                self._fills.discard(fill)
            fill.look()

    def _loop(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                fills = list(self._fills)
            if not fills:
                self._wake.wait()
                self._wake.clear()
            self._closed.wait(INTERVAL_SECONDS)
            for fill in fills:
                fill.look()
