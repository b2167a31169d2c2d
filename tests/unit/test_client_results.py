"""Results and logs through the client: what is cut is fetched again, no name leaves its folder."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid.client import Client
from tasks.errors import GridError
from tasks.result import ResultFile
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


class TestResultFiles:
    def test_a_body_that_is_cut_is_fetched_again(self, server: SmallGrid, client: Client) -> None:
        task = server.add(view(1))
        content = os.urandom(MEBI)
        server.finish(task.id, {"out.bin": content})
        server.faults.append(Fault("GET", ".*/files/out.bin", cut_at=1000))

        assert client.get(task.id).result().files["out.bin"].read_bytes() == content
        assert len(server.requests("GET", ".*/files/out.bin")) == 2

    def test_content_that_is_not_what_the_result_says(self, server: SmallGrid, client: Client) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"out.txt": b"right"})
        server.outputs[task.id, "out.txt"] = b"wrong"

        with pytest.raises(GridError, match=r"out\.txt of task .* came in broken"):
            client.get(task.id).result().files["out.txt"].read_bytes()

    def test_a_name_that_is_not_there_says_which_are(self, server: SmallGrid, client: Client) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"a.txt": b"", "b.txt": b""})

        with pytest.raises(KeyError, match=r"a\.txt, b\.txt"):
            client.get(task.id).result().files["c.txt"]

    def test_download(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"stdout.txt": b"hi\n", "out/deep/data 1.bin": b"\0" * 100})

        target = client.get(task.id).download(tmp_path / "result")

        assert (target / "out/deep/data 1.bin").read_bytes() == b"\0" * 100
        record = json.loads((target / "result.json").read_text())
        assert record["class"] == "success"
        assert record["files"]["stdout.txt"]["path"] == "stdout.txt"
        assert stat.S_IMODE((target / "stdout.txt").stat().st_mode) & 0o111 == 0
        assert sorted(one.name for one in target.iterdir()) == ["out", "result.json", "stdout.txt"]

    def test_a_folder_in_use_is_left_alone(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"a.txt": b"new"})
        (tmp_path / "a.txt").write_bytes(b"old")

        with pytest.raises(GridError, match="is not empty"):
            client.get(task.id).download(tmp_path)
        assert (tmp_path / "a.txt").read_bytes() == b"old"

        client.get(task.id).download(tmp_path, force=True)
        assert (tmp_path / "a.txt").read_bytes() == b"new"

    @pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "a\\evil"])
    def test_no_name_leads_out_of_the_folder(
        self, server: SmallGrid, client: Client, tmp_path: Path, name: str
    ) -> None:
        task = server.add(view(1))
        server.finish(task.id, files={})
        hostile = {name: ResultFile(reference="0" * 64, size=1)}
        server.results[task.id] = server.results[task.id].model_copy(update={"files": hostile})

        with pytest.raises(GridError, match="it was not written"):
            client.get(task.id).download(tmp_path / "result")
        assert not (tmp_path / "evil").exists()

    def test_no_link_leads_out_of_the_folder(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"sub/a.txt": b"x"})
        outside = tmp_path / "outside"
        outside.mkdir()
        target = tmp_path / "result"
        target.mkdir()
        (target / "sub").symlink_to(outside)

        with pytest.raises(GridError, match="is a link"):
            client.get(task.id).download(target, force=True)
        assert list(outside.iterdir()) == []

    def test_a_task_that_made_a_result_json_keeps_it(self, server: SmallGrid, client: Client, tmp_path: Path) -> None:
        task = server.add(view(1))
        server.finish(task.id, {"result.json": b"the task's own"})

        target = client.get(task.id).download(tmp_path / "result")

        assert (target / "result.json").read_bytes() == b"the task's own"
        assert json.loads((target / "grid-result.json").read_text())["id"] == task.id


class TestLogs:
    def test_following_ends_with_the_task(self, server: SmallGrid, client: Client) -> None:
        task = server.add(view(1))
        server.logs[task.id, "stdout"] = "żółw ".encode()
        lines = client.get(task.id).logs(follow=True)

        first = next(lines)
        server.logs[task.id, "stdout"] += b"two"
        server.finish(task.id)

        assert first + "".join(lines) == "żółw two"

    def test_without_following_it_ends_at_once(self, server: SmallGrid, client: Client) -> None:
        task = server.add(view(1))
        server.logs[task.id, "stderr"] = b"oops"

        assert list(client.get(task.id).logs(stream="stderr")) == ["oops"]

    def test_a_new_attempt_begins_a_new_log(self, server: SmallGrid, client: Client) -> None:
        task = server.add(view(1))
        server.logs[task.id, "stdout"] = b"first try\n"
        server.attempts[task.id] = "a1"
        chunks = client.get(task.id).log_bytes(follow=True)

        assert next(chunks) == b"first try\n"
        server.logs[task.id, "stdout"] = b"second try, longer\n"
        server.attempts[task.id] = "a2"
        assert next(chunks) == b"second try, longer\n"
        server.finish(task.id)
        assert list(chunks) == []
