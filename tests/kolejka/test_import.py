"""A site that kolejka's own server has made comes over, and kolejka's client finds everything where it was."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.grids import RunningGrid
from tests.support.kolejkas import PROGRAMS, KolejkaClient, kolejka_python, plain_environment

pytestmark = pytest.mark.needs("docker", "busybox", "root")


def test_a_real_site_comes_over(grid: RunningGrid, tmp_path: Path) -> None:
    command = [str(kolejka_python()), str(PROGRAMS / "make_site.py"), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=plain_environment(), cwd=tmp_path)
    site = json.loads(done.stdout)
    options = ("--database", str(tmp_path / "site.sqlite3"), "--blobs", str(tmp_path / "blobs"), "--queue")
    said = dict(line.split(": ") for line in grid.django("importkolejka", *options).splitlines())
    assert (said["users"], said["groups"], said["references"]) == ("2", "1", "2")
    assert (said["tasks"], said["tasks queued"], said["tasks unreadable"]) == ("2", "1", "1")
    again = dict(line.split(": ") for line in grid.django("importkolejka", *options).splitlines())
    assert (again["tasks known"], again["users known"]) == ("3", "2")

    ada = KolejkaClient(tmp_path, grid.server, "old-ada", site["password"])
    ended, killed, waiting, _ = site["tasks"]
    ada.ok("result", "get", ended, tmp_path / "result")
    assert (tmp_path / "result" / "stdout.txt").read_text() == "Linux\n"
    result = json.loads((tmp_path / "result" / "kolejka_result.json").read_text())
    assert (result["id"], result["result"], result["tags"]) == (ended, 0, ["hostname:old", "cpu:amd"])
    ada.ok("result", "get", killed, tmp_path / "killed")
    ada.ok("task", "get", ended, tmp_path / "task")
    assert (tmp_path / "task" / "in.txt").read_text() == "3 4\n"
    ada.ok("blob", "get", site["taken"], tmp_path / "blob")
    assert "ObjectNotFound" in ada.run("blob", "get", site["lost"], tmp_path / "blob").err
    ada.ok("task", "get", waiting, tmp_path / "waiting")
