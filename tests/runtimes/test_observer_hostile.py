"""Stories of callers that mean no good: whatever one container does, others get their answers and sessions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.observers import INSIDE, RunningObserver, container, groups_named, running_observer
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "docker", "busybox")
EACH = 8

PRELUDE = """
import os, socket, sys, time
PATH = sys.argv[1] + "/socket"
def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(PATH)
    return connection
def told(connection):
    try:
        return b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError:
        return b""
def ready(word=""):
    print("ready", word, flush=True)
    input()
"""

SLOW = (
    PRELUDE
    + """
held = [connect() for _ in range(300)]
for connection in held:
    try:
        connection.sendall(b"POST /open HT")
    except OSError:
        pass
ready()
print(sum(not told(connection).startswith(b"HTTP/1.0 200") for connection in held))
"""
)

HUGE = (
    PRELUDE
    + """
refused = 0
for head in (b"POST /" + b"a" * 10**6, b"POST /open HTTP/1.1\\r\\nContent-Length: 999999999\\r\\n\\r\\n" + b"x" * 10**6,
             b"POST /open HTTP/1.1\\r\\n" + b"X: y\\r\\n" * 10**5,
             b"POST /open HTTP/1.1\\r\\nContent-Type: application/json; charset=utf-8\\r\\n"
             b"Content-Length: 60000\\r\\n\\r\\n" + b"[" * 60000):
    connection = connect()
    try:
        connection.sendall(head)
    except OSError:
        pass
    refused += not told(connection).startswith(b"HTTP/1.0 200")
for _ in range(300):
    connection = connect()
    try:
        connection.sendall(os.urandom(200) + b"\\r\\n\\r\\n")
    except OSError:
        pass
    refused += not told(connection).startswith(b"HTTP/1.0 200")
ready(refused)
"""
)

MANY = (
    PRELUDE
    + """
from observer.client import Client
from observer.errors import Busy
made, refused = [], 0
for _ in range(1000):
    try:
        made.append(Client(PATH).open())
    except Busy:
        refused += 1
ready(f"{len(made)} {refused}")
"""
)

FROZEN = (
    PRELUDE
    + """
import subprocess
from observer.client import Client
session = Client(PATH).open()
child = subprocess.Popen(["/bin/sh", "-c", "while :; do (sleep 9 &); done"], preexec_fn=session.attach)
session.limit(pids=100)
for _ in range(20):
    session.freeze(); session.thaw()
session.freeze()
ready()
"""
)


@pytest.fixture(scope="module")
def observer() -> Iterator[RunningObserver]:
    with running_observer("--sessions", str(EACH)) as running:
        yield running


@contextmanager
def hostile(observer: RunningObserver, code: str) -> Iterator[list[str]]:
    """What a hostile container says when it has done its worst and goes on holding all that it got."""
    process = container(observer, code, INSIDE)
    assert process.stdout
    try:
        yield process.stdout.readline().split()
    finally:
        process.communicate("\n", timeout=120 * PATIENCE)


def served(observer: RunningObserver) -> bool:
    """Whether another caller gets all that it may have."""
    sessions = [observer.client.open() for _ in range(EACH)]
    for session in sessions:
        session.limit(pids=10, time="60s")
    stats = [session.stats() for session in sessions]
    for session in sessions:
        session.close()
    return len(stats) == EACH


@pytest.mark.parametrize("code", [SLOW, HUGE, MANY, FROZEN], ids=["slow", "huge", "many", "frozen"])
def test_others_are_served_whatever_a_container_does(observer: RunningObserver, code: str) -> None:
    with hostile(observer, code) as words:
        assert words[:1] == ["ready"], sys.stderr
        assert served(observer)
        if code is HUGE:
            assert words[1] == "304"
        if code is MANY:
            assert words[1:] == [str(EACH), str(1000 - EACH)]
    assert observer.process.poll() is None


def test_nothing_of_them_is_left(observer: RunningObserver) -> None:
    session = observer.client.open()
    assert all(session.id in path for path in groups_named(observer_tag(session.id)))
    session.close()
    assert observer.client.sessions() == 0


def observer_tag(session_id: str) -> str:
    """What the names of all groups of one observer have in common."""
    return groups_named(session_id)[0].rpartition("/")[2].removesuffix(session_id)
