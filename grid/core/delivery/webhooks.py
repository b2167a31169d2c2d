"""The courier: a thread beside the dispatcher that has what is due in the outbox posted, and notes what came of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone

from grid.core.conf import GridSettings
from grid.core.delivery import outbox
from grid.core.delivery.outbox import Claim
from tasks import webhook
from tasks.errors import GridError
from tasks.webhook import Answer

if TYPE_CHECKING:
    from grid.core.delivery.posting import Poster

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_AT_ONCE = 32
MOST_RESTING = 500
REST_SECONDS = 60.0
STOP_SECONDS = 5.0


class Courier:
    """Delivers in a thread of its own, from ``start`` to ``stop``; any number of them may share one outbox."""

    def __init__(self, settings: GridSettings) -> None:
        self._settings = settings
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._database = ThreadPoolExecutor(1, thread_name_prefix="courier-database")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._woken: asyncio.Event | None = None
        self._poster: Poster | None = None
        self._at: dict[str, int] = {}
        self._resting: dict[str, float] = {}

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being tried now is given up and tried again after its claim."""
        self._stopping.set()
        self.nudge()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def nudge(self) -> None:
        """Look now, from any thread."""
        loop, woken = self._loop, self._woken
        if loop is not None and woken is not None and loop.is_running():
            loop.call_soon_threadsafe(woken.set)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_default_executor(ThreadPoolExecutor(8, thread_name_prefix="courier-names"))
        trying: set[asyncio.Task[None]] = set()
        try:
            while not self._stopping.is_set():
                trying = {one for one in trying if not one.done()}
                for claimed in await self._claim(MOST_AT_ONCE - len(trying)):
                    trying.add(asyncio.create_task(self._try(claimed)))
                await self._pause()
            for one in trying:
                one.cancel()
            await asyncio.gather(*trying, return_exceptions=True)
        finally:
            if self._poster is not None:
                await self._poster.close()
            await self._in_thread(connections.close_all)
            self._database.shutdown()

    async def _pause(self) -> None:
        woken = self._woken or asyncio.Event()
        try:
            async with asyncio.timeout(self._settings.tick_seconds):
                await woken.wait()
        except TimeoutError:
            return
        woken.clear()

    async def _claim(self, room: int) -> list[Claim]:
        if room <= 0:
            return []
        now = time.monotonic()
        self._resting = {host: until for host, until in self._resting.items() if until > now}
        resting = dict.fromkeys(list(self._resting)[:MOST_RESTING], outbox.MOST_OF_A_HOST)
        try:
            at = {**self._at, **resting}
            return await self._in_thread(outbox.claim, self._settings, timezone.now(), room, at)
        except DatabaseError as error:
            logger.warning("the outbox cannot be read: %s", error, extra={"action": "database_down"})
            return []

    async def _try(self, claimed: Claim) -> None:
        self._at[claimed.host] = self._at.get(claimed.host, 0) + 1
        began = time.monotonic()
        try:
            answer = await self._answer(claimed)
            took = time.monotonic() - began
            await self._in_thread(outbox.settle, claimed, answer, took, self._settings, timezone.now())
        except DatabaseError as error:
            # The claim lapses: the receiver hears of it once more, by the same id.
            logger.warning("a delivery is not noted: %s", error, extra={"action": "database_down"})
            return
        finally:
            self._at[claimed.host] -= 1
            if not self._at[claimed.host]:
                del self._at[claimed.host]
        if answer.status is None:
            rest = webhook.delay_seconds(1, answer, self._settings.callback_delay_seconds) or 0.0
            self._resting[claimed.host] = time.monotonic() + min(rest, REST_SECONDS)
        words = "delivery %s to %s: %s"
        logger.info(words, claimed.id, claimed.host, answer.status or answer.error, extra={"action": "deliver"})
        # A receiver that has answered may get its next one without waiting for the tick.
        self.nudge()

    async def _answer(self, claimed: Claim) -> Answer:
        try:
            sent = await self._in_thread(outbox.parcel, claimed.id, self._settings, timezone.now())
            async with asyncio.timeout(self._settings.callback_seconds):
                return await self._posting().post(claimed, sent)
        except TimeoutError:
            return Answer(error=f"no answer within {self._settings.callback_seconds:g} s")
        except (OSError, UnicodeError, GridError) as error:
            return Answer(error=str(error))

    def _posting(self) -> Poster:
        """Who posts; made for the first delivery, for its library takes long to load and most grids tell nobody."""
        if self._poster is None:
            from grid.core.delivery.posting import Poster

            self._poster = Poster(self._settings, MOST_AT_ONCE)
        return self._poster

    async def _in_thread(self, action: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, partial(_fresh, action, *args))


def _fresh(action: Callable[..., T], *args: object) -> T:
    close_old_connections()
    return action(*args)
