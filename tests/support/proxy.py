"""A bad network: a TCP proxy that delays, throttles, lets packets vanish, refuses, and cuts at a chosen byte.

"Up" is the way from the client to the target. What the proxy does can be changed at any time, also for connections that
are open. It counts what it has done, so that a test can prove that the fault was there.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_PIECE_BYTES = 64 * 1024
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Cut:
    """End one connection after ``after_bytes`` more bytes ``up`` (or down): politely, or with a reset.

    With a ``marker`` it is for the next connection on which the client sends a piece with these bytes, and counts from
    the start of this piece: ``b"/outcome "`` cuts the next report, for a client of HTTP sends one request at a time.
    """

    up: bool
    after_bytes: int
    marker: bytes = b""
    reset: bool = False


@dataclass(eq=False)
class _Link:
    """A connection of a client, and the one to the target that belongs to it."""

    client: socket.socket
    target: socket.socket
    lock: threading.Lock = field(default_factory=threading.Lock)
    cut: Cut | None = None
    counted: int = 0
    dead: bool = False
    closed: bool = False
    over: int = 0

    def close(self, *, reset: bool = False) -> None:
        """End both sides; what was sent before arrives, unless it is a ``reset``."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
        for side in (self.client, self.target):
            with suppress(OSError):
                if reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # Wakes the thread that reads here; the reset itself goes out with the last close.
                side.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            side.close()


class Proxy:
    """Passes connections to its port on to ``target_port`` of this machine. Use as a context; thread-safe.

    ``delay_seconds`` is how much later each piece arrives, ``bytes_per_second`` (0: no limit) what each direction of a
    connection carries.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.delay_seconds = 0.0
        self.bytes_per_second = 0
        self.connections = 0
        """How many connections were opened."""
        self.bytes_up = 0
        self.bytes_down = 0
        self.cuts_made: list[Cut] = []
        """The cuts that have happened."""
        self.lost = 0
        """How many pieces, and ends of connections, were lost on connections that had died."""
        self.held = 0
        """How many pieces and new connections were on their way while packets vanished."""
        self._cuts: deque[Cut] = deque()
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._passing = threading.Event()
        self._passing.set()
        self._closed = threading.Event()
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        """Where an HTTP client finds the target through the proxy."""
        return f"http://{_HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self.refuse()
        self._passing.set()

    # -------------------------------------------------------------------------------------------------------- faults
    def cut(self, *cuts: Cut) -> None:
        """Make these cuts one after the other, each of them on one connection."""
        with self._lock:
            self._cuts += cuts

    def spare(self) -> None:
        """Make no cuts that have not begun."""
        with self._lock:
            self._cuts.clear()

    @property
    def cuts_due(self) -> int:
        """How many of the cuts asked for have not begun."""
        return len(self._cuts)

    def vanish(self) -> None:
        """From now on nothing arrives, and nobody is told: the connections stay open on both sides."""
        self._passing.clear()

    def appear(self, *, reset: bool = False) -> None:
        """Packets arrive again: late, as the kernels repeat them; or the connections are gone meanwhile (``reset``)."""
        if reset:
            self.drop_all()
        self._passing.set()

    def die_silently(self) -> None:
        """What is open now never carries anything again, and neither side is told; new connections are sound."""
        with self._lock:
            for link in self._links:
                link.dead = True

    def refuse(self) -> None:
        """Nobody listens here any more, and what was open is reset."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop_all()

    def accept(self) -> None:
        """Listen, again on the same port."""
        self._listener = socket.create_server((_HOST, self.port), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def drop_all(self) -> None:
        """Reset every open connection."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close(reset=True)

    # -------------------------------------------------------------------------------------------------------- inside
    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._hold()
        if self._closed.is_set():
            client.close()
            return
        try:
            target = socket.create_connection((_HOST, self.target_port))
        except OSError:
            client.close()
            return
        for side in (client, target):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, target)
        with self._lock:
            self.connections += 1
            self._links.add(link)
        for up in (True, False):
            threading.Thread(target=self._carry, args=(link, up), daemon=True).start()

    def _carry(self, link: _Link, up: bool) -> None:
        source, sink = (link.client, link.target) if up else (link.target, link.client)
        try:
            while piece := source.recv(self._most_bytes()):
                self._travel(len(piece))
                if link.dead:
                    self._lose()
                    continue
                whole = self._allowed(link, up, piece)
                self._count(up, whole)  # before they go: who has got them finds them counted
                sink.sendall(piece[:whole])
                if (cut := link.cut) is not None and cut.up is up and link.counted >= cut.after_bytes:
                    self._make(link, cut)
                    return
            self._passing.wait()
            if link.dead and not link.closed:
                self._lose()
                self._closed.wait()
            if not link.closed:  # or a polite end would be sent ahead of a reset
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            link.close(reset=True)
        finally:
            self._leave(link)

    def _leave(self, link: _Link) -> None:
        """One direction has come to its end; after the second one the connection is over."""
        with self._lock:
            link.over += 1
            if link.over < 2:
                return
            self._links.discard(link)
        link.close()

    def _most_bytes(self) -> int:
        rate = self.bytes_per_second
        return min(_PIECE_BYTES, max(1, rate // 20)) if rate else _PIECE_BYTES

    def _travel(self, size: int) -> None:
        """Let the time pass that a piece needs."""
        self._hold()
        seconds = self.delay_seconds + (size / self.bytes_per_second if self.bytes_per_second else 0.0)
        if seconds:
            self._closed.wait(seconds)

    def _hold(self) -> None:
        """Wait while packets vanish."""
        if not self._passing.is_set():
            with self._lock:
                self.held += 1
            self._passing.wait()

    def _lose(self) -> None:
        with self._lock:
            self.lost += 1

    def _allowed(self, link: _Link, up: bool, piece: bytes) -> int:
        """How many bytes of the piece still get through."""
        with self._lock:
            if link.cut is None and up and self._cuts and self._cuts[0].marker in piece:
                link.cut, link.counted = self._cuts.popleft(), 0
            if link.cut is None or link.cut.up is not up:
                return len(piece)
            whole = min(len(piece), link.cut.after_bytes - link.counted)
            link.counted += whole
            return whole

    def _make(self, link: _Link, cut: Cut) -> None:
        with self._lock:
            self.cuts_made.append(cut)
        link.close(reset=cut.reset)

    def _count(self, up: bool, size: int) -> None:
        with self._lock:
            if up:
                self.bytes_up += size
            else:
                self.bytes_down += size
