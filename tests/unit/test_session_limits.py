"""What a judge forbids its programs, told apart from what a task may not do (cgroup v2, and v1 where it differs)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from observer.cgroups.leaves import logged
from observer.cgroups.membership import LEAF, group_name
from observer.cgroups.readers import V1Reader, V2Reader

SESSION = group_name("0" * 8, "a" * 32)
MIB = 1 << 20


class Groups:
    """The group of an attempt, with files as the kernel writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("", oom=0, kills=0, own=0)
        self.reader = V2Reader(folder)

    def write(self, name: str, *, oom: int, kills: int, own: int, limit: str = "max") -> None:
        """A group's counts: limits met and processes killed there and below, and limits of its own that were met."""
        where = self.folder / name
        where.mkdir(parents=True, exist_ok=True)
        (where / "memory.events").write_text(f"max 9\noom {oom}\noom_kill {kills}\n")
        (where / "memory.events.local").write_text(f"max 9\noom {own}\noom_kill 0\n")
        (where / "memory.max").write_text(f"{limit}\n")
        (where / "memory.peak").write_text(f"{64 * MIB}\n")

    def refuse(self, name: str, *, refused: int, own: int) -> None:
        """A group's refused forks, as Linux 6.11 and later count them."""
        (self.folder / name / "pids.events").write_text(f"max {refused}\n")
        (self.folder / name / "pids.events.local").write_text(f"max {own}\n")

    def end(self, name: str) -> None:
        """A group is removed."""
        for path in (self.folder / name).iterdir():
            path.unlink()
        (self.folder / name).rmdir()

    @property
    def kills(self) -> int | None:
        """What is told of the task."""
        return self.reader.read().oom_kills


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path / "a1")


def test_a_kill_for_the_limit_of_a_session_is_not_the_tasks(groups: Groups) -> None:
    session = f"c1/{SESSION}"
    groups.write(f"c1/{LEAF}", oom=0, kills=0, own=0)
    groups.write("c1", oom=0, kills=0, own=0, limit=str(256 * MIB))
    groups.write(session, oom=0, kills=0, own=0, limit=str(24 * MIB))
    assert groups.kills == 0
    groups.write(session, oom=3, kills=1, own=3)
    groups.write("c1", oom=3, kills=1, own=0)
    groups.write("", oom=3, kills=1, own=0)
    assert groups.kills == 0
    assert V2Reader(groups.folder / session).read().oom_kills == 1


def test_it_stays_the_sessions_when_session_and_container_are_gone(groups: Groups) -> None:
    groups.write("c1", oom=0, kills=0, own=0, limit=str(256 * MIB))
    groups.write(f"c1/{SESSION}", oom=0, kills=0, own=0)
    assert groups.kills == 0
    groups.end(f"c1/{SESSION}")
    groups.end("c1")
    groups.write("", oom=1, kills=1, own=0)
    assert groups.kills == 0


def test_a_kill_in_a_session_for_the_limit_of_the_container_is_the_tasks(groups: Groups) -> None:
    groups.write(f"c1/{SESSION}", oom=0, kills=1, own=0)
    groups.write("c1", oom=1, kills=1, own=1)
    groups.write("", oom=1, kills=1, own=0)
    assert groups.kills == 1


def test_of_both_kinds_the_task_has_its_share(groups: Groups) -> None:
    groups.write(f"c1/{SESSION}", oom=2, kills=3, own=2)
    groups.write("c1", oom=5, kills=3, own=3)
    groups.write("", oom=5, kills=3, own=0)
    assert groups.kills == 1
    # Several processes wanted memory when one was killed: that there was one for the container's limit is still sure.
    groups.write(f"c1/{SESSION}", oom=7, kills=2, own=7)
    groups.write("c1", oom=8, kills=2, own=1)
    groups.write("", oom=8, kills=2, own=0)
    assert groups.kills == 1


def test_a_kill_for_the_limit_of_the_group_itself_is_the_tasks(groups: Groups) -> None:
    groups.write(f"c1/{SESSION}", oom=0, kills=0, own=0)
    groups.write("", oom=1, kills=1, own=1)
    assert groups.kills == 1


def test_a_kill_for_want_of_the_machines_memory_is_not_hidden_by_a_session(groups: Groups) -> None:
    groups.write(f"c1/{SESSION}", oom=0, kills=1, own=0)
    groups.write("", oom=0, kills=1, own=0)
    assert groups.kills == 1


def test_without_sessions_every_kill_counts(groups: Groups) -> None:
    groups.write("c1", oom=8, kills=2, own=8)
    groups.write("", oom=8, kills=2, own=0)
    assert groups.kills == 2
    groups.end("c1")
    assert groups.kills == 2
    (groups.folder / "memory.events.local").unlink()
    assert V2Reader(groups.folder).read().oom_kills == 2


def test_forks_refused_for_the_limit_of_a_session_are_not_the_tasks(groups: Groups) -> None:
    groups.write(f"c1/{SESSION}", oom=0, kills=0, own=0)
    groups.refuse(f"c1/{SESSION}", refused=7, own=7)
    groups.refuse("c1", refused=7, own=0)
    groups.refuse("", refused=7, own=0)
    assert groups.reader.read().pids_refused == 0
    groups.refuse("c1", refused=9, own=2)
    groups.refuse("", refused=9, own=0)
    assert groups.reader.read().pids_refused == 2


def test_a_session_that_went_at_its_limit_is_not_looked_for_in_the_kernels_log_on_v1(tmp_path: Path) -> None:
    session = tmp_path / "c1" / SESSION
    session.mkdir(parents=True)
    (session / "memory.oom_control").write_text("oom_kill 0\n")
    (session / "memory.limit_in_bytes").write_text("4096\n")
    (session / "memory.max_usage_in_bytes").write_text("0\n")
    for name in ("usage", "max_usage"):
        (tmp_path / f"memory.{name}_in_bytes").write_text("4096\n")
    reader = V1Reader({"memory": tmp_path})
    assert reader.read().oom_kills == 0
    for path in session.iterdir():
        path.unlink()
    session.rmdir()
    assert reader.read().oom_kills == 0


@pytest.mark.needs("root")
def test_the_kernels_log_is_searched_for_a_group_and_not_for_those_below_it() -> None:
    word = f"grid-test-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        log = os.open("/dev/kmsg", os.O_WRONLY)
    except OSError:
        pytest.skip("the kernel's log cannot be written here")
    try:
        os.write(log, f"6,{word}: oom_memcg=/a/{word}/b,task_memcg=/a/{word}/b,task=x\n".encode())
        assert not logged(f"{word}:", word)
        os.write(log, f"6,{word}: oom_memcg=/a/{word},task_memcg=/a/{word}/b,task=x\n".encode())
        assert logged(f"{word}:", word)
    finally:
        os.close(log)
