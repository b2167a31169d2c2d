"""Verdicts about limits, each met for real through the whole grid.

The tasks of all tests are submitted at once, so that they run side by side; each test then looks at its own.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from grid import Result, Task
from tests.support.grids import RunningGrid
from tests.support.images import TEST_IMAGE, ensure_test_image

pytestmark = pytest.mark.needs("docker", "gcc", "root")

MIB = 1024**2
FILLS = "dd if=/dev/zero of=big bs=64k count=200; echo $?"
BURNERS = ("cpu time", "cpu time again")
STUBBORN = ("ignores SIGTERM", "so does this", "and this")
PROGRAMS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "time": (
        ("sh", "-c", "echo early; echo kept > part; sleep 60; echo late"),
        {"limits": {"time": "1s"}, "stdout": "out", "collect": [{"glob": "part"}]},
    ),
    **{name: (("stubborn",), {"limits": {"time": "1s"}}) for name in STUBBORN},
    **{name: (("burner", "4", "60"), {"limits": {"cpu_time": "1s", "cpus": 1}}) for name in BURNERS},
    "memory": (("sh", "-c", "exec tail /dev/zero"), {"limits": {"memory": "16M"}}),
    "memory of a child": (("child_memory",), {"limits": {"memory": "16M"}, "stdout": "out"}),
    "pids": (("forker",), {"limits": {"pids": 12}, "stdout": "out"}),
    "storage": (("sh", "-c", f"echo kept > part; {FILLS}"), {"limits": {"storage": "4M"}, "collect": [{"glob": "*"}]}),
    "files": (
        ("sh", "-c", "for i in $(seq 200); do : > f$i || exit 5; done"),
        {"limits": {"files": 50}},
    ),
    "output": (("sh", "-c", "yes | head -c 3000000"), {"limits": {"output": "1M"}, "stdout": "out"}),
    "within all": (
        ("sh", "-c", "dd if=/dev/zero of=big bs=64k count=16 2>&1 && yes | head -c 100000 > /dev/null"),
        {"limits": {"time": "20s", "cpu_time": "10s", "memory": "32M", "pids": 16, "storage": "4M", "files": 50}},
    ),
}


@pytest.fixture(scope="module")
def tasks(grid: RunningGrid) -> dict[str, Task]:
    """All tasks of this file, under way."""
    image = ensure_test_image()
    return {name: grid.submit(*args, name=name, image=image, **spec) for name, (args, spec) in PROGRAMS.items()}


def of_user(task: Task) -> Result:
    """The result of a task that failed by its own fault, and so was tried once."""
    result = task.wait(60)
    assert result.verdict_class == "user", result
    assert [attempt.verdict for attempt in task.attempts()] == [result.verdict]
    return result


def test_time_limit_brings_home_what_was_written_before(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["time"])
    assert result.verdict == "time_limit"
    assert re.fullmatch(r"the program was ended after \d+(\.\d+)?s, its limit is 1s of time", result.reason)
    assert "asleep" in result.advice
    assert result.files["out"].read_text() == "early\n"
    assert result.files["part"].read_text() == "kept\n"


def test_time_limit_is_kept_to_half_a_second(tasks: dict[str, Task]) -> None:
    walls = [of_user(tasks[name]).usage.wall_seconds for name in ("time", *STUBBORN)]
    assert {tasks[name].verdict for name in STUBBORN} == {"time_limit"}
    assert 1.0 <= min(walls) < 1.5, "a busy machine may delay one of them, not each"


def test_cpu_time_of_several_processes_is_added_up(tasks: dict[str, Task]) -> None:
    results = [of_user(tasks[name]) for name in BURNERS]
    assert {result.verdict for result in results} == {"cpu_time_limit"}
    assert 1.0 <= min(result.usage.cpu_seconds for result in results) < 1.5
    assert (results[0].usage.pids_peak or 0) >= 4
    ending = r"of processor time, its limit is 1s \(over all its processes\)"
    assert re.fullmatch(rf"the program was ended after \d+(\.\d+)?s {ending}", results[0].reason)


def test_memory_limit_of_the_program_itself(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["memory"])
    assert (result.verdict, result.exit_code) == ("memory_limit", 137)
    assert result.reason.startswith("a process was killed because the task used more than 16M of memory (peak 1")
    assert result.reason.endswith("; the program itself exited with 137")
    assert result.advice == "try 24M"
    assert 15 * MIB < (result.usage.memory_peak_bytes or 0) <= 17 * MIB


def test_memory_limit_when_only_a_child_is_killed_and_the_program_exits_0(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["memory of a child"])
    assert (result.verdict, result.exit_code) == ("memory_limit", 0)
    assert result.reason.endswith("; the program itself exited with 0")
    assert result.files["out"].read_text() == "child killed by signal 9\n"


def test_pids_limit(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["pids"])
    assert (result.verdict, result.exit_code) == ("pids_limit", 0)
    assert result.reason.startswith("the task may have 12 processes and threads at one time, a further one was refused")
    assert "EAGAIN" in result.files["out"].read_text()


def test_storage_limit_in_bytes(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["storage"])
    assert result.verdict == "storage_limit"
    assert result.reason.startswith("the task's folder was full: it used all of 4M")
    assert result.files["part"].read_text() == "kept\n"


def test_storage_limit_in_files(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["files"])
    assert result.verdict == "storage_limit"
    assert result.reason.startswith("the task's folder was full: it had all the 50 files and folders that it may have")


def test_output_limit_keeps_the_beginning(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["output"])
    assert result.verdict == "output_limit"
    assert result.reason.startswith("the program wrote more than the 1M of output that are kept, 1.9M were cut")
    assert result.files["out"].size >= MIB
    assert result.files["out"].read_bytes()[:4] == b"y\ny\n"


def test_a_task_that_stays_within_all_its_limits(tasks: dict[str, Task]) -> None:
    assert tasks["within all"].wait(60).verdict == "succeeded"


def test_what_the_node_enforces_is_all_that_was_asked(tasks: dict[str, Task]) -> None:
    for task in tasks.values():
        assert task.wait(60).record.not_enforced == ()
    assert tasks["time"].view.image == TEST_IMAGE
