"""Tasks that are tried again for real: with more memory each time, after a wait, and only when that is of use."""

from __future__ import annotations

import pytest

from tests.support.commands import command
from tests.support.grids import RunningGrid

pytestmark = pytest.mark.needs("docker", "busybox", "root")

MIB = 1024**2
NEEDS_100M = ("dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")


def test_a_program_that_needs_more_memory_succeeds_when_it_is_given_more(grid: RunningGrid) -> None:
    task = grid.submit(*NEEDS_100M, limits={"memory": "64M"}, retry={"memory": 2, "delay": "200ms"})
    result = task.wait(60)
    assert result.verdict == "succeeded", result
    first, second = task.attempts()
    assert (first.verdict, first.memory_bytes) == ("memory_limit", 64 * MIB)
    assert first.decision == "memory_limit at 64M (1 of 3): again with 128M in 200ms"
    assert (second.verdict, second.memory_bytes) == ("succeeded", 128 * MIB)
    assert result.record.limits["memory"] == f"{128 * MIB}b"
    assert second.usage is not None
    assert (second.usage.memory_peak_bytes or 0) > 100 * MIB


def test_the_retries_of_a_task_are_told_on_the_command_line(grid: RunningGrid) -> None:
    task = grid.submit("sh", "-c", "exit 75", retry={"attempts": 2, "exit_codes": [75]})
    assert task.wait(60).verdict == "exit_code"
    printed = command(grid, "status", task.id).out
    assert "attempt 1" in printed
    assert "attempt 1 of 2 ended with exit_code: again" in printed
    assert "attempt 2 of 2 ended with exit_code: none is left" in printed
