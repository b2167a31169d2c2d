"""kolejka's real client works against the grid as it is, with the files and commands that its users have."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.views import BulkBody, BulkTask
from tests.support.grids import RunningGrid
from tests.support.kolejkas import PROGRAMS, KolejkaClient, kolejka_python, plain_environment
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

TASK: dict[str, Any] = {
    "image": "busybox:local",
    "args": ["sh", "-c", "cat; uname; mkdir o; echo 7 >o/out.txt"],
    "stdin": "in.txt",
    "limits": {"memory": "64M", "cpus": "1", "pids": "16", "time": "10s"},
    "stdout": "stdout.txt",
    "files": {"in.txt": None, "sub/empty": "empty"},
    "collect": [{"glob": "o/*", "strip": 1, "prefix": "p"}],
}
LOG_IN_SECONDS = 0.020


def described(folder: Path, **changes: object) -> Path:
    """The folder with a task JSON."""
    (folder / "kolejka_task.json").write_text(json.dumps({**TASK, **changes}))
    return folder


def test_execute_brings_the_result_home(client: KolejkaClient, folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "result"
    client.ok("execute", described(folder, colour="red"), home, "--interval", "0.2")
    assert (home / "stdout.txt").read_text() == "3 4\nLinux\n"
    assert (home / "p" / "out.txt").read_text() == "7\n"
    result = json.loads((home / "kolejka_result.json").read_text())
    assert (result["result"], result["limits"]["memory"], result["limits"]["cpus"]) == (0, "67108864b", 1)
    assert result["stats"]["cpu"]["usage"].endswith("s")
    assert any(tag.startswith("hostname:") for tag in result["tags"])


def test_put_get_and_delete_of_tasks_and_results(client: KolejkaClient, folder: Path, tmp_path: Path) -> None:
    key = client.ok("task", "put", described(folder), "--memory", "1G", "--time", "5s")
    client.ok("task", "get", key, tmp_path / "again")
    task = json.loads((tmp_path / "again" / "kolejka_task.json").read_text())
    assert task["limits"]["time"] == "5.0s"
    assert (tmp_path / "again" / "in.txt").read_text() == "3 4\n"
    assert (tmp_path / "again" / "sub" / "empty").read_text() == ""
    eventually(lambda: client.run("result", "get", key, tmp_path / "result").status == 0, 60)
    assert (tmp_path / "result" / "stdout.txt").exists()
    client.ok("result", "delete", key)
    assert "ObjectNotFound" in client.run("result", "get", key, tmp_path / "gone").err
    # What came back can be sent again as it is.
    again = client.ok("task", "put", tmp_path / "again")
    client.ok("task", "delete", key)
    assert "ObjectNotFound" in client.run("task", "get", key, tmp_path / "gone").err
    assert again != key


def test_put_get_and_delete_of_blobs(client: KolejkaClient, tmp_path: Path) -> None:
    for content in (b"", b"data" * 300_000):
        (tmp_path / "file").write_bytes(content)
        one, two = (client.ok("blob", "put", tmp_path / "file") for _ in range(2))
        client.ok("blob", "get", one, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        client.ok("blob", "delete", one)
        assert "ObjectNotFound" in client.run("blob", "get", one, tmp_path / "back").err
        client.ok("blob", "get", two, tmp_path / "back")


def test_a_cap_of_the_site_holds_and_a_refusal_is_shown(client: KolejkaClient, folder: Path, tmp_path: Path) -> None:
    key = client.ok("task", "put", described(folder, limits={"memory": "1G", "time": "500m"}))
    client.ok("task", "get", key, tmp_path / "again")
    limits = json.loads((tmp_path / "again" / "kolejka_task.json").read_text())["limits"]
    assert (limits["memory"], limits["time"]) == ("268435456b", "0.5s")
    said = client.run("task", "put", described(folder, requires=["no such tag"]))
    assert (said.status, "lacks the tag no such tag" in said.err) == (1, True)


def test_a_wrong_password_opens_nothing_and_the_right_one_does(grid: RunningGrid, client: KolejkaClient) -> None:
    wrong = KolejkaClient(grid.folder, grid.server, "admin", "wrong").run("blob", "put", "/etc/hostname")
    assert (wrong.status, "RemoteError" in wrong.err) == (1, True)
    password = Path(grid.facts["password_file"]).read_text().strip()
    KolejkaClient(grid.folder, grid.server, "admin", password).ok("blob", "put", "/etc/hostname")


def test_a_log_in_with_a_token_is_quick(grid: RunningGrid) -> None:
    def seconds() -> float:
        with httpx.Client(base_url=f"{grid.server}/kolejka", trust_env=False) as http:
            http.get("/logout/")
            begun = time.perf_counter()
            form = {"username": "admin", "password": grid.token}
            answer = http.post("/login/", data=form, headers={"X-CSRFToken": http.cookies["csrftoken"]})
            taken = time.perf_counter() - begun
            assert answer.json()["status"] == "OK"
            return taken

    # The machine has other things to do: of many the best tells what it costs.
    assert min(seconds() for _ in range(30)) <= LOG_IN_SECONDS


# -------------------------------------------------------------------------------------------------------------- foremen


@contextmanager
def foreman(grid: RunningGrid, folder: Path) -> Iterator[None]:
    """kolejka's real foreman at work, in a mount namespace in which nothing can reboot the machine."""
    config = folder / "foreman.conf"
    config.write_text(
        f"[client]\nserver = {grid.server}/kolejka\nusername = admin\npassword = {grid.token}\n"
        "[foreman]\nauto_tags = false\ntags = old,hostname:museum\ninterval = 0.2\nconcurency = 4\n"
        "cpus = 4\nmemory = 1G\nswap = 0\npids = 1000\nstorage = 1G\ngpus = 0\n"
    )
    # Not every kernel has it; where it is, the foreman sees /dev/null in its place, or is not started.
    inside = 'if [ -e /proc/sysrq-trigger ]; then mount --bind /dev/null /proc/sysrq-trigger; fi && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside, "sh", str(kolejka_python())]

    with (folder / "foreman.log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(PROGRAMS / "run_foreman.py"), str(config)],
            stdout=log,
            stderr=log,
            env=plain_environment(),
            cwd=folder,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.needs("namespaces")
def test_kolejkas_foreman_runs_tasks_of_the_grid(
    grid: RunningGrid, client: KolejkaClient, folder: Path, tmp_path: Path
) -> None:
    with foreman(grid, tmp_path):
        eventually(lambda: grid.node_is("kolejka-admin-museum", online=True), 60)
        described(folder, args=["cat", "in.txt"], collect=[], requires=["old"], stdin=None)
        keys = [client.ok("task", "put", folder) for _ in range(3)]
        results = [grid.client.get(key).wait(60) for key in keys]
    for result in results:
        assert (result.verdict, result.record.node) == ("succeeded", "kolejka-admin-museum"), result
    client.ok("result", "get", keys[0], tmp_path / "result")
    assert (tmp_path / "result" / "stdout.txt").read_text() == "3 4\n"


def test_eight_pollers_share_the_tasks_among_them(grid: RunningGrid) -> None:
    """The programs of tests/django do this with a thousand tasks; here they go through the server's own processes."""
    asked: list[str] = []
    lock = threading.Lock()

    def poll(number: int) -> None:
        with httpx.Client(base_url=f"{grid.server}/kolejka", trust_env=False, timeout=60) as http:
            http.get("/logout/")
            headers = {"X-CSRFToken": http.cookies["csrftoken"]}
            http.post("/login/", data={"username": "admin", "password": grid.token}, headers=headers)
            wish = {"concurency": 10, "limits": {}, "tags": ["poll", f"hostname:p{number}"]}
            while tasks := http.post("/queue/dequeue/", json=wish, headers=headers).raise_for_status().json()["tasks"]:
                with lock:
                    asked.extend(task["id"] for task in tasks)

    poll(0)  # so that the grid knows of the tag
    wanted = BulkTask(spec={"image": "busybox:local", "args": ["uname"], "requires": ["poll"]})
    made = [one.id for one in grid.client.create_tasks(BulkBody(tasks=(wanted,) * 200), uuid.uuid4().hex)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(poll, range(8)))
    assert Counter(asked) == Counter(made)
