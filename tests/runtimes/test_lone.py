"""One task on this machine beside any grid: real processes, the real engine, the folder of the result."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import GRID, Done
from tests.support.grids import ROOT, wanted
from tests.support.images import docker
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

SMALL = {"memory": "64M", "pids": 16, "time": "30s", "storage": "16M", "files": 100}


class Bench:
    """A folder for tasks, results, and what runs keep meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder, folder / "base"
        self.result = folder / "result"

    def task(self, *args: str, name: str = "task.json", **keys: object) -> Path:
        """A folder with a task."""
        task = self.folder / "task"
        task.mkdir(exist_ok=True)
        (task / "in.txt").write_text("hello\n")
        said: dict[str, object] = {
            "image": "busybox:local",
            "args": args,
            "files": {"in.txt": None},
            "limits": SMALL,
        }
        (task / name).write_text(json.dumps({**said, **keys}))
        return task

    def command(self, task: Path, *options: str) -> list[str]:
        """The command that runs it."""
        return [GRID, "worker", "execute", str(task), str(self.result), "--dir", str(self.base), *options]

    def run(self, task: Path, *options: str) -> Done:
        """Run it to its end."""
        done = subprocess.run(
            self.command(task, *options),
            env=wanted(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=ROOT,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    @property
    def record(self) -> dict[str, Any]:
        """The record of the result."""
        found: dict[str, Any] = json.loads((self.result / "result.json").read_text())
        return found

    def left(self) -> list[str]:
        """What is left behind."""
        runs = [path.name for path in self.base.glob("lone*")]
        return runs + docker("ps", "--all", "--quiet", "--filter", "name=grid-lone").decode().split() if runs else runs


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    assert made.left() == []


def test_a_folder_becomes_a_result_with_all_that_a_node_would_report(bench: Bench) -> None:
    script = "cat in.txt; echo oh >&2; mkdir o; cp in.txt o/copy; chmod +x o/copy"
    done = bench.run(bench.task("sh", "-c", script, stdout="said.txt", collect=[{"glob": "o/*", "strip": 1}]))
    assert (done.status, done.out) == (0, "hello\n"), done.err
    assert (bench.result / "said.txt").read_text() == (bench.result / "copy").read_text() == "hello\n"
    assert os.access(bench.result / "copy", os.X_OK)
    assert (bench.result / "grid-stderr.log").read_text() == "oh\n"
    record = bench.record
    assert (record["verdict"], record["result"], record["files"]["copy"]["path"]) == ("succeeded", 0, "copy")
    assert record["image_digest"].startswith("sha256:")
    assert record["usage"]["memory_peak_bytes"] < 8 << 20
    assert record["not_enforced"] == []


@pytest.mark.parametrize(
    ("script", "limits", "verdict", "status"),
    [
        ("exit 7", {}, "exit_code", 7),
        ("sleep 60", {"time": "500ms"}, "time_limit", 124),
        ("cat /dev/zero > full", {}, "storage_limit", 1),
        ("tail /dev/zero", {"memory": "16M"}, "memory_limit", 137),
    ],
)
def test_verdicts_are_those_of_a_node(
    bench: Bench, script: str, limits: dict[str, str], verdict: str, status: int
) -> None:
    done = bench.run(bench.task("sh", "-c", script, limits={**SMALL, **limits}), "--quiet")
    assert (bench.record["verdict"], done.status) == (verdict, status), done.err


def test_kolejkas_words_are_understood_and_answered(bench: Bench) -> None:
    limits = {"memory": "64MB", "time": "30000m", "pids": "16"}
    task = bench.task(
        "sh", "-c", "id -u; exit 3", name="kolejka_task.json", limits=limits, colour="red", stdout="o.txt"
    )
    assert bench.run(task, "--quiet").status == 3
    answer = json.loads((bench.result / "kolejka_result.json").read_text())
    assert (answer["result"], answer["limits"]["time"], answer["files"]) == (3, "30.0s", {"o.txt": {"path": "o.txt"}})
    assert "colour" in answer["warnings"][0]
    assert (bench.result / "o.txt").read_text() == "0\n"


def test_faults_of_the_folder_are_told_before_anything_runs(bench: Bench) -> None:
    done = bench.run(bench.task("true", files={"gone": None}, limits={"memory": "lots"}))
    assert done.status == 2
    assert "gone" in done.err
    assert "limits.memory" in done.err
    assert not bench.result.exists()


def test_secrets_come_from_the_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    task = bench.task("sh", "-c", "echo $KEY", secrets=["KEY"])
    assert "KEY" in bench.run(task).err
    monkeypatch.setenv("KEY", "hush")
    assert bench.run(task).out == "hush\n"
    assert "hush" not in (bench.result / "result.json").read_text()


def test_a_run_that_is_interrupted_still_has_a_result(bench: Bench) -> None:
    command = bench.command(bench.task("sh", "-c", "echo ready; sleep 60"))
    with subprocess.Popen(command, env=wanted(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 125
    assert bench.record["verdict"] == "cancelled"


def test_what_a_killed_run_has_left_goes_with_the_next(bench: Bench) -> None:
    task = bench.task("sh", "-c", "echo ready; sleep 60")
    process = subprocess.Popen(
        bench.command(task), env=wanted(), stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGKILL)
    assert bench.left()
    assert bench.run(bench.task("true"), "--force").status == 0
    eventually(lambda: bench.left() == [])


def test_a_shell_needs_a_terminal(bench: Bench) -> None:
    assert "terminal" in bench.run(bench.task("false"), "--shell").err


def test_a_shell_opens_in_the_folder_of_a_task_that_failed(bench: Bench) -> None:
    command = bench.command(bench.task("sh", "-c", "echo left > here; exit 5"), "--shell")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(GRID, command, wanted())  # noqa: S606 - our own program, and no shell
    said = b""
    sent = False
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            said += os.read(terminal, 4096)
        except OSError:
            break
        if not sent and b"/task $" in said:
            os.write(terminal, b"cat here; id -u; exit\n")
            sent = True
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5, said
    assert b"left\r\n65532\r\n" in said


def test_an_image_with_nothing_but_the_program_runs(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "hello.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("alone"); return 0; }\n')
    (tmp_path / "root").mkdir()
    subprocess.run(["gcc", "-static", "-o", tmp_path / "root" / "hello", source], check=True)
    archive = subprocess.run(["tar", "-C", tmp_path / "root", "-c", "hello"], capture_output=True, check=True).stdout
    name = f"grid-scratch-{os.getpid()}:local"
    docker("import", "-", name, given=archive)
    try:
        assert bench.run(bench.task("/hello", image=name)).out == "alone\n"
        assert bench.record["verdict"] == "succeeded"
    finally:
        docker("rmi", name)


ASKS_FOR_A_SESSION = r"""
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un where = {AF_UNIX, "/var/run/kolejka/observer/socket"};
    char said[4096];
    int asked = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(asked, (struct sockaddr *)&where, sizeof where))
        return 9;
    dprintf(asked, "POST /open HTTP/1.0\r\n\r\n");
    return write(1, said, read(asked, said, sizeof said)) < 0;
}
"""


@pytest.mark.needs("g++")
def test_a_judge_finds_an_observer_also_on_a_machine_that_has_none(bench: Bench) -> None:
    before = set(Path("/run").glob("grid-observer-*"))
    task = bench.task("./ask", files={"ask": None})
    (task / "ask.c").write_text(ASKS_FOR_A_SESSION)
    subprocess.run(["gcc", "-static", "-o", task / "ask", task / "ask.c"], check=True)
    assert bench.run(task, "--profile", "standard").status == 9
    done = bench.run(task, "--profile", "judge", "--force")
    assert (done.status, '"session_id"' in done.out) == (0, True), done.err
    assert set(Path("/run").glob("grid-observer-*")) <= before


def test_it_needs_no_server_and_no_broker() -> None:
    """Whatever is not there cannot be missed."""
    code = "import sys, nodes.lone, grid.lone; print(*[m for m in ('celery', 'kombu', 'django') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True).stdout == b"\n"
