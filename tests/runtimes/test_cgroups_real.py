"""Groups of processes on the kernel and the engine of this machine (cgroup v1, v2 or hybrid)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from observer.cgroups import Group, GroupUsage, Tree, detect
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "docker", "busybox")
MIB = 1 << 20


@pytest.fixture
def tree() -> Iterator[Tree]:
    tree = Tree(detect(), base=f"grid-test-{uuid4().hex[:8]}", systemd=_driver() == "systemd")
    yield tree
    _until(lambda: _swept(tree, keep=set()))
    tree.remove_base()


def _swept(tree: Tree, keep: set[str]) -> bool:
    tree.sweep(keep)
    return tree.names() == keep


def _driver() -> str:
    command = ["docker", "info", "--format", "{{.CgroupDriver}}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds * PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def _start(group: Group, *command: str) -> subprocess.Popen[bytes]:
    limits = ["--memory", "32m", "--memory-swap", "32m", "--pids-limit", "16", "--network", "none", "--init"]
    return subprocess.Popen(
        ["docker", "run", "--rm", "--cgroup-parent", group.parent, *limits, "busybox:local", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _run(group: Group, *command: str) -> tuple[int, GroupUsage]:
    """Run a container, reading as a node does; answers its exit status and the last reading."""
    with _start(group, *command) as process:
        while process.poll() is None:
            group.read()
            time.sleep(0.1 if group.started else 0.005)
        return process.returncode, group.read()


def test_the_usage_of_uname_is_its_own_and_not_the_engines(tree: Tree) -> None:
    group = tree.create("uname")
    status, usage = _run(group, "uname")
    assert status == 0
    assert 0 < usage.cpu_seconds < 0.015 * PATIENCE
    assert usage.memory_peak_bytes is not None
    assert usage.memory_peak_bytes < 6 * MIB
    assert usage.pids_peak in (1, 2)
    assert group.empty()
    assert group.remove()
    assert group.remove()
    assert tree.names() == set()


def test_the_counters_outlive_the_container(tree: Tree) -> None:
    count = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
    busy = f"{count}; (sleep 1 & sleep 1 & sleep 1 & wait); head -c 20000000 /dev/zero | tail"
    _, usage = _run(tree.create("busy"), "sh", "-c", busy)
    assert 0.1 < usage.cpu_seconds < 5 * PATIENCE
    assert usage.cpu_user_seconds + usage.cpu_system_seconds == pytest.approx(usage.cpu_seconds)
    assert usage.memory_peak_bytes is not None
    assert 18 * MIB < usage.memory_peak_bytes <= 33 * MIB
    assert usage.pids_peak is not None
    assert 5 <= usage.pids_peak <= 7
    assert (usage.oom_kills, usage.pids_refused, usage.pids) == (0, 0, 0)


def test_a_child_killed_for_want_of_memory_is_counted_though_the_program_ends_well(tree: Tree) -> None:
    status, usage = _run(tree.create("oom"), "sh", "-c", "tail /dev/zero; sleep 0.3; true")
    assert status == 0
    assert usage.oom_kills == 1
    assert usage.memory_peak_bytes is not None
    assert usage.memory_peak_bytes >= 31 * MIB


def test_a_program_killed_for_want_of_memory_takes_its_counters_along_but_is_known(tree: Tree) -> None:
    status, usage = _run(tree.create("main"), "tail", "/dev/zero")
    assert status == 137
    assert usage.oom_kills == 1


def test_a_refused_fork_is_known_even_when_the_container_ends_at_once(tree: Tree) -> None:
    status, usage = _run(tree.create("forks"), "sh", "-c", "for i in $(seq 30); do sleep 5 & done")
    assert status == 2
    assert usage.pids_refused is not None
    assert usage.pids_refused >= 1
    assert usage.pids_peak == 16


def test_killing_ends_programs_that_fork_for_ever(tree: Tree) -> None:
    group = tree.create("bomb")
    with _start(group, "sh", "-c", "trap '' TERM INT; while :; do (sleep 0.01; sleep 0.01) & wait; done") as process:
        _until(lambda: group.read().cpu_seconds > 0 and group.started)
        group.kill()
        assert process.wait(timeout=10 * PATIENCE) != 0
    _until(group.empty)
    _until(group.remove)


def test_killing_reaches_a_paused_container(tree: Tree) -> None:
    group = tree.create("paused")
    with _start(group, "sleep", "60") as process:
        _until(lambda: group.read().cpu_seconds > 0 and group.started)
        _freeze_leaves(tree, group)
        group.kill()
        assert process.wait(timeout=10 * PATIENCE) != 0


def _freeze_leaves(tree: Tree, group: Group) -> None:
    """What ``docker pause`` does, without having to know the container's name."""
    where = group.parent.lstrip("/")
    v1 = tree.layout.v1.get("freezer")
    for leaf in (v1 or tree.layout.roots[0]).glob(f"**/{where}/*/"):
        (leaf / ("freezer.state" if v1 else "cgroup.freeze")).write_text("FROZEN" if v1 else "1")


def test_a_sweep_ends_and_removes_what_a_dead_agent_left(tree: Tree) -> None:
    kept, left = tree.create("kept"), tree.create("left")
    with _start(left, "sleep", "60") as process:
        _until(lambda: left.read().cpu_seconds > 0 and left.started)
        _until(lambda: _swept(tree, keep={"kept"}))
        assert process.wait(timeout=10 * PATIENCE) != 0
    assert kept.remove()


def test_an_agent_that_comes_back_finds_the_group_again(tree: Tree) -> None:
    _run(tree.create("again"), "uname")
    again = tree.open("again")
    assert again.started
    assert 0.001 < again.read().cpu_seconds < 0.5 * PATIENCE
    assert again.remove()
