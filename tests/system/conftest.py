"""Whole grids for the tests: one that all share, and new ones for tests that break things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.grid_fixtures import new_grid, pytest_runtest_makereport
from tests.support.grids import GridMaker, RunningGrid
from tests.support.images import ensure_test_image

__all__ = ["grid", "new_grid", "own_grid", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid with eight slots that all tests share: no test may kill a part of it or wait for it to be idle.

    It has one licence of a ``seat``, for tasks that are to wait for each other.
    """
    # Made before the node looks which images there are: one it has not seen may be refused.
    ensure_test_image()
    with RunningGrid(tmp_path_factory.mktemp("grid"), slots=8, licences={"seat": 1}) as running:
        yield running


@pytest.fixture
def own_grid(new_grid: GridMaker) -> RunningGrid:
    """A grid of the test's own, with four slots and leases of two seconds."""
    return new_grid()
