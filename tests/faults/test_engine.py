"""The container engine is stopped, killed or stuck under tasks: that is never the program's fault."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from grid import Task
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.private_engine import PrivateEngine
from tests.support.story import (
    PATIENCE_SECONDS,
    a_waiting_task,
    ended_once,
    has_printed,
    may_go_on,
    runs_of,
    runs_on,
    tries_of,
)

pytestmark = [pytest.mark.needs("docker", "busybox", "root", "dockerd"), pytest.mark.timeout(240)]

# Does not end when it is asked to, so that the engine kills it: with exit status 137.
STUBBORN = ("sh", "-c", "trap '' TERM; echo ready; while [ ! -e go ]; do sleep 0.05; done; echo over")
FAILS = ("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.05; done; echo over; exit 6")


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    """An engine that ends its containers with itself."""
    with PrivateEngine() as running:
        yield running


@pytest.fixture(scope="module")
def shaky(grid: RunningGrid, engine: PrivateEngine) -> str:
    """The tag of a node with that engine."""
    grid.add_node("shaky", "--tags", "shaky", environment={"DOCKER_HOST": engine.address})
    return "shaky"


def a_stubborn_task(grid: RunningGrid, tag: str) -> Task:
    """A task that runs until it is let go."""
    task = grid.submit(*STUBBORN, requires=[tag], limits={"time": "300s"})
    has_printed(task, "ready")
    return task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_an_engine_that_ends_under_a_task(
    number: signal.Signals, grid: RunningGrid, engine: PrivateEngine, shaky: str
) -> None:
    task = a_stubborn_task(grid, shaky)
    engine.stop(number)
    engine.start()
    eventually(lambda: runs_of(task) == 2 and task.refresh().state == "running", PATIENCE_SECONDS)
    has_printed(task, "ready")
    may_go_on(grid.workers["shaky"].directory, task)
    ended_once(task, 2)
    first, _ = tries_of(task)
    assert (first.verdict, first.verdict_class) == ("engine_restarted", "infrastructure")
    assert first.reason.startswith("the container engine was restarted under the task: ")
    assert "".join(task.logs()) == "ready\nover\n", "of the second attempt alone"


def test_an_engine_that_hangs_costs_an_attempt_its_time_and_no_more(
    grid: RunningGrid, engine: PrivateEngine, shaky: str
) -> None:
    """Its node takes nothing more, and says why."""
    smooth = grid.add_node("smooth", "--tags", shaky)
    grid.client.cordon("smooth")
    task = a_waiting_task(grid, shaky, limits={"time": "12s"})
    grid.client.resume("smooth")
    with engine.hung():
        runs_on(task, "smooth")
        has_printed(task, "ready")
        may_go_on(smooth.directory, task)
        ended_once(task, 2)
        first, _ = tries_of(task)
        assert (first.node, first.verdict) == (shaky, "runtime_error")
        assert first.reason == "node shaky did not finish executing in the time it is given for that"
        eventually(lambda: grid.node_is(shaky, online=True, ready=False), PATIENCE_SECONDS)
        assert grid.client.node(shaky).not_ready_reason.startswith("the container engine does not answer")
    eventually(lambda: grid.node_is(shaky, ready=True), PATIENCE_SECONDS)
    smooth.kill()


def test_with_live_restore_what_runs_goes_on_under_a_killed_engine(grid: RunningGrid) -> None:
    """What ends meanwhile is run again: its exit code is known, but the engine may have lost the end of its output."""
    with PrivateEngine(live_restore=True) as engine:
        worker = grid.add_node("steady", "--tags", "steady", environment={"DOCKER_HOST": engine.address})
        ends, goes_on = (grid.submit(*FAILS, requires=["steady"], limits={"time": "300s"}) for _ in range(2))
        for task in (ends, goes_on):
            has_printed(task, "ready")
        before = engine.containers()
        assert len(before) == 2
        engine.stop(signal.SIGKILL)
        may_go_on(worker.directory, ends)
        eventually(lambda: engine.programs() == 1, PATIENCE_SECONDS)
        engine.start()
        eventually(lambda: runs_of(ends) == 2, PATIENCE_SECONDS)
        has_printed(ends, "ready")
        for task in (ends, goes_on):
            may_go_on(worker.directory, task)
            result = task.wait(PATIENCE_SECONDS)
            assert (result.verdict, result.exit_code) == ("exit_code", 6)
            assert "".join(task.logs()) == "ready\nover\n"
        assert [one.verdict for one in tries_of(ends)] == ["engine_restarted", "exit_code"]
        assert runs_of(goes_on) == 1, "nothing was started again"
        eventually(lambda: engine.containers() == [], PATIENCE_SECONDS)
        worker.kill()
