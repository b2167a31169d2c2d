"""Clocks that are two hours wrong: leases are the server's business, and nodes count by clocks that nobody can set."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.clocks import Clock
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.story import PATIENCE_SECONDS, a_waiting_task, ended_once, may_go_on, nothing_is_left

pytestmark = pytest.mark.needs("docker", "busybox", "root", "faketime")

HOURS = 2 * 3600
JUMPS = {"ahead of": HOURS, "behind": -HOURS}


@pytest.fixture(scope="module")
def grid_options() -> Mapping[str, object]:
    return {"node": False}


@pytest.mark.parametrize("where", JUMPS)
def test_the_clock_of_a_node_jumps_while_a_task_runs(grid: RunningGrid, tmp_path: Path, where: str) -> None:
    """What runs does not notice. Nothing new is sent there until the clock is right again, and all can see why."""
    name = where.partition(" ")[0]
    clock = Clock(tmp_path / "clock")
    node = grid.add_node(name, "--tags", name, environment=clock.environment)
    running = a_waiting_task(grid, name)

    clock.jump(JUMPS[where])
    eventually(lambda: grid.node_is(name, online=True, ready=False), PATIENCE_SECONDS)
    reason = grid.client.node(name).not_ready_reason
    assert re.fullmatch(f"its clock is (2h|1h 59min) {where} the server's", reason)
    later = grid.submit("true", requires=[name])
    assert f"is not ready: {reason}" in {one for node in later.explain().nodes for one in node.reasons}
    may_go_on(node.directory, running)
    ended_once(running, runs=1)
    assert later.refresh().state == "queued"

    clock.jump(0)
    ended_once(later, runs=1)
    nothing_is_left(grid, node)
    node.kill(signal.SIGTERM)
