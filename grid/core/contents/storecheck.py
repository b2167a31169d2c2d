"""Can the server keep what it is sent? Found out by writing, for a full or read-only disk looks well until then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from grid.core.contents.store import Store, get_store
from tasks.errors import GridError

CONTENT = b"celery-grid looks whether it can write here\n" * 100
"""Of a few kilobytes, so that it needs room of its own; being always the same, it is there once at most."""

KEEP_SECONDS = 5.0
"""Whoever asks more often is told what was found then: the question costs a write, and everybody may ask it."""


class StoreCheck:
    """The latest finding about the store of this process; ``clock`` is monotonic."""

    def __init__(self, store: Callable[[], Store] = get_store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._problem = ""

    def __call__(self) -> str:
        """Why nothing can be stored; empty when it can."""
        with self._lock:
            if self._clock() - self._looked >= KEEP_SECONDS:
                self._problem = self._look()
                self._looked = self._clock()
            return self._problem

    def forget(self) -> None:
        """Look anew the next time."""
        self._looked = float("-inf")

    def _look(self) -> str:
        try:
            self._store().put([CONTENT])
        except OSError as error:
            return error.strerror or type(error).__name__
        except GridError as error:
            return str(error)
        return ""


problem = StoreCheck()
