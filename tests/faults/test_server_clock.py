"""The server's clock is set by two hours: leases granted by the old time are granted again by the new one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clocks import Clock
from tests.support.grids import RunningGrid, Worker
from tests.support.node_api import eventually
from tests.support.story import (
    PATIENCE_SECONDS,
    a_waiting_task,
    ended_once,
    may_go_on,
    nothing_is_left,
    runs_on,
    tries_of,
)

pytestmark = pytest.mark.needs("docker", "busybox", "root", "faketime")

HOURS = 2 * 3600
JUMPS = {"ahead": HOURS, "behind": -HOURS}
# No lease may end for want of the processor here, and this is a story of hours, not of seconds.
LEASE_SECONDS = 6


@pytest.fixture(scope="module")
def server_clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    """The clock of the grid's own programs; its nodes have others."""
    return Clock(tmp_path_factory.mktemp("clock") / "server")


@pytest.fixture(scope="module")
def node(grid: RunningGrid) -> Worker:
    """A node whose clock is right."""
    return grid.add_node("steady", "--tags", "steady")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, server_clock: Clock) -> Iterator[RunningGrid]:
    """A grid whose own programs have that clock."""
    folder = tmp_path_factory.mktemp("grid")
    with RunningGrid(folder, node=False, lease_seconds=LEASE_SECONDS, environment=server_clock.environment) as running:
        yield running


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
def test_the_clock_of_the_server_jumps_while_a_task_runs(
    grid: RunningGrid, server_clock: Clock, node: Worker, seconds: int
) -> None:
    """No lease ends by it, and none lasts for hours: the task goes on, and a node that dies is missed as ever."""
    goes_on, is_lost = (a_waiting_task(grid, "steady") for _ in range(2))
    server_clock.jump(seconds)
    eventually(lambda: grid.node_is("steady", online=True, ready=False), PATIENCE_SECONDS)
    assert "its clock is " in grid.client.node("steady").not_ready_reason
    may_go_on(node.directory, goes_on)
    ended_once(goes_on, runs=1)
    node.kill()
    eventually(lambda: is_lost.refresh().state == "queued", PATIENCE_SECONDS)
    assert [one.verdict for one in tries_of(is_lost)] == ["node_lost"]

    server_clock.jump(0)
    node.start()
    runs_on(is_lost, "steady")
    may_go_on(node.directory, is_lost)
    ended_once(is_lost, runs=2)
    nothing_is_left(grid, node)
