"""What the conftests of suites over whole grids share: grids of a test's own, and their logs beside a failed test."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.grids import GridMaker, RunningGrid

LEASE_SECONDS = 2

_MADE = pytest.StashKey[list[RunningGrid]]()


@pytest.fixture
def new_grid(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GridMaker]:
    """Makes grids of the test's own; the arguments are those of ``RunningGrid``. Leases last two seconds by default."""
    numbers = itertools.count(1)
    made: list[RunningGrid] = []
    request.node.stash[_MADE] = made
    with ExitStack() as stack:

        def make(**options: Any) -> RunningGrid:
            running = RunningGrid(tmp_path / f"grid-{next(numbers)}", **{"lease_seconds": LEASE_SECONDS, **options})
            made.append(running)
            return stack.enter_context(running)

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what its grids have written."""
    report = yield
    if report.failed:
        shared = [one for one in getattr(item, "funcargs", {}).values() if isinstance(one, RunningGrid)]
        known = {id(one): one for one in (*item.stash.get(_MADE, []), *shared)}
        for running in known.values():
            report.sections.append((f"the grid in {running.folder}", running.logs()))
    return report
