"""The main job as its users do it: in Python, and on the command line with real processes."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import grid
from tests.support.broker import free_port
from tests.support.commands import WAITS, a_line, background, command
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.story import may_go_on

pytestmark = pytest.mark.needs("docker", "busybox", "root")

UNAME: dict[str, Any] = {"image": "busybox:local", "args": ["uname"], "stdout": "stdout.txt"}
LOOKS = [
    ("list", "--limit", "3"),
    ("status", "ID"),
    ("logs", "ID"),
    ("result", "ID"),
    ("explain", "ID"),
    ("nodes",),
    ("node", "check"),
    ("schema",),
]


class TestPython:
    """``import grid`` with no setting at all but the config that the grid wrote."""

    @pytest.fixture(autouse=True)
    def _config(self, here: RunningGrid, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("GRID_SERVER", "GRID_TOKEN", "GRID_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GRID_CONFIG", str(here.config_file))

    def test_the_tour(self, tmp_path: Path) -> None:
        task = grid.submit(folder(tmp_path, UNAME))
        result = task.wait(timeout=60)

        assert (result.verdict, result.exit_code) == ("succeeded", 0)
        assert result.files["stdout.txt"].read_text() == "Linux\n"
        assert grid.get(task.id).verdict == "succeeded"

    def test_run_waits_and_tells_a_failure_without_raising(self, tmp_path: Path) -> None:
        result = grid.run(folder(tmp_path, UNAME | {"args": ["sh", "-c", "echo no; exit 3"]}))

        assert (result.verdict, result.exit_code, result.succeeded) == ("exit_code", 3, False)
        assert result.files["stdout.txt"].read_text() == "no\n"

    def test_list_narrows(self, tmp_path: Path) -> None:
        folders = [folder(tmp_path / name, UNAME) for name in ("a", "b")]
        mine = [grid.submit(one, labels={"tour": tmp_path.name}, name=f"n{n}") for n, one in enumerate(folders)]
        for task in mine:
            task.wait()

        found = grid.list(label=f"tour={tmp_path.name}", state="succeeded")
        assert [task.name for task in found] == ["n1", "n0"]
        assert grid.list(label=f"tour={tmp_path.name}", verdict="exit_code") == []

    def test_cancel_keeps_the_reason_and_the_output(self, here: RunningGrid) -> None:
        task = here.submit(*WAITS, stdout="out")
        output = grid.get(task.id).logs(follow=True)
        assert next(output) == "ready\n"

        assert grid.get(task.id).cancel(reason="it was a mistake").id == task.id
        result = task.wait()
        assert (result.verdict, result.verdict_class) == ("cancelled", "cancelled")
        assert "admin" in result.reason
        assert "it was a mistake" in result.reason
        assert result.files["out"].read_text() == "ready\n"
        assert list(output) == []

    def test_logs_come_while_the_task_runs(self, here: RunningGrid) -> None:
        task = here.submit(*WAITS)
        pieces = task.logs(follow=True)
        assert next(pieces) == "ready\n"
        assert not task.refresh().final

        may_go_on(here.directory / "node", task)
        assert "".join(pieces) == "over\n"

    def test_download_brings_the_files_and_the_record(self, here: RunningGrid, tmp_path: Path) -> None:
        task = here.submit("sh", "-c", "mkdir -p a/b; echo 1 >a/b/c; echo 2 >d", collect=[{"glob": "**"}])
        task.wait()

        where = task.download(tmp_path / "result")
        assert (where / "a/b/c").read_text() == "1\n"
        assert (where / "d").read_text() == "2\n"
        assert json.loads((where / "result.json").read_text())["verdict"] == "succeeded"
        with pytest.raises(grid.GridError, match="is not empty"):
            task.download(where)

    def test_one_key_makes_one_task(self, tmp_path: Path) -> None:
        made = folder(tmp_path / "a", UNAME)
        first = grid.submit(made, idempotency_key=tmp_path.as_posix())

        assert grid.submit(made, idempotency_key=tmp_path.as_posix()) == first
        with pytest.raises(grid.Conflict, match="was used for another task"):
            grid.submit(folder(tmp_path / "b", UNAME | {"args": ["true"]}), idempotency_key=tmp_path.as_posix())

    def test_without_a_grid_the_error_says_what_to_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server = f"http://127.0.0.1:{free_port()}"
        monkeypatch.setenv("GRID_SERVER", server)
        with pytest.raises(grid.Unavailable, match=f"^no grid answers at {server} .*start one with `grid up`"):
            grid.submit(folder(tmp_path, UNAME))

    def test_faults_of_a_folder_come_all_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(grid.SpecError) as caught:
            grid.submit(folder(tmp_path, UNAME | {"limits": {"memory": "64X"}, "imagee": "x", "files": {"no": None}}))
        assert {fault.path for fault in caught.value.faults} == {"limits.memory", "imagee", "files.no"}


class TestCommands:
    """``grid`` in processes of its own, with pipes for a terminal."""

    def test_submit_prints_the_bare_id(self, here: RunningGrid, tmp_path: Path) -> None:
        done = command(here, "submit", folder(tmp_path, UNAME))

        assert re.fullmatch(r"[0-9a-f]{32}\n", done.out)
        assert (done.status, done.err) == (0, "")
        assert here.client.get(done.out.strip()).wait().succeeded

    @pytest.mark.parametrize(
        ("args", "limits", "status", "told"),
        [
            (["true"], {}, 0, "succeeded"),
            (["sh", "-c", "exit 3"], {}, 3, "exit_code"),
            (["sleep", "20"], {"time": "300ms"}, 124, "time_limit"),
            (["no-such-program"], {}, 127, "no-such-program"),
            (["sh", "-c", "kill -SEGV $$"], {}, 139, "SIGSEGV"),
        ],
    )
    def test_the_status_of_run_is_the_task_s(
        self, here: RunningGrid, tmp_path: Path, args: list[str], limits: dict[str, str], status: int, told: str
    ) -> None:
        done = command(here, "run", folder(tmp_path, {"image": "busybox:local", "args": args, "limits": limits}))

        assert done.status == status
        assert told in done.err
        assert "Traceback" not in done.err

    def test_submit_and_wait_ends_the_same(self, here: RunningGrid, tmp_path: Path) -> None:
        made = folder(tmp_path, UNAME | {"args": ["sleep", "20"]})
        done = command(here, "submit", made, "--wait", "--time", "200ms", "--json")

        assert done.status == 124
        assert done.json["verdict"] == "time_limit"
        assert "200ms" in done.json["reason"]

    def test_run_shows_both_streams_and_brings_the_files(self, here: RunningGrid, tmp_path: Path) -> None:
        program = "cat in; echo wrong >&2; echo more >out.txt"
        spec = {"args": ["sh", "-c", program], "files": {"in": None}, "collect": [{"glob": "*.txt"}]}
        made = folder(tmp_path / "task", UNAME | spec)
        (made / "in").write_text("given\n")
        done = command(here, "run", made, tmp_path / "result")

        assert (done.status, done.out) == (0, "given\n")
        assert "wrong\n" in done.err
        assert (tmp_path / "result/out.txt").read_text() == "more\n"
        assert (tmp_path / "result/stdout.txt").read_text() == "given\n"
        assert json.loads((tmp_path / "result/result.json").read_text())["result"] == 0

    def test_everything_that_prints_also_prints_json(self, here: RunningGrid) -> None:
        task = here.submit("echo", "hello")
        task.wait()

        known = {look: command(here, *(task.id if word == "ID" else word for word in look), "--json") for look in LOOKS}
        assert {look: done.status for look, done in known.items() if done.status} == {}
        said = {look[0]: done.json for look, done in known.items()}
        assert {"id", "name", "state", "verdict"} <= said["list"][0].keys()
        assert said["status"]["verdict"] == "succeeded"
        assert said["logs"]["text"] == "hello\n"
        assert said["result"]["result"] == 0
        assert said["explain"]["task"] == task.id
        assert said["nodes"][0]["name"] == here.facts["node"]
        assert "limits" in said["schema"]["properties"]

    def test_into_a_pipe_all_is_plain_and_greppable(self, here: RunningGrid) -> None:
        task = here.submit("echo", "hello", name="plain")
        task.wait()

        rows = command(here, "list").out.splitlines()
        mine = next(row for row in rows if row.startswith(task.id)).split("\t")
        assert (mine[1], mine[2], mine[3], mine[5]) == ("succeeded", "succeeded", here.facts["node"], "plain")
        status = command(here, "status", task.id).out
        assert "verdict\tsucceeded\n" in status
        assert command(here, "logs", task.id).out == "hello\n"
        assert command(here, "nodes").out.startswith(f"{here.facts['node']}\tready\t")
        for text in (*rows, status):
            assert text.replace("\t", "").replace("\n", "").isprintable()

    def test_the_beginning_of_an_id_is_enough(self, here: RunningGrid) -> None:
        task = here.submit("echo", "hello")
        task.wait()

        # Ids of tasks of one moment begin alike; what nobody else has is enough.
        others = [one.id for one in here.client.list_tasks(limit=500) if one != task]
        length = next(n for n in range(2, 33) if not any(one.startswith(task.id[:n]) for one in others))
        assert command(here, "logs", task.id[:length]).out == "hello\n"
        common = command(here, "status", task.id[:2])
        assert (common.status, "tasks have an id that begins with" in common.err) == (1, True)
        assert "there is no task ffff" in command(here, "status", "ffff").err

    def test_cancel_says_why_and_explain_says_what_is(self, here: RunningGrid) -> None:
        task = here.submit(*WAITS)
        eventually(lambda: "".join(task.logs()) == "ready\n")

        assert "running" in command(here, "explain", task.id).out
        assert command(here, "cancel", task.id, "--reason", "enough of it").status == 0
        assert task.wait().verdict == "cancelled"
        assert "enough of it" in command(here, "result", task.id).out
        again = command(here, "cancel", task.id)
        assert again.status == 0
        assert "Traceback" not in again.err

    def test_what_can_never_run_says_why_not(self, here: RunningGrid, tmp_path: Path) -> None:
        done = command(here, "submit", folder(tmp_path, UNAME | {"requires": ["gpu:none-such"]}))

        assert (done.status, done.out) == (2, "")
        assert "lacks the tag gpu:none-such" in done.err

    def test_a_task_that_waits_is_explained_node_by_node(self, here: RunningGrid) -> None:
        first, second = (here.submit(*WAITS, singleton="one at a time") for _ in range(2))
        eventually(lambda: "".join(first.logs()) == "ready\n")

        told = command(here, "explain", second.id)
        assert "queued" in told.out
        assert "one at a time" in told.out
        assert f"node {here.facts['node']}" in told.out or "position" in told.out
        may_go_on(here.directory / "node", first)
        assert first.wait().succeeded
        eventually(lambda: "".join(second.logs()) == "ready\n")
        may_go_on(here.directory / "node", second)
        assert second.wait().succeeded

    def test_ctrl_c_leaves_the_task_running_and_says_how_to_come_back(self, here: RunningGrid) -> None:
        made = here.task_folder(*WAITS)
        with background(here, "run", made) as process:
            assert a_line(process.stdout) == "ready"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        back = re.search(r"goes on; come back with:  grid (logs -f ([0-9a-f]{32}))", err)
        assert back is not None
        assert "Traceback" not in err

        task = here.client.get(back[2])
        assert task.state == "running"
        with background(here, *back[1].split()) as process:
            assert a_line(process.stdout) == "ready"
            may_go_on(here.directory / "node", task)
            out, _ = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "over\n")
        assert task.wait().succeeded


@pytest.fixture
def here(grid: RunningGrid) -> RunningGrid:
    """The grid of these tests, under a name that leaves ``grid`` to the package."""
    return grid


def folder(path: Path, spec: dict[str, Any]) -> Path:
    """A task folder with this description."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "task.json").write_text(json.dumps(spec))
    return path
