"""A back-up of a grid at work, restored on an empty machine: nothing that ended is lost, nothing ends twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from grid import Client
from nodes.server import Server
from tasks.errors import Stale
from tasks.outcome import Evidence, Outcome
from tasks.states import TaskState
from tasks.verdicts import Verdict
from tests.support.commands import WAITS
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import ROOT, RunningGrid, wanted
from tests.support.images import ensure_test_image
from tests.support.node_api import eventually
from tests.support.postgres import Postgres, programs
from tests.support.story import may_go_on

__all__ = ["pytest_runtest_makereport"]

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(300)]

LEASE_SECONDS = 30
LONG_SECONDS = 90.0
KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))]


@dataclass(frozen=True)
class Machine:
    """A machine for a grid: its folder, and the settings that name its database."""

    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)

    def django(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a management command of the server there."""
        where = {"GRID_DIR": str(self.folder / "grid"), "DJANGO_SETTINGS_MODULE": "webapp.settings"}
        return subprocess.run(
            [sys.executable, "-m", "django", *map(str, arguments)],
            env=wanted(**self.settings) | where | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    def grid(self) -> RunningGrid:
        """The grid of this machine, to be started."""
        return RunningGrid(self.folder, lease_seconds=LEASE_SECONDS, slots=2, **self.settings)  # type: ignore[arg-type]


@contextmanager
def machines(kind: str, folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """One machine, and an empty one with a database of the same kind."""
    if kind == "sqlite":
        yield Machine(folder / "old"), Machine(folder / "new")
        return
    found = programs()
    assert found is not None
    server = Postgres(found)
    server.start()
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE another")
        other = server.url.removesuffix("/postgres") + "/another"
        yield Machine(folder / "old", {"database_url": server.url}), Machine(folder / "new", {"database_url": other})
    finally:
        server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_is_restored_on_an_empty_machine_and_goes_on(kind: str, tmp_path: Path) -> None:
    ensure_test_image()
    backup = tmp_path / "backup"
    with machines(kind, tmp_path) as (old, new):
        with old.grid() as grid:
            command = ("sh", "-c", "cat in.txt > out.txt; echo said")
            done = grid.submit(*command, files={"in.txt": "content"}, collect=[{"glob": "out.txt"}])
            assert done.wait(LONG_SECONDS).verdict is Verdict.SUCCEEDED
            grid.client.put_secret("WORD", "hush")
            token = _token(old)
            runs = grid.submit(*WAITS, limits={"time": "300s"}, name="runs")
            eventually(lambda: "ready" in "".join(runs.logs()), LONG_SECONDS)
            held = _attempt(old, runs.id)
            made = old.django("gridbackup", backup)
            assert made.returncode == 0, made.stderr
            assert old.django("gridbackup", backup).returncode != 0, "a back-up is never written over"
            again = old.django("gridbackup", tmp_path / "second", "--earlier", backup)
            assert again.returncode == 0, again.stderr
            later = grid.run("true", name="came later")
            assert later.verdict is Verdict.SUCCEEDED
        _linked(backup, tmp_path / "second")
        restored = new.django("gridrestore", backup)
        assert restored.returncode == 0, restored.stderr
        assert new.django("gridrestore", backup).returncode != 0, "a grid is never written over"
        with new.grid() as grid, Client(grid.server, token) as client:
            old_task = client.get(done.id)
            result = old_task.wait(LONG_SECONDS)
            assert result.verdict is Verdict.SUCCEEDED
            assert result.files["out.txt"].read_bytes() == b"content"
            assert "".join(old_task.logs()) == "said\n"
            assert {task.name for task in client.list_tasks()} == {done.name, "runs"}

            again_running = grid.client.get(runs.id)
            _refused(grid, held)
            let_go_when_it_runs(grid, runs.id)
            assert again_running.wait(LONG_SECONDS).verdict is Verdict.SUCCEEDED
            _refused(grid, held)
            assert again_running.refresh().state is TaskState.SUCCEEDED
            shown = grid.run("sh", "-c", "echo $WORD > out.txt", secrets=["WORD"], collect=[{"glob": "out.txt"}])
            assert shown.files["out.txt"].read_text() == "hush\n"


def test_a_folder_that_is_no_complete_back_up_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    for name, text in (("empty", None), ("half", "{"), ("later", '{"format": 99}')):
        folder = tmp_path / name
        folder.mkdir()
        if text is not None:
            (folder / "backup.json").write_text(text)
        done = machine.django("gridrestore", folder)
        assert done.returncode != 0
        assert "back-up" in done.stderr


def _token(machine: Machine) -> str:
    done = machine.django("createtoken", "admin", "--name", "keeper")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _attempt(machine: Machine, task: str) -> tuple[str, str]:
    """Id and token of the attempt that runs."""
    code = f"from grid.core.models import Attempt as A; a = A.objects.get(task_id='{task}'); print(a.id, a.token)"
    done = machine.django("shell", "--no-imports", "-c", code)
    assert done.returncode == 0, done.stderr
    attempt, token = done.stdout.split()
    return attempt, token


def _refused(grid: RunningGrid, held: tuple[str, str]) -> None:
    """What a node says of an attempt from before is not taken."""
    token = json.loads((grid.directory / "up.json").read_text())["node_token"]
    with closing(Server(grid.server, token)) as server, pytest.raises(Stale):
        server.report(Outcome(attempt=held[0], token=held[1], evidence=Evidence(exit_code=3)))


def let_go_when_it_runs(grid: RunningGrid, task: str) -> None:
    """The second attempt begins by itself; it is told to end."""
    running = grid.client.get(task)
    eventually(lambda: running.refresh().state is TaskState.RUNNING, LONG_SECONDS)
    eventually(lambda: "ready" in "".join(running.logs()), LONG_SECONDS)
    may_go_on(grid.directory / "node", running)


def _linked(first: Path, second: Path) -> None:
    """Both back-ups have the same blobs, on the disk once."""
    blobs = [path.relative_to(first) for path in (first / "blobs").glob("*/*")]
    assert blobs
    assert all((first / path).samefile(second / path) for path in blobs)
