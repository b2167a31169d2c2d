"""Without a mouse: everything is reached by Tab, one sees where one is, and the main flows are done so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.sights import Sight
from tests.browser.visits import NARROW, WIDE
from tests.browser.world import ADA, BOB, PASSWORD, STAFF, World
from tests.support.grids import RunningGrid

pytestmark = pytest.mark.needs("docker", "busybox", "root", "chromium")

MOST = 400
# At each key, before it does anything, the element that has the focus is noted: its number, whether one sees it, and
# whether something is drawn around it.
_NOTED = """() => {
  window.noted = [];
  addEventListener("keydown", () => {
    const one = document.activeElement;
    if (!one || one === document.body) return;
    const style = getComputedStyle(one), box = one.getBoundingClientRect();
    const drawn = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    const within = box.width > 1 && box.height > 1 && box.bottom > 0 && box.top < innerHeight;
    window.noted.push({ html: one.outerHTML.slice(0, 150), number: window.wanted.indexOf(one), drawn, within });
  }, true);
}"""
_WANTED = """() => {
  const all = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  window.wanted = [...document.querySelectorAll(all)].filter((one) => !one.disabled && one.checkVisibility());
  return window.wanted.map((one) => one.outerHTML.slice(0, 150));
}"""

LOOKED_AT = (
    Sight("/?state=failed"),
    Sight("/tasks/{succeeded}/"),
    Sight("/tasks/{waiting}/"),
    Sight("/submit/"),
    Sight("/node/lab2/", STAFF),
    Sight("/nodes/", STAFF),
    Sight("/queue/"),
    Sight("/account/"),
    Sight("/staff/", STAFF),
    Sight(f"/staff/users/{BOB}/", STAFF),
    Sight("/login/", ""),
)


@pytest.mark.parametrize("sight", LOOKED_AT, ids=str)
def test_every_control_is_reached_and_one_sees_where_one_is(visits: Visits, sight: Sight) -> None:
    page = visits(sight.who).go(sight.address)
    page.evaluate(_NOTED)
    for width, height in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        wanted: list[str] = page.evaluate(_WANTED)
        assert wanted
        assert len(wanted) < MOST
        reached = set[int]()
        # Once round, by way of the browser's own controls, wherever the focus is at first.
        for at in _tour(page, len(wanted)):
            if at["number"] in reached:
                break
            assert (at["drawn"], at["within"]) == (True, True), at["html"]
            if at["number"] >= 0:
                reached.add(at["number"])
        missed = [wanted[number] for number in range(len(wanted)) if number not in reached]
        assert missed == []


def _tour(page: Page, count: int) -> Iterator[dict[str, Any]]:
    """What has the focus, Tab after Tab, about three times round a page with ``count`` controls."""
    page.evaluate("window.noted.length = 0")
    # The first key finds the focus where the page or a look before has left it.
    page.keyboard.press("Tab")
    page.evaluate("window.noted.length = 0")
    for _ in range(3):
        for _ in range(count + 3):
            page.keyboard.press("Tab")
        yield from page.evaluate("window.noted.splice(0)")


def test_a_link_skips_what_is_the_same_on_all_pages(visits: Visits) -> None:
    page = visits(ADA).go("/nodes/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")


def test_people_come_in_and_leave_by_the_keyboard(visits: Visits) -> None:
    page = visits().go("/login/")
    # The first field has the focus already.
    page.keyboard.type(ADA)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    to(page, "details.who summary")
    page.keyboard.press("Enter")
    to(page, "details.who form button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_task_is_found_cancelled_and_run_again_by_the_keyboard(
    visits: Visits, world: World, grid: RunningGrid
) -> None:
    folder = grid.task_folder("true", resources={"seat": 1})
    task = world.people[ADA].client.submit(folder, name="by keys alone")
    page = visits(ADA).go("/")
    to(page, "#id_text")
    page.keyboard.type("by keys")
    page.keyboard.press("Enter")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    to(page, f"#pick-{task.id}")
    page.keyboard.press("Space")
    to(page, "#id_many-reason, #bulk .why input")
    page.keyboard.type("no mouse here")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_be_visible()
    page.goto(f"{world.server}/tasks/{task.id}/")
    expect(page.locator("#verdict")).to_contain_text("no mouse here")
    to(page, "#actions form button")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "/tasks/" in address and task.id not in address)
    to(page, "#cancel input[type=text]")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("Cancelled by ada")


def test_a_node_is_closed_and_opened_by_the_keyboard(visits: Visits) -> None:
    page = visits(STAFF).go("/node/lab2/")
    to(page, "#change button[formaction*=cordon]")
    page.keyboard.press("Space")
    expect(page.locator("#state")).to_contain_text(re.compile("cordon|nothing new|closed"))
    to(page, "#change button")
    page.keyboard.press("Enter")
    expect(page.locator("#change button[formaction*=cordon]")).to_be_visible()


def to(page: Page, where: str) -> None:
    """Press Tab until the element that ``where`` selects has the focus."""
    for _ in range(MOST):
        page.keyboard.press("Tab")
        if page.evaluate("where => document.activeElement.matches(where)", where):
            return
    raise AssertionError(f"Tab does not lead to {where}")
