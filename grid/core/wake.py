"""Wake the dispatcher: one UDP packet to the address in its lease row.

A packet may get lost or be forged: it carries nothing and only makes the dispatcher look earlier than its next tick. It
needs no broker, so a submit never waits for one.
"""

from __future__ import annotations

import atexit
import socket
import threading
import time

from django.db import transaction

from grid.core.models import Lock

DISPATCHER = "dispatcher"
ADDRESS_SECONDS = 2.0


class Waker:
    """Sends the packets; remembers the address for a short while."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._lock = threading.Lock()
        self._address: tuple[str, int] | None = None
        self._looked = float("-inf")

    def wake(self) -> None:
        """Wake the dispatcher, if there is one; never blocks and never fails."""
        address = self._find()
        if address is None:
            return
        try:
            self._socket.sendto(b"!", address)
        except OSError:  # a full buffer or no route: the tick comes within a second
            return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _find(self) -> tuple[str, int] | None:
        with self._lock:
            if time.monotonic() - self._looked > ADDRESS_SECONDS:
                self._looked = time.monotonic()
                text = Lock.objects.filter(name=DISPATCHER).values_list("address", flat=True).first() or ""
                host, _, port = text.rpartition(":")
                self._address = (host, int(port)) if host and port.isdigit() else None
            return self._address


class Listener:
    """The dispatcher's ear."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.address = f"{host}:{self._socket.getsockname()[1]}"

    def wait(self, seconds: float) -> bool:
        """Sleep until woken or ``seconds`` have passed; all packets that have come count as one."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            self._socket.recv(16)
        except TimeoutError:
            return False
        self._socket.setblocking(False)
        try:
            while self._socket.recv(16):
                pass
        except BlockingIOError:
            return True
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


_waker = Waker()
atexit.register(_waker.close)


def dispatcher() -> None:
    """Wake the dispatcher once the current transaction is committed."""
    transaction.on_commit(_waker.wake)
