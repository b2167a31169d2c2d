"""Programs that do not want to end: they are gone soon, with all that they have left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from grid import Task
from nodes.runtimes.docker.watch import GRACE_SECONDS
from tests.support.grids import RunningGrid
from tests.support.images import TEST_IMAGE
from tests.support.node_api import eventually
from tests.support.story import PATIENCE_SECONDS, a_running_task, nothing_is_left

pytestmark = pytest.mark.needs("docker", "gcc", "root")

GONE_SECONDS = GRACE_SECONDS + 2.0
# A machine with other work to do takes longer for all of it.
BUSY_SECONDS = 5.0
GROUPS = Path("/sys/fs/cgroup")
DEPTH = 4
# Each process leaves its parent for a session of its own, and none of them listens. The last one says that it is there.
LEAVE = """
trap '' TERM INT HUP
if [ "$1" -gt 0 ]; then
    setsid sh leave.sh $(($1 - 1)) &
else
    touch deep
    echo ready
fi
while :; do sleep 1; done
"""
PROGRAMS = {
    "stubborn": (("stubborn",), {}),
    "leaving": (("sh", "leave.sh", str(DEPTH)), {"leave.sh": LEAVE}),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_cancelled_program_that_does_not_listen(grid: RunningGrid, name: str) -> None:
    task, processes = a_deaf_task(grid, name)
    begun = time.monotonic()
    task.cancel("enough")
    gone_soon(processes, begun)
    assert task.wait(30).verdict == "cancelled"
    nothing_is_left_of(grid, task)


def test_a_program_that_does_not_care_for_its_time(grid: RunningGrid) -> None:
    task, processes = a_deaf_task(grid, "leaving", limits={"time": "3s"})
    oldest = min(processes.values())
    eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > oldest + 3, PATIENCE_SECONDS)
    gone_soon(processes, time.monotonic())
    assert task.wait(30).verdict == "time_limit"
    nothing_is_left_of(grid, task)


def test_a_program_that_ends_and_leaves_others_behind(grid: RunningGrid) -> None:
    ends = f"sh leave.sh {DEPTH} & while [ ! -e go ]; do sleep 0.05; done; echo over"
    task = a_running_task(grid, "sh", "-c", ends, files={"leave.sh": LEAVE}, image=TEST_IMAGE)
    processes = processes_of(task)
    assert len(sessions(processes)) > DEPTH
    begun = time.monotonic()
    (grid.directory / "node" / "workspaces" / task.refresh().view.attempt / "task" / "go").touch()
    gone_soon(processes, begun)
    assert task.wait(30).verdict == "succeeded"
    nothing_is_left_of(grid, task)


def test_a_program_that_was_frozen_when_its_agent_was_killed(grid: RunningGrid) -> None:
    """Groups are frozen for a moment while they are ended; an agent that is killed just then cannot thaw them."""
    node = grid.add_node("frozen", "--tags", "frozen")
    task = a_running_task(grid, "stubborn", image=TEST_IMAGE, requires=["frozen"])
    processes = processes_of(task)
    # Not the first one where the node was too slow to take that up.
    ran = task.refresh().view.attempt
    node.kill()
    freeze(task)
    eventually(lambda: [one.verdict for one in task.attempts() if one.id == ran] == ["node_lost"], PATIENCE_SECONDS)
    node.start()
    eventually(lambda: all(started_at(pid) != at for pid, at in processes.items()), PATIENCE_SECONDS)
    eventually(lambda: task.refresh().view.attempt not in ("", ran), PATIENCE_SECONDS)
    task.cancel("it has to be run no more")
    assert task.wait(30).verdict == "cancelled"
    nothing_is_left(grid, node)


# --------------------------------------------------------------------------------------------------------------- parts
def freeze(task: Task) -> None:
    """Freeze the group of the task's attempt, and wait until it is."""
    folders = [group for group in groups_of(task) if task.view.attempt in group.name]
    old = [folder / "freezer.state" for folder in folders if (folder / "freezer.state").exists()]
    new = [folder / "cgroup.freeze" for folder in folders if (folder / "cgroup.freeze").exists()]
    if old:  # the first generation of control groups has a hierarchy for it
        old[0].write_text("FROZEN")
        eventually(lambda: old[0].read_text() == "FROZEN\n", PATIENCE_SECONDS)
    else:
        new[0].write_text("1")
        eventually(lambda: "frozen 1" in new[0].with_name("cgroup.events").read_text(), PATIENCE_SECONDS)


def a_deaf_task(grid: RunningGrid, name: str, **spec: object) -> tuple[Task, dict[int, float]]:
    """A task of several sessions that do not listen to SIGTERM, and its processes with the times of their starts."""
    arguments, files = PROGRAMS[name]
    task = a_running_task(grid, *arguments, files=files, image=TEST_IMAGE, **spec)
    processes = processes_of(task)
    assert len(sessions(processes)) >= 2
    assert sum(map(is_deaf, processes)) >= 2
    return task, processes


def groups_of(task: Task) -> list[Path]:
    """The control groups of the task's attempt, and those below them."""
    attempt = task.refresh().view.attempt or task.attempts()[-1].id
    return [Path(folder) for folder, _, _ in os.walk(GROUPS) if attempt in folder]


def processes_of(task: Task) -> dict[int, float]:
    """The lasting processes in the task's control groups, as this machine knows them, and their starts after its boot.

    What they start for a moment (``sleep 1``) is left out.
    """
    pids = {int(line) for group in groups_of(task) for line in (group / "cgroup.procs").read_text().split()}
    lasting = (pid for pid in pids if command(pid) not in ("", "sleep"))
    return {pid: started for pid in lasting if (started := started_at(pid)) is not None}


def command(pid: int) -> str:
    """The name of the process's program, empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def started_at(pid: int) -> float | None:
    """When the process started, in seconds after the boot; None when there is none, or nothing is left but its name."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")


def sessions(processes: Iterable[int]) -> set[int]:
    """The sessions to which the processes belong."""
    return {os.getsid(pid) for pid in processes}


def is_deaf(pid: int) -> bool:
    """Whether the process ignores SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored, 16) & 1 << (signal.SIGTERM - 1))


def gone_soon(processes: dict[int, float], begun: float) -> None:
    """Wait until none of the processes is there, which takes no longer than the promise says."""
    eventually(lambda: all(started_at(pid) != at for pid, at in processes.items()), PATIENCE_SECONDS)
    assert time.monotonic() - begun < GONE_SECONDS + BUSY_SECONDS


def nothing_is_left_of(grid: RunningGrid, task: Task) -> None:
    """Wait until neither the node nor the kernel knows of the task any more."""
    nothing_is_left(grid)
    eventually(lambda: groups_of(task) == [], PATIENCE_SECONDS)
