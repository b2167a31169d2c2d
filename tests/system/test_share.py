"""A node at which people work: what they use is told, and a task that does not fit beside them waits and says why."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.grids import RunningGrid
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

BURNS = "while True: pass"


def test_a_busy_workstation_keeps_what_its_people_use(grid: RunningGrid) -> None:
    desk = None
    burners = [subprocess.Popen([sys.executable, "-c", BURNS]) for _ in range(2)]
    try:
        desk = grid.add_node("desk", "--tags", "desk", "--share", "spare", "--on-stop", "return")
        # Where the tests run, others are at work as well; the burners alone would do.
        eventually(lambda: grid.client.node("desk").cpus_others >= 1, 120)
        whole = grid.client.node("desk").cpus
        task = grid.submit("true", requires=["desk"], limits={"cpus": whole})
        told = {one.node: one for one in task.explain().nodes}["desk"]
        assert told.fits_ever
        assert not told.fits_now
        assert any("in use by others" in reason for reason in told.reasons)
        task.cancel()
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
        if desk is not None:
            desk.kill()
