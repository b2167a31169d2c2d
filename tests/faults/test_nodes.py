"""Nodes are killed under their tasks: the tasks run elsewhere, a few times at most, and never twice to an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid import Task
from tests.support.containers import Starts, containers
from tests.support.grid_fixtures import LEASE_SECONDS
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.servers import Database
from tests.support.story import (
    PATIENCE_SECONDS,
    a_waiting_task,
    ended_once,
    has_printed,
    identity,
    may_go_on,
    runs_of,
    runs_on,
    tries_of,
)

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(240)]

WAITS = ("sh", "-c", "echo ready; sleep 600")


def runs_for_the(task: Task, number: int) -> None:
    """Wait until the attempt of this number runs."""
    eventually(lambda: runs_of(task) == number and task.refresh().state == "running", PATIENCE_SECONDS)


def test_a_task_whose_node_is_gone_runs_elsewhere(grid: RunningGrid) -> None:
    first = grid.add_node("lost-1", "--tags", "lost")
    task = a_waiting_task(grid, "lost")
    first.kill()
    second = grid.add_node("lost-2", "--tags", "lost")
    runs_on(task, "lost-2")
    has_printed(task, "ready")
    may_go_on(second.directory, task)
    ended_once(task, 2)
    lost, done = tries_of(task)
    assert (lost.verdict, lost.verdict_class, lost.node) == ("node_lost", "infrastructure", "lost-1")
    assert lost.reason == f"node lost-1 was not heard of for {LEASE_SECONDS} s while the task was on it"
    assert done.node == "lost-2"
    second.kill()


def test_a_node_that_comes_back_too_late_ends_what_runs_elsewhere_by_now(grid: RunningGrid, tmp_path: Path) -> None:
    """Its container had gone on all the while; its outcome is nobody's."""
    late = grid.add_node("late", "--tags", "late")
    with Starts(tmp_path) as starts:
        task = a_waiting_task(grid, "late")
        old = task.refresh().view.attempt
        late.kill()
        prompt = grid.add_node("prompt", "--tags", "late")
        runs_on(task, "prompt")
        has_printed(task, "ready")
        assert [one.running for one in containers(identity(grid, late))] == [True], "nobody has ended it yet"
        (late.directory / "workspaces" / old / "task" / "go").touch()
        late.start()
        eventually(lambda: containers(identity(grid, late)) == [], PATIENCE_SECONDS)
        eventually(lambda: grid.node_is("late", online=True, ready=True, running=0), PATIENCE_SECONDS)
        assert task.refresh().state == "running"
        may_go_on(prompt.directory, task)
        ended_once(task, 2)
        assert starts.by_task()[task.id] == 2
    assert "".join(task.logs()) == "ready\nover\n"
    for node in (late, prompt):
        node.kill()


def test_a_task_under_which_three_nodes_were_lost_is_poison(grid: RunningGrid) -> None:
    """It is tried once on each of them, and no node is given it any more."""
    names = [f"doomed-{number}" for number in (1, 2, 3)]
    workers = {name: grid.add_node(name, "--tags", "doomed", wait=False) for name in names}
    eventually(lambda: all(grid.node_is(name, ready=True) for name in names), PATIENCE_SECONDS)
    task = grid.submit(*WAITS, requires=["doomed"])
    for number in (1, 2, 3):
        runs_for_the(task, number)
        workers[task.node].kill()
    result = task.wait(PATIENCE_SECONDS)
    assert (result.verdict, result.verdict_class) == ("poison", "infrastructure")
    tries = tries_of(task)
    assert result.reason == f"3 nodes were lost under the task; the last time: {tries[-1].reason}"
    assert sorted(attempt.node for attempt in tries) == names, "each time on another node"
    assert {attempt.verdict for attempt in tries} == {"node_lost"}
    # The nodes come back with nothing of it, and it stays as it is.
    for worker in workers.values():
        worker.start()
    owners = [identity(grid, worker) for worker in workers.values()]
    eventually(lambda: not any(map(containers, owners)), PATIENCE_SECONDS)
    assert (task.refresh().state, runs_of(task)) == ("failed", 3)
    Database(grid).check()
