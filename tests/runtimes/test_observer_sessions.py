"""Stories of the observer with programs of this machine, on its own control groups (v1, v2 or hybrid)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from observer.client import Client, Session
from observer.errors import Busy, Failed, Forbidden, Unreachable
from observer.protocol import CONTENT_TYPE
from tests.support.node_api import eventually
from tests.support.observers import RunningObserver, groups_named, running_observer, start_observer
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.needs("root")
PATIENCE_SECONDS = 60.0 * PATIENCE
SPIN = "while :; do :; done"
FORKS = "while :; do (sleep 100 & setsid sleep 100 &) ; done"


@pytest.fixture(scope="module")
def observer() -> Iterator[RunningObserver]:
    with running_observer() as running:
        yield running


@pytest.fixture
def session(observer: RunningObserver) -> Iterator[Session]:
    with observer.client.open() as opened:
        yield opened


def start(session: Session, *command: str) -> subprocess.Popen[bytes]:
    """A program in the session."""
    return subprocess.Popen(command, preexec_fn=session.attach, stderr=subprocess.DEVNULL)


def shell(session: Session, script: str) -> subprocess.Popen[bytes]:
    return start(session, "sh", "-c", script)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def part(session: Session, name: str) -> dict[str, Any]:
    found = session.stats()[name]
    assert isinstance(found, dict)
    return found


def post(observer: RunningObserver, path: str, body: object, kind: str = CONTENT_TYPE) -> tuple[bytes, bytes]:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    first, _, rest = observer.raw(head.encode() + data).partition(b"\r\n")
    return first, rest.partition(b"\r\n\r\n")[2]


def test_it_speaks_as_kolejkas_programs_expect(observer: RunningObserver) -> None:
    first, body = post(observer, "OPEN", {})
    opened = json.loads(body)
    assert first == b"HTTP/1.0 200 OK"
    assert (len(opened["session_id"]), len(opened["secret"]), opened["status"]) == (32, 40, "ok")
    assert json.loads(post(observer, "/", {})[1]) == {"sessions": 1, "status": "ok"}
    # What the judge's launcher sends is the answer of open as it came.
    assert post(observer, "/limits", {**opened, "limits": {"pids": "9", "network": False}})[1] == (
        b'{"status": "ok", "not_enforced": ["network"]}'
    )
    assert set(json.loads(post(observer, "/stats", opened)[1])) >= {"cpu", "cpus", "memory", "pids", "perf", "gpus"}
    for _ in range(2):
        assert post(observer, "/Close/", opened) == (b"HTTP/1.0 200 OK", b'{"status": "ok"}')
    assert json.loads(post(observer, "stats", opened)[1])["ended"] == "closed"
    assert observer.raw(b"GET /whatever HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK\r\n")
    assert observer.raw(b"HEAD / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK\r\n")


def test_failures_have_kolejkas_status_codes(observer: RunningObserver, session: Session) -> None:
    known = {"session_id": session.id, "secret": session.secret}
    assert b" 400 " in post(observer, "/open", {}, kind="application/json")[0]
    assert b" 400 " in post(observer, "/stats", {})[0]
    assert b" 403 " in post(observer, "/close", {**known, "secret": "0" * 40})[0]
    assert b" 403 " in post(observer, "/close", {})[0]
    assert b" 500 " in post(observer, "/nonsense", known)[0]
    assert b" 500 " in post(observer, "/limits", {**known, "limits": {"memory": "much"}})[0]


def test_a_program_over_its_memory_is_killed_and_counted(session: Session) -> None:
    session.limit(memory="24M", swap=0)
    done = start(session, sys.executable, "-S", "-c", "x = bytearray(10**8)")
    assert done.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    memory = part(session, "memory")
    assert memory["oom_kills"] == 1
    assert memory["failures"] > 0
    assert int(memory["max_usage"].removesuffix("b")) <= 24 << 20


def test_a_fork_over_the_limit_is_refused_and_counted(session: Session) -> None:
    session.limit(pids=3)
    shell(session, "sleep 5 & sleep 5 & sleep 5 & sleep 5 & wait").wait(PATIENCE_SECONDS)
    pids = part(session, "pids")
    assert pids["failures"] >= 1
    assert pids["max_usage"] == 3


def test_a_deadline_is_met_while_the_observer_has_something_else_to_do() -> None:
    """Its timekeeper is a process of its own; what has ended is told as soon as the observer can answer again."""
    with running_observer() as busy, busy.client.open() as session:
        program = shell(session, f"setsid sh -c '{SPIN}' & {SPIN}")
        session.limit(time="2s")
        busy.process.send_signal(signal.SIGSTOP)
        try:
            assert program.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        finally:
            busy.process.send_signal(signal.SIGCONT)
        assert session.stats()["ended"] == "time_limit"
        with pytest.raises(Failed, match="has ended"):
            session.limit(time="60s")
        eventually(lambda: not groups_named(session.id), PATIENCE_SECONDS)


def test_a_deadline_is_met_without_the_timekeeper() -> None:
    with running_observer() as observer, observer.client.open() as session:
        (timekeeper,) = children_of(observer.process.pid)
        os.kill(timekeeper, signal.SIGKILL)
        program = shell(session, SPIN)
        session.limit(time="300ms")
        assert program.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        eventually(lambda: session.stats().get("ended") == "time_limit", PATIENCE_SECONDS)


def test_processors_are_pinned(session: Session) -> None:
    session.limit(cpus=1)
    code = "import os; raise SystemExit(len(os.sched_getaffinity(0)))"
    assert start(session, sys.executable, "-S", "-c", code).wait(PATIENCE_SECONDS) == 1


def test_a_deadline_ends_all_that_is_in_the_session_and_nothing_else(observer: RunningObserver) -> None:
    begun = time.monotonic()
    with observer.client.open() as other, observer.client.open() as session:
        bystander = start(other, "sleep", "100")
        # Of its own session and process group, which no signal to a group would reach.
        program = shell(session, f"setsid sh -c '{SPIN}' & {SPIN}")
        session.limit(time="300ms")
        program.wait(PATIENCE_SECONDS)
        assert time.monotonic() - begun >= 0.29
        eventually(lambda: session.stats().get("ended") == "time_limit", PATIENCE_SECONDS)
        eventually(lambda: not groups_named(session.id), PATIENCE_SECONDS)
        assert bystander.poll() is None
        with pytest.raises(Failed, match="has ended"):
            session.attach()
    bystander.wait(PATIENCE_SECONDS)


def test_limits_without_a_time_lift_the_deadline(session: Session) -> None:
    session.limit(time="400ms")
    session.limit(pids=5)
    assert start(session, "sleep", "0.8").wait(PATIENCE_SECONDS) == 0


def test_processor_time_of_all_processes_together_is_limited(session: Session) -> None:
    session.limit(cpu_time="300ms")
    shell(session, f"({SPIN}) & ({SPIN}) & wait").wait(PATIENCE_SECONDS)
    eventually(lambda: session.stats().get("ended") == "cpu_time_limit", PATIENCE_SECONDS)
    assert float(part(session, "cpu")["usage"].removesuffix("s")) >= 0.3


def test_events_of_the_processor_are_limited_or_refused_by_name(session: Session) -> None:
    try:
        session.limit(perf_instructions="50M")
    except Failed as error:
        assert "perf_instructions" in str(error)  # noqa: PT017 - one of the two, as the machine has it
        return
    shell(session, SPIN).wait(PATIENCE_SECONDS)
    eventually(lambda: session.stats().get("ended") == "perf_limit", PATIENCE_SECONDS)
    assert part(session, "perf")["instructions"] >= 50_000_000


def test_frozen_programs_stand_still_and_can_be_ended(session: Session) -> None:
    program = shell(session, SPIN)
    session.freeze()
    spent = part(session, "cpu")["usage"]
    assert part(session, "cpu")["usage"] == spent
    session.thaw()
    eventually(lambda: part(session, "cpu")["usage"] != spent, PATIENCE_SECONDS)
    session.freeze()
    session.kill()
    assert program.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    session.thaw()
    assert start(session, "true").wait(PATIENCE_SECONDS) == 0


def test_somebody_who_ends_a_frozen_program_does_not_wait_for_ever(session: Session) -> None:
    program = start(session, "sleep", "100")
    session.freeze()
    program.kill()
    assert program.wait(PATIENCE_SECONDS) == -signal.SIGKILL


def test_closing_ends_programs_that_fork_as_fast_as_they_can(observer: RunningObserver) -> None:
    with observer.client.open() as session:
        session.limit(pids=200)
        program = shell(session, FORKS)
        eventually(lambda: part(session, "pids")["usage"] > 50, PATIENCE_SECONDS)
    assert program.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    assert groups_named(session.id) == []


def test_a_program_can_leave_a_session(session: Session) -> None:
    code = f"""
from observer.client import Client, Session
session = Session(Client({session._client._path!r}), {session.id!r}, {session.secret!r})
read = lambda: {session.id!r} in open("/proc/self/cgroup").read()
before = read(); session.attach(); inside = read(); session.detach()
print(before, inside, read())
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False True False\n"


def test_a_session_ends_with_its_creator_once_nothing_is_left_in_it(observer: RunningObserver) -> None:
    code = f"""
import subprocess
from observer.client import Client
session = Client({str(observer.socket)!r}).open()
child = subprocess.Popen(["sleep", "100"], preexec_fn=session.attach, stdout=subprocess.DEVNULL)
print(session.id, session.secret, child.pid)
"""
    session_id, secret, pid = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    left = Session(observer.client, session_id, secret)
    assert "ended" not in left.stats()
    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: left.stats().get("ended") == "left", PATIENCE_SECONDS)
    assert groups_named(session_id) == []


def test_sessions_within_sessions_are_bounded_and_end_with_the_outer_one(session: Session) -> None:
    session.limit(cgroup_depth=1, cgroup_descendants=2)
    code = f"""
from observer.client import Client, Session
from observer.errors import Failed
client = Client({session._client._path!r})
Session(client, {session.id!r}, {session.secret!r}).attach()
first, second = client.open(), client.open()
def refused():
    try:
        return client.open()
    except Failed as error:
        return str(error).split(":")[0]
print(refused(), end=" ")
second.close()
first.attach()
print(refused(), first.id, flush=True)
input()
"""
    inner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert inner.stdout
    assert inner.stdin
    many, deep, inner_id = inner.stdout.readline().split()
    assert (many, deep) == ("cgroup_descendants", "cgroup_depth")
    assert groups_named(inner_id) != []
    session.close()
    assert inner.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    assert groups_named(inner_id) == []
    inner.stdout.close()
    inner.stdin.close()


def test_statistics_need_the_secret_unless_it_answers_as_kolejkas_observer(observer: RunningObserver) -> None:
    with observer.client.open() as session, pytest.raises(Forbidden):
        observer.client.request("stats", {"session_id": session.id})
    with running_observer("--kolejka", "--sessions", "2") as lax:
        with lax.client.open() as one, lax.client.open():
            assert "time" in lax.client.request("stats", {"session_id": one.id})
            with pytest.raises(Busy):
                lax.client.open()
        assert lax.client.request("stats", {"session_id": "0" * 32})["cpu"] == {}


def test_an_observer_that_ends_leaves_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_observer() as observer:
        session = observer.client.open()
        program = start(session, "sleep", "100")
        assert observer.stop() == 0
        assert program.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        assert groups_named(session.id) == []
        with pytest.raises(Unreachable):
            observer.client.sessions()


def test_what_a_killed_observer_left_is_removed_by_the_next_one() -> None:
    with running_observer() as observer:
        empty, used = observer.client.open(), observer.client.open()
        program = start(used, "sleep", "100")
        observer.process.kill()
        observer.process.wait()
        again = start_observer(observer.socket)
        try:
            assert groups_named(empty.id) == []
            assert program.poll() is None
            with pytest.raises(Forbidden):
                used.close()
        finally:
            program.kill()
            program.wait()
            again.stop()
        start_observer(observer.socket).stop()
        assert groups_named(used.id) == []


def test_two_observers_do_not_answer_at_one_socket(observer: RunningObserver) -> None:
    command = [sys.executable, "-m", "observer", "serve", "--socket", str(observer.socket)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "another observer" in done.stderr) == (2, True)
    assert Client(observer.socket).sessions() == 0
