"""Clocks that are two hours wrong: leases are the server's business, and nodes count by clocks that nobody can set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.clocks import Clock
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.story import PATIENCE_SECONDS, a_waiting_task, ended_once, may_go_on, nothing_is_left

pytestmark = pytest.mark.needs("docker", "busybox", "root", "faketime")

HOURS = 2 * 3600
JUMPS = {"ahead": HOURS, "behind": -HOURS}


def test_the_clocks_of_nodes_jump_while_tasks_run(grid: RunningGrid, tmp_path: Path) -> None:
    """What runs does not notice. Nothing new is sent there until the clock is right again, and all can see why."""
    clocks = {name: Clock(tmp_path / name) for name in JUMPS}
    nodes = {name: grid.add_node(name, "--tags", name, environment=clocks[name].environment) for name in JUMPS}
    running = {name: a_waiting_task(grid, name) for name in JUMPS}

    for name, seconds in JUMPS.items():
        clocks[name].jump(seconds)
    eventually(lambda: all(grid.node_is(name, online=True, ready=False) for name in JUMPS), PATIENCE_SECONDS)
    later = {name: grid.submit("true", requires=[name]) for name in JUMPS}
    for name in JUMPS:
        reason = grid.client.node(name).not_ready_reason
        assert re.fullmatch(rf"its clock is (2h|1h 59min) {name}( of)? the server's", reason)
        assert f"is not ready: {reason}" in {one for node in later[name].explain().nodes for one in node.reasons}
        may_go_on(nodes[name].directory, running[name])
        ended_once(running[name], runs=1)
        assert later[name].refresh().state == "queued"

    for name, clock in clocks.items():
        clock.jump(0)
        ended_once(later[name], runs=1)
        nothing_is_left(grid, nodes[name])
