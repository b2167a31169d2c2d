"""Nodes as an operator handles them: added by one command, drained, resumed, stopped, removed; with real tasks on them.

Leases last half a minute here, so that nothing which happens within seconds can be due to a lapsed one.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid import Task
from nodes.config import NodeConfig
from tests.support.commands import GRID, WAITS, background, command
from tests.support.containers import containers
from tests.support.grids import ROOT, RunningGrid, Worker
from tests.support.images import ensure_test_image
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

LEASE_SECONDS = 30
SOON_SECONDS = 12


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid without a node: each test adds its own, with a tag by which only its own tasks go there."""
    ensure_test_image()
    folder = tmp_path_factory.mktemp("lab")
    with RunningGrid(folder, node=False, lease_seconds=LEASE_SECONDS, heartbeat_seconds=1) as running:
        yield running


def a_waiting_task(lab: RunningGrid, tag: str) -> Task:
    """A task that runs until it is let go."""
    task = lab.submit(*WAITS, requires=[tag], limits={"time": "300s"})
    eventually(lambda: "ready" in "".join(task.logs()), 30)
    return task.refresh()


def let_go(node: Worker, task: Task) -> None:
    """Tell a task on this node to go on."""
    folder = node.directory / "workspaces" / task.refresh().view.attempt / "task"
    eventually(folder.is_dir)
    (folder / "go").touch()


def runs_again_on(task: Task, node: str) -> None:
    """The task was handed back, at once and at no charge, and runs on the other node now."""
    eventually(lambda: task.refresh().view.node == node and task.state == "running", SOON_SECONDS)
    eventually(lambda: "ready" in "".join(task.logs()))
    first, second = task.attempts()
    assert (first.verdict, first.verdict_class) == ("handed_back", "infrastructure")
    assert second.node == node


def test_a_drained_node_lets_its_task_end_and_takes_nothing_new(lab: RunningGrid) -> None:
    first = lab.add_node("alpha", "--tags", "drains")
    task = a_waiting_task(lab, "drains")
    with background(lab, "node", "drain", "alpha", "--reason", "new disk", "--wait") as drain:
        eventually(lambda: lab.node_is("alpha", mode="draining", ready=False))
        later = lab.submit("true", requires=["drains"])
        why = command(lab, "explain", later.id).out
        assert "is not ready: it is being drained by admin: new disk" in why
        assert "alpha\tdraining: it is being drained by admin: new disk\t1/4" in command(lab, "nodes").out
        refused = command(lab, "node", "remove", "alpha")
        assert (refused.status, refused.err.startswith("grid: node alpha is not empty (1 on it)")) == (1, True)
        assert drain.poll() is None
        assert task.refresh().state == "running"
        let_go(first, task)
        assert task.wait(30).verdict == "succeeded"
        assert drain.wait(15) == 0
        assert drain.stdout is not None
        assert drain.stdout.read().startswith("alpha\tdrained: ")
    assert later.refresh().state == "queued"
    assert command(lab, "node", "resume", "alpha").out == "alpha\tready\t0 running\n"
    assert later.wait(30).verdict == "succeeded"
    assert len(task.attempts()) == 1


def test_a_node_that_is_drained_now_hands_its_task_back(lab: RunningGrid) -> None:
    old = lab.add_node("old", "--tags", "now")
    task = a_waiting_task(lab, "now")
    new = lab.add_node("new", "--tags", "now")
    assert command(lab, "node", "drain", "old", "--now", "--reason", "smoke").status == 0
    runs_again_on(task, "new")
    assert task.attempts()[0].reason.endswith("it is being drained by admin: smoke")
    let_go(new, task)
    assert task.wait(30).verdict == "succeeded"
    eventually(lambda: list((old.directory / "attempts").iterdir()) == [])
    assert lab.node_is("old", online=True, running=0, mode="draining")


def test_a_node_that_is_stopped_hands_its_task_back_at_once(lab: RunningGrid) -> None:
    closing = lab.add_node("closing", "--tags", "stop", "--on-stop", "return")
    task = a_waiting_task(lab, "stop")
    staying = lab.add_node("staying", "--tags", "stop")
    begun = time.monotonic()
    closing.kill(signal.SIGTERM)
    runs_again_on(task, "staying")
    assert time.monotonic() - begun < LEASE_SECONDS / 2
    assert task.attempts()[0].reason.endswith("it is shutting down")
    assert lab.client.node("closing").not_ready_reason == "it is shutting down"
    let_go(staying, task)
    assert task.wait(30).verdict == "succeeded"


def test_a_node_is_added_by_the_command_that_the_server_prints(lab: RunningGrid, tmp_path: Path) -> None:
    added = command(lab, "node", "add", "printed")
    words = shlex.split(added.out)
    assert words[:3] == ["grid", "node", "start"]
    assert lab.node_is("printed", online=False, not_ready_reason="it has never joined")
    again = command(lab, "node", "add", "printed")
    assert (again.status, again.out) == (1, "")

    options = ["--dir", str(tmp_path / "node"), "--tags", "printed", "--on-stop", "return"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([GRID, *words[1:], *options], stdin=subprocess.DEVNULL, stderr=out, cwd=ROOT)
    try:
        eventually(lambda: lab.node_is("printed", ready=True) or process.poll() is not None, 30)
        assert lab.run("true", requires=["printed"], timeout=30).succeeded, log.read_text()
        assert "\tnode printed\tadmin\tnode printed\t" in command(lab, "token", "list").out
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
    assert command(lab, "node", "remove", "printed").status == 0
    assert not lab.node_is("printed", online=False)
    refused = subprocess.run(
        [sys.executable, "-m", "nodes", *words[2:], *options], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert refused.returncode == 3
    assert "the token is not known here" in refused.stderr


def test_the_doctor_says_what_is_wrong_and_what_to_do(lab: RunningGrid) -> None:
    lab.add_node("healthy")
    well = {one["name"]: one for one in command(lab, "doctor", "--json").json}
    names = ("config", "server", "version", "clock", "database", "dispatcher", "deadlines", "broker", "nodes")
    assert {name: well[name]["level"] for name in names} == dict.fromkeys(names, "pass")

    with lab.held():
        lab.kill("broker")
        done = command(lab, "doctor")
        assert done.status == 1
        (broken,) = [line.split("\t") for line in done.out.splitlines() if line.startswith("broker\t")]
        assert broken[1] == "fail"
        assert "no task is lost meanwhile" in broken[3]
    eventually(lambda: "broker\tpass" in command(lab, "doctor").out, 30)


def test_nothing_is_left_of_what_was_handed_back(lab: RunningGrid) -> None:
    for node in lab.workers.values():
        assert [one.running for one in containers(identity_of(lab, node))] == []


def identity_of(lab: RunningGrid, node: Worker) -> str:
    """The name by which the containers of the node are known."""
    return NodeConfig(server=lab.server, name=node.name, directory=node.directory, token="").identity
