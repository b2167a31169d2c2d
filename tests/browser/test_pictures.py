"""Pictures of the main pages, as a test run sees them; with ``--screenshots`` they become those of the docs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visits
from tests.browser.visits import NARROW, Visitor
from tests.browser.world import ADA, NEW, STAFF

pytestmark = pytest.mark.needs("docker", "busybox", "root", "chromium")

MOST_BYTES = 150_000


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be seen on one of them: a page as somebody sees it, so many points high."""

    address: str
    who: str = ADA
    width: int = 1100
    height: int = 760
    dark: bool = False


PICTURES = {
    "tasks": Picture("/"),
    "tasks-phone": Picture("/", width=NARROW[0], height=NARROW[1], dark=True),
    "task": Picture("/tasks/{hog}/", height=900),
    "task-live": Picture("/tasks/{running}/", dark=True, height=820),
    "task-waits": Picture("/tasks/{waiting}/", height=520),
    "submit": Picture("/submit/", height=900),
    "node": Picture("/node/{node}/", STAFF, height=820),
    "queue": Picture("/queue/", STAFF, height=560),
    "first-run": Picture("/", NEW, height=620),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_a_main_page_is_made_and_small(visits: Visits, pictures: Path, name: str) -> None:
    wanted = PICTURES[name]
    one = visits(wanted.who, size=(wanted.width, wanted.height), color_scheme="dark" if wanted.dark else "light")
    page = one.go(wanted.address)
    expect(page.locator("main h1, main h2").first).to_be_visible()
    _rest(one)
    made = pictures / f"{name}.png"
    page.screenshot(path=made, animations="disabled")
    assert 5_000 < made.stat().st_size < MOST_BYTES


def _rest(one: Visitor) -> None:
    """Wait until pictures are loaded and fonts are there."""
    one.page.wait_for_function(
        "[...document.images].every((image) => image.complete) && document.fonts.status === 'loaded'"
    )
