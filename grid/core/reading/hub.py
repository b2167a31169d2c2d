"""The news board of a web process: live pages and waiting clients sleep here until a task changes.

A commit in this process wakes them at once. Moves made by other processes (the dispatcher, a second server) are seen by
one look at the event table every quarter of a second, made only while somebody waits. Waiting costs no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable

from asgiref.sync import sync_to_async
from django.db import close_old_connections

POLL_SECONDS = 0.25


class Subscription:
    """One waiter. ``tasks`` narrows what wakes it; None means every task."""

    def __init__(self, tasks: frozenset[str] | None) -> None:
        self.tasks = tasks
        self.loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def tell(self, changed: set[str]) -> None:
        """Called from any thread when tasks have changed."""
        if self.tasks is None or not self.tasks.isdisjoint(changed):
            with contextlib.suppress(RuntimeError):  # the loop may be closing
                self.loop.call_soon_threadsafe(self._news.set)

    async def wait(self, seconds: float) -> bool:
        """Sleep until there is news or ``seconds`` have passed; return whether there was news."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True


class Hub:
    """All waiters of one process. ``look`` returns the newest event number and the tasks that changed since another."""

    def __init__(self, look: Callable[[int | None], tuple[int, set[str]]]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._waiting: set[Subscription] = set()
        self._poller: asyncio.Task[None] | None = None

    def publish(self, tasks: Iterable[str]) -> None:
        """Tell the waiters of this process; callable from every thread."""
        changed = set(tasks)
        with self._lock:
            waiting = list(self._waiting)
        for one in waiting:
            one.tell(changed)

    @contextlib.asynccontextmanager
    async def subscribe(self, tasks: Iterable[str] | None = None) -> AsyncIterator[Subscription]:
        """Be told of changes from here on: subscribe first, look second, and no change is missed."""
        one = Subscription(None if tasks is None else frozenset(tasks))
        with self._lock:
            self._waiting.add(one)
        if self._poller is None or self._poller.done() or self._poller.get_loop() is not one.loop:
            self._poller = one.loop.create_task(self._poll())
        try:
            yield one
        finally:
            with self._lock:
                self._waiting.discard(one)

    async def _poll(self) -> None:
        newest: int | None = None
        while self._anybody():
            newest, changed = await sync_to_async(self._look, thread_sensitive=False)(newest)
            if changed:
                self.publish(changed)
            await asyncio.sleep(POLL_SECONDS)

    def _anybody(self) -> bool:
        with self._lock:
            return bool(self._waiting)


class Look:
    """Looks for news in the table of events, and remembers what it has seen.

    On PostgreSQL an event may appear after one with a higher number, for numbers are given out before the commit: so
    the last ``WINDOW`` numbers are looked at again. The first look tells of all of them, because a waiter may have
    looked at its task just before.
    """

    WINDOW = 500
    MOST = 10_000

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, since: int | None) -> tuple[int, set[str]]:
        """The newest number, and the tasks of the events that were not there at the look before."""
        from grid.core.models import Event

        close_old_connections()
        if since is None:
            self._seen.clear()
            since = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
        known = Event.objects.filter(id__gt=since - self.WINDOW).order_by("id").values_list("id", "task_id")
        rows = list(known[: self.MOST])
        changed = {task for number, task in rows if number not in self._seen}
        self._seen = {number for number, _ in rows}
        return max([since, *self._seen]), changed


hub = Hub(Look())
