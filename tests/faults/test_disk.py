"""A node has no room left on its disk: it says so, takes nothing, its tasks go elsewhere; with room it comes back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from grid import Task
from tests.support.commands import WAITS, command
from tests.support.grids import RunningGrid, Worker
from tests.support.node_api import eventually
from tests.support.story import PATIENCE_SECONDS, ended_once, has_printed, may_go_on, nothing_is_left, runs_on, tries_of

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(240)]

RESULT_BYTES = 300_000
PLENTY = {"size": "1500m", "nr_inodes": "20000"}
SHORT = {"size": "are free on the disk of", "nr_inodes": "more files fit on the disk of"}
"""What the node says of its disk."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of its own for a node, with nothing on it."""
    place = tmp_path_factory.mktemp("disk")
    options = ",".join(f"{name}={value}" for name, value in PLENTY.items())
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def nodes(grid: RunningGrid, disk: Path) -> list[Worker]:
    """A node on the small disk, and one that may help it."""
    return [
        grid.add_node("small", "--tags", "disk", directory=disk / "node"),
        grid.add_node("roomy", "--tags", "disk"),
    ]


@contextmanager
def full(disk: Path, what: str) -> Iterator[None]:
    """While this lasts there is no room for anything new on the disk, or for no new file."""

    def shrunk() -> bool:
        found = os.statvfs(disk)
        used = {"size": (found.f_blocks - found.f_bfree) * found.f_frsize, "nr_inodes": found.f_files - found.f_ffree}
        # It fails when the node has just written something, and is done once more.
        return remounted(disk, what, str(used[what]))

    eventually(shrunk, 10)
    try:
        yield
    finally:
        assert remounted(disk, what, PLENTY[what])


def remounted(disk: Path, what: str, value: str) -> bool:
    """Change a bound of the disk."""
    done = subprocess.run(["mount", "-o", f"remount,{what}={value}", str(disk)], stderr=subprocess.PIPE, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("what", PLENTY)
def test_a_node_without_room_says_so_and_its_task_goes_elsewhere(
    grid: RunningGrid, nodes: list[Worker], disk: Path, what: str
) -> None:
    small, roomy = nodes
    grid.client.cordon("roomy")
    # The disk is full before the result is copied out of the task's own folder.
    task = a_task(grid)
    with full(disk, what):
        may_go_on(small.directory, task)
        eventually(lambda: grid.node_is("small", online=True, ready=False), PATIENCE_SECONDS)
        assert SHORT[what] in grid.client.node("small").not_ready_reason
        [line] = [line for line in command(grid, "nodes").out.splitlines() if line.startswith("small\t")]
        assert SHORT[what] in line
        grid.client.resume("roomy")
        runs_on(task, "roomy")
        may_go_on(roomy.directory, task)
        ended_once(task, 2)
        first, _ = tries_of(task)
        assert (first.verdict, first.verdict_class, first.node) == ("node_disk", "infrastructure", "small")
        assert first.reason.startswith("the node's disk is full: cannot ")
        assert task.result().files["result"].size == RESULT_BYTES
        nothing_is_left(grid, small)
        # Nothing new comes here.
        assert [one.node for one in tries_of(a_quick_task(grid))] == ["roomy"]
    eventually(lambda: grid.node_is("small", ready=True), PATIENCE_SECONDS)
    grid.client.cordon("roomy")
    assert [one.node for one in tries_of(a_quick_task(grid))] == ["small"]


def a_task(grid: RunningGrid) -> Task:
    """A task that has made its result, and waits to be let go."""
    script = f"head -c {RESULT_BYTES} /dev/urandom > result; {WAITS[-1]}"
    task = grid.submit("sh", "-c", script, requires=["disk"], collect=[{"glob": "result"}])
    has_printed(task, "ready")
    return task


def a_quick_task(grid: RunningGrid) -> Task:
    """A task that has succeeded."""
    task = grid.submit("true", requires=["disk"])
    ended_once(task, 1)
    return task
