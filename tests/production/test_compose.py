"""The stack of containers, really up: tasks run through it, its parts die and come back, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.grids import wanted
from tests.support.images import ensure_busybox
from tests.support.node_api import eventually
from tests.support.stack import Stack, running

pytestmark = [
    pytest.mark.needs("docker", "busybox", "root", "mmdebstrap", "compose"),
    # The first test makes the images on a fresh machine.
    pytest.mark.timeout(600),
]

NODES = 2
WAIT_SECONDS = 90.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with two nodes in containers."""
    ensure_busybox()
    with running(tmp_path_factory.mktemp("stack") / "here", NODES) as made:
        yield made


def test_a_task_runs_through_it_on_every_node_under_its_limits(stack: Stack, tmp_path: Path) -> None:
    """Its files, its limits and its usage are those of a node on the machine itself."""
    script = "head -c 100000 /dev/zero > made.bin && echo well"
    outputs: dict[str, object] = {"collect": [{"glob": "made.bin"}], "stdout": "out.txt"}
    # Long enough for both nodes to be needed: each has two slots.
    tasks = [stack.submit(tmp_path / f"well-{n}", "sh", "-c", f"{script}; sleep 2", **outputs) for n in range(4)]
    full = stack.submit(tmp_path / "full", "sh", "-c", "head -c 30000000 /dev/zero > made.bin")
    greedy = stack.submit(tmp_path / "greedy", "sh", "-c", "x=aaaaaaaa; while true; do x=$x$x; done")

    for result in [task.wait(WAIT_SECONDS) for task in tasks]:
        assert (result.verdict, result.record.not_enforced) == ("succeeded", ())
        assert result.files["made.bin"].read_bytes() == bytes(100_000)
        assert result.files["out.txt"].read_text() == "well\n"
    assert {task.refresh().node for task in tasks} == {f"{stack.name}-{number}" for number in (1, 2)}
    assert full.wait(WAIT_SECONDS).verdict == "storage_limit"
    assert greedy.wait(WAIT_SECONDS).verdict == "memory_limit"


def test_flower_sees_the_nodes_and_asks_for_the_password(stack: Stack) -> None:
    """Its page is a window on the workers of the containers."""
    user, _, password = stack.secret("flower_auth").partition(":")

    def seen() -> set[str]:
        found = httpx.get(f"{stack.flower}/api/workers?refresh=1", auth=(user, password), timeout=20)
        return set(found.json()) if found.status_code == 200 else set()

    assert httpx.get(f"{stack.flower}/api/workers", timeout=20).status_code == 401
    eventually(lambda: seen() == {f"node@{stack.name}-{number}" for number in (1, 2)}, WAIT_SECONDS)


def test_no_secret_is_in_an_environment_or_a_command(stack: Stack) -> None:
    """Whoever may look at the containers reads no password there, nor may the server's processes do as root does."""
    said = json.dumps(
        [stack.inspect(service) for service in ("postgres", "redis", "web", "dispatcher", "flower", "node")]
    )
    names = ("secret_key", "postgres_password", "redis_password", "flower_password")
    tokens = [path.read_text().strip() for path in (stack.folder / "tokens").iterdir()]

    assert [one for one in (*map(stack.secret, names), *tokens) if one in said] == []
    assert len(tokens) == NODES
    for service in ("web", "dispatcher", "flower", "postgres", "redis"):
        status = Path(f"/proc/{stack.processes(service)[0]}/status").read_text()
        effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
        assert int(effective, 16) == 0, service


def test_a_node_on_the_machine_itself_joins_by_its_token(stack: Stack, tmp_path: Path) -> None:
    """Nodes of both kinds use the same addresses."""
    stack.command("token", "outside")
    environment = wanted() | {"GRID_TOKEN_FILE": str(stack.folder / "outside/outside")}
    options = ["--server", stack.server, "--name", "outside", "--dir", str(tmp_path / "node"), "--tags", "outside"]
    with (tmp_path / "node.log").open("wb") as log:
        node = subprocess.Popen(
            [sys.executable, "-m", "nodes", "start", "--on-stop", "return", *options],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        eventually(lambda: "outside" in [one.name for one in stack.client.nodes() if one.ready], WAIT_SECONDS)
        task = stack.submit(tmp_path / "task", "true", requires=["outside"])
        assert task.wait(WAIT_SECONDS).verdict == "succeeded"
        assert task.refresh().node == "outside"
    finally:
        node.terminate()
        node.wait(30)


def test_whatever_dies_comes_back_and_the_tasks_end_once(stack: Stack, tmp_path: Path) -> None:
    """kill -9 of every part in turn while a task runs: the engine starts it again, no operator is needed."""
    task = stack.submit(tmp_path / "long", "sh", "-c", "sleep 3; echo end", stdout="out.txt")
    eventually(lambda: task.refresh().state == "running", WAIT_SECONDS)
    services = ("redis", "dispatcher", "web", "postgres")

    killed = {service: stack.kill(service) for service in services}

    eventually(lambda: all(stack.processes(one)[0] not in (0, killed[one]) for one in services), WAIT_SECONDS)
    eventually(stack.ready, WAIT_SECONDS)
    assert task.wait(WAIT_SECONDS).files["out.txt"].read_text() == "end\n"
    assert stack.submit(tmp_path / "next", "true").wait(WAIT_SECONDS).verdict == "succeeded"


def test_a_killed_node_comes_back_under_its_name_and_goes_on(stack: Stack, tmp_path: Path) -> None:
    """Its containers are the engine's: a new agent with the same token and folder adopts them."""
    task = stack.submit(tmp_path / "long", "sh", "-c", "sleep 8; echo end", stdout="out.txt")
    eventually(lambda: task.refresh().state == "running", WAIT_SECONDS)

    # The agents tell their names in their commands only.
    os.kill(next(pid for pid in stack.processes("node") if task.node in _command(pid)), signal.SIGKILL)

    result = task.wait(WAIT_SECONDS)
    assert result.files["out.txt"].read_text() == "end\n"
    eventually(stack.ready, WAIT_SECONDS)
    assert {node.name for node in stack.client.nodes() if node.online} >= {f"{stack.name}-{n}" for n in (1, 2)}


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
