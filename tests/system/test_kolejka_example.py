"""The example of kolejka's README runs unchanged, and so do our own examples that need no more than it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import command
from tests.support.grids import ROOT, RunningGrid
from tests.support.images import tagged

pytestmark = pytest.mark.needs("docker", "busybox", "root")

# Letter by letter as it is written there.
TASK = """\
{
  "image": "ubuntu",
  "args": ["uname"],
  "limits": {"memory": "64M", "cpus": "1", "pids": "16", "time": "1s"},
  "stdout": "stdout.txt"
}
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid on whose node local images have the names that the examples use."""
    with tagged("ubuntu"), tagged("busybox"), RunningGrid(tmp_path_factory.mktemp("kolejka")) as running:
        yield running


def test_the_readme_of_kolejka(grid: RunningGrid, tmp_path: Path) -> None:
    folder = tmp_path / "uname"
    folder.mkdir()
    (folder / "kolejka_task.json").write_text(TASK)
    done = command(grid, "run", folder, tmp_path / "result")

    assert done.status == 0, done.err
    assert (tmp_path / "result" / "stdout.txt").read_text() == "Linux\n"
    record = json.loads((tmp_path / "result" / "result.json").read_text())
    assert (record["result"], record["stdout"]) == (0, "stdout.txt")
    assert record["verdict"] == "succeeded"
    assert record["limits"]["pids"] == 16


def test_our_own_examples_need_no_more_than_busybox(grid: RunningGrid) -> None:
    assert command(grid, "run", ROOT / "examples" / "uname").out.startswith("Linux")
    assert command(grid, "run", ROOT / "examples" / "exit-code").status == 3
