"""Parts of the server are killed at all moments: nothing is half written, and those who wait for it go on."""

from __future__ import annotations

import hashlib
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from grid import Client
from tasks.errors import GridError, Stale
from tasks.order import Order
from tests.support.containers import Starts
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.quick_node import QuickNode, outcome_of
from tests.support.servers import HOST, Database, WebServer
from tests.support.story import a_waiting_task, ended, ended_once, may_go_on, nothing_is_left

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(240)]

AT_ONCE = 5
"""How many requests of a kind are under way when the server is killed."""
BLOB_PARTS = 100_000
"""Of 16 bytes each."""
FILES = {"a": b"first " * 1000, "b": b"second " * 1000, "c": b""}


# ------------------------------------------------------------------------------------------- programs that come back
@pytest.mark.parametrize("program", ["dispatcher", "web", "node"])
def test_a_killed_program_comes_back_and_work_goes_on(program: str, grid: RunningGrid, tmp_path: Path) -> None:
    """A node that is back within its lease adopts its containers: the same ones, and nothing is run again."""
    with Starts(tmp_path) as starts:
        running = a_waiting_task(grid)
        [before] = [one for one in starts.seen() if one.task == running.id]
        pid = grid.kill(program)
        fresh = grid.submit("echo", "fresh")
        grid.restarted(program, pid)
        ended_once(fresh, 1)
        may_go_on(grid.directory / "node", running)
        ended_once(running, 1)
        assert "".join(running.logs()) == "ready\nover\n"
        after = [(one.task, one.id) for one in starts.seen() if one.task in (running.id, fresh.id)]
        assert (running.id, before.id) in after
        assert Counter(task for task, _ in after) == {running.id: 1, fresh.id: 1}
    nothing_is_left(grid)


# ----------------------------------------------------------------------------- a web server that is killed at its work
@pytest.fixture(scope="module")
def server(grid: RunningGrid) -> Iterator[WebServer]:
    """A second web server of the same folder."""
    with WebServer(grid, "web-2") as running:
        yield running


@pytest.fixture(scope="module")
def node(grid: RunningGrid, server: WebServer) -> Iterator[QuickNode]:
    """A node that speaks to the second server."""
    with QuickNode(grid, "quick", server.address) as running:
        yield running


class Rush:
    """Requests that are all under way when the server is killed: uploads, outcomes and submits."""

    def __init__(self, grid: RunningGrid, server: WebServer, node: QuickNode) -> None:
        self._grid, self._server, self._node = grid, server, node
        self._answers = threading.Semaphore(0)
        self._lines: list[socket.socket] = []
        self.tasks = [grid.submit("true", requires=[node.name]) for _ in range(AT_ONCE)]
        self._orders = [node.take(task.id) for task in self.tasks]
        self.keys = [uuid.uuid4().hex for _ in range(AT_ONCE)]
        self.halves, self.wholes = ([uuid.uuid4().bytes * BLOB_PARTS for _ in range(AT_ONCE)] for _ in range(2))

    def killed_after(self, answers: int) -> None:
        """Kill the server when it has given so many answers; those that it has not given are asked for again."""
        self._begin_uploads()
        with ThreadPoolExecutor(3 * AT_ONCE) as pool:
            sent = [pool.submit(self._answered, partial(self._report, order)) for order in self._orders]
            sent += [pool.submit(self._answered, partial(self._submit, key)) for key in self.keys]
            sent += [pool.submit(self._answered, partial(self._upload, content)) for content in self.wholes]
            for _ in range(answers):
                assert self._answers.acquire(timeout=60)
            self._server.kill()
            for line in self._lines:
                line.close()
            self._server.start()
            for one in sent:
                one.result(60)

    def _begin_uploads(self) -> None:
        """Send of each content another part: none of it, one byte... all but one byte."""
        for number, content in enumerate(self.halves):
            line = socket.create_connection((HOST, self._server.port))
            self._lines.append(line)
            line.sendall(put_of(content, self._grid.token) + content[: (len(content) - 1) * number // (AT_ONCE - 1)])
        eventually(lambda: len(incoming(self._grid)) >= AT_ONCE)

    def _answered(self, action: Callable[[], object]) -> None:
        """Repeat what got no answer, as nodes and clients do; that it was done before is an answer."""
        while True:
            try:
                with suppress(Stale):
                    action()
                break
            except (GridError, httpx.TransportError):
                continue
        self._answers.release()

    def _report(self, order: Order) -> None:
        self._node.report(outcome_of(order, FILES))

    def _submit(self, key: str) -> None:
        assert submitted(self._server, self._grid.token, key)

    def _upload(self, content: bytes) -> None:
        url = f"{self._server.address}/api/v1/blobs/{hashlib.sha256(content).hexdigest()}"
        headers = {"Authorization": f"Bearer {self._grid.token}"}
        assert httpx.put(url, content=content, headers=headers, timeout=60).status_code == 201


def put_of(content: bytes, token: str) -> bytes:
    """The head of the request that uploads a content."""
    lines = (
        f"PUT /api/v1/blobs/{hashlib.sha256(content).hexdigest()} HTTP/1.1",
        f"Host: {HOST}",
        f"Authorization: Bearer {token}",
        f"Content-Length: {len(content)}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def submitted(server: WebServer, token: str, key: str) -> str:
    """The task that a submit with this idempotency key has made, now or before; nobody takes it up."""
    body = {"spec": {"image": "busybox:local", "args": ["true"], "requires": ["quick"]}, "name": key}
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    answer = httpx.post(f"{server.address}/api/v1/tasks", json=body, headers=headers, timeout=60)
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def incoming(grid: RunningGrid) -> list[Path]:
    """The uploads that the servers are writing."""
    return list((grid.directory / "blobs" / "incoming").iterdir())


def stored(grid: RunningGrid, content: bytes) -> bytes | None:
    """What the store has under the name of this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = grid.directory / "blobs" / sha256[:2] / sha256[2:]
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("answers", [0, 3, 8])
def test_a_server_that_is_killed_at_its_work_leaves_nothing_half_done(
    answers: int, grid: RunningGrid, server: WebServer, node: QuickNode
) -> None:
    rush = Rush(grid, server, node)
    rush.killed_after(answers)
    for task in rush.tasks:
        ended_once(task, 1)
        assert {path: file.read_bytes() for path, file in task.result().files.items()} == FILES
    database = Database(grid)
    for key in rush.keys:
        assert database.rows("SELECT id FROM core_task WHERE name = %s", key) == [(submitted(server, grid.token, key),)]
    assert [stored(grid, content) for content in rush.wholes] == rush.wholes
    assert [stored(grid, content) for content in rush.halves] == [None] * AT_ONCE
    eventually(lambda: incoming(grid) == [])
    database.check()


def test_clients_go_on_with_the_other_server(grid: RunningGrid, server: WebServer, node: QuickNode) -> None:
    [here] = [tag for tag in grid.client.node(str(grid.facts["node"])).tags if tag.startswith("hostname:")]
    running = a_waiting_task(grid, here)
    folder = grid.task_folder("true", requires=[node.name])
    quick = grid.client.submit(folder)
    order = node.take(quick.id)
    with grid.held(), Client(server.address, grid.token) as other:
        killed = grid.kill("web")
        eventually(lambda: ended(killed))
        assert other.get(running.id).state == "running"
        node.report(outcome_of(order, FILES))
        assert other.get(quick.id).wait(60).verdict == "succeeded"
        later = other.submit(folder)
        node.report(outcome_of(node.take(later.id), FILES))
        assert later.wait(60).verdict == "succeeded"
        # Its node cannot tell of it before its own server is back.
        may_go_on(grid.directory / "node", other.get(running.id))
    grid.restarted("web", killed)
    ended_once(running, 1)
    ended_once(grid.client.get(later.id), 1)
