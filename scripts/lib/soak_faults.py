"""Carries the faults of a plan out: kills, freezes, cuts, emptied brokers, repeated and forged words."""

from __future__ import annotations

import contextlib
import hashlib
import random
import secrets
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
from soak_clients import clients
from soak_grid import Node, Program, SoakGrid, environment
from soak_plan import Fault

from grid import GridError
from grid.celery import RUN_TASK, make_app, queue_of

THREADS = 8
REPEATS = 5
TEAR_BYTES = 3000
UPLOAD_BYTES = 1_000_000
# What one who reaches the broker may write to a node's queue.
FORGED: Sequence[list[object]] = (
    ["../../etc", "x"],
    ["0" * 32, "x"],
    ["a" * 10_000, "x"],
    [],
    ["only one"],
    [{"a": 1}, None],
    ["\0", "\0"],
)


class Word(NamedTuple):
    """What a node was told of an attempt, to be repeated at a bad moment."""

    attempt: str
    nonce: str
    token: str
    node: str


class Faults:
    """Injects; ``counted`` says how often each kind was. ``words`` gives attempts that the grid has or had."""

    def __init__(self, grid: SoakGrid, seed: int, crowd: Sequence[Program], words: Callable[[], list[Word]]) -> None:
        self.counted: Counter[str] = Counter()
        self.latest = ""
        self.surprises: list[str] = []
        self._grid = grid
        self._crowd = crowd
        self._words = words
        self._chance = random.Random(f"details {seed}")  # noqa: S311 - chosen for its repeatability
        self._over = threading.Event()
        self._locks = {name: threading.Lock() for name in (*(node.name for node in grid.nodes), "server")}
        self._log = (grid.folder / "faults.log").open("a", buffering=1)
        self._verbs: dict[str, Callable[[Fault], None]] = {
            "node killed": self._node_killed,
            "node frozen": self._node_frozen,
            "node stopped": self._node_stopped,
            "network cut": lambda fault: self._network(fault, self._node(fault).gate.shut),
            "network half-open": lambda fault: self._network(fault, self._node(fault).gate.hold),
            "network torn mid-message": self._torn,
            "broker killed": lambda fault: self._killed("broker", fault),
            "broker emptied": lambda fault: self._killed("broker", fault, self._empty_broker),
            "broker frozen": lambda fault: self._frozen("broker", fault),
            "web server killed": lambda fault: self._killed("web", fault),
            "web server frozen": lambda fault: self._frozen("web", fault),
            "dispatcher killed": self._dispatcher_killed,
            "dispatcher frozen": self._dispatcher_frozen,
            "whole server killed": self._server_killed,
            "server killed in an upload": self._killed_in_upload,
            "database locked": self._database_locked,
            "node drained": self._drained,
            "node cordoned": lambda fault: self._resumed_later(fault, self._cordon),
            "messages repeated": self._repeat,
            "messages forged": self._forge,
            "outcomes forged": self._forge_outcomes,
            "client killed": self._client_killed,
        }

    def play(self, plan: Iterable[Fault], began: float) -> None:
        """Inject the faults of the plan, each at its time after ``began`` (monotonic); returns when all are over."""
        with ThreadPoolExecutor(THREADS) as pool:
            for fault in plan:
                if self._over.wait(max(0.0, began + fault.at_seconds - time.monotonic())):
                    break
                pool.submit(self._inject, fault)

    def stop(self) -> None:
        """No more faults; those that last end now."""
        self._over.set()

    def _inject(self, fault: Fault) -> None:
        self.latest = fault.kind
        self._say(f"{fault.kind} {fault.target} for {fault.seconds:.1f} s")
        try:
            self._verbs[fault.kind](fault)
            self.counted[fault.kind] += 1
        except (GridError, OSError, sqlite3.OperationalError) as error:
            self._say(f"{fault.kind} {fault.target} was not possible: {error}")
        except Exception as error:  # noqa: BLE001 - the outermost loop of a fault: a mistake here must be seen
            self.surprises.append(f"{fault.kind}: {type(error).__name__}: {error}")

    def _say(self, words: str) -> None:
        self._log.write(f"{datetime.now(UTC):%H:%M:%S.%f} {words}\n")

    def _last(self, fault: Fault) -> None:
        self._over.wait(fault.seconds)

    def _node(self, fault: Fault) -> Node:
        return self._grid.nodes[fault.target % len(self._grid.nodes)]

    # --------------------------------------------------------------------------------------------------------- nodes
    def _node_killed(self, fault: Fault) -> None:
        node = self._node(fault)
        with self._locks[node.name]:
            node.program.end(signal.SIGKILL)
            self._last(fault)
            node.program.start()

    def _node_frozen(self, fault: Fault) -> None:
        node = self._node(fault)
        with self._locks[node.name]:
            node.program.send(signal.SIGSTOP)
            self._last(fault)
            node.program.send(signal.SIGCONT)

    def _node_stopped(self, fault: Fault) -> None:
        node = self._node(fault)
        with self._locks[node.name]:
            if not node.program.end(signal.SIGTERM):
                self.surprises.append(f"{node.name} did not end within 30 s of its SIGTERM")
            self._last(fault)
            node.program.start()

    def _network(self, fault: Fault, break_it: Callable[[], None]) -> None:
        node = self._node(fault)
        with self._locks[node.name]:
            break_it()
            self._last(fault)
            node.gate.open()

    def _torn(self, fault: Fault) -> None:
        node = self._node(fault)
        with self._locks[node.name]:
            node.gate.tear(fault.target % TEAR_BYTES)
            self._last(fault)
            node.gate.open()

    def _drained(self, fault: Fault) -> None:
        deadline = (0.0, 2.0, None)[fault.target % 3]
        self._resumed_later(fault, lambda node: self._grid.client.drain(node, "a soak", deadline))

    def _cordon(self, node: str) -> object:
        return self._grid.client.cordon(node, "a soak")

    def _resumed_later(self, fault: Fault, verb: Callable[[str], object]) -> None:
        node = self._node(fault)
        with self._locks[node.name]:
            verb(node.name)
            self._last(fault)
            self._grid.client.resume(node.name, "a soak")

    # -------------------------------------------------------------------------------------------------------- server
    def _killed(self, program: str, fault: Fault, after: Callable[[], None] | None = None) -> None:
        server = self._grid.server
        with self._locks["server"], server.unwatched():
            if not server.send(program, signal.SIGKILL):
                raise GridError("it is down already")
            self._last(fault)
            if after is not None:
                after()

    def _empty_broker(self) -> None:
        shutil.rmtree(self._grid.server.directory / "broker" / "appendonlydir", ignore_errors=True)

    def _frozen(self, program: str, fault: Fault) -> None:
        server = self._grid.server
        with self._locks["server"]:
            if not server.send(program, signal.SIGSTOP):
                raise GridError("it is down")
            self._last(fault)
            server.send(program, signal.SIGCONT)

    def _dispatcher_killed(self, fault: Fault) -> None:
        if fault.target % 2 and (standby := self._grid.server.standby):
            with self._locks["server"]:
                standby.end(signal.SIGKILL)
                self._last(fault)
                standby.start()
        else:
            self._killed("dispatcher", fault)

    def _dispatcher_frozen(self, fault: Fault) -> None:
        if fault.target % 2 and (standby := self._grid.server.standby):
            with self._locks["server"]:
                standby.send(signal.SIGSTOP)
                self._last(fault)
                standby.send(signal.SIGCONT)
        else:
            self._frozen("dispatcher", fault)

    def _server_killed(self, fault: Fault) -> None:
        with self._locks["server"]:
            self._grid.server.kill()
            self._last(fault)
            self._grid.server.start()

    def _killed_in_upload(self, fault: Fault) -> None:
        """Somebody sends a file, and the server dies when half of it is there."""

        def content() -> Iterator[bytes]:
            yield bytes(UPLOAD_BYTES // 2)
            self._last(fault)
            self._killed("web", fault)
            yield bytes(UPLOAD_BYTES // 2)

        sha256 = hashlib.sha256(bytes(UPLOAD_BYTES)).hexdigest()
        headers = {"Authorization": f"Bearer {self._grid.server.memory.user_token}"}
        headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(UPLOAD_BYTES)}
        with contextlib.suppress(httpx.TransportError), httpx.Client(timeout=20.0) as http:
            http.put(f"{self._grid.server.url}/api/v1/blobs/{sha256}", content=content(), headers=headers)

    def _database_locked(self, fault: Fault) -> None:
        """As a back-up, or an operator at the prompt, may do."""
        database = self._grid.server.directory / "grid.sqlite3"
        with contextlib.closing(sqlite3.connect(database, timeout=10.0, isolation_level=None)) as locker:
            locker.execute("BEGIN IMMEDIATE")
            self._last(fault)
            locker.execute("ROLLBACK")

    # --------------------------------------------------------------------------------------------------------- words
    def _repeat(self, fault: Fault) -> None:
        words = self._words()
        self._publish([(word.node, [word.attempt, word.nonce]) for word in words[:REPEATS]] * REPEATS)

    def _forge(self, fault: Fault) -> None:
        words = self._words()[:REPEATS]
        node = self._node(fault).name
        wrong = [(word.node, [word.attempt, "wrong"]) for word in words]
        # Those of other nodes, with everything right but the node.
        stolen = [(node, [word.attempt, word.nonce]) for word in words if word.node != node]
        self._publish([*wrong, *stolen, *((node, arguments) for arguments in FORGED)])

    def _publish(self, messages: Sequence[tuple[str, Sequence[object]]]) -> None:
        app = make_app(self._grid.server.broker_url)
        app.conf.broker_transport_options = {"socket_connect_timeout": 1.0, "socket_timeout": 2.0, "max_retries": 0}
        try:
            with app.connection_for_write() as connection:
                for node, arguments in messages:
                    app.send_task(
                        RUN_TASK,
                        args=list(arguments),
                        queue=queue_of(node),
                        connection=connection,
                        retry=False,
                        ignore_result=True,
                    )
        except Exception as error:  # kombu lets all kinds of errors of the transport through
            raise GridError(f"the broker does not take it: {error}") from error
        finally:
            app.close()

    def _forge_outcomes(self, fault: Fault) -> None:
        """Success, said of attempts that have ended, of those of other nodes, and with a token that is wrong."""
        mine = self._node(fault)
        words = self._words()[: 2 * REPEATS]
        headers = {"Authorization": f"Bearer {mine.config.token}"}
        with httpx.Client(base_url=self._grid.server.url, headers=headers, timeout=20.0) as http:
            for word in words:
                token = secrets.token_hex(24) if word.node == mine.name else word.token
                body = {"attempt": word.attempt, "token": token, "evidence": {"exit_code": 0}}
                with contextlib.suppress(httpx.TransportError):
                    answer = http.post(f"/api/v1/node/attempts/{word.attempt}/outcome", json=body)
                    if answer.is_success:
                        self.surprises.append(f"a forged outcome of {word.attempt} was accepted: {answer.text}")
                    elif answer.status_code not in (404, 409, 503):
                        self.surprises.append(f"a forged outcome was answered {answer.status_code}: {answer.text}")

    # ------------------------------------------------------------------------------------------------------- clients
    def _client_killed(self, fault: Fault) -> None:
        self._crowd[fault.target % len(self._crowd)].end(signal.SIGKILL)
        client = self._crowd[fault.target % len(self._crowd)]
        # The new one goes by another name: it must not use the keys of the dead one for other tasks.
        journal = Path(client.command[-2])
        client.command[-2] = str(journal.with_name(f"{journal.stem}x.jsonl"))
        client.start()


def make_clients(grid: SoakGrid, number: int, seed: int) -> list[Program]:
    """Clients that submit, started."""
    token = grid.server.memory.user_token
    program = str(Path(__file__).with_name("soak_clients.py"))
    made = []
    for _, name in zip(range(number), clients(), strict=False):
        journal = grid.folder / "journals" / f"{name}.jsonl"
        journal.parent.mkdir(exist_ok=True)
        variables = environment(GRID_SERVER=grid.server.url, GRID_TOKEN=token)
        variables["PYTHONPATH"] += f":{Path(__file__).parent}"
        command = [sys.executable, program, str(journal), str(seed)]
        made.append(Program(name, command, variables, grid.folder / "logs" / f"{name}.log"))
        made[-1].start()
    return made
