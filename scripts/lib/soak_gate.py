"""A gate on the way from a node to the server: a small TCP proxy that can be shut, held, or torn in mid-message."""

from __future__ import annotations

import asyncio
import contextlib
import threading

HOST = "127.0.0.1"
PART_BYTES = 64 * 1024


class Gates:
    """The thread in which all gates work."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gates", daemon=True)
        self._thread.start()

    def make(self, port: int) -> Gate:
        """A gate before ``port`` of this machine."""
        gate = Gate(self._loop, port)
        asyncio.run_coroutine_threadsafe(gate.listen(), self._loop).result()
        return gate

    def close(self) -> None:
        """Shut all gates for good."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Gate:
    """One gate: open at first. Its verbs may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, to_port: int) -> None:
        self.port = 0
        self._loop = loop
        self._to_port = to_port
        self._shut = False
        self._free = asyncio.Event()
        self._free.set()
        self._left: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Begin."""
        self._server = await asyncio.start_server(self._through, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Tear all connections and accept none."""
        self._loop.call_soon_threadsafe(self._set_shut, True)

    def hold(self) -> None:
        """Let connections be made and stay, but let nothing pass: the half-open kind of a broken network."""
        self._loop.call_soon_threadsafe(self._free.clear)

    def tear(self, after_bytes: int) -> None:
        """Tear all connections as soon as so many more bytes have passed."""
        self._loop.call_soon_threadsafe(self._set_left, after_bytes)

    def open(self) -> None:
        """Let everything pass again."""
        self._loop.call_soon_threadsafe(self._set_shut, False)
        self._loop.call_soon_threadsafe(self._set_left, None)
        self._loop.call_soon_threadsafe(self._free.set)

    # -------------------------------------------------------------------------------------------------------- inside
    def _set_shut(self, shut: bool) -> None:
        self._shut = shut
        if shut:
            self._tear()

    def _set_left(self, left: int | None) -> None:
        self._left = left

    def _tear(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._shut:
                return
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection(HOST, self._to_port)
                self._writers.add(back)
                try:
                    await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
                finally:
                    self._writers.discard(back)
                    back.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(PART_BYTES):
            await self._free.wait()
            part = self._counted(part)
            writer.write(part)
            await writer.drain()
            if self._left is not None and self._left <= 0:
                self._left = None
                self._tear()
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _counted(self, part: bytes) -> bytes:
        """What of it may still pass."""
        if self._left is None:
            return part
        part = part[: self._left]
        self._left -= len(part)
        return part
