"""Our programs under kolejka's names: what scripts do with kolejka's own, they do with these."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import command
from tests.support.grids import RunningGrid
from tests.support.kolejkas import Said, kolejka_python, plain_environment
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

TASK: dict[str, Any] = {
    "image": "busybox:local",
    "args": ["sh", "-c", "cat; mkdir o; echo 7 >o/out.txt; exit 3"],
    "stdin": "in.txt",
    "limits": {"memory": "64M", "pids": "16", "time": "20s"},
    "stdout": "stdout.txt",
    "files": {"in.txt": None, "sub/empty": "empty"},
    "collect": [{"glob": "o/*", "strip": 1, "prefix": "p"}],
}
SECONDS = 60.0
# kolejka's own client of its observer, with one session from its beginning to its end.
OBSERVED = """
import sys
from kolejka.common import KolejkaLimits
from kolejka.observer.client import KolejkaObserverClient
client = KolejkaObserverClient(sys.argv[1])
client.open()
client.limits(KolejkaLimits(memory="64M", pids=16, time="20s"))
client.attach()
print(client.stats().memory.usage)
client.detach()
client.close()
"""


@dataclass(frozen=True)
class Programs:
    """The folder with the programs, and how they find the grid."""

    folder: Path
    environment: dict[str, str]

    def run(self, name: str, *arguments: object) -> Said:
        """Run one of them to its end."""
        done = subprocess.run(
            [self.folder / f"kolejka-{name}", *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Said(done.returncode, done.stdout.strip(), done.stderr)

    def client(self, *arguments: object) -> str:
        """What ``kolejka-client`` prints; it has to succeed."""
        said = self.run("client", *arguments)
        assert said.status == 0, said.err
        return said.out


@pytest.fixture(scope="module")
def programs(grid: RunningGrid, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    folder = tmp_path_factory.mktemp("programs")
    assert command(grid, "kolejka", "install", folder).status == 0
    return Programs(folder, plain_environment() | {"GRID_CONFIG": str(grid.config_file)})


@pytest.fixture
def task(folder: Path) -> Path:
    (folder / "kolejka_task.json").write_text(json.dumps(TASK))
    return folder


def test_programs_of_others_are_replaced_only_when_asked(grid: RunningGrid, tmp_path: Path) -> None:
    theirs = tmp_path / "kolejka-worker"
    theirs.write_text("#!/bin/sh\n")
    said = command(grid, "kolejka", "install", tmp_path)
    assert (said.status, "--force" in said.err, theirs.read_text()) == (1, True, "#!/bin/sh\n")
    assert list(tmp_path.iterdir()) == [theirs]
    for options in (["--force"], []):  # its own it replaces without a word
        assert command(grid, "kolejka", "install", tmp_path, *options).status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kolejka-client", "kolejka-observer", "kolejka-worker"]


def test_execute_brings_the_result_home_whatever_the_task_returned(
    programs: Programs, task: Path, tmp_path: Path
) -> None:
    programs.client("execute", task, tmp_path / "home", "--interval", "0.2", "--memory", "32M")
    result = json.loads((tmp_path / "home" / "kolejka_result.json").read_text())
    assert (result["result"], result["limits"]["memory"]) == (3, "33554432b")
    assert sorted(result["files"]) == ["p/out.txt", "stdout.txt"]
    assert (tmp_path / "home" / "stdout.txt").read_text() == "3 4\n"


def test_tasks_and_results_are_put_got_and_deleted(programs: Programs, task: Path, tmp_path: Path) -> None:
    key = programs.client("task", "put", task, "--time", "5s")
    again = tmp_path / "again"
    programs.client("task", "get", key, again)
    described = json.loads((again / "kolejka_task.json").read_text())
    assert (described["id"], described["limits"]["time"], described["args"]) == (key, "5.0s", TASK["args"])
    assert (again / "in.txt").read_text() == "3 4\n"
    assert (again / "sub" / "empty").read_text() == ""
    eventually(lambda: programs.run("client", "result", "get", key, tmp_path / "result").status == 0, SECONDS)
    assert (tmp_path / "result" / "p" / "out.txt").read_text() == "7\n"
    assert json.loads((tmp_path / "result" / "kolejka_result.json").read_text())["result"] == 3
    # What came back can be sent again as it is.
    assert programs.client("task", "put", again) != key
    programs.client("task", "delete", key)
    for thing in ("task", "result"):
        said = programs.run("client", thing, "get", key, tmp_path / "gone")
        assert (said.status, "Traceback" in said.err) == (1, False), said.err


def test_a_task_that_runs_has_no_result_yet_and_is_ended_when_it_is_deleted(
    grid: RunningGrid, programs: Programs, task: Path, tmp_path: Path
) -> None:
    (task / "kolejka_task.json").write_text(json.dumps({**TASK, "args": ["sleep", "600"]}))
    key = programs.client("task", "put", task)
    assert programs.run("client", "result", "get", key, tmp_path / "result").status == 1
    programs.client("task", "delete", key)
    assert key not in [one.id for one in grid.client.list_tasks()]


@pytest.mark.parametrize("content", [b"", b"data" * 300_000])
def test_blobs_are_put_and_got(programs: Programs, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    key = programs.client("blob", "put", tmp_path / "file")
    programs.client("blob", "get", key, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("blob", "delete", "0" * 64), "goes by itself"),
        (("result", "delete", "0" * 32), "kolejka-client task delete KEY"),
        (("result", "put", "folder"), "results come from nodes"),
    ],
)
def test_what_is_not_done_here_is_said(programs: Programs, words: tuple[str, ...], advice: str) -> None:
    said = programs.run("client", *words)
    assert (said.status, advice in said.err) == (1, True), said.err


def test_the_worker_ends_with_the_status_of_the_task(programs: Programs, task: Path, tmp_path: Path) -> None:
    said = programs.run("worker", "execute", task, tmp_path / "home", "--temp", tmp_path / "temp", "--pids", "8")
    assert said.status == 3, said.err
    result = json.loads((tmp_path / "home" / "kolejka_result.json").read_text())
    assert (result["result"], result["limits"]["pids"]) == (3, 8)


@pytest.fixture
def observer(programs: Programs, tmp_path: Path) -> Iterator[Path]:
    """The socket of a ``kolejka-observer``."""
    socket, pid_file = Path(f"/tmp/kolejka-observer-{os.getpid()}"), tmp_path / "pid"
    process = subprocess.Popen([programs.folder / "kolejka-observer", "-s", socket, "--pid-file", pid_file])
    try:
        eventually(socket.is_socket, SECONDS)
        assert int(pid_file.read_text()) == process.pid
        yield socket
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert not socket.exists()


def test_the_observer_answers_kolejkas_own_client(observer: Path) -> None:
    done = subprocess.run(
        [kolejka_python(), "-c", OBSERVED, observer], env=plain_environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
