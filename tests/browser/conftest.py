"""One grid, full of what people do with it, and one browser, for all tests of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.visits import OPTIONS, PROGRAM, Visitor, visitor
from tests.browser.world import World, the_world
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import RunningGrid

__all__ = ["pytest_runtest_makereport"]

Visits = Callable[..., Visitor]
"""``visits("ada", size=NARROW)``: a window of that person's, whose faults fail the test at its end."""


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid with Flower and one licence of a ``seat``, which its only long task holds."""
    with RunningGrid(tmp_path_factory.mktemp("grid"), flower=True, licences={"seat": 1}) as running:
        yield running


@pytest.fixture(scope="session")
def world(grid: RunningGrid) -> World:
    """What is in the grid. Tests may add to it, and leave what others look at as it was."""
    return the_world(grid)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=PROGRAM, args=list(OPTIONS), chromium_sandbox=False)
        yield running
        running.close()


@pytest.fixture
def visits(browser: Browser, world: World) -> Iterator[Visits]:
    """Opens windows, and fails the test if the browser complained of anything in one of them."""
    made: list[Visitor] = []

    def make(who: str = "", **options: Any) -> Visitor:
        one = visitor(browser, world, who, **options)
        made.append(one)
        return one

    yield make
    for one in made:
        one.context.close()
    assert [fault for one in made for fault in one.faults] == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go."""
    return tmp_path_factory.mktemp("pictures")
