"""What other processes use of a real machine is told apart from what the node's own containers use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodes.foreign import ForeignLoad, Machine, Steadies, process_seconds, total_memory
from observer.cgroups import Tree, detect
from tasks.order import Capacity
from tests.support.jobs import NODE
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("root")

HELD_BYTES = 50_000_000
BURNS = f"""
input()
held = b"x" * {HELD_BYTES}
while True:
    pass
"""


@contextmanager
def burner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds memory and never rests, once it is told to begin."""
    process = subprocess.Popen([sys.executable, "-c", BURNS], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def begin(process: subprocess.Popen[bytes]) -> None:
    """Let the burner go."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()


def used(pid: int) -> float:
    """The processor seconds of a process."""
    return process_seconds(Path(f"/proc/{pid}/stat").read_text())[1]


def test_a_foreign_process_lowers_what_the_node_has_to_give() -> None:
    cores = os.sched_getaffinity(0)
    machine = Machine(detect(), lambda: None, cores, time.monotonic)
    load = ForeignLoad(machine, len(cores), total_memory(), Steadies(smooth_seconds=0.5, calm_seconds=0))
    offered = Capacity(cpus=len(cores), memory=int(total_memory() * 0.9))
    with burner() as process:
        begin(process)
        eventually(lambda: load(offered).cpus >= 0.5)
        assert load(offered).cpus <= len(cores)


def test_the_same_process_in_a_group_of_ours_does_not() -> None:
    """Two looks at one machine at the same moments: only for the first is the burner in a group of the node's."""
    layout, cores = detect(), os.sched_getaffinity(0)
    tree = Tree(layout, base=f"grid/{NODE}-foreign")
    group = tree.create("burns")
    ours = Machine(layout, lambda: tree.base, cores, time.monotonic)
    theirs = Machine(layout, lambda: None, cores, time.monotonic)
    try:
        with burner() as process:
            pid = process.pid
            for root in layout.roots:
                procs = root / tree.base / "burns" / "cgroup.procs"
                if procs.exists():
                    procs.write_text(str(pid))
            begin(process)
            before, began = (ours(), theirs()), used(pid)
            eventually(lambda: used(pid) - began > 1.0)
            after, seconds = (ours(), theirs()), used(pid) - began
            with_it = after[1].foreign_since(before[1])[0] * (after[1].at - before[1].at)
            without = after[0].foreign_since(before[0])[0] * (after[0].at - before[0].at)
            assert with_it - without == pytest.approx(seconds, abs=0.5)
            assert after[0].own_memory >= HELD_BYTES
            assert after[1].own_memory == 0
    finally:
        group.kill()
        eventually(lambda: tree.remove(group))
        tree.remove_base()
