"""One pooled HTTP connection to a grid: it repeats what got lost, waits when told to, and makes errors of refusals."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from grid.problems import error_from_response, unreachable
from tasks.errors import GridError, NotAllowed, Refused, Unavailable

PREFIX = "/api/v1"
PATIENCE_SECONDS = 20.0
# A server that never answered is most likely not there: then people want to hear so at once.
FIRST_PATIENCE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 5.0
CONNECT_SECONDS = 5.0
# An internal error may be a passing one; more often it comes again.
TRIES_OF_BROKEN_SERVER = 3
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

T = TypeVar("T")
Body = bytes | Callable[[], Iterable[bytes]]


class _Lost(Unavailable):
    """The connection could not be made, or broke before the whole answer was here."""


class _Absent(_Lost):
    """Nobody accepts connections at the address."""


class _Broken(Unavailable):
    """The server answered 500."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; it may be sent several times, so a streamed ``body`` is a function that makes the stream anew.

    ``timeout_seconds`` is the longest silence, ``patience_seconds`` how long to repeat the request in all.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = b""
    timeout_seconds: float = 30.0
    patience_seconds: float = PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the server, status < 300."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Talks to the server at ``server`` (``http://host:port``); threads may share it.

    Raises GridError when the address cannot be one of a server. ``no_token`` is the advice for people without a token.
    """

    def __init__(self, server: str, token: str, no_token: str = "") -> None:
        self.server = _checked(server)
        self._no_token = no_token
        self._answered = False
        self._closing = threading.Event()
        headers = {"Accept": "application/json", "User-Agent": "celery-grid"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=self.server + PREFIX,
            headers=_ascii(headers),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=4.0),
            # A proxy of the outer world cannot reach a server on this machine.
            trust_env=urlsplit(self.server).hostname not in _LOOPBACK,
        )

    def close(self) -> None:
        """Close the connections; waiting calls of other threads end with an error."""
        self._closing.set()
        self._http.close()

    def send(self, ask: Ask) -> Answer:
        """The answer to ``ask``; raises the error of the tree that a refusal stands for, or Unavailable."""

        def take(response: httpx.Response) -> Answer:
            return Answer(response.status_code, dict(response.headers), response.read())

        return self.receive(ask, take)

    def receive(self, ask: Ask, take: Callable[[httpx.Response], T]) -> T:
        """What ``take`` makes of the open answer; it is called again from the start when the body is cut."""
        return self.persist(lambda: self._once(ask, take), ask.patience_seconds)

    def persist(self, action: Callable[[], T], patience_seconds: float = PATIENCE_SECONDS) -> T:
        """Repeat ``action`` while it raises Unavailable, with growing pauses, for at most ``patience_seconds``."""
        started = time.monotonic()
        tries = 0
        while True:
            try:
                return action()
            except Unavailable as error:
                tries += 1
                pause = _pause_seconds(error, tries)
                patience = self._patience_with(error, tries, patience_seconds)
                if time.monotonic() - started + pause > patience or self._closing.wait(pause):
                    raise

    def _patience_with(self, error: Unavailable, tries: int, patience_seconds: float) -> float:
        if isinstance(error, _Absent) and not self._answered:
            return min(patience_seconds, FIRST_PATIENCE_SECONDS)
        if isinstance(error, _Broken) and tries >= TRIES_OF_BROKEN_SERVER:
            return 0.0
        return patience_seconds

    def _once(self, ask: Ask, take: Callable[[httpx.Response], T]) -> T:
        timeout = httpx.Timeout(ask.timeout_seconds, connect=CONNECT_SECONDS)
        content = ask.body() if callable(ask.body) else ask.body
        try:
            with self._http.stream(
                ask.method,
                ask.path,
                params=dict(ask.params),
                headers=_ascii(ask.headers),
                content=content or None,
                timeout=timeout,
            ) as response:
                self._answered = True
                if response.status_code >= 300:
                    raise self._refusal(response)
                return take(response)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Absent(str(unreachable(self.server, error)), 0.0) from error
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise _Lost(f"the connection to {self.server} was lost ({why})", 0.0) from error
        except RuntimeError as error:
            # What the library says to a thread that still asks when another has closed the client (at Ctrl-C, say).
            if not self._closing.is_set():
                raise
            raise GridError("the client was closed") from error

    def _refusal(self, response: httpx.Response) -> GridError:
        status = response.status_code
        if status < 400:
            return Refused(
                f"{self.server} sends us elsewhere ({response.headers.get('location', status)}); is it a grid?"
            )
        error = error_from_response(status, response.read(), response.headers)
        if status == 500:
            return _Broken(f"the grid at {self.server} has an internal error: {error}", 0.2)
        if status == 401 and self._no_token:
            return NotAllowed(f"{error}; {self._no_token}")
        return error


def _pause_seconds(error: Unavailable, tries: int) -> float:
    """Pauses double from a tenth of a second; they are spread, so that clients do not come back all at once."""
    grown = min(MAX_PAUSE_SECONDS, 0.1 * 2.0 ** min(tries - 1, 10))
    return max(error.retry_after_seconds, grown * random.uniform(0.5, 1.0))  # noqa: S311 - no secret depends on it


def _checked(server: str) -> str:
    try:
        parts = urlsplit(server)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise GridError(f'"{server}" is not the address of a grid; write http://127.0.0.1:8080')
    return server.rstrip("/")


def _ascii(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that HTTP can carry; raises GridError for a token with a strange character."""
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            what = "the token" if name == "Authorization" else f"the header {name}"
            raise GridError(f"{what} has a character that HTTP cannot carry")
    return dict(headers)
