"""``grid replay``: a task of the grid once more on this machine, with its own inputs, image and limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import command
from tests.support.grids import RunningGrid

pytestmark = pytest.mark.needs("docker", "busybox", "root")


def submitted(grid: RunningGrid, folder: Path, script: str) -> str:
    """The id of a task that has ended; a file of it is too large to travel with the order."""
    (folder / "big").write_bytes(bytes(range(256)) * 1024)
    task = {
        "image": "busybox:local",
        "args": ["sh", "-c", script],
        "files": {"big": None, "small": {"content": "7\n"}},
        "collect": [{"glob": "*.out"}],
    }
    (folder / "task.json").write_text(json.dumps(task))
    return command(grid, "submit", "--wait", folder).out.strip()


def test_the_same_comes_of_the_same(grid: RunningGrid, tmp_path: Path) -> None:
    made = submitted(grid, tmp_path, "md5sum big small; cat small > a.out; exit 4")
    done = command(grid, "replay", made, tmp_path / "here", "--json", "--dir", tmp_path / "base")
    assert done.status == 0, done.err
    rows = {row["what"]: row for row in done.json["compared"]}
    assert all(row["same"] for row in rows.values())
    assert (rows["exit code"]["here"], rows["verdict"]["here"]) == ("4", "exit_code")
    assert rows["image"]["grid"].startswith("sha256:")
    assert {"file a.out", "log stdout"} < set(rows)
    assert (tmp_path / "here" / "a.out").read_text() == "7\n"


def test_what_differs_is_named_also_between_two_runs_here(grid: RunningGrid, tmp_path: Path) -> None:
    made = submitted(grid, tmp_path, "cat small > a.out; head -c 16 /dev/urandom > r.out")
    done = command(grid, "replay", made, "--twice", "--dir", tmp_path / "base")
    assert done.status == 1
    assert "not deterministic: r.out differs" in done.err
    lines = {line.split("\t")[0]: line.split("\t")[-1] for line in done.out.splitlines() if "\t" in line}
    assert (lines["file r.out"], lines["file a.out"]) == ("not deterministic", "same")
