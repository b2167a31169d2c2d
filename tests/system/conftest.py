"""Whole grids for the tests: one that all share, and new ones for tests that break things."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.grids import GridMaker, RunningGrid
from tests.support.images import ensure_test_image


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
def new_grid(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GridMaker]:
    """Makes grids of the test's own; the arguments are those of ``RunningGrid``. Leases last two seconds by default."""
    numbers = itertools.count(1)
    made: list[RunningGrid] = []
    request.node.stash[_MADE] = made
    with ExitStack() as stack:

        def make(**options: Any) -> RunningGrid:
            running = RunningGrid(tmp_path / f"grid-{next(numbers)}", **{"lease_seconds": 2, **options})
            made.append(running)
            return stack.enter_context(running)

        yield make


@pytest.fixture
def own_grid(new_grid: GridMaker) -> RunningGrid:
    """A grid of the test's own, with four slots and leases of two seconds."""
    return new_grid()


_MADE = pytest.StashKey[list[RunningGrid]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what its grids have written."""
    report = yield
    if report.failed:
        known = [*item.stash.get(_MADE, []), getattr(item, "funcargs", {}).get("grid")]
        for running in known:
            if isinstance(running, RunningGrid):
                report.sections.append((f"the grid in {running.folder}", running.logs()))
    return report
