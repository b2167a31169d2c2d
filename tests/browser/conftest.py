"""One grid, full of what people do with it, and one browser, for all tests of a process."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.visits import OPTIONS, PATIENCE_MS, PROGRAM, WIDE, Visitor, visitor
from tests.browser.world import World, the_world
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import ROOT, RunningGrid
from tests.support.identities import honest_provider

__all__ = ["pytest_runtest_makereport"]

DOCS = ROOT / "docs" / "pictures"

expect.set_options(timeout=PATIENCE_MS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--screenshots``: the pictures of the pages are those of the docs from now on."""
    parser.addoption("--screenshots", action="store_true", help="write the pictures of the pages to docs/pictures")


Window = tuple[str, bool]
"""Whose it is, and whether scripts run there."""

Windows = dict[Window, Visitor]

Visits = Callable[..., Visitor]
"""``visits("ada", size=NARROW)``: a window of that person's, whose faults fail the test at its end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pictures first: they show the grid as it was filled, without what other tests leave in it."""
    items.sort(key=lambda item: item.path.name != "test_pictures.py")


@pytest.fixture(scope="session")
def provider_port() -> int:
    """Where the provider of identities will be. The system gives these ports to nobody who does not ask for one."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("all ports are taken")


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory, provider_port: int) -> Iterator[RunningGrid]:
    """A grid with Flower, a log-in from elsewhere, and one licence of a ``seat``, which its only long task holds."""
    external: dict[str, Any] = {
        "oidc_issuer": f"http://127.0.0.1:{provider_port}",
        "oidc_client_id": "grid",
        "oidc_client_secret": "s",
    }
    with RunningGrid(tmp_path_factory.mktemp("grid"), flower=True, licences={"seat": 1}, **external) as running:
        yield running


@pytest.fixture
def provider(provider_port: int) -> Iterator[str]:
    """The provider of identities, which knows a person called grace; its address."""
    with honest_provider([{"sub": "1001", "preferred_username": "grace"}], port=provider_port) as url:
        yield url


@pytest.fixture(scope="session")
def world(grid: RunningGrid) -> Iterator[World]:
    """What is in the grid. Tests may add to it, and leave what others look at as it was."""
    made = the_world(grid)
    yield made
    for person in made.people.values():
        person.client.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=PROGRAM, args=list(OPTIONS), chromium_sandbox=False)
        yield running
        running.close()


@pytest.fixture(scope="session")
def windows() -> Windows:
    """The windows that nobody is at just now."""
    return {}


@pytest.fixture
def visits(browser: Browser, world: World, windows: Windows) -> Iterator[Visits]:
    """Opens windows, and fails the test if the browser complained of anything in one of them.

    Who is known has the same window in test after test, which has the scripts and styles of the grid already.
    """
    made: list[tuple[Window, Visitor]] = []

    def make(
        who: str = "",
        *,
        size: tuple[int, int] = WIDE,
        color_scheme: Literal["light", "dark"] = "light",
        java_script_enabled: bool = True,
    ) -> Visitor:
        window = (who, java_script_enabled)
        one = windows.pop(window, None) or visitor(browser, world, who, java_script_enabled=java_script_enabled)
        made.append((window, one))
        one.arrive(size, color_scheme)
        return one

    yield make
    for window, one in made:
        if one.who and window not in windows:
            one.leave()
            windows[window] = one
        else:
            one.context.close()
    assert [fault for _, one in made for fault in one.faults] == []


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go."""
    if not request.config.getoption("--screenshots", default=False):
        return tmp_path_factory.mktemp("pictures")
    DOCS.mkdir(exist_ok=True)
    return DOCS
