"""The thread that goes along with a container: starts it, takes in its output, waits for its end."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from nodes.runtimes.docker.capture import Capture
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError, EngineGone
from nodes.runtimes.docker.marks import Marks
from nodes.runtimes.docker.stream import Frames, Stream
from tasks.errors import NodeFault

Failure = EngineError | EngineGone | NodeFault | OSError
_CHUNK = 1 << 16
_TIDY_SECONDS = 0.25

_log = logging.getLogger(__name__)


class Follower:
    """Follows one container in a thread of its own; ``ended`` is set at the end, whatever it was.

    Then ``exit_code`` is what the program left, or ``failure`` says why that is not known. ``begun_at`` is the
    monotonic time at which the engine said that the program runs.
    """

    def __init__(self, engine: Engine, container: str, capture: Capture) -> None:
        self.ended = threading.Event()
        self.exit_code: int | None = None
        self.failure: Failure | None = None
        self.begun_at: float | None = None
        self._seen: Counter[int] = Counter()
        self._output_ended_at: float | None = None
        self._done_at: float | None = None
        self._engine, self._container, self._capture = engine, container, capture

    def start(self, stream: Stream) -> None:
        """Start a container to which ``stream`` is attached, and follow it."""
        self._begin(stream)

    def join_in(self) -> None:
        """Follow a container that was started before, from the beginning of its output."""
        self._begin(None)

    def program_ended_at(self, now: float) -> float:
        """The monotonic time of the program's end, ``now`` when that is not known.

        Its output ends with it, some 40 ms before the engine has tidied up; unless the program closed its output
        itself.
        """
        if self._done_at is None:
            return now
        output_ended_at = self._output_ended_at or 0.0
        return output_ended_at if self._done_at - output_ended_at < _TIDY_SECONDS else self._done_at

    def _begin(self, stream: Stream | None) -> None:
        threading.Thread(
            target=self._follow, args=(stream,), name=f"follow-{self._container[:12]}", daemon=True
        ).start()

    def _follow(self, stream: Stream | None) -> None:
        try:
            if stream is None:
                self.begun_at = time.monotonic()
                self._take_in(self._engine.logs(self._container, follow=True))
            else:
                self._engine.start(self._container)
                self.begun_at = time.monotonic()
                self._take_in(stream.chunks())
            self._output_ended_at = time.monotonic()
            exit_code = self._engine.wait(self._container)
            if stream is None:
                # Following a log ends with the container, and misses what is written into the log just then.
                self._take_in(self._engine.logs(self._container, follow=False), known=Counter(self._seen))
            self.exit_code = exit_code
        except (EngineError, EngineGone, NodeFault, OSError) as error:
            self.failure = error
        finally:
            self._done_at = time.monotonic()
            self.ended.set()

    def _take_in(self, chunks: Iterable[bytes], known: Counter[int] | None = None) -> None:
        """Write what arrives, but for the first ``known`` bytes of each stream."""
        frames, known = Frames(), known or Counter()
        for chunk in chunks:
            for stream, data in frames.feed(chunk):
                skip = min(known[stream], len(data))
                known[stream] -= skip
                self._seen[stream] += len(data) - skip
                self._capture.write(stream, data[skip:])


def feed(stream: Stream, source: IO[bytes], marks: Marks) -> None:
    """Send an open file to the program's standard input, in a thread of its own, and mark the end of it.

    What the program does not want to read any more is not an error.
    """

    def run() -> None:
        try:
            with source:
                while data := source.read(_CHUNK):
                    if not stream.send(data):
                        break
        except OSError as error:
            _log.error("standard input cannot be read: %s", error)
            return  # not marked: the program waits for input until its limits end it
        stream.end_input()
        marks.set_fed()

    threading.Thread(target=run, name="feed", daemon=True).start()


def open_input(path: Path) -> IO[bytes]:
    """Open the file for standard input before the program runs, which could put a link in its place.

    Raises NodeFault when it is not there, or not a plain file.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except OSError as error:
        raise NodeFault("staging", f"standard input cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NodeFault("staging", "standard input is not a plain file")
    return file
