"""The command line against a real HTTP server: what it prints, and the status with which it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from grid.cli import main
from grid.cli.exits import exit_status
from tasks.states import TaskState
from tasks.verdicts import Verdict, VerdictClass
from tests.support.small_grid import TOKEN, SmallGrid, ended, view

COMMAND = (sys.executable, "-c", "from grid.cli import main; main()")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallGrid]:
    with SmallGrid() as running:
        monkeypatch.setenv("GRID_SERVER", running.url)
        monkeypatch.setenv("GRID_TOKEN", TOKEN)
        yield running


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs ``grid ARGUMENTS`` and gives its status and what it printed."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grid", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code
        assert isinstance(status, int)
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job"
    path.mkdir()
    (path / "task.json").write_text('{"image": "busybox", "args": ["uname"]}')
    return path


def finish_soon(server: SmallGrid, out: bytes = b"", err: bytes = b"", **facts: object) -> threading.Thread:
    """End the first task that comes, after it has printed something."""

    def finish() -> None:
        while not server.tasks:
            time.sleep(0.01)
        task_id = next(iter(server.tasks))
        server.logs[task_id, "stdout"], server.logs[task_id, "stderr"] = out, err
        server.finish(task_id, {"stdout.txt": out}, **facts)

    thread = threading.Thread(target=finish)
    thread.start()
    return thread


class TestSubmit:
    def test_the_bare_id_is_printed(self, server: SmallGrid, grid: Run, job: Path) -> None:
        status, out, err = grid("submit", job)

        assert (status, err) == (0, "")
        assert out.strip() in server.tasks

    def test_options_reach_the_server(self, server: SmallGrid, grid: Run, job: Path) -> None:
        limits = ("--memory", "64M", "--cpus", "0.5", "--cpu-time", "2s", "--output", "1M", "--no-network")
        _, out, _ = grid("submit", job, "--name", "mine", "--label", "course=alg", "--label", "week=3", *limits)

        spec = server.specs[out.strip()]
        assert spec["name"] == "mine"
        assert spec["labels"] == {"course": "alg", "week": "3"}
        assert spec["limits"] == {"memory": "64M", "cpus": "0.5", "cpu_time": "2s", "output": "1M", "network": False}

    def test_each_folder_in_a_folder_is_submitted(self, server: SmallGrid, grid: Run, job: Path) -> None:
        (job.parent / "empty").mkdir(exist_ok=True)

        status, out, _ = grid("submit", job.parent, "--each", "--label", "week=3")

        assert status == 0
        assert out.split() == list(server.tasks)
        assert server.specs[out.strip()]["labels"] == {"week": "3"}
        assert grid("submit", job.parent / "empty", "--each")[0] != 0
        assert grid("submit", job.parent, "--each", "--wait")[0] != 0

    def test_json(self, server: SmallGrid, grid: Run, job: Path) -> None:
        assert json.loads(grid("submit", job, "--json")[1])["state"] == "queued"

    def test_waiting_ends_with_the_status_of_the_task(self, server: SmallGrid, grid: Run, job: Path) -> None:
        finish_soon(server, verdict=Verdict.EXIT_CODE, result=7, reason="exit 7 after 1s", advice="look at line 3")

        status, out, err = grid("submit", job, "--wait")

        assert status == 7
        assert out.strip() in server.tasks
        assert err == "exit_code: exit 7 after 1s (look at line 3)\n"

    def test_waiting_with_json_prints_the_result(self, server: SmallGrid, grid: Run, job: Path) -> None:
        finish_soon(server)

        assert json.loads(grid("submit", job, "--wait", "--json")[1])["class"] == "success"

    def test_faults_are_listed_and_nothing_is_made(self, server: SmallGrid, grid: Run, tmp_path: Path) -> None:
        (tmp_path / "task.json").write_text('{"imaeg": "x", "limits": {"time": "1x"}, "files": {"gone": null}}')

        status, out, err = grid("submit", tmp_path)

        assert (status, out) == (2, "")
        assert 'imaeg: unknown key; did you mean "image"?' in err
        assert "limits.time" in err
        assert "files.gone: there is no such file" in err
        assert all(line.startswith("grid: ") for line in err.splitlines())
        assert server.seen == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ("submit",),
            ("submit", ".", "--label", "x"),
            ("sumbit", "."),
            ("list", "--limit", "0"),
            ("up", "--port", "-1"),
        ],
    )
    def test_usage_errors(self, grid: Run, arguments: tuple[str, ...]) -> None:
        status, out, err = grid(*arguments)

        assert (status, out) == (2, "")
        assert "Error: " in err
        assert "Traceback" not in err


class TestRun:
    def test_the_output_is_shown_and_the_result_fetched(
        self, server: SmallGrid, grid: Run, job: Path, tmp_path: Path
    ) -> None:
        finish_soon(server, b"Linux\n", b"a warning\n")

        status, out, err = grid("run", job, tmp_path / "result")

        assert (status, out) == (0, "Linux\n")
        assert "a warning\n" in err
        assert "succeeded: exit 0 after 1s" in err
        assert (tmp_path / "result" / "stdout.txt").read_text() == "Linux\n"
        assert json.loads((tmp_path / "result" / "result.json").read_text())["verdict"] == "succeeded"

    def test_json_keeps_standard_output_clean(self, server: SmallGrid, grid: Run, job: Path) -> None:
        finish_soon(server, b"Linux\n", verdict=Verdict.TIME_LIMIT, result=137)

        status, out, _ = grid("run", job, "--json")

        assert status == 124
        assert json.loads(out)["verdict"] == "time_limit"

    def test_ctrl_c_leaves_the_task_running(self, server: SmallGrid, job: Path) -> None:
        process = subprocess.Popen(
            (*COMMAND, "run", str(job)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not server.requests("GET", ".*/wait"):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)

        (task_id,) = server.tasks
        assert process.returncode == 130, err
        assert f"task {task_id} goes on; come back with:  grid logs -f {task_id}" in err
        assert "Traceback" not in err
        assert server.requests("POST", ".*/cancel") == []

    @pytest.mark.parametrize(
        ("verdict", "facts", "status"),
        [
            (Verdict.SUCCEEDED, {}, 0),
            (Verdict.EXIT_CODE, {"result": 3}, 3),
            (Verdict.SIGNAL, {"result": 139}, 139),
            (Verdict.TIME_LIMIT, {"result": 137}, 124),
            (Verdict.CPU_TIME_LIMIT, {"result": 137}, 124),
            (Verdict.MEMORY_LIMIT, {"result": 0}, 1),
            (Verdict.MEMORY_LIMIT, {"result": 137}, 137),
            (Verdict.MISSING_OUTPUT, {"result": 0}, 1),
            (Verdict.IMAGE_NOT_FOUND, {"result": None}, 125),
            (Verdict.NODE_LOST, {"result": None, "verdict_class": VerdictClass.INFRASTRUCTURE}, 125),
            (Verdict.CANCELLED, {"result": 137, "verdict_class": VerdictClass.CANCELLED}, 125),
        ],
    )
    def test_statuses(self, verdict: Verdict, facts: Mapping[str, object], status: int) -> None:
        assert exit_status(ended(view(1), verdict, **facts)[1]) == status


class TestLooking:
    def test_a_list_in_a_pipe_is_one_line_a_task(self, server: SmallGrid, grid: Run) -> None:
        server.add(view(1, name="a  b"))
        server.finish(server.add(view(2)).id)

        lines = grid("list")[1].splitlines()

        assert [line.split("\t")[1:3] for line in lines] == [["succeeded", "succeeded"], ["queued", ""]]
        assert lines[1].endswith("\t2026-01-01T00:00:00Z\ta  b")

    def test_a_list_on_a_terminal_has_headers_and_whole_ids(self, server: SmallGrid) -> None:
        task = server.add(view(1))
        terminal, end = pty.openpty()
        process = subprocess.Popen((*COMMAND, "list"), stdout=end, env=os.environ | {"COLUMNS": "60", "TERM": "dumb"})
        os.close(end)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
        os.close(terminal)

        assert process.wait(20) == 0
        assert task.id.encode() in shown
        assert b"age" in shown

    def test_json_of_every_command_that_prints(self, server: SmallGrid, grid: Run) -> None:
        task = server.add(view(1))
        server.finish(task.id)
        server.logs[task.id, "stdout"] = b"hi\n"
        server.secrets["KEY"] = "x"

        assert [one["id"] for one in json.loads(grid("list", "--json")[1])] == [task.id]
        for command in ("status", "result", "logs"):
            assert json.loads(grid(command, task.id, "--json")[1])["id"] == task.id
        assert json.loads(grid("explain", task.id, "--json")[1])["task"] == task.id
        assert json.loads(grid("nodes", "--json")[1]) == []
        assert json.loads(grid("secret", "list", "--json")[1]) == [{"name": "KEY"}]
        assert json.loads(grid("schema")[1])["type"] == "object"

    def test_status(self, server: SmallGrid, grid: Run) -> None:
        task = server.add(view(1, state=TaskState.RUNNING, phase="executing", node="alpha", cancel_requested=True))

        lines = dict(line.split("\t") for line in grid("status", task.id[:8])[1].splitlines())

        assert lines["state"] == "running (executing), cancel requested"
        assert lines["node"] == "alpha"

    def test_result(self, server: SmallGrid, grid: Run, tmp_path: Path) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"out.txt": b"12345"})

        status, out, _ = grid("result", task.id, tmp_path / "r")

        assert status == 0
        assert "file\tout.txt\t5" in out
        assert (tmp_path / "r" / "out.txt").read_bytes() == b"12345"

    def test_a_folder_in_use_needs_force(self, server: SmallGrid, grid: Run, tmp_path: Path) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"out.txt": b"12345"})
        (tmp_path / "mine").touch()

        status, _, err = grid("result", task.id, tmp_path)

        assert status == 1
        assert "is not empty" in err
        assert grid("result", task.id, tmp_path, "--force")[0] == 0

    def test_logs(self, server: SmallGrid, grid: Run) -> None:
        task = server.add(view(1))
        server.logs[task.id, "stdout"] = b"\xff\x00raw\n"
        server.logs[task.id, "stderr"] = b"oops\n"
        done = subprocess.run((*COMMAND, "logs", task.id), capture_output=True, check=True)

        assert done.stdout == b"\xff\x00raw\n"
        assert grid("logs", "--stderr", task.id)[1] == "oops\n"

    def test_cancel(self, server: SmallGrid, grid: Run) -> None:
        task = server.add(view(1))

        assert grid("cancel", task.id, "--reason", "a mistake") == (0, f"{task.id}\tcancelled\n", "")
        assert server.tasks[task.id].reason == "cancelled by ann: a mistake"
        status, _, err = grid("cancel", task.id)
        assert (status, err) == (1, f"grid: task {task.id} has ended\n")

    def test_cancel_and_retry_take_many_and_tell_of_each(self, server: SmallGrid, grid: Run) -> None:
        over = server.add(view(1))
        assert grid("cancel", over.id)[0] == 0
        open_one, open_two = server.add(view(2)), server.add(view(3))

        status, out, err = grid("cancel", open_one.id, over.id, open_two.id)
        assert (status, out) == (1, f"{open_one.id}\tcancelling\n{open_two.id}\tcancelling\n")
        assert err == f"{over.name}: it is cancelled\n"
        status, out, err = grid("retry", over.id)
        assert (status, out.strip() in server.tasks, err) == (0, True, "")
        assert json.loads(grid("retry", "--json", over.id)[1])[0]["task"] == over.id

    def test_explain(self, server: SmallGrid, grid: Run) -> None:
        out = grid("explain", server.add(view(1)).id)[1]

        assert "position\t2 of 5\n" in out
        assert "alpha\tnot now\t2 of 2 slots are taken\n" in out

    def test_nodes(self, server: SmallGrid, grid: Run) -> None:
        node = {"online": True, "ready": True, "cpus": 4, "cpus_used": 1.5, "memory": 1024, "memory_used": 0}
        server.nodes = [
            {"name": "alpha", **node, "slots": 4, "running": 2, "tags": ["cpu:amd"]},
            {"name": "beta", **node, "slots": 1, "running": 0, "online": False},
            {"name": "gamma", **node, "slots": 1, "running": 0, "mode": "draining"},
            {"name": "epsilon", **node, "slots": 1, "running": 1, "mode": "cordoned"},
            {"name": "delta", **node, "slots": 1, "running": 0, "ready": False, "not_ready_reason": "disk is full"},
        ]

        lines = grid("nodes")[1].splitlines()

        assert lines[0] == "alpha\tready\t2/4\t1.5/4\t0/1024\t\tcpu:amd"
        assert [line.split("\t")[1] for line in lines[1:]] == [
            "offline",
            "drained",
            "cordoned",
            "not ready: disk is full",
        ]

    def test_what_others_wrote_cannot_move_the_cursor(self, server: SmallGrid, grid: Run) -> None:
        task = server.add(view(1, reason="\x1b[2J\nforged line"))

        assert "\x1b" not in grid("status", task.id)[1]


class TestSecrets:
    def test_set_list_remove(self, server: SmallGrid, grid: Run, tmp_path: Path) -> None:
        (tmp_path / "value").write_text("s3cret\n")

        assert grid("secret", "set", "KEY", "--file", tmp_path / "value") == (0, "", "")
        assert server.secrets == {"KEY": "s3cret"}
        assert grid("secret", "list")[1] == "KEY\n"
        assert grid("secret", "remove", "KEY")[0] == 0
        status, _, err = grid("secret", "remove", "KEY")
        assert (status, err) == (1, "grid: there is no secret KEY\n")

    def test_a_value_from_a_pipe(self, server: SmallGrid) -> None:
        subprocess.run((*COMMAND, "secret", "set", "KEY"), input=b"piped\n", check=True)

        assert server.secrets == {"KEY": "piped"}


class TestErrors:
    def test_no_grid_is_one_line(self, grid: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        with SmallGrid() as gone:
            monkeypatch.setenv("GRID_SERVER", gone.url)

        status, out, err = grid("list")

        assert (status, out) == (1, "")
        assert err.startswith(f"grid: no grid answers at {gone.url} ")
        assert len(err.splitlines()) == 1

    def test_an_unknown_task(self, server: SmallGrid, grid: Run) -> None:
        assert grid("status", "0123abcd") == (
            1,
            "",
            "grid: there is no task 0123abcd; `grid list` shows those you may see\n",
        )

    def test_a_reader_that_goes_away_is_not_shouted_at(self, server: SmallGrid) -> None:
        task = server.add(view(1))
        server.logs[task.id, "stdout"] = b"x" * 1_000_000
        process = subprocess.Popen((*COMMAND, "logs", task.id), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait(20) == 1

    def test_a_secret_file_that_is_not_there(self, server: SmallGrid, grid: Run, tmp_path: Path) -> None:
        status, _, err = grid("secret", "set", "KEY", "--file", tmp_path / "none")

        assert (status, err) == (1, f"grid: No such file or directory: {tmp_path / 'none'}\n")
