"""Removing containers behind the scenes, so that nobody waits for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass

from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError, EngineGone
from observer.cgroups import Group, Tree

_GROUP_PATIENCE_SECONDS = 2.0
_GROUP_PAUSE_SECONDS = 0.02

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What an attempt leaves: its container, and its group in ``tree``."""

    container: str = ""
    group: Group | None = None
    tree: Tree | None = None


class Cleaner:
    """One thread that removes leftovers in order. What it cannot remove is found by the next ``reap``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[Leftovers | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, left: Leftovers) -> None:
        """Have it removed soon."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="cleaner", daemon=True)
                self._thread.start()
        self._queue.put(left)

    def close(self, seconds: float) -> None:
        """Remove what is waiting to be, for at most ``seconds``."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(seconds)

    def _loop(self) -> None:
        while (left := self._queue.get()) is not None:
            self.remove(left)

    def remove(self, left: Leftovers) -> bool:
        """Remove it now; False when something stays behind."""
        try:
            if left.container:
                self._engine.remove(left.container)
            return left.group is None or left.tree is None or _remove_group(left.tree, left.group)
        except (EngineError, EngineGone, OSError) as error:
            _log.warning("container %s is left behind: %s", left.container[:12], error)
            return False


def _remove_group(tree: Tree, group: Group) -> bool:
    """The kernel takes a moment to let go of dead processes."""
    deadline = time.monotonic() + _GROUP_PATIENCE_SECONDS
    while not tree.remove(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(_GROUP_PAUSE_SECONDS)
    return True
