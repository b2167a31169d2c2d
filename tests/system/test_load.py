"""Many tasks at once from many clients over two nodes: each runs exactly once, also when a node is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid import Task
from nodes.config import NodeConfig
from tests.support.containers import Container, Starts, containers
from tests.support.grids import ROOT, RunningGrid, Worker
from tests.support.node_api import eventually

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(180)]

CLIENTS = 4
EACH = 50
NODES = ("one", "two")
# Submits each folder it is given in turn, so many times, and prints the ids.
CLIENT = """
import sys, grid
count, folders = int(sys.argv[1]), sys.argv[2:]
with grid.Client() as client:
    for number in range(count):
        print(client.submit(folders[number % len(folders)]).id)
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    with RunningGrid(tmp_path_factory.mktemp("load"), node=False, lease_seconds=20) as running:
        for name in NODES:
            running.add_node(name, "--slots", "5")
        yield running


def test_each_of_200_tasks_runs_exactly_once(grid: RunningGrid, tmp_path: Path) -> None:
    with Starts(tmp_path) as starts:
        tasks = [grid.client.get(one) for one in submitted(grid, grid.task_folder("true"))]
        assert_all_succeeded(tasks)

        assert len({task.id for task in tasks}) == CLIENTS * EACH
        assert Counter(task.view.attempts for task in tasks) == {1: len(tasks)}
        assert {task.node for task in tasks} == set(NODES)
        assert_started_once(starts, tasks)
    nothing_is_left(grid)


def test_a_node_killed_in_the_middle_runs_nothing_twice(grid: RunningGrid, tmp_path: Path) -> None:
    victim = grid.workers["one"]
    folders = [*[grid.task_folder("true")] * 19, grid.task_folder("sleep", "2")]
    with Starts(tmp_path) as starts:
        tasks = [grid.client.get(one) for one in submitted(grid, *folders)]
        eventually(lambda: sleeping(victim), 90)
        victim.kill()
        left = sleeping(victim)
        victim.start()
        assert_all_succeeded(tasks)

        assert_started_once(starts, tasks)
        assert left
        by_id, started = {task.id: task for task in tasks}, starts.seen()
        for container in left:
            # Adopted: the same attempt has the outcome, and nobody else was ever started for the task.
            task = by_id[container.task]
            assert (task.view.attempts, task.view.attempt) == (1, container.attempt)
            assert [one.id for one in started if one.task == task.id] == [container.id]
            # The whole run is counted, from the start that the killed agent made (the engine notes that a little late).
            assert task.result().usage.wall_seconds > 1.5
        ends = Counter(sum(event.kind == "finished" for event in task.events()) for task in tasks)
        assert ends == {1: len(tasks)}
    nothing_is_left(grid)


def submitted(grid: RunningGrid, *folders: Path) -> list[str]:
    """The ids of tasks that several processes have submitted at the same time."""
    command = [sys.executable, "-c", CLIENT, str(EACH), *map(str, folders)]
    options = {"env": grid.client_environment | {"PYTHONPATH": str(ROOT)}, "text": True}
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, **options) for _ in range(CLIENTS)]  # type: ignore[call-overload]
    told = [client.communicate(timeout=60)[0].split() for client in clients]
    assert [client.returncode for client in clients] == [0] * CLIENTS
    return [one for ids in told for one in ids]


def assert_all_succeeded(tasks: list[Task]) -> None:
    """Wait for all; each has an end, and the end is a good one."""
    verdicts = Counter(task.wait(90).verdict for task in tasks)
    assert verdicts == {"succeeded": len(tasks)}


def assert_started_once(starts: Starts, tasks: list[Task]) -> None:
    """The engine has started one container for each task."""
    started = starts.by_task()
    assert {task.id: started[task.id] for task in tasks if started[task.id] != 1} == {}


def owner(worker: Worker) -> str:
    """The name by which the node's containers are known."""
    return NodeConfig(server="http://127.0.0.1", name=worker.name, directory=worker.directory, token="").identity


def sleeping(worker: Worker) -> list[Container]:
    """The node's containers that have begun to run and will do so for a while."""
    return [one for one in containers(owner(worker)) if one.running and "sleep" in one.command]


def nothing_is_left(grid: RunningGrid) -> None:
    """Containers and workspaces are cleaned up in the background."""
    workers = list(grid.workers.values())
    eventually(lambda: [one for worker in workers for one in containers(owner(worker))] == [])
    eventually(lambda: not any(f"{worker.directory}/" in Path("/proc/mounts").read_text() for worker in workers))
    folders = [worker.directory / name for worker in workers for name in ("attempts", "workspaces", "spool")]
    eventually(lambda: [path for folder in folders for path in folder.glob("[!.]*")] == [])
