"""Every page, as everybody meets it: on a wide screen and a narrow one, in light and dark, with scripts and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visits
from tests.browser.sights import EACH, NOT_PAGES, SIGHTS, Sight, routes
from tests.browser.visits import COLOURS, NARROW, WIDE, Visitor, hardships, overflow

pytestmark = pytest.mark.needs("docker", "busybox", "root", "chromium")


def test_a_new_page_fails_until_it_is_listed() -> None:
    assert routes() == set(SIGHTS) | NOT_PAGES
    assert not set(SIGHTS) & NOT_PAGES


@pytest.mark.parametrize("sight", EACH, ids=str)
def test_a_page_fits_is_quiet_and_can_be_used_by_everybody(visits: Visits, sight: Sight) -> None:
    page = seen(visits(sight.who), sight)
    for width, height in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="light")
        assert overflow(page) == []
        if sight.ours:
            assert hardships(page) == []
            page.emulate_media(color_scheme="dark")
            # The same page in other colours, which is what is to be judged anew.
            assert hardships(page, COLOURS) == []


@pytest.mark.parametrize("sight", [sight for sight in EACH if sight.ours], ids=str)
def test_a_page_is_complete_without_scripts(visits: Visits, sight: Sight) -> None:
    page = seen(visits(sight.who, java_script_enabled=False), sight)
    for width, height in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        assert overflow(page) == []
    # What only scripts bring to life is not there to be pressed in vain.
    assert page.locator(".only-js:visible, .copy:visible").count() == 0
    assert page.locator("main h1:visible").count() == 1


def seen(visitor: Visitor, sight: Sight) -> Page:
    """The page, after a look at what was answered."""
    address = visitor.world.server + visitor.address(sight.address)
    answer = visitor.page.goto(address, wait_until="load")
    assert answer is not None
    assert answer.status == sight.status
    if sight.status >= 400:
        visitor.forgive(sight.status)
    return visitor.page
