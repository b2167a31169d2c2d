"""A grid, and kolejka's own programs as its clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import RunningGrid
from tests.support.kolejkas import KolejkaClient, kolejka_python

__all__ = ["client", "grid", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid with four slots that all tests share; no task of it gets more than 256 MiB."""
    kolejka_python()
    with RunningGrid(tmp_path_factory.mktemp("kolejka"), max_limits={"memory": "256M"}) as running:
        yield running


@pytest.fixture(scope="session")
def client(grid: RunningGrid) -> KolejkaClient:
    """The real client, with a token in place of a password."""
    return KolejkaClient(grid.folder, grid.server, "admin", grid.token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task folder with an input file and an empty one."""
    made = tmp_path / "task"
    made.mkdir()
    (made / "in.txt").write_text("3 4\n")
    (made / "empty").write_text("")
    return made
