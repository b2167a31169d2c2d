"""A node without containers: it speaks to the server as nodes do, and a test decides all that it says."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from contextlib import suppress
from uuid import uuid4

from grid.api import Api
from nodes.server import Server
from tasks.errors import Stale, Unavailable
from tasks.order import AttemptPulse, Capacity, Facts, Heartbeat, Hello, Order
from tasks.outcome import Evidence, Outcome, OutputFile
from tasks.states import Phase
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.servers import Database

LIMITS = ("memory", "swap", "cpus", "pids", "time", "cpu_time", "storage", "files", "output", "network")
MANY = Capacity(cpus=1000, memory=2**40, swap=2**40, pids=10**6, storage=2**40, slots=500)


class QuickNode:
    """Joins a grid under ``name`` with the tag of that name. It lives as long as the context, and renews its leases."""

    def __init__(self, grid: RunningGrid, name: str, address: str = "") -> None:
        self.name = name
        self._grid = grid
        with Api(grid.server, grid.token) as api:
            self._token = api.add_node(name, renew=True).token
        self._database = Database(grid)
        self.server = Server(address or grid.server, self._token)
        self._session = uuid4().hex
        self._held: dict[str, Order] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> QuickNode:
        facts = Facts(tags=(self.name,), capacity=MANY, enforces=LIMITS, images=("busybox:local",))
        self._seconds = self.server.hello(Hello(session=self._session, facts=facts)).heartbeat_seconds
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self.server.close()
        # It is thought to be there until its lease has ended, and would be given the tasks of the next test.
        self._grid.client.cordon(self.name)

    def take(self, task: str) -> Order:
        """Take the task's attempt up, as soon as it is assigned; the next one, when it was taken back meanwhile."""
        where = "SELECT id, nonce FROM core_attempt WHERE task_id = %s AND state = 'assigned'"
        taken: list[Order] = []

        def try_to() -> list[Order]:
            for attempt, nonce in self._database.rows(where, task):
                with suppress(Stale):
                    taken.append(self.server.take(attempt, self._session, nonce))
            return taken

        eventually(try_to, 60)
        [order] = taken
        self._held[order.attempt] = order
        return order

    def report(self, outcome: Outcome) -> None:
        """Report the end of an attempt. Raises as ``Server.report``."""
        assert self.server.report(outcome) == (), "all contents are in the outcome"
        self._held.pop(outcome.attempt, None)

    def _beat(self) -> None:
        while not self._closed.wait(self._seconds / 2):
            pulses = [
                AttemptPulse(attempt=one.attempt, token=one.token, phase=Phase.EXECUTING)
                for one in list(self._held.values())
            ]
            try:
                self.server.heartbeat(Heartbeat(session=self._session, attempts=tuple(pulses)), 10.0)
            except Unavailable:
                continue


def outcome_of(order: Order, files: Mapping[str, bytes]) -> Outcome:
    """The report of a program that ended with 0 and has brought these files."""
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    return Outcome(
        attempt=order.attempt,
        token=order.token,
        evidence=Evidence(exit_code=0),
        files=tuple(OutputFile(path=path, sha256=hashes[path], size=len(files[path])) for path in files),
        inline={hashes[path]: base64.b64encode(content).decode() for path, content in files.items()},
    )
