"""What a node does from time to time beside its attempts, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nodes.journal import event
from tasks.errors import NodeFault

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every so many seconds; a fault of it is logged, and it is tried again the next time."""

    name: str
    every_seconds: float
    do: Callable[[], object]


class Upkeep:
    """Does chores, each for the first time when its time has passed once."""

    def __init__(self, chores: Sequence[Chore], clock: Callable[[], float] = time.monotonic) -> None:
        self._chores = chores
        self._clock = clock
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Begin nothing any more; what is being done ends by itself."""
        self._closed.set()

    def _loop(self) -> None:
        due = {chore: self._clock() + chore.every_seconds for chore in self._chores}
        while due:
            chore = min(due, key=due.__getitem__)
            if self._closed.wait(max(0.0, due[chore] - self._clock())):
                return
            self._do(chore)
            due[chore] = self._clock() + chore.every_seconds

    def _do(self, chore: Chore) -> None:
        try:
            chore.do()
        except (NodeFault, OSError) as error:
            _log.warning(event("chore_failed", chore=chore.name, message=str(error)))
