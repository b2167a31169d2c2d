"""The observer: answers at a socket, ends sessions at their deadline, and those whose creators are gone.

One event loop reads requests and keeps time; what takes longer is done by threads, for each container one thing after
the other, so that no container waits for what another one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

from observer.callers import Caller, Peer, identify
from observer.cgroups.layout import Layout
from observer.errors import BadRequest, Busy, ObserverError
from observer.operations import Done, perform
from observer.protocol import LONGEST_HEAD, Head, Request, answer, empty_answer, error_answer, parse_body, parse_head
from observer.sessions import Session, Sessions
from observer.timekeeper import READY_SECONDS, Timekeeper
from observer.watch import Watch

log = logging.getLogger("observer")
_Result = TypeVar("_Result")
_WORKERS = 16
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connections that one container, and all together, may have at one time; ``seconds`` to send one request."""

    connections_each: int = 64
    connections: int = 2048
    seconds: float = 5.0


class Observer:
    """One observer. ``layout`` are the machine's control groups; made and used within one event loop."""

    def __init__(
        self, layout: Layout, sessions: Sessions, timekeeper: Timekeeper, bounds: Bounds | None = None
    ) -> None:
        self._layout, self._sessions, self._bounds = layout, sessions, bounds or Bounds()
        self._connections: Counter[str] = Counter()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="observer")
        self._timekeeper = timekeeper
        self._watch = Watch(sessions, self._in_turn, timekeeper)

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Answer until cancelled; then every session is ended. The listeners must not block."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            await asyncio.gather(*(self._accept(listener, tasks) for listener in listeners))
        finally:
            for task in tasks:
                task.cancel()
            await self._watch.close()
            self._workers.shutdown()

    async def _accept(self, listener: socket.socket, tasks: set[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # too many open files: those that we have will end in a few seconds
                log.warning("cannot accept: %s", error)
                await asyncio.sleep(0.1)
                continue
            task = loop.create_task(self._connection(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _connection(self, connection: socket.socket) -> None:
        """One request and its answer; nothing that a caller does reaches further than this."""
        with connection:
            try:
                left = await self._reply(connection)
                async with asyncio.timeout(self._bounds.seconds):
                    await asyncio.get_running_loop().sock_sendall(connection, left)
            except OSError as error:  # TimeoutError is one of them
                log.debug("a caller went away: %s", error)

    async def _reply(self, connection: socket.socket) -> bytes:
        """Carry out a request; what of the answer is still to be sent."""
        try:
            with Peer.of(connection) as peer:
                caller = identify(peer, self._layout)
                with self._counted(caller.scope):
                    async with asyncio.timeout(self._bounds.seconds):
                        head, body = await _receive(connection)
                    if head.method in ("GET", "HEAD"):
                        return empty_answer()
                    if head.method != "POST":
                        raise BadRequest(f"{head.method[:20]}: not a method of this protocol")
                    return await self._perform(parse_body(head, body), caller, peer, connection)
        except ObserverError as error:
            log.info("refused: %s", error)
            return error_answer(error)

    async def _perform(self, request: Request, caller: Caller, peer: Peer, connection: socket.socket) -> bytes:
        """Do it and answer; what is left of the answer when the caller takes no more for now."""
        session = self._sessions.get(request.session_id) if caller.master else None
        scope = caller.scope if session is None else session.scope

        def work() -> tuple[Done, bytes]:
            done = perform(self._sessions, request, caller, time.monotonic())
            if done.session is not None:
                self._watch.arm(done.session)
            return done, _sent(connection, answer(done.payload))

        done, left = await self._in_turn(scope, work, here=lambda: self._is_quick(request))
        if done.session is not None:
            self._watch.look(done.session, peer if done.opened else None)
            self._prepare(request, done.session)
        return left

    def _is_quick(self, request: Request) -> bool:
        """Limits of an empty session of cgroup v1 wait for nothing: no memory has to be given up, nothing is moved."""
        session = self._sessions.get(request.session_id) if request.operation == "limits" else None
        return session is not None and not session.joined and self._layout.version == 1

    def _prepare(self, request: Request, session: Session) -> None:
        """Who has limited an empty session is about to move a program in."""
        if request.operation == "limits" and not session.joined:
            self._timekeeper.ready(READY_SECONDS)
        elif request.operation == "attach":
            self._timekeeper.ready(0.0)

    async def _in_turn(
        self, scope: str, work: Callable[[], _Result], here: Callable[[], bool] = lambda: False
    ) -> _Result:
        """Do work in a thread, or ``here`` if that is true then, after what was asked before in the same scope."""
        turn = self._turns.get(scope)
        if turn is None:
            turn = self._turns[scope] = asyncio.Lock()
        async with turn:
            if here():
                return work()
            return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    @contextlib.contextmanager
    def _counted(self, scope: str) -> Iterator[None]:
        if self._connections[scope] >= self._bounds.connections_each:
            raise Busy(f"no more than {self._bounds.connections_each} connections at one time for one container")
        if self._connections.total() >= self._bounds.connections:
            raise Busy("too many connections at one time")
        self._connections[scope] += 1
        try:
            yield
        finally:
            self._connections[scope] -= 1
            if not self._connections[scope]:
                del self._connections[scope]


def _sent(connection: socket.socket, reply: bytes) -> bytes:
    """Send what can be sent at once, from the thread that did the work; answers the rest."""
    try:
        left = reply[connection.send(reply) :]
        if not left:
            connection.shutdown(socket.SHUT_WR)
    except BlockingIOError:
        return reply
    return left


async def _receive(connection: socket.socket) -> tuple[Head, bytes]:
    """The head and the body of a request. Raises BadRequest, also when it ends too early."""
    loop, data = asyncio.get_running_loop(), b""
    while _END_OF_HEAD not in data:
        if len(data) > LONGEST_HEAD:
            raise BadRequest("the head of the request is too long")
        data += await _more(loop, connection)
    first, _, body = data.partition(_END_OF_HEAD)
    head = parse_head(first)
    while len(body) < head.length:
        body += await _more(loop, connection)
    return head, body[: head.length]


async def _more(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    more = await loop.sock_recv(connection, LONGEST_HEAD)
    if not more:
        raise BadRequest("the request is not complete")
    return more
