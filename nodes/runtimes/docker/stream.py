"""The two ends of a container's streams: the hijacked connection, and the frames that travel over it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

STDOUT, STDERR = 1, 2
_HEADER = 8
_CHUNK = 1 << 16


class Stream:
    """The connection of an ``attach``: frames come out, what is sent becomes the program's standard input."""

    def __init__(self, connection: socket.socket, let_go: Callable[[], None]) -> None:
        """``let_go`` is called at the end, for what else holds the connection."""
        self._socket = connection
        self._let_go = let_go
        self._socket.settimeout(None)

    def chunks(self) -> Iterator[bytes]:
        """What arrives, until the engine closes the connection or breaks it."""
        while True:
            try:
                data = self._socket.recv(_CHUNK)
            except OSError:
                return
            if not data:
                return
            yield data

    def send(self, data: bytes) -> bool:
        """Send all of ``data``; False when the other end takes no more."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def end_input(self) -> None:
        """Say that no more is sent; output goes on."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        """Break the connection, also under a reader in another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            self._let_go()
            self._socket.close()


class Frames:
    """Takes the engine's frames apart, however they were cut in transport.

    A frame is a header of 8 bytes (stream number, three zeros, length as a 32-bit big-endian number) and its payload;
    see "Stream format" of ``ContainerAttach`` in the engine's API reference.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces of payload in ``data`` with their stream's number, in order of arrival."""
        data = self._pending + data if self._pending else data
        self._pending = b""
        at = 0
        while at < len(data):
            if not self._left:
                if len(data) - at < _HEADER:
                    self._pending = data[at:]
                    return
                self._stream = data[at]
                self._left = int.from_bytes(data[at + 4 : at + _HEADER], "big")
                at += _HEADER
                continue
            piece = data[at : at + self._left]
            self._left -= len(piece)
            at += len(piece)
            yield self._stream, piece
