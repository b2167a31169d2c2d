"""Live logs: one thread for the whole node sends what running attempts have written since the last round."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodes.journal import event
from nodes.server import CHUNK_BYTES, Home
from tasks.errors import Conflict, Refused, Stale, Unavailable
from tasks.outcome import LogTail

INTERVAL_SECONDS = 0.3
FIRST_SECONDS = 0.6
TAIL_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LogFiles:
    """The captured streams of one attempt: their files, and how many bytes of each the server has as far as we know."""

    attempt: str
    token: str
    paths: Mapping[str, Path]
    sent_bytes: dict[str, int] = field(default_factory=dict)

    def ship(self, server: Home, leave_bytes: int = 0) -> None:
        """Send what the server does not have yet, until at most ``leave_bytes`` of each stream are left.

        Raises ``Refused`` or ``Unavailable``; what was sent until then is remembered.
        """
        for stream, path in self.paths.items():
            while self._size(stream) - self._sent(stream) > leave_bytes and self._send_chunk(server, stream, path):
                pass

    def tails(self) -> dict[str, LogTail]:
        """What is left of each stream, to travel with the outcome; to be asked after ``ship(server, TAIL_BYTES)``."""
        found = {}
        for stream, path in self.paths.items():
            offset = self._sent(stream)
            if data := _read(path, offset, TAIL_BYTES):
                found[stream] = LogTail(offset=offset, data=base64.b64encode(data).decode())
        return found

    def _send_chunk(self, server: Home, stream: str, path: Path) -> bool:
        """Send one chunk; False when that brought nothing, because the server takes no more of this stream."""
        before = self._sent(stream)
        try:
            now = server.send_log(self.attempt, self.token, stream, before, _read(path, before, CHUNK_BYTES))
        except Stale:
            raise
        except Conflict:
            # The server has less than we thought (it was set back, or came back empty): ask how much, go on from there.
            now = server.send_log(self.attempt, self.token, stream, 0, b"")
            self.sent_bytes[stream] = now
            return now < before
        self.sent_bytes[stream] = now
        return now > before

    def grown(self) -> bool:
        """Whether there is something that the server does not have."""
        return any(self._size(stream) > self._sent(stream) for stream in self.paths)

    def _sent(self, stream: str) -> int:
        return self.sent_bytes.get(stream, 0)

    def _size(self, stream: str) -> int:
        try:
            return self.paths[stream].stat().st_size
        except FileNotFoundError:
            return 0


@dataclass(slots=True)
class _Followed:
    files: LogFiles
    printed_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: bool = False


class LogShipper:
    """Sends the growing log files of running attempts to the server; the rest travels with the outcome."""

    def __init__(self, server: Home) -> None:
        self._server = server
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="logs", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        self._wake.set()

    def follow(self, files: LogFiles) -> None:
        """Send what grows in ``files``, once the first bytes are some moments old: most programs print and end at once.

        Their output travels with the outcome, which saves a request for each of them.
        """
        with self._lock:
            self._followed[files.attempt] = _Followed(files)
        self._wake.set()

    def unfollow(self, attempt: str) -> None:
        """Send nothing more of ``attempt``; waits for a chunk that is under way."""
        with self._lock:
            followed = self._followed.pop(attempt, None)
        if followed is not None:
            with followed.lock:
                followed.over = True

    def _loop(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                everybody = list(self._followed.values())
            if not everybody:
                self._wake.wait()
                self._wake.clear()
            self._closed.wait(INTERVAL_SECONDS)
            now = time.monotonic()
            for followed in everybody:
                if followed.printed_at is None and followed.files.grown():
                    followed.printed_at = now
                if followed.printed_at is not None and now - followed.printed_at >= FIRST_SECONDS:
                    self._ship(followed)

    def _ship(self, followed: _Followed) -> None:
        with followed.lock:
            if followed.over:
                return
            try:
                followed.files.ship(self._server)
            except Unavailable:
                return  # the next round tries again, and the outcome brings the rest
            except Refused as error:
                followed.over = True
                _log.warning(event("log_refused", attempt=followed.files.attempt, message=str(error)))


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""
