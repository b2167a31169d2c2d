"""The broker fails in every way it can: nothing is lost, submits stay quick, and what runs does not notice."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from grid import Task
from tests.support.broker import broker_of, full_disk, no_memory, refusal
from tests.support.grid_fixtures import LEASE_SECONDS
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.story import a_waiting_task, ended, ended_once, may_go_on, nothing_is_left

pytestmark = pytest.mark.needs("docker", "busybox", "root")

SUBMIT_SECONDS = 1.0
PAUSE_SECONDS = 0.8
REPAIR_SECONDS = 10.0
# How a node says when it tries to reach the broker again.
TRIES = re.compile(r"Trying again in ([\d.]+) second")
WAITING = {"queued", "assigned"}
REFUSALS = {"disk": "MISCONF Errors writing to the AOF file", "memory": "command not allowed when used memory"}


def test_the_broker_is_killed_and_forgets_all_it_knew(grid: RunningGrid) -> None:
    """It stays away for several leases."""
    running, ending = a_waiting_task(grid), a_waiting_task(grid)
    with away(grid, forgets=True):
        tasks = quick_submits(grid, 3 * LEASE_SECONDS)
        # What runs does not need a broker, not even to report its end.
        may_go_on(grid.directory / "node", ending)
        ended_once(ending, runs=1)
        assert {task.refresh().state for task in tasks} <= WAITING
        assert running.refresh().state == "running"
    all_go_on(grid, running, tasks)
    # However long it was away, nobody waits for long after its return.
    waits = TRIES.findall((grid.directory / "logs" / "node.log").read_text())
    assert 0 < max(map(float, waits)) < REPAIR_SECONDS / 2


@pytest.mark.parametrize("what", REFUSALS)
def test_the_broker_takes_nothing_more(grid: RunningGrid, what: str) -> None:
    running, ending = a_waiting_task(grid), a_waiting_task(grid)
    with full(grid, what):
        tasks = quick_submits(grid, 1.5 * LEASE_SECONDS)
        may_go_on(grid.directory / "node", ending)
        ended_once(ending, runs=1)
        assert {task.refresh().state for task in tasks} <= WAITING
        assert running.refresh().state == "running"
    all_go_on(grid, running, tasks)


def test_messages_that_were_lost_with_the_broker_are_sent_again(grid: RunningGrid) -> None:
    worker = grid.add_node("slow", "--tags", "slow")
    assert worker.process is not None
    # The node does not consume while the messages for it are lost.
    worker.process.send_signal(signal.SIGSTOP)
    tasks = [grid.submit("true", requires=["slow"]) for _ in range(4)]
    eventually(lambda: "slow" in {task.refresh().node for task in tasks})
    with away(grid, forgets=True):
        worker.process.send_signal(signal.SIGCONT)
    for task in tasks:
        ended_once(task, runs=1)
    nothing_is_left(grid, worker)


# --------------------------------------------------------------------------------------------------------------- parts
@contextmanager
def away(grid: RunningGrid, *, forgets: bool) -> Iterator[None]:
    """While this lasts there is no broker; the one that comes then may know nothing of what was before."""
    with grid.held():
        killed = grid.kill("broker")
        eventually(lambda: ended(killed))
        if forgets:
            shutil.rmtree(grid.directory / "broker" / "appendonlydir")
        yield
    grid.restarted("broker", killed)


@contextmanager
def full(grid: RunningGrid, what: str) -> Iterator[None]:
    """While this lasts the broker has no more disk or memory, and says so to everybody who writes."""
    with closing(broker_of(grid.directory)) as broker:
        fault = no_memory(broker) if what == "memory" else full_disk(grid.directory / "broker")
        with fault:
            eventually(lambda: refusal(broker).startswith(REFUSALS[what]))
            yield
            assert refusal(broker).startswith(REFUSALS[what])
        eventually(lambda: not refusal(broker))


def quick_submits(grid: RunningGrid, seconds: float) -> list[Task]:
    """What is submitted in so many seconds; each submit is answered at once."""
    folder = grid.task_folder("true")
    tasks, took = [], []
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        tasks.append(grid.client.submit(folder))
        took.append(time.monotonic() - began)
        time.sleep(PAUSE_SECONDS)
    assert max(took) < SUBMIT_SECONDS
    return tasks


def all_go_on(grid: RunningGrid, running: Task, tasks: Sequence[Task]) -> None:
    """The broker was repaired at this moment: what waits is begun soon, what runs goes on, and nothing runs twice."""
    eventually(lambda: any(task.refresh().final for task in tasks), REPAIR_SECONDS)
    may_go_on(grid.directory / "node", running)
    ended_once(running, runs=1)
    for task in tasks:
        ended_once(task, runs=1)
    nothing_is_left(grid)
