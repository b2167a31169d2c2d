"""What a task prints, seen while it runs; and a task that prints far too much harms nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commands import WAITS, a_line, background
from tests.support.grids import RunningGrid
from tests.support.story import may_go_on

pytestmark = pytest.mark.needs("docker", "busybox", "root")

MIB = 1024**2
PRINTED = 100 * 1000**2
LIMIT = 4 * MIB


def test_lines_are_printed_while_the_task_runs(grid: RunningGrid) -> None:
    task = grid.submit(*WAITS)
    with background(grid, "logs", "-f", task.id) as process:
        assert a_line(process.stdout) == "ready"
        assert not task.refresh().final
        may_go_on(grid.directory / "node", task)
        rest, err = process.communicate(timeout=20)
    assert (process.returncode, rest, err) == (0, "over\n", "")


def test_what_is_printed_before_the_end_is_complete(grid: RunningGrid) -> None:
    task = grid.submit("sh", "-c", "seq 1 20000; seq 1 20000 >&2")
    lines = "".join(f"{number}\n" for number in range(1, 20001))
    assert "".join(task.logs(follow=True)) == lines
    assert "".join(task.logs(follow=True, stream="stderr")) == lines


def test_a_flood_is_cut_at_its_limit_and_the_server_stays_small(grid: RunningGrid) -> None:
    web = grid.find("web")
    assert web is not None
    with memory_growth(web) as grown:
        program = f"yes 0123456789abcdef | head -c {PRINTED}"
        task = grid.submit("sh", "-c", program, limits={"output": LIMIT, "time": "60s"}, stdout="out")
        followed = sum(len(piece) for piece in task.log_bytes(follow=True))
        result = task.wait()

    assert result.verdict == "output_limit", result.reason
    assert result.files["out"].size == LIMIT
    assert followed == LIMIT
    assert grown() < 50 * MIB


@contextmanager
def memory_growth(pid: int) -> Iterator[Callable[[], int]]:
    """How much more memory the process has had at one time than at the beginning, in bytes, as the kernel counted."""
    process = Path(f"/proc/{pid}")
    (process / "clear_refs").write_text("5")  # the peak begins anew
    before = _status(process, "VmRSS")
    yield lambda: _status(process, "VmHWM") - before


def _status(process: Path, name: str) -> int:
    lines = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024
