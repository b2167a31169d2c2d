"""One delivery as an HTTP request to a host that somebody named: what it is kept from, and what is read of the answer.

The address that a host has is looked up, judged and then kept for the connection, so that a second look-up cannot lead
elsewhere. Redirects are not followed, proxies of the environment not used, and of the answer only its head is read.
"""

from __future__ import annotations

import asyncio
import socket

import httpx
from django.utils import timezone

from grid.core.conf import GridSettings
from grid.core.delivery import outbox
from grid.core.delivery.outbox import Claim, Parcel
from tasks import cloudevents, webhook
from tasks.errors import GridError
from tasks.webhook import Answer


class Poster:
    """Posts parcels from one event loop, ``most`` of them at once, and is closed there."""

    def __init__(self, settings: GridSettings, most: int) -> None:
        self._settings = settings
        limits = httpx.Limits(max_connections=most, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.aclose()

    async def post(self, claimed: Claim, sent: Parcel) -> Answer:
        """What the receiver answers, or why it could not; raises OSError, UnicodeError or GridError for its address."""
        try:
            response = await self._client.send(await self._request(claimed, sent), stream=True)
            await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer(error=f"{type(error).__name__}: {error}".rstrip(": "))
        return _told(response)

    async def _request(self, claimed: Claim, sent: Parcel) -> httpx.Request:
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
        return self._client.build_request(
            "POST", pinned, content=sent.body, headers=headers, extensions=extensions, timeout=seconds
        )

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


def _told(response: httpx.Response) -> Answer:
    after = response.headers.get("retry-after", "")
    seconds = float(after) if after.isascii() and after.isdigit() else None
    if response.is_redirect:
        return Answer(response.status_code, "a redirect, which is not followed", seconds)
    return Answer(response.status_code, "" if response.is_success else "not accepted", seconds)
