"""Up to which number the events are complete: followers that go on from a number must not step over a hole.

PostgreSQL gives out numbers before the commit, so that an event may appear behind one with a higher number. Whoever has
inserted events holds a lock on their table until the transaction ends, and these locks are to be seen: what was the
newest number at some moment is settled when all that held one then have let go. SQLite has one writer at a time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection

from grid.core.models import Event

STUCK_SECONDS = 30.0
"""A transaction that lasts longer holds nobody up any more; that its events are missed is told by no one."""

_WRITERS = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = %s::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class _Mark:
    """The newest number at a moment, and the transactions that had inserted events and not ended."""

    number: int
    writers: frozenset[str]
    at: float


class Horizon:
    """What is settled, as far as this process knows; shared by all who follow events. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._marks: deque[_Mark] = deque()
        self._settled = 0

    def look(self) -> tuple[int, bool]:
        """The number up to which nothing new can appear, and whether there is something beyond it.

        Events up to that number that are read after this call are all there are; outside of a transaction, that is.
        """
        newest = newest_number()
        if connection.vendor != "postgresql":
            return newest, False
        with self._lock:
            if newest < self._settled:  # the table was emptied
                self._settled = 0
                self._marks.clear()
            if newest > self._settled:
                self._advance(newest)
            return self._settled, newest > self._settled

    def _advance(self, newest: int) -> None:
        # In this order: who took a lower number and is not seen here has ended, and can be read from now on.
        writers, now = _writers(), self._clock()
        if not self._marks or self._marks[-1].number < newest:
            self._marks.append(_Mark(newest, writers, now))
        while self._marks and (not self._marks[0].writers & writers or now - self._marks[0].at > STUCK_SECONDS):
            self._settled = max(self._settled, self._marks.popleft().number)


def newest_number() -> int:
    """The number of the newest event, 0 when there is none."""
    return Event.objects.order_by("-id").values_list("id", flat=True).first() or 0


def _writers() -> frozenset[str]:
    with connection.cursor() as cursor:
        cursor.execute(_WRITERS, [Event._meta.db_table])
        return frozenset(row[0] for row in cursor.fetchall())


horizon = Horizon()
