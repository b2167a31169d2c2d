"""The client against a real HTTP server: what is sent, what is sent again, and how errors read."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import grid
from grid.client import Client
from grid.folder import LocalFile
from tasks.errors import Conflict, GridError, NotAllowed, NotFound, SpecError, Unavailable, WaitTimeout
from tasks.verdicts import Verdict, VerdictClass
from tests.support.small_grid import TOKEN, Fault, SmallGrid, view

MEBI = 1024**2


@pytest.fixture
def server() -> Iterator[SmallGrid]:
    with SmallGrid() as running:
        yield running


@pytest.fixture
def client(server: SmallGrid) -> Iterator[Client]:
    with Client(server.url, TOKEN) as made:
        yield made


def folder(path: Path, files: dict[str, bytes], **spec: object) -> Path:
    """A task folder with these files, all of them named in its description."""
    path.mkdir()
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    description = {"image": "busybox", "files": dict.fromkeys(files), **spec}
    (path / "task.json").write_text(json.dumps(description))
    return path


class TestSubmit:
    def test_a_small_folder_travels_in_one_request(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        task = client.submit(folder(tmp_path / "job", {"in.txt": b"3 4\n", "run.sh": b"#!/bin/sh\n"}))

        assert [seen.path for seen in server.seen] == ["/tasks"]
        assert task.name == "job"
        sent = server.specs[task.id]["files"]
        assert server.blobs[sent["in.txt"]["reference"]] == b"3 4\n"
        assert not sent["in.txt"]["executable"]

    def test_a_program_stays_executable(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        job = folder(tmp_path / "job", {"run.sh": b"#!/bin/sh\n"})
        (job / "run.sh").chmod(0o755)

        task = client.submit(job)

        assert server.specs[task.id]["files"]["run.sh"]["executable"] is True

    def test_large_files_are_sent_once(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        job = folder(tmp_path / "job", {"big.bin": os.urandom(3 * MEBI), "small.txt": b"x"})
        told: list[tuple[int, int]] = []

        client.submit(job, progress=lambda done, total: told.append((done, total)))
        client.submit(job)

        assert len(server.requests("PUT", "/blobs/.*")) == 1
        assert len(server.tasks) == 2
        assert told[-1] == (3 * MEBI, 3 * MEBI)

    def test_many_small_files_that_are_too_much_together_are_uploaded(
        self, server: SmallGrid, client: Client, tmp_path: Path
    ) -> None:
        job = folder(tmp_path / "job", {f"f{number:02}": os.urandom(60_000) for number in range(20)})

        client.submit(job)

        inline = json.loads(server.requests("POST", "/tasks")[0].body)["blobs"]
        uploaded = server.requests("PUT", "/blobs/.*")
        assert len(inline) + len(uploaded) == 20
        assert uploaded

    def test_a_lost_answer_makes_no_second_task(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        server.faults.append(Fault("POST", "/tasks", lost=True))

        task = client.submit(folder(tmp_path / "job", {}))

        sent = server.requests("POST", "/tasks")
        assert len(sent) == 2
        assert sent[0].headers["Idempotency-Key"] == sent[1].headers["Idempotency-Key"]
        assert list(server.tasks) == [task.id]

    def test_a_lost_upload_is_sent_again_from_the_start(
        self, server: SmallGrid, client: Client, tmp_path: Path
    ) -> None:
        server.faults.append(Fault("PUT", "/blobs/.*", lost=True))

        client.submit(folder(tmp_path / "job", {"big.bin": b"a" * MEBI}))

        assert [len(seen.body) for seen in server.requests("PUT", "/blobs/.*")] == [MEBI, MEBI]

    def test_a_busy_server_is_asked_again_when_it_says(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        server.faults.append(Fault("POST", "/tasks", status=503, headers={"Retry-After": "1"}))
        began = time.monotonic()

        client.submit(folder(tmp_path / "job", {}))

        assert time.monotonic() - began >= 1.0
        assert len(server.requests("POST", "/tasks")) == 2

    def test_a_server_that_fails_each_time_is_not_asked_for_ever(self, server: SmallGrid, client: Client) -> None:
        server.faults.extend(Fault("GET", "/tasks/x", status=500) for _ in range(9))

        with pytest.raises(Unavailable, match="internal error: not now"):
            client.get("x")

        assert len(server.seen) == 3

    def test_two_submits_are_two_tasks(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        job = folder(tmp_path / "job", {})

        assert client.submit(job) != client.submit(job)

    def test_many_folders_are_one_submit_and_equal_files_one_upload(
        self, server: SmallGrid, client: Client, tmp_path: Path
    ) -> None:
        jobs = [folder(tmp_path / f"job {n}", {"in.txt": b"3 4\n", "n.txt": b"%d" % n}) for n in range(3)]
        server.faults.append(Fault("POST", "/tasks/bulk", lost=True))

        tasks = client.submit_many(jobs, labels={"week": "3"})

        assert [task.name for task in tasks] == ["job 0", "job 1", "job 2"]
        assert len(server.tasks) == 3
        assert {server.specs[task.id]["labels"]["week"] for task in tasks} == {"3"}
        assert len(server.requests("PUT", "/blobs/.*")) == 4

    def test_faults_of_all_folders_are_told_before_anything_is_sent(
        self, server: SmallGrid, client: Client, tmp_path: Path
    ) -> None:
        jobs = [folder(tmp_path / name, {}, limits={"memory": name}) for name in ("64M", "64X", "64Y")]

        with pytest.raises(SpecError, match=r"64X: limits\.memory") as raised:
            client.submit_many(jobs)

        assert len(raised.value.faults) == 2
        assert server.seen == []

    def test_the_same_key_is_the_same_task(self, client: Client, tmp_path: Path) -> None:
        job = folder(tmp_path / "job", {})

        assert client.submit(job, idempotency_key="k1") == client.submit(job, idempotency_key="k1")

    def test_name_labels_and_limits_are_put_on_top(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        job = folder(tmp_path / "job", {}, labels={"a": "1"}, limits={"time": "1s", "memory": "64M"})

        task = client.submit(job, name="mine", labels={"b": "2"}, limits={"memory": "96M"})

        spec = server.specs[task.id]
        assert spec["name"] == "mine"
        assert spec["labels"] == {"a": "1", "b": "2"}
        assert spec["limits"] == {"time": "1s", "memory": "96M"}

    def test_faults_of_the_folder_are_told_before_anything_is_sent(
        self, server: SmallGrid, client: Client, tmp_path: Path
    ) -> None:
        job = folder(tmp_path / "job", {}, limits={"memory": "64X"})

        with pytest.raises(SpecError, match="64X"):
            client.submit(job)

        assert server.seen == []

    def test_a_file_that_changes_while_it_is_sent_is_told(self, tmp_path: Path, client: Client) -> None:
        big = tmp_path / "big"
        big.write_bytes(b"a" * MEBI)
        was = big.stat()
        local = LocalFile("files.big", big, "0" * 64, MEBI, False, (was.st_dev, was.st_ino, MEBI, was.st_mtime_ns))

        with pytest.raises(SpecError, match=r"files\.big: changed while it was being read"):
            client.put_blob(local.sha256, local.chunks, local.size)

    def test_what_the_server_finds_is_told_as_faults(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        job = folder(tmp_path / "job", {})
        (job / "task.json").write_text(json.dumps({"image": "busybox", "files": {"x": {"reference": "ab" * 32}}}))

        with pytest.raises(SpecError) as caught:
            client.submit(job)

        assert caught.value.faults[0].path == "files"


class TestErrors:
    def test_nobody_there(self) -> None:
        with SmallGrid() as gone:
            pass
        began = time.monotonic()

        with pytest.raises(Unavailable, match=rf"no grid answers at {gone.url} .*; start one with `grid up`"):
            Client(gone.url, TOKEN).get("x")

        assert time.monotonic() - began < 5

    def test_no_token_says_how_to_get_one(self, server: SmallGrid) -> None:
        with Client(server.url, "") as client, pytest.raises(NotAllowed, match="GRID_TOKEN"):
            client.get("x")

    def test_another_program_at_the_address(self, server: SmallGrid, client: Client) -> None:
        server.nodes = "<html>"  # type: ignore[assignment]

        with pytest.raises(GridError, match="is no grid"):
            client.nodes()

    @pytest.mark.parametrize("server_name", ["", "8080", "ftp://x", "http://", "http://[::1", "http://h:0"])
    def test_an_address_that_is_none(self, server_name: str) -> None:
        with pytest.raises(GridError, match="is not the address of a grid"):
            Client(server_name, TOKEN)

    def test_a_token_that_cannot_be_sent(self, server: SmallGrid) -> None:
        with pytest.raises(GridError, match="the token has a character"):
            Client(server.url, "tok\nen")

    def test_a_redirect_is_not_followed_with_the_token(self, server: SmallGrid, client: Client) -> None:
        server.faults.append(Fault("GET", "/tasks/x", status=302, headers={"Location": "http://elsewhere/"}))

        with pytest.raises(GridError, match="elsewhere"):
            client.get("x")


class TestWait:
    def test_the_result_comes_as_soon_as_there_is_one(self, server: SmallGrid, client: Client) -> None:
        task = client.get(server.add(view(1)).id)
        threading.Timer(0.2, server.finish, (task.id, {"stdout.txt": b"Linux\n"})).start()

        result = task.wait(30)

        assert (result.verdict, result.verdict_class, result.exit_code) == ("succeeded", "success", 0)
        assert result.files["stdout.txt"].read_text() == "Linux\n"
        assert result.files["stdout.txt"].size == 6
        assert task.final

    def test_too_short_a_wait_leaves_the_task_alone(self, server: SmallGrid, client: Client) -> None:
        task = client.get(server.add(view(1)).id)

        with pytest.raises(WaitTimeout, match=r"still queued after 0\.2 s"):
            task.wait(0.2)

        assert not server.tasks[task.id].state.final

    def test_a_server_that_is_restarted_meanwhile_is_waited_for(self, server: SmallGrid, client: Client) -> None:
        task = client.get(server.add(view(1)).id)

        def restart() -> None:
            server.stop()
            server.finish(task.id)
            time.sleep(0.5)
            server.start()

        restarter = threading.Timer(0.2, restart)
        restarter.start()
        server.faults.append(Fault("GET", ".*/result/wait", lost=True))

        assert task.wait(30).verdict == "succeeded"
        restarter.join()

    def test_a_result_that_is_not_there_yet(self, server: SmallGrid, client: Client) -> None:
        with pytest.raises(Conflict):
            client.get(server.add(view(1)).id).result()

    def test_run_is_submit_and_wait(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        def finish_first() -> None:
            while not server.tasks:
                time.sleep(0.01)
            server.finish(next(iter(server.tasks)), verdict=Verdict.EXIT_CODE, result=3)

        threading.Thread(target=finish_first).start()

        assert client.run(folder(tmp_path / "job", {}), timeout=30).exit_code == 3

    def test_cancel(self, server: SmallGrid, client: Client) -> None:
        task = client.get(server.add(view(1)).id)

        assert task.cancel("not needed").reason == "cancelled by ann: not needed"
        assert task.wait(5).record.verdict_class is VerdictClass.CANCELLED
        with pytest.raises(Conflict):
            task.cancel()


class TestFinding:
    def test_a_list_is_fetched_page_by_page(self, server: SmallGrid, client: Client) -> None:
        for number in range(1, 1201):
            server.add(view(number))

        assert len(client.list_tasks(limit=1100)) == 1100
        assert [seen.query["limit"] for seen in server.requests("GET", "/tasks")] == ["500", "500", "100"]

    def test_filters_are_passed_on(self, server: SmallGrid, client: Client) -> None:
        server.add(view(1))
        server.finish(server.add(view(2)).id)

        assert [task.name for task in client.list_tasks(state="succeeded")] == ["task 2"]

    def test_the_beginning_of_an_id_is_enough_when_it_is_one(self, server: SmallGrid, client: Client) -> None:
        server.add(view(0xAA000001))
        server.add(view(0xAB000001))

        assert client.find("aa").name == f"task {0xAA000001}"
        with pytest.raises(NotFound, match="there is no task cc"):
            client.find("cc")
        server.add(view(0xAA000002))
        with pytest.raises(NotFound, match="2 tasks have an id that begins with aa"):
            client.find("aa")

    def test_threads_share_a_client(self, server: SmallGrid, client: Client) -> None:
        for number in range(1, 41):
            server.add(view(number))

        with ThreadPoolExecutor(8) as pool:
            names = list(pool.map(lambda number: client.get(view(number).id).name, range(1, 41)))

        assert names == [f"task {number}" for number in range(1, 41)]


class TestModuleFunctions:
    def test_the_grid_of_the_configuration(
        self, server: SmallGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRID_SERVER", server.url)
        monkeypatch.setenv("GRID_TOKEN", TOKEN)

        task = grid.submit(folder(tmp_path / "job", {}))
        server.finish(task.id)

        assert grid.get(task.id).wait(5).succeeded
        assert grid.list() == [task]
        assert grid.run(tmp_path / "job", timeout=5, idempotency_key=next(iter(server.keys))).succeeded
        assert "submit" in dir(grid)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(AttributeError, match="sumbit"):
            grid.sumbit  # type: ignore[attr-defined]  # noqa: B018 - reading it is the test
