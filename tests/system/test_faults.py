"""Parts of a grid are killed while it works: nothing that was accepted is lost, and the rest goes on by itself."""

from __future__ import annotations

import ast
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import WAITS, let_go
from tests.support.grids import ROOT, GridMaker, RunningGrid
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

SUBMITS = 20
# What decides where a task goes: rows and values only.
DECIDERS = [
    *(
        f"grid/core/{name}.py"
        for name in ("dispatcher", "snapshot", "policy", "explain", "offers", "intake", "records")
    ),
    *(str(path.relative_to(ROOT)) for path in (ROOT / "tasks" / "placement").glob("*.py")),
]
BROKERS = {"celery", "kombu", "redis", "valkey", "django_celery_results", "flower"}


def test_the_broker_is_killed_with_all_it_knew(new_grid: GridMaker) -> None:
    grid = new_grid(lease_seconds=10)
    before = grid.submit(*WAITS)
    eventually(lambda: before.refresh().state == "running")

    with grid.held():
        killed = grid.kill("broker")
        eventually(lambda: ended(killed))
        shutil.rmtree(grid.directory / "broker" / "appendonlydir")
        folder = grid.task_folder("true")
        tasks, seconds = [], []
        for _ in range(SUBMITS):
            began = time.monotonic()
            tasks.append(grid.client.submit(folder))
            seconds.append(time.monotonic() - began)
        assert max(seconds) < 1.0
        # What runs does not need a broker, not even to report its end.
        let_go(grid, before)
        assert before.wait().succeeded

    back = time.monotonic()
    grid.restarted("broker", killed)
    assert [task.wait(30).verdict for task in tasks] == ["succeeded"] * SUBMITS
    assert time.monotonic() - back < 25
    assert [task.view.attempts for task in tasks] == [1] * SUBMITS


def test_orders_that_were_lost_with_the_broker_are_sent_again(new_grid: GridMaker) -> None:
    grid = new_grid(node=False, lease_seconds=10)
    worker = grid.add_node("slow")
    assert worker.process is not None
    # The node does not consume while the messages for it are lost.
    worker.process.send_signal(signal.SIGSTOP)
    tasks = [grid.submit("true") for _ in range(4)]
    eventually(lambda: {task.refresh().node for task in tasks} == {"slow"})
    killed = grid.kill("broker")
    eventually(lambda: ended(killed))
    shutil.rmtree(grid.directory / "broker" / "appendonlydir")
    worker.process.send_signal(signal.SIGCONT)
    assert [task.wait(30).verdict for task in tasks] == ["succeeded"] * 4
    assert [task.view.attempts for task in tasks] == [1] * 4


@pytest.mark.parametrize("program", ["dispatcher", "web", "node"])
def test_a_killed_program_comes_back_and_work_goes_on(program: str, killed_grid: RunningGrid) -> None:
    grid = killed_grid
    running = grid.submit(*WAITS, limits={"time": "60s"})
    eventually(lambda: "".join(running.logs()) == "ready\n")

    pid = grid.kill(program)
    fresh = grid.submit("echo", "fresh")
    grid.restarted(program, pid)
    assert fresh.wait(30).succeeded
    let_go(grid, running)
    result = running.wait(30)
    assert (result.verdict, running.view.attempts) == ("succeeded", 1)
    assert "".join(running.logs()) == "ready\nover\n"


@pytest.mark.parametrize("path", DECIDERS)
def test_no_placement_reads_the_state_of_celery_or_the_broker(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.partition(".")[0] in BROKERS} == set()


@pytest.fixture(scope="module")
def killed_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid whose programs are killed one after the other; it has to survive them all."""
    with RunningGrid(tmp_path_factory.mktemp("killed"), lease_seconds=20) as running:
        yield running


def ended(pid: int) -> bool:
    """True when the process has ended, though nobody may have asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True
