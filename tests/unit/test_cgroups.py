"""Groups of processes, on folders that look like the kernel's: layouts, counters, names, the engine's share."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from observer.cgroups import Group, GroupUsage, Layout, Tree, detect
from observer.cgroups.harness import Harness

HYBRID = """\
31 24 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
MIB = 1 << 20


def mountinfo(folder: Path, text: str) -> Path:
    path = folder / "mountinfo"
    path.write_text(text)
    return path


def unified(folder: Path, *groups: str, controllers: str = "cpuset cpu io memory hugetlb pids") -> Layout:
    """A cgroup v2 tree in which these groups exist (the kernel would fill new folders; nobody does here)."""
    for group in ("", *groups):
        here = folder / group
        here.mkdir(exist_ok=True)
        (here / "cgroup.controllers").write_text(controllers)
        (here / "cgroup.subtree_control").write_text("")
    return Layout(unified=folder)


def test_a_hybrid_machine_counts_by_v1(tmp_path: Path) -> None:
    layout = detect(mountinfo(tmp_path, HYBRID))
    assert layout.version == 1
    assert layout.v1["cpuacct"] == layout.v1["cpu"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert set(layout.v1) == {"cpu", "cpuacct", "memory", "name=systemd"}
    assert layout.unified == Path("/sys/fs/cgroup/unified")
    assert len(layout.roots) == 4
    assert layout.measures == {"cpu", "memory"}


def test_a_unified_machine_counts_by_v2(tmp_path: Path) -> None:
    root = tmp_path / "control groups"
    unified(root, controllers="cpu memory pids")
    escaped = str(root).replace(" ", "\\040")
    layout = detect(mountinfo(tmp_path, f"30 23 0:26 / {escaped} rw,nosuid - cgroup2 cgroup2 rw\n"))
    assert (layout.version, layout.unified) == (2, root)
    assert layout.measures == {"cpu", "memory", "pids"}


def test_a_part_of_a_hierarchy_is_no_hierarchy(tmp_path: Path) -> None:
    layout = detect(mountinfo(tmp_path, "30 23 0:26 /docker/4f2a /sys/fs/cgroup ro - cgroup2 cgroup rw\n"))
    assert (layout.version, layout.measures) == (0, frozenset())
    with pytest.raises(OSError, match="no control groups"):
        Tree(layout)


def test_creating_on_v2_enables_the_controllers_in_one_line_from_the_root_down(tmp_path: Path) -> None:
    layout = unified(tmp_path, "grid", "grid/a1")
    group = Tree(layout).create("a1")
    assert group.parent == "/grid/a1"
    for above in ("", "grid"):
        assert (tmp_path / above / "cgroup.subtree_control").read_text() == "+cpu +cpuset +io +memory +pids"


def test_the_counters_of_v2(tmp_path: Path) -> None:
    group = Tree(unified(tmp_path, "grid", "grid/a1")).open("a1")
    files = {
        "cpu.stat": "usage_usec 719889\nuser_usec 600000\nsystem_usec 119889\nnr_periods 19\n",
        "memory.current": "11169792\n",
        "memory.peak": "13000704\n",
        "memory.events": "low 0\nhigh 0\nmax 211\noom 8\noom_kill 2\noom_group_kill 0\n",
        "pids.current": "2\n",
        "pids.peak": "16\n",
        "pids.events": "max 1\n",
        "io.stat": "254:0 rbytes=2068480 wbytes=8388608 rios=24\n7:3 rbytes=5 wbytes=5\n8:0 rbytes=1 wbytes=2\n",
    }
    for name, text in files.items():
        (tmp_path / "grid/a1" / name).write_text(text)
    usage = group.read()
    assert usage.cpu_seconds == pytest.approx(0.719889)
    assert usage.cpu_user_seconds == pytest.approx(0.6)
    assert usage.cpu_system_seconds == pytest.approx(0.119889)
    assert (usage.memory_bytes, usage.memory_peak_bytes) == (11169792, 13000704)
    assert (usage.pids, usage.pids_peak, usage.pids_refused, usage.oom_kills) == (2, 16, 1, 2)
    assert (usage.io_read_bytes, usage.io_write_bytes) == (2068481, 8388610)


def test_an_older_kernel_keeps_no_peaks_so_the_highest_reading_counts(tmp_path: Path) -> None:
    here = tmp_path / "grid/a1"
    group = Tree(unified(tmp_path, "grid", "grid/a1")).open("a1")
    readings = []
    for memory, pids in ((5, 1), (9, 7), (4, 2)):
        (here / "memory.current").write_text(f"{memory * MIB}\n")
        (here / "pids.current").write_text(f"{pids}\n")
        readings.append(group.read())
    assert [reading.memory_peak_bytes for reading in readings] == [5 * MIB, 9 * MIB, 9 * MIB]
    assert [reading.pids_peak for reading in readings] == [1, 7, 7]
    assert readings[-1].io_read_bytes is None
    assert readings[-1].oom_kills is None


def test_a_group_in_which_nothing_ran_since_the_last_reading_is_quiet(tmp_path: Path) -> None:
    stat = tmp_path / "grid/a1/cpu.stat"
    group = Tree(unified(tmp_path, "grid", "grid/a1")).open("a1")
    assert not group.quiet()  # there is nothing by which to tell
    stat.write_text("usage_usec 0\n")
    assert group.quiet()
    stat.write_text("usage_usec 9\n")
    assert not group.quiet()
    group.read()
    assert group.quiet()


def test_a_group_that_is_gone_reads_as_nothing_and_is_removed_already(tmp_path: Path) -> None:
    group = Tree(unified(tmp_path)).open("never")
    assert group.read().memory_bytes is None
    assert group.empty()
    assert group.remove()


def test_killing_on_v2_is_one_write(tmp_path: Path) -> None:
    kill = tmp_path / "grid/a1/cgroup.kill"
    group = Tree(unified(tmp_path, "grid", "grid/a1")).open("a1")
    kill.write_text("")
    group.kill()
    assert kill.read_text() == "1"


def test_a_systemd_engine_wants_slices(tmp_path: Path) -> None:
    """``a-b.slice`` lies in ``a.slice``, so a dash of a name would be one more level."""
    folder = tmp_path / "grid.slice/grid-node_1.slice/grid-node_1-7f_22.slice"
    folder.mkdir(parents=True)
    (folder / "memory.current").write_text("4096\n")
    tree = Tree(unified(tmp_path), base="grid/node-1", systemd=True)
    group = tree.open("7f-22")
    assert group.parent == "grid-node_1-7f_22.slice"
    assert group.read().memory_bytes == 4096
    assert tree.names() == {"7f_22"}
    assert tree.sweep(keep={"7f-22"}) == set()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 201, "ä"])
def test_a_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    tree = Tree(unified(tmp_path))
    with pytest.raises(ValueError, match="not a name"):
        tree.create(name)


def test_a_sweep_removes_what_nobody_keeps(tmp_path: Path) -> None:
    tree = Tree(unified(tmp_path), base="grid/node1")
    for name in ("node1/kept/leaf", "node1/old/leaf", "node2/other"):
        (tmp_path / "grid" / name).mkdir(parents=True)
    assert tree.names() == {"kept", "old"}
    assert tree.sweep({"kept"}) == {"old"}
    assert tree.names() == {"kept"}
    assert (tmp_path / "grid/node2/other").is_dir()


def two_hierarchies(folder: Path) -> Layout:
    """A cgroup v1 machine with two of its hierarchies."""
    (folder / "memory").mkdir()
    (folder / "pids").mkdir()
    return Layout(v1={"memory": folder / "memory", "pids": folder / "pids"})


def test_empty_bases_of_other_agents_are_removed_and_those_with_a_group_stay(tmp_path: Path) -> None:
    layout = two_hierarchies(tmp_path)
    for base in ("memory/grid/dead", "pids/grid/dead", "memory/grid/alive", "pids/grid/alive/attempt", "pids/grid/own"):
        (tmp_path / base).mkdir(parents=True)
    tree = Tree(layout, base="grid/own")
    assert tree.remove_empty_bases() == {"dead"}
    # Not even in the hierarchy where it is empty: an engine may be about to make a group there as well.
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/grid/*")) == [
        "memory/grid/alive",
        "pids/grid/alive",
        "pids/grid/own",
    ]


def test_an_agent_that_ends_takes_its_empty_base_along(tmp_path: Path) -> None:
    tree = Tree(two_hierarchies(tmp_path), base="grid/own")
    group = tree.create("a1")
    assert not tree.remove_base()
    assert tree.remove(group)
    assert tree.remove_base()
    assert tree.remove_base()
    assert not list(tmp_path.glob("*/grid/*"))


def test_groups_can_be_made_while_others_remove_the_empty_base(tmp_path: Path) -> None:
    layout = two_hierarchies(tmp_path)
    ours, others, over = Tree(layout, base="grid/own"), Tree(layout, base="grid/other"), threading.Event()
    removed: list[str] = []

    def sweep() -> None:
        while not over.is_set():
            removed.extend(others.remove_empty_bases())

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        made = 0
        while made < 200 or not removed:
            assert time.monotonic() < deadline
            group = ours.create(f"a{made}")
            assert ours.names() == {group.name}
            assert ours.remove(group)
            made += 1
    finally:
        over.set()
        thread.join()


# ------------------------------------------------------------------------------------------------ the engine's share
Named = Callable[[str], AbstractContextManager[int]]


@pytest.fixture
def named(tmp_path: Path) -> Named:
    """Starts a process that has the given program name."""

    @contextmanager
    def start(name: str) -> Iterator[int]:
        program = tmp_path / name
        shutil.copy("/bin/sleep", program)
        with subprocess.Popen([program, "60"]) as process:
            deadline = time.monotonic() + 10
            while Path(f"/proc/{process.pid}/comm").read_text() != f"{name[:15]}\n":
                assert time.monotonic() < deadline
            yield process.pid
            process.kill()

    return start


def engine(cpu: float = 0.02, peak: int = 4 * MIB) -> GroupUsage:
    return GroupUsage(cpu, cpu / 2, cpu / 2, memory_bytes=peak, memory_peak_bytes=peak, pids=6, pids_peak=6)


def test_what_the_engine_used_before_the_task_began_is_taken_off(named: Named) -> None:
    harness = Harness()
    assert harness.remove(GroupUsage(), []) == GroupUsage()
    with named("runc:[2:INIT]") as init, named("task") as task:
        assert harness.remove(engine(), [init]) == GroupUsage()
        assert not harness.started
        harness.remove(GroupUsage(0.021, 0.01, 0.011, 3 * MIB, 4 * MIB, 2, 6), [task])
    usage = harness.remove(GroupUsage(1.02, 0.41, 0.61, MIB, 4 * MIB, 3, 6), [])
    assert usage.cpu_seconds == pytest.approx(1.0)
    assert usage.cpu_user_seconds == pytest.approx(0.4)
    assert usage.cpu_system_seconds == pytest.approx(0.6)
    assert (usage.memory_peak_bytes, usage.pids_peak) == (MIB, 3)


def test_a_peak_well_over_the_engines_is_the_tasks(named: Named) -> None:
    harness = Harness()
    with named("runc:[2:INIT]") as init:
        harness.remove(engine(), [init])
    usage = harness.remove(GroupUsage(0.1, 0.1, 0.0, 0, 50 * MIB, 0, 20), [])
    assert (usage.memory_peak_bytes, usage.pids_peak) == (50 * MIB, 20)


@pytest.mark.parametrize("early", [[GroupUsage(0.004, 0.002, 0.002, MIB, MIB, 2, 2)], []])
def test_the_engines_peaks_are_no_tasks_although_nobody_saw_them(named: Named, early: list[GroupUsage]) -> None:
    harness = Harness()
    with named("runc:[2:INIT]") as init:
        for reading in early:
            harness.remove(reading, [init])
    usage = harness.remove(GroupUsage(0.022, 0.01, 0.012, 90_000, 4 * MIB, 0, 6), [])
    assert (usage.memory_peak_bytes, usage.pids_peak) == (90_000, 1)


def test_a_reading_of_the_moment_before_exec_has_the_engines_threads(named: Named) -> None:
    harness = Harness()
    with named("task") as task:
        harness.remove(GroupUsage(0.02, 0.01, 0.01, 4 * MIB, 4 * MIB, 6, 6), [task])
    usage = harness.remove(GroupUsage(0.03, 0.015, 0.015, MIB, 4 * MIB, 2, 6), [])
    assert (usage.memory_peak_bytes, usage.pids_peak) == (MIB, 2)


def test_a_task_that_came_and_went_between_two_readings_has_begun(named: Named) -> None:
    harness = Harness()
    with named("runc:[2:INIT]") as init:
        harness.remove(engine(), [init])
    usage = harness.remove(GroupUsage(0.022, 0.01, 0.012, 90_000, 4 * MIB, 0, 6), [])
    assert harness.started
    assert usage.cpu_seconds == pytest.approx(0.002)
    assert (usage.memory_peak_bytes, usage.pids_peak) == (90_000, 1)


def test_a_process_that_ended_while_we_looked_says_nothing(named: Named) -> None:
    harness = Harness()
    with named("runc:[1:CHILD]") as child:
        pass
    assert harness.remove(engine(), [child]) == GroupUsage()
    assert not harness.started


def test_an_engine_that_has_entered_some_hierarchies_only_is_no_task_that_is_over(named: Named, tmp_path: Path) -> None:
    layout = Layout(v1={name: tmp_path / name for name in ("cpuacct", "freezer", "memory", "pids")})
    for root in layout.roots:
        (root / "a").mkdir(parents=True)
        (root / "a" / "cgroup.procs").write_text("")
    (tmp_path / "cpuacct/a/cpuacct.usage").write_text("20000000")
    group = Group(layout, "a", parent="/a", where="a")
    with named("runc:[2:INIT]") as init:
        (tmp_path / "cpuacct/a/cgroup.procs").write_text(f"{init}\n")
        assert group.read() == GroupUsage()
        assert not group.started


def test_a_copy_of_runc_that_runs_from_memory_is_the_engine() -> None:
    memory = os.memfd_create("runc_cloned:/proc/self/exe")
    os.write(memory, Path("/bin/sleep").read_bytes())
    with subprocess.Popen(["sleep", "60"], executable=f"/proc/self/fd/{memory}", pass_fds=[memory]) as copy:
        harness = Harness()
        assert harness.remove(engine(), [copy.pid]) == GroupUsage()
        assert not harness.started
        copy.kill()
    os.close(memory)


def test_an_emulated_machine_needs_seconds_to_begin_a_task(named: Named) -> None:
    harness = Harness()
    with named("runc:[2:INIT]") as init:
        assert harness.remove(engine(cpu=3), [init]) == GroupUsage()
        harness.begun()
        assert harness.remove(engine(cpu=3.5), [init]) == GroupUsage()
        assert harness.remove(engine(cpu=3.7), [init]) == GroupUsage()
    usage = harness.remove(GroupUsage(3.75, 0, 3.75, 90_000, 4 * MIB, 0, 6), [])
    assert usage.cpu_seconds == pytest.approx(0.05)
    assert usage.pids_peak == 1


def test_a_task_that_has_begun_cannot_hide_long_behind_the_engines_name(named: Named) -> None:
    harness = Harness()
    with named("runc:[2:INIT]") as disguised:
        harness.begun()
        assert harness.remove(engine(cpu=0.02), [disguised]) == GroupUsage()
        assert harness.remove(engine(cpu=0.3), [disguised]).cpu_seconds == pytest.approx(0.28)
    assert harness.started


def test_the_only_reading_of_a_task_has_no_threads_of_the_engine() -> None:
    usage = Harness().remove(GroupUsage(0.022, 0.01, 0.012, 90_000, 4 * MIB, 1, 6), [])
    assert (usage.memory_peak_bytes, usage.pids_peak) == (90_000, 1)


@pytest.mark.parametrize("usage", [engine(cpu=15), engine(peak=100 * MIB)])
def test_a_task_cannot_hide_much_behind_the_engines_name(named: Named, usage: GroupUsage) -> None:
    harness = Harness()
    with named("runc:[2:INIT]") as disguised:
        counted = harness.remove(usage, [disguised])
    assert (counted.cpu_seconds, counted.memory_peak_bytes) == (usage.cpu_seconds, usage.memory_peak_bytes)
    assert harness.started


def test_an_adopted_task_is_counted_from_the_first_reading(tmp_path: Path) -> None:
    (tmp_path / "grid").mkdir()
    group = Group(Layout(unified=tmp_path), "a", parent="/grid/a", where="grid/a", adopted=True)
    assert group.started
