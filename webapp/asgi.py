"""The server's ASGI application: a thread of a small pool for ordinary requests, no thread at all for those that wait.

Three ways, chosen by the path:

* live (long polls, event streams): Django's ASGI handler, without its thread and database connection for each request;
* bulk (blobs, result files, log parts, uploads by form): Django's WSGI handler behind a2wsgi, in a pool of its own,
  bodies and answers as streams, so that slow networks hold up nobody but each other;
* everything else: Django's WSGI handler, one hop to a thread that keeps its database connection and one hop back.

Measured on one of two cores, a view that does nothing, 1 and 8 connections: Django's ASGI handler alone 423 and 429
requests/s (2.3 ms each: every synchronous middleware is a hop), a2wsgi 1,408 and 1,557, the one-hop bridge below 2,190
and 2,998; with one look into the database 284, 832 and 1,079.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from wsgiref.types import WSGIApplication

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi import build_environ
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

from grid.core.contents.store import get_store
from webapp import allocator
from webapp.middleware import browser_policy
from webapp.wsgi import application as wsgi_application

Scope = dict[str, Any]
Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

THREADS = 10
"""Threads for ordinary requests: they hold the interpreter's lock most of the time, more would only wait for it."""

BULK_THREADS = 16
"""Uploads and downloads at one time; further ones wait for their turn."""

BODY_BYTES = 33 * 1024**2
"""The largest body of an ordinary request; it is read whole before a thread is given to it."""

SILENCE_SECONDS = 60.0
"""A transfer on which nothing moves for so long is given up, for it holds a thread."""

LIVE = re.compile(r"/api/v1/(events|tasks/[^/]+/(wait|result/wait|logs/[^/]+))")
BULK = re.compile(
    r"/api/v1/(blobs/[0-9a-fA-F]{64}|node/attempts/[^/]+/(blobs|logs)/[^/]+|tasks/[^/]+/files/.+)"
    r"|/kolejka/blob/.+"
    r"|/flower/.*|/submit/|/tasks/[^/]+/(again|file|picture|log/[^/]+)/"
)

KOLEJKA_UPLOAD = "/kolejka/blob/reference/"


class LiveHandler(ASGIHandler):
    """Django's ASGI handler for requests that wait.

    Django gives each request a thread of its own for the code that must not run in the event loop, and keeps it until
    the answer is complete: a thousand waiting clients would be a thousand threads with a database connection each. Here
    the synchronous parts of all live requests share one thread (asgiref's way outside of such a context), the views
    find out who asks and look into the database through ``webapp.live``, and no middleware is needed but the browser's
    policy.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the short chain instead of the one in the settings."""
        super().load_middleware(is_async)
        self._view_middleware: list[object] = []
        respond = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]
        self._middleware_chain = browser_policy(respond)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.handle(scope, receive, send)


class Bridge:
    """A WSGI application for requests and answers that fit into memory: one hop to a thread, one hop back."""

    def __init__(self, app: WSGIApplication, threads: int) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="web")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a body over ``BODY_BYTES`` is refused."""
        body = await _whole_body(receive)
        if body is None:
            await _plain(
                send, 413, f"A body has at most {BODY_BYTES} bytes here; larger contents are uploaded as blobs."
            )
            return
        environ = cast(dict[str, Any], build_environ(cast(Any, scope), cast(Any, io.BytesIO(body))))
        environ["CONTENT_LENGTH"] = str(len(body))
        loop = asyncio.get_running_loop()
        status, headers, content = await loop.run_in_executor(self._pool, self._run, environ)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _run(self, environ: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], problem: object = None
        ) -> Callable[[bytes], object]:
            started.append((status, headers))
            return _no_write

        answer: Iterable[bytes] = self._app(environ, start_response)
        try:
            content = b"".join(answer)
        finally:
            close: Callable[[], object] = getattr(answer, "close", _nothing)
            close()
        status, headers = started[-1]
        return (
            int(status[:3]),
            [(name.lower().encode("latin1"), text.encode("latin1")) for name, text in headers],
            content,
        )


class Patience:
    """The two ends of a transfer, which end it when the other side is silent for ``SILENCE_SECONDS``.

    The application then sees the end of the upload (too short, so that it is refused), or writes the rest into
    the void.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = False

    async def receive(self) -> Event:
        """The next part of the body."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await self._receive()
        except TimeoutError:
            self._gone = True
            return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        """Send the next part of the answer; the threads of a2wsgi would wait for ever if this raised."""
        if self._gone:
            return
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._send(event)
        except (TimeoutError, OSError):
            self._gone = True


class Server:
    """Chooses the way of each request."""

    def __init__(self) -> None:
        self._live = LiveHandler()
        self._short = Bridge(wsgi_application, THREADS)
        self._bulk = WSGIMiddleware(cast(Any, wsgi_application), workers=BULK_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or go through the server's start and end."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if LIVE.fullmatch(path) and scope["method"] in {"GET", "HEAD"}:
            await self._live(scope, receive, send)
        elif BULK.fullmatch(path):
            if _endless(scope["headers"]):
                if path == KOLEJKA_UPLOAD:
                    # kolejka's client sends empty files without a length. They, and small ones, fit into memory.
                    await self._short(scope, receive, send)
                    return
                await _plain(send, 411, "Say with Content-Length how long the body is.")
                return
            patience = Patience(receive, send)
            await self._bulk(cast(Any, scope), cast(Any, patience.receive), cast(Any, patience.send))
        else:
            await self._short(scope, receive, send)


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, or None when it is too long."""
    body = bytearray()
    while True:
        event = await receive()
        body += event.get("body", b"")
        if len(body) > BODY_BYTES:
            return None
        if not event.get("more_body"):
            return bytes(body)


def _endless(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """True for a body without a length: Django would take it for an empty one."""
    names = {name.lower() for name, _ in headers}
    return b"transfer-encoding" in names and b"content-length" not in names


async def _plain(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    get_store()  # sweeps away the uploads that a killed server has left
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def _no_write(data: bytes) -> object:
    raise NotImplementedError("Django does not write outside of the answer")


def _nothing() -> None:
    """The answer has nothing to close."""


allocator.settle()
application = Server()
