"""What is known of processes that the kernel killed for want of memory when their group is gone at once (cgroup v1)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from observer.cgroups import detect
from observer.cgroups.membership import group_name
from observer.cgroups.readers import V1Reader
from tests.support.patience import PATIENCE

MEMORY = detect().v1.get("memory")
pytestmark = [
    pytest.mark.needs("root"),
    pytest.mark.skipif(MEMORY is None, reason="the counters of cgroup v2 stay when a group goes"),
]
MIB = 1 << 20
LIMIT_BYTES = 8 * MIB
HUNGRY = f"x = bytearray({4 * LIMIT_BYTES})"
# More than the kernel's log takes in one go (10 in 5 s).
MANY = 25


@pytest.fixture
def above() -> Iterator[Path]:
    """The group of an attempt."""
    assert MEMORY is not None
    folder = MEMORY / f"grid-test-{uuid4().hex[:8]}"
    folder.mkdir()
    (folder / "memory.use_hierarchy").write_text("1")
    yield folder
    _remove(folder)


def test_a_full_group_in_which_nobody_was_killed_is_not_taken_for_another(above: Path, tmp_path: Path) -> None:
    leaf = _leaf(above / uuid4().hex)
    reader = V1Reader({"memory": above})
    reader.read()
    file = tmp_path / "large"
    file.write_bytes(bytes(2 * LIMIT_BYTES))
    # Only pages that somebody reads anew count for the reader's group.
    subprocess.run(["dd", f"of={file}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0"], check=True)
    assert _run_in(leaf, f"f = open({str(file)!r}, 'rb')\nwhile f.read(1 << 16): pass") == 0
    _remove(leaf)
    usage = reader.read()
    reader.close()
    assert usage.memory_peak_bytes is not None
    assert usage.memory_peak_bytes >= LIMIT_BYTES * 0.95
    assert usage.oom_kills == 0


def test_one_killed_in_a_session_for_the_limit_around_it_is_one_and_not_two(above: Path) -> None:
    container = _leaf(above / uuid4().hex)
    session = container / group_name("0" * 8, uuid4().hex)
    session.mkdir()
    reader = V1Reader({"memory": above})
    assert reader.read().oom_kills == 0
    assert _run_in(session, HUNGRY) == -9
    assert reader.read().oom_kills == 1
    _remove(container)
    assert reader.read().oom_kills == 1
    reader.close()


def test_one_killed_for_the_limit_of_a_session_is_none(above: Path) -> None:
    container = _leaf(above / uuid4().hex, room=4 * LIMIT_BYTES)
    session = _leaf(container / group_name("0" * 8, uuid4().hex))
    reader = V1Reader({"memory": above})
    assert reader.read().oom_kills == 0
    assert _run_in(session, HUNGRY) == -9
    assert reader.read().oom_kills == 0
    _remove(container)
    assert reader.read().oom_kills == 0
    reader.close()


def test_of_many_killed_at_once_each_is_known_though_the_log_is_not_told_of_all(above: Path) -> None:
    counted = []
    for number in range(MANY):
        attempt = above / f"a{number}"
        leaf = _leaf(attempt / uuid4().hex)
        reader = V1Reader({"memory": attempt})
        assert reader.read().oom_kills == 0
        assert _run_in(leaf, HUNGRY) == -9
        _remove(leaf)
        counted.append(reader.read().oom_kills)
        reader.close()
        _remove(attempt)
    assert counted == [1] * MANY


def _leaf(folder: Path, *, room: int = LIMIT_BYTES) -> Path:
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(str(room))
    return folder


def _run_in(group: Path, code: str) -> int:
    enter = f"open('{group}/cgroup.procs', 'w').write('0')\n"
    return subprocess.run([sys.executable, "-S", "-c", enter + code], check=False).returncode


def _remove(folder: Path) -> None:
    """Remove a group and all below it, as soon as the kernel is through with those who were in it."""
    deadline = time.monotonic() + 10 * PATIENCE
    for each in (*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder):
        while True:
            try:
                each.rmdir()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.001)
