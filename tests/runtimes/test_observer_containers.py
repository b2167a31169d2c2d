"""Stories of the observer with programs in containers: what they may do, and what none of them does to another."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from observer.cgroups import GroupUsage, Tree, detect
from observer.client import Session
from observer.errors import Failed
from tests.support.images import docker
from tests.support.node_api import eventually
from tests.support.observers import INSIDE, RunningObserver, container, groups_named, running_observer, said
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "docker", "busybox")
PATIENCE_SECONDS = 60.0 * PATIENCE

JUDGE = """
import json, os, socket, subprocess, sys
from observer.client import Client, Session
client = Client(sys.argv[1] + "/socket")
outer = client.attach()
outer.limit(memory="256M", pids=40)
opened = client.request("open", {})
judged = Session(client, opened["session_id"], opened["secret"])
judged.limit(memory="24M", swap=0, pids=10, time="60s")
def launch():
    data = json.dumps(opened).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1] + "/socket")
        connection.sendall(b"\\r\\n".join([b"POST /attach HTTP/1.1", b"Host: kolejka-observer",
            b"Content-Type: application/json; charset=utf-8", b"Content-Length: %d" % len(data), b"", data]))
        connection.recv(1024)
hungry = subprocess.run([sys.executable, "-S", "-c", "x = bytearray(10**8)"], preexec_fn=launch)
stats = judged.stats()
judged.close()
outer.detach()
whole = outer.stats()
outer.close()
print(json.dumps({"code": hungry.returncode, "stats": stats, "whole": whole, "left": client.sessions()}))
"""

SPENDTHRIFT = """
import json, subprocess, sys
from observer.client import Client
session = Client(sys.argv[1] + "/socket").open()
session.limit(memory="256M", swap=0)
child = subprocess.run([sys.executable, "-S", "-c", "x = bytearray(10**8)"], preexec_fn=session.attach)
session.close()
print(json.dumps({"code": child.returncode}))
"""

HOLD = """
import subprocess, sys
from observer.client import Client
session = Client(sys.argv[1] + "/socket").open()
child = subprocess.Popen(["/bin/sleep", "1000"], preexec_fn=session.attach)
print(session.id, session.secret, flush=True)
input()
print(child.poll(), flush=True)
"""

STEAL = """
import sys
from observer.client import Client, Session
from observer.errors import Forbidden
session = Session(Client(sys.argv[1] + "/socket"), sys.argv[2], sys.argv[3])
for verb in (session.attach, session.stats, session.freeze, session.thaw, session.kill, session.detach, session.close,
             session.limit):
    try:
        verb()
        print("done")
    except Forbidden:
        print("forbidden")
"""


@pytest.fixture(scope="module")
def observer() -> Iterator[RunningObserver]:
    with running_observer() as running:
        yield running


def test_a_judge_measures_what_it_runs_within_its_own_session(observer: RunningObserver) -> None:
    told = json.loads(said(container(observer, JUDGE, INSIDE)))
    assert told["code"] == -9
    assert told["stats"]["memory"]["oom_kills"] == 1
    assert int(told["stats"]["memory"]["max_usage"].removesuffix("b")) <= 24 << 20
    # The session around it counts what the one within has used, too.
    spent = [float(told[name]["cpu"]["usage"].removesuffix("s")) for name in ("whole", "stats")]
    assert spent[0] > spent[1] > 0
    assert told["left"] == 0


def test_another_container_cannot_touch_a_session_even_with_its_secret(observer: RunningObserver) -> None:
    holder = container(observer, HOLD, INSIDE)
    assert holder.stdout
    session_id, secret = holder.stdout.readline().split()
    assert set(said(container(observer, STEAL, INSIDE, session_id, secret)).split()) == {"forbidden"}
    # Root of the machine may look, and is in another group: it cannot come in.
    session = Session(observer.client, session_id, secret)
    assert "ended" not in session.stats()
    with pytest.raises(Failed, match="not in the group"):
        session.attach()
    answer, _ = holder.communicate("\n", timeout=PATIENCE_SECONDS)
    assert answer == "None\n"
    eventually(lambda: groups_named(session_id) == [], PATIENCE_SECONDS)


def test_grid_observe_runs_a_command_within_a_container(observer: RunningObserver) -> None:
    code = "import sys; sys.argv[0] = 'grid'; from grid.cli.app import app; app()"
    options = [
        "observe",
        "--socket",
        f"{INSIDE}/socket",
        "--time",
        "3s",
        "--",
        "/bin/sh",
        "-c",
        "while :; do :; done",
    ]
    running = container(observer, code, *options)
    output, _ = running.communicate(timeout=PATIENCE_SECONDS)
    told = json.loads(output)
    assert (running.returncode, told["verdict"], told["exit_code"]) == (124, "time_limit", 137)
    assert told["usage"]["cpu_seconds"] > 0


def test_what_a_judge_forbids_its_programs_is_no_fault_of_the_task(observer: RunningObserver) -> None:
    told, used = _as_a_node_sees_it(observer, JUDGE, memory="512m")
    assert told["stats"]["memory"]["oom_kills"] == 1
    assert (used.oom_kills, used.cpu_seconds > 0) == (0, True)


def test_what_the_task_itself_may_not_use_is_its_fault_in_a_session_too(observer: RunningObserver) -> None:
    told, used = _as_a_node_sees_it(observer, SPENDTHRIFT, memory="64m")
    assert told["code"] == -9
    assert used.oom_kills == 1


def _as_a_node_sees_it(observer: RunningObserver, code: str, *, memory: str) -> tuple[dict[str, Any], GroupUsage]:
    """What a program in a container with this much memory says, and what is told of its group from outside."""
    driver = docker("info", "--format", "{{.CgroupDriver}}").decode().strip()
    tree = Tree(detect(), base=f"grid-test-{uuid4().hex[:8]}", systemd=driver == "systemd")
    group = tree.create("judge")
    limits = ("--cgroup-parent", group.parent, "--memory", memory, "--memory-swap", memory)
    try:
        with container(observer, code, INSIDE, options=limits) as program:
            while program.poll() is None:
                group.read()
                time.sleep(0.05)
            assert program.stdout
            told = json.loads(program.stdout.read())
        return told, group.read()
    finally:
        eventually(lambda: tree.remove(group), PATIENCE_SECONDS)
        tree.remove_base()
