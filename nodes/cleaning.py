"""Cleaning up after attempts in the background: nobody waits for it, but it never falls far behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nodes.journal import event
from tasks.errors import NodeFault

THREADS = 2
# So many may wait to be cleaned up; whoever ends the next attempt then waits for one of them.
BACKLOG = 32

_log = logging.getLogger(__name__)


class Cleaner:
    """Runs ``clean(attempt)`` for one attempt after the other on few threads."""

    def __init__(self, clean: Callable[[str], None]) -> None:
        self._clean = clean
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cleaner")
        self._places = threading.BoundedSemaphore(BACKLOG)

    def put(self, attempt: str) -> None:
        """Clean up after ``attempt`` soon."""
        self._places.acquire()
        try:
            self._pool.submit(self._run, attempt)
        except RuntimeError:
            # Closed: the next start of the agent sweeps it away.
            self._places.release()

    def close(self) -> None:
        """Finish what there is; few may wait, and each is quick."""
        self._pool.shutdown(wait=True)

    def _run(self, attempt: str) -> None:
        try:
            self._clean(attempt)
        except (NodeFault, OSError) as error:
            # The next start of the agent tries again.
            _log.error(event("not_cleaned", attempt=attempt, message=str(error)))
        finally:
            self._places.release()
