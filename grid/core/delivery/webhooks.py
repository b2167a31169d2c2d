"""The courier: a thread beside the dispatcher that posts what is due in the outbox.

The address that a host has is looked up, judged and then kept for the connection, so that a second look-up cannot lead
elsewhere. Redirects are not followed, proxies of the environment not used, and of the answer only its head is read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import httpx
from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone

from grid.core.conf import GridSettings
from grid.core.delivery import outbox
from grid.core.delivery.outbox import Claim, Parcel
from tasks import cloudevents, webhook
from tasks.errors import GridError
from tasks.webhook import Answer

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
        limits = httpx.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=0)
        try:
            async with httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits) as client:
                while not self._stopping.is_set():
                    trying = {one for one in trying if not one.done()}
                    for claimed in await self._claim(MOST_AT_ONCE - len(trying)):
                        trying.add(asyncio.create_task(self._try(client, claimed)))
                    await self._pause()
                for one in trying:
                    one.cancel()
                await asyncio.gather(*trying, return_exceptions=True)
        finally:
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

    async def _try(self, client: httpx.AsyncClient, claimed: Claim) -> None:
        self._at[claimed.host] = self._at.get(claimed.host, 0) + 1
        began = time.monotonic()
        try:
            answer = await self._answer(client, claimed)
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

    async def _answer(self, client: httpx.AsyncClient, claimed: Claim) -> Answer:
        try:
            sent = await self._in_thread(outbox.parcel, claimed.id, self._settings, timezone.now())
            async with asyncio.timeout(self._settings.callback_seconds):
                return await self._post(client, claimed, sent)
        except TimeoutError:
            return Answer(error=f"no answer within {self._settings.callback_seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer(error=f"{type(error).__name__}: {error}".rstrip(": "))
        except (OSError, UnicodeError, GridError) as error:
            return Answer(error=str(error))

    async def _post(self, client: httpx.AsyncClient, claimed: Claim, sent: Parcel) -> Answer:
        url = httpx.URL(claimed.url)
        name = url.raw_host.decode("ascii")
        pinned = url.copy_with(host=await self._address(name, url.port or (443 if url.scheme == "https" else 80)))
        headers = {
            **webhook.headers(sent.secrets, claimed.id, timezone.now(), sent.body),
            "host": url.netloc.decode("ascii"),
            "content-type": f"{cloudevents.CONTENT_TYPE}; charset=utf-8",
            "user-agent": "celery-grid",
        }
        extensions = {"sni_hostname": name}
        seconds = self._settings.callback_seconds
        request = client.build_request(
            "POST", pinned, content=sent.body, headers=headers, extensions=extensions, timeout=seconds
        )
        response = await client.send(request, stream=True)
        await response.aclose()
        return _told(response)

    async def _address(self, name: str, port: int) -> str:
        """The address to connect to; raises GridError when the host has none to which this server posts."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if outbox.host_allowed(name.strip("[]"), self._settings):
            return addresses[0]
        allowed = [one for one in addresses if webhook.is_public(one)]
        if not allowed:
            raise GridError(f"{name} is not an address to which this server posts ({', '.join(addresses)})")
        return allowed[0]

    async def _in_thread(self, action: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, partial(_fresh, action, *args))


def _fresh(action: Callable[..., T], *args: object) -> T:
    close_old_connections()
    return action(*args)


def _told(response: httpx.Response) -> Answer:
    after = response.headers.get("retry-after", "")
    seconds = float(after) if after.isascii() and after.isdigit() else None
    if response.is_redirect:
        return Answer(response.status_code, "a redirect, which is not followed", seconds)
    return Answer(response.status_code, "" if response.is_success else "not accepted", seconds)
