"""Parts of a grid are killed while it works: nothing that was accepted is lost, and the rest goes on by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.commands import WAITS, let_go
from tests.support.grids import ROOT, RunningGrid
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

# What decides where a task goes: rows and values only.
DECIDERS = [
    *(
        f"grid/core/{name}.py"
        for name in ("dispatcher", "snapshot", "policy", "explain", "offers", "intake", "records")
    ),
    *(str(path.relative_to(ROOT)) for path in (ROOT / "tasks" / "placement").glob("*.py")),
]
BROKERS = {"celery", "kombu", "redis", "valkey", "django_celery_results", "flower"}


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
