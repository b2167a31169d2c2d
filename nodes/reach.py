"""Whether images can be fetched at all: asked in the background, for a network that is away may take long to say so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# The first answer is worth a moment, so that a node without a network says so when it joins.
WAIT_SECONDS = 1.0
# A registry that was reached is not asked again for a while; one that was not, whenever somebody wants to know.
TRUSTED_SECONDS = 600.0


class Reach:
    """The latest answer of ``look``; True until the first one is there, for then the pull itself will tell."""

    def __init__(self, look: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reached = True
        self._looked = float("-inf")

    def __call__(self) -> bool:
        """The latest answer, or a new one if it comes within a second."""
        with self._lock:
            if self._reached and self._clock() - self._looked < TRUSTED_SECONDS:
                return True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._ask, name="reach", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(WAIT_SECONDS)
        with self._lock:
            return self._reached

    def _ask(self) -> None:
        reached = self._look()
        with self._lock:
            self._reached, self._looked = reached, self._clock()
