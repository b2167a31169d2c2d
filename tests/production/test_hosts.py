"""Three nodes on machines of their own: one is cut off in the middle of its tasks, one killed, one drained.

The promise: every task ends once, whatever becomes of the machine that it was on first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from grid import Task
from nodes.config import NodeConfig
from tests.support.commands import WAITS, command
from tests.support.containers import Starts, containers
from tests.support.grid_fixtures import LEASE_SECONDS, pytest_runtest_makereport
from tests.support.grids import Worker
from tests.support.hosts import Lab
from tests.support.images import ensure_test_image
from tests.support.node_api import eventually

# Long, for the agents' starts are slow on a machine on which many tests run.
pytestmark = [pytest.mark.needs("docker", "busybox", "root", "namespaces"), pytest.mark.timeout(300)]

__all__ = ["pytest_runtest_makereport"]

NODES = ("north", "east", "south")
# Lease, ten seconds of the promise, and the slowness of a machine on which many tests run.
GONE_SECONDS = 90.0
BACK_SECONDS = 90.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server and three nodes, each with a cable of its own to the switch."""
    ensure_test_image()
    with Lab(tmp_path_factory.mktemp("lab"), NODES, lease_seconds=LEASE_SECONDS) as running:
        for name in NODES:
            running.add_node(name)
        yield running


def running_on(node: Worker) -> set[str]:
    """The tasks whose containers run there now."""
    owner = NodeConfig(server="http://server", name=node.name, directory=node.directory, token="").identity
    return {one.task for one in containers(owner) if one.running}


def has_begun(task: Task) -> None:
    """Its program has said something."""
    eventually(lambda: "ready" in "".join(task.logs()), GONE_SECONDS)


def begun(lab: Lab, count: int) -> list[Task]:
    """Tasks that run, and wait to be let go; nodes are given them as the dispatcher sees fit."""
    tasks = [lab.submit(*WAITS, limits={"time": "300s"}, name=f"task-{number}") for number in range(count)]
    for task in tasks:
        has_begun(task)
    return [task.refresh() for task in tasks]


def let_go(lab: Lab, tasks: list[Task]) -> None:
    """Tell tasks to go on, wherever they run now; each time anew, for a task may begin again meanwhile."""

    def over() -> bool:
        for task in tasks:
            if task.refresh().state == "running":
                folder = lab.workers[task.view.node].directory / "workspaces" / task.view.attempt / "task"
                if folder.is_dir():
                    (folder / "go").touch()
        return all(task.refresh().view.finished_at for task in tasks)

    eventually(over, BACK_SECONDS)


def has_ended_once(task: Task) -> bool:
    """One attempt has succeeded, and whatever was before it was the grid's own fault."""
    *before, last = task.attempts()
    return (last.verdict, task.refresh().view.verdict) == ("succeeded", "succeeded") and all(
        one.verdict_class == "infrastructure" for one in before
    )


def test_one_node_is_cut_off_one_killed_one_drained_and_every_task_ends_once(lab: Lab) -> None:
    north, east, south = (lab.workers[name] for name in NODES)
    with Starts(lab.folder) as starts:
        tasks = begun(lab, 9)
        assert {task.view.node for task in tasks} == set(NODES)
        # Drained first, or it would be given what the others lose.
        lab.client.drain("south", "new disk", None)
        staying = {task.id for task in tasks if task.refresh().view.node == "south"}
        lab.network.cut("north")
        east.kill()

        # It cannot be told that its tasks are others' now: it knows by itself.
        eventually(lambda: not running_on(north), GONE_SECONDS)
        eventually(lambda: all(lab.node_is(name, online=False) for name in ("north", "east")), GONE_SECONDS)
        moving = [task for task in tasks if task.id not in staying]
        eventually(lambda: {task.refresh().state for task in moving} == {"queued"}, GONE_SECONDS)
        assert running_on(south) <= staying, "a draining node is given nothing new"

        lab.client.resume("south", "")
        let_go(lab, tasks)
        assert all(has_ended_once(task) for task in tasks)
        assert all(len(task.attempts()) > 1 for task in moving)
        finished = {task.id: (task.attempts()[-1].id, task.view.finished_at) for task in tasks}

        lab.network.mend("north")
        east.start()
        eventually(lambda: all(lab.node_is(name, online=True, ready=True) for name in NODES), BACK_SECONDS)
        # What the two nodes still have of their former tasks is refused, and removed.
        eventually(lambda: not any(running_on(node) for node in lab.workers.values()), BACK_SECONDS)
        assert {task.id: (task.attempts()[-1].id, task.refresh().view.finished_at) for task in tasks} == finished
        begins = starts.by_task()  # of this engine as a whole, which others may use too
        assert all(begins[task.id] <= len(task.attempts()) for task in tasks), "no attempt was begun twice"


def test_every_node_that_came_back_works_again(lab: Lab) -> None:
    for name in NODES:
        task = lab.submit("true", requires=[name])
        assert task.wait(BACK_SECONDS).verdict == "succeeded"
        assert task.refresh().view.node == name


def test_a_cable_that_was_out_for_a_moment_loses_nothing(lab: Lab) -> None:
    task = lab.submit(*WAITS, requires=["north"], limits={"time": "300s"})
    has_begun(task)
    lab.network.cut("north")
    time.sleep(LEASE_SECONDS / 10)  # it is the fault itself that lasts so long
    lab.network.mend("north")
    let_go(lab, [task])
    assert has_ended_once(task)


def test_a_node_whose_cable_is_out_is_told_of_by_the_doctor(lab: Lab) -> None:
    lab.network.cut("north")
    try:
        eventually(lambda: lab.node_is("north", online=False), GONE_SECONDS)
        found = {one["name"]: one for one in command(lab, "doctor", "--json").json}
        assert found["node north"]["level"] == "fail"
        assert "is the machine up" in found["node north"]["hint"]
    finally:
        lab.network.mend("north")
    eventually(lambda: lab.node_is("north", online=True, ready=True), BACK_SECONDS)
