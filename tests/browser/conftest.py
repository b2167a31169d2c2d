"""One grid, full of what people do with it, and one browser, for all tests of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.visits import OPTIONS, PATIENCE_MS, PROGRAM, Visitor, visitor
from tests.browser.world import World, the_world
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import ROOT, RunningGrid

__all__ = ["pytest_runtest_makereport"]

DOCS = ROOT / "docs" / "pictures"

expect.set_options(timeout=PATIENCE_MS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--screenshots``: the pictures of the pages are those of the docs from now on."""
    parser.addoption("--screenshots", action="store_true", help="write the pictures of the pages to docs/pictures")


Visits = Callable[..., Visitor]
"""``visits("ada", size=NARROW)``: a window of that person's, whose faults fail the test at its end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pictures first: they show the grid as it was filled, without what other tests leave in it."""
    items.sort(key=lambda item: item.path.name != "test_pictures.py")


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
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go."""
    if not request.config.getoption("--screenshots", default=False):
        return tmp_path_factory.mktemp("pictures")
    DOCS.mkdir(exist_ok=True)
    return DOCS
