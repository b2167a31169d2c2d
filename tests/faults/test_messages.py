"""Messages that come five times, late, forged or broken: one run of each task, and the server says 409 to the rest."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from grid.celery import queue_of
from nodes.attempt import AttemptFolder
from nodes.server import Server
from tasks.errors import Conflict, Stale
from tasks.order import Heartbeat
from tasks.outcome import Evidence, Outcome
from tests.support.broker import broker_of
from tests.support.containers import Container, Starts
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.raw_http import answer_to, request
from tests.support.story import (
    PATIENCE_SECONDS,
    a_waiting_task,
    ended_once,
    identity,
    may_go_on,
    nothing_is_left,
    runs_of,
)

pytestmark = pytest.mark.needs("docker", "busybox", "root")

COPIES = 5
UNKNOWN = "0" * 32


@pytest.fixture(scope="module")
def broker(grid: RunningGrid) -> Iterator[redis.Redis]:
    """Somebody who may read and write all messages of the grid."""
    with closing(broker_of(grid.directory)) as connection:
        yield connection


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[Starts]:
    """Every container that is started during the test."""
    with Starts(tmp_path) as seen:
        yield seen


def test_every_message_comes_five_times_and_again_when_all_is_over(
    grid: RunningGrid, broker: redis.Redis, starts: Starts
) -> None:
    before = ignored(grid)
    with not_reading(grid):
        tasks = [grid.submit("true") for _ in range(4)]
        # The first one is on its way to the node, which was waiting for it.
        eventually(lambda: len(messages(grid, broker)) >= len(tasks) - 1, PATIENCE_SECONDS)
        copied = messages(grid, broker)
        send(grid, broker, copied * (COPIES - 1))
    for task in tasks:
        ended_once(task)
    eventually(lambda: ignored(grid) - before >= len(copied) * (COPIES - 1), PATIENCE_SECONDS)

    # The node has forgotten them: now it is the server that refuses.
    send(grid, broker, copied * COPIES)
    eventually(lambda: ignored(grid) - before >= len(copied) * (2 * COPIES - 1), PATIENCE_SECONDS)
    assert "was taken up or ended before" in node_log(grid)
    started = starts.by_task()
    assert {task.id: started[task.id] for task in tasks} == {task.id: runs_of(task) for task in tasks}
    assert [runs_of(task) for task in tasks] == [1] * len(tasks)
    nothing_is_left(grid)


def test_forged_messages_open_nothing(grid: RunningGrid, broker: redis.Redis, starts: Starts) -> None:
    real = a_real_message(grid, broker)
    running = a_waiting_task(grid)
    over = grid.submit("true")
    ended_once(over)
    before, begun = ignored(grid), own(grid, starts)
    forgeries = [
        forged(real, UNKNOWN, "nonce"),
        forged(real, running.refresh().view.attempt, "nonce"),
        forged(real, over.attempts()[0].id, "nonce"),
        forged(real, "../../etc/passwd", "nonce"),
        forged(real, "", ""),
    ]
    send(grid, broker, forgeries)
    eventually(lambda: ignored(grid) - before >= len(forgeries), PATIENCE_SECONDS)
    assert own(grid, starts) == begun
    assert running.refresh().state == "running"
    may_go_on(grid.directory / "node", running)
    ended_once(running)
    assert own(grid, starts) == begun
    assert runs_of(running) == runs_of(over) == 1
    nothing_is_left(grid)


def test_messages_that_are_none_do_not_end_the_node(grid: RunningGrid, broker: redis.Redis) -> None:
    real = a_real_message(grid, broker)
    pid = grid.find("node")
    wrong_task = json.loads(real)
    wrong_task["headers"]["task"] = "os.system"
    send(grid, broker, [json.dumps(wrong_task).encode(), forged(real, {"an": "object"}, 7), forged(real)])
    assert grid.run("true").succeeded
    assert grid.find("node") == pid


def test_a_message_for_another_node_opens_nothing_here(grid: RunningGrid, broker: redis.Redis, starts: Starts) -> None:
    other = grid.add_node("other", "--tags", "other")
    assert other.process is not None
    before = ignored(grid)
    other.process.send_signal(signal.SIGSTOP)
    try:
        tasks = [grid.submit("true", requires=["other"]) for _ in range(3)]
        eventually(lambda: messages(grid, broker, "other"), PATIENCE_SECONDS)
        stolen = messages(grid, broker, "other")
        send(grid, broker, stolen)
        eventually(lambda: ignored(grid) - before >= len(stolen), PATIENCE_SECONDS)
    finally:
        other.process.send_signal(signal.SIGCONT)
    assert f"is not for this session of node {grid.facts['node']}" in node_log(grid)
    for task in tasks:
        ended_once(task)
    started = starts.by_task()
    assert [(runs_of(task), started[task.id]) for task in tasks] == [(1, 1)] * len(tasks)
    nothing_is_left(grid, other)
    other.kill(signal.SIGTERM)
    eventually(lambda: grid.node_is("other", ready=False), PATIENCE_SECONDS)


def test_stale_and_false_tokens_are_refused(grid: RunningGrid) -> None:
    task = a_waiting_task(grid)
    attempt = task.refresh().view.attempt
    order = AttemptFolder(grid.directory / "node" / "attempts" / attempt).order()
    assert order is not None
    refused_everything(grid, attempt, "guessed")
    assert task.refresh().state == "running"
    may_go_on(grid.directory / "node", task)
    ended_once(task)
    refused_everything(grid, attempt, order.token)
    assert [one.verdict for one in task.attempts()] == ["succeeded"]
    assert (task.result().exit_code, "".join(task.logs())) == (0, "ready\nover\n")
    nothing_is_left(grid)


# --------------------------------------------------------------------------------------------------------------- parts
@contextmanager
def not_reading(grid: RunningGrid) -> Iterator[None]:
    """While this lasts the grid's own node sleeps, for less than a lease if the machine is not very busy."""
    pid = grid.find("node")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def messages(grid: RunningGrid, broker: redis.Redis, node: str = "") -> list[bytes]:
    """What waits in the queue of a node, by default of the grid's own."""
    found = broker.lrange(queue_of(node or grid.facts["node"]), 0, -1)
    assert isinstance(found, list)
    return [one if isinstance(one, bytes) else one.encode() for one in found]


def send(grid: RunningGrid, broker: redis.Redis, raw: list[bytes]) -> None:
    """Put messages into the queue of the grid's own node."""
    broker.lpush(queue_of(grid.facts["node"]), *raw)


def a_real_message(grid: RunningGrid, broker: redis.Redis) -> bytes:
    """A message that the grid has sent to its node."""
    with not_reading(grid):
        tasks = [grid.submit("true") for _ in range(2)]
        eventually(lambda: messages(grid, broker), PATIENCE_SECONDS)
        found = messages(grid, broker)[0]
    for task in tasks:
        ended_once(task)
    return found


def forged(real: bytes, *arguments: object) -> bytes:
    """The message with other arguments."""
    message: dict[str, Any] = json.loads(real)
    _, options, embedded = json.loads(base64.b64decode(message["body"]))
    message["body"] = base64.b64encode(json.dumps([arguments, options, embedded]).encode()).decode()
    return json.dumps(message).encode()


def own(grid: RunningGrid, starts: Starts) -> list[Container]:
    """The starts of containers by the grid's own node."""
    return [one for one in starts.seen() if one.node == identity(grid)]


def node_log(grid: RunningGrid) -> str:
    """What the grid's own node has written."""
    return (grid.directory / "logs" / "node.log").read_text()


def ignored(grid: RunningGrid) -> int:
    """How many messages the grid's own node has ignored."""
    return node_log(grid).count("action=ignored")


def refused_everything(grid: RunningGrid, attempt: str, token: str) -> None:
    """The server says 409 to all that a node could say of an attempt with this token."""
    key = json.loads((grid.directory / "up.json").read_text())["node_token"]
    outcome = Outcome(attempt=attempt, token=token, evidence=Evidence(exit_code=1))
    path = f"/api/v1/node/attempts/{attempt}/outcome"
    said = answer_to(
        urlsplit(grid.server).port or 0, request("POST", path, outcome.model_dump_json().encode(), key)
    ).splitlines()
    assert b" 409 " in said[0]
    with closing(Server(grid.server, key)) as server:
        with pytest.raises(Stale):
            server.report(outcome)
        with pytest.raises(Stale):
            server.take(attempt, "session", "nonce")
        with pytest.raises(Conflict):
            server.send_log(attempt, token, "stdout", 0, b"forged")
        with pytest.raises(Conflict):
            server.heartbeat(Heartbeat(session="session", attempts=()), 5.0)
