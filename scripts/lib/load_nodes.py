"""Many nodes that live: what their heartbeats cost the server, over real HTTP, by the client that nodes use."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from figures import Figure, at_most, cpu_by_role, rss_bytes
from load_stack import a_stack
from rich.console import Console

from nodes.server import Server
from tasks.errors import GridError
from tasks.order import Heartbeat

HEARTBEAT_SECONDS = 10.0
THREADS = 16

console = Console(stderr=True)


def heartbeats(nodes: int, seconds: float) -> Iterator[Figure]:
    """Let ``nodes`` nodes beat every ten seconds for a while."""
    with tempfile.TemporaryDirectory(prefix="celery-grid-load-") as folder, a_stack(Path(folder)) as stack:
        tokens = stack.inside("fleet", str(nodes))
        stack.start_dispatcher()
        console.print(f"{nodes} nodes have said hello")
        flock = Flock([(Server(stack.server, token), f"s{name[3:]}") for name, token in tokens.items()])
        flock.start()
        # Connections, caches and the first writes of tokens are over after a round.
        time.sleep(HEARTBEAT_SECONDS)
        processes = [one.pid for one in stack.programs.values()]
        before, sent, began = cpu_by_role(processes), flock.answered, time.monotonic()
        time.sleep(seconds)
        after, took = cpu_by_role(processes), time.monotonic() - began
        answered = flock.answered - sent
        flock.stop()
        used = {name: after[name] - before.get(name, 0.0) for name in after}
        shares = ", ".join(f"{name} {cpu / took * 100:.1f} %" for name, cpu in used.items())
        each = used["web"] / max(1, answered) * 1000
        # A machine that is busy with other things may be late; what counts is the cost of all the beats that were due.
        whole = sum(used.values()) / max(1, answered) * nodes / HEARTBEAT_SECONDS * 100
        detail = f"{shares}; {answered} beats in {took:.0f} s, {flock.failed} failed, {each:.2f} ms each"
        yield at_most(f"{nodes:,} nodes beating every 10 s", whole, 25, "% of a core", detail)
        yield at_most("RSS of the web server", rss_bytes(stack.process("web")) / 2**20, 300, "MB", f"{nodes:,} nodes")


class Flock:
    """All nodes: each is sent off when its time has come, whatever the others do."""

    def __init__(self, nodes: list[tuple[Server, str]]) -> None:
        self._nodes = nodes
        self._pool = ThreadPoolExecutor(THREADS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._lock = threading.Lock()
        self.answered = 0
        self.failed = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for what is under way."""
        self._stopping.set()
        self._thread.join()
        self._pool.shutdown()
        for server, _ in self._nodes:
            server.close()

    def _loop(self) -> None:
        pause = HEARTBEAT_SECONDS / len(self._nodes)
        due = time.monotonic()
        while not self._stopping.is_set():
            for server, session in self._nodes:
                due += pause
                if self._stopping.wait(max(0.0, due - time.monotonic())):
                    return
                self._pool.submit(self._beat, server, session)

    def _beat(self, server: Server, session: str) -> None:
        try:
            server.heartbeat(Heartbeat(session=session), timeout_seconds=HEARTBEAT_SECONDS)
        except GridError:
            with self._lock:
                self.failed += 1
        else:
            with self._lock:
                self.answered += 1
