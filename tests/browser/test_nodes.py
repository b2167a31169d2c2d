"""Nodes at a browser: closed, emptied and opened again, and a new one that may join."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visits
from tests.browser.world import ADA, STAFF, World

pytestmark = pytest.mark.needs("docker", "busybox", "root", "chromium")

scripts = pytest.mark.parametrize("java_script_enabled", [True, False], ids=["with scripts", "without"])


@scripts
def test_a_node_is_cordoned_drained_and_resumed(visits: Visits, java_script_enabled: bool) -> None:
    page = visits(STAFF, java_script_enabled=java_script_enabled).go("/node/lab2/")
    state = page.locator("#state")
    page.get_by_label("Why").fill("a new disk")
    page.get_by_role("button", name="Cordon").click()
    expect(state).to_contain_text("a new disk")
    page.get_by_role("button", name="Drain").click()
    expect(state).to_contain_text(re.compile("drain", re.IGNORECASE))
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)


def test_a_node_is_changed_in_the_list(visits: Visits, world: World) -> None:
    page = visits(STAFF).go("/nodes/")
    row = page.get_by_role("row", name=re.compile(world.node))
    expect(row).to_contain_text("ready")
    row.locator("summary").click()
    expect(row.get_by_role("button", name="Drain")).to_be_visible()


def test_a_new_node_gets_its_command(visits: Visits, world: World) -> None:
    page = visits(STAFF).go("/nodes/")
    page.get_by_label("Name").fill("lab9")
    page.get_by_role("button", name="Make the command").click()
    expect(page.get_by_label("The command")).to_have_text(
        re.compile(r"grid node start --server \S+ --name lab9 --token")
    )
    page.goto(f"{world.server}/node/lab9/")
    page.get_by_role("button", name="Remove from the grid").click()
    expect(page.get_by_role("status")).to_contain_text("lab9 was removed")


def test_others_only_look(visits: Visits) -> None:
    one = visits(ADA)
    page = one.go("/nodes/")
    assert page.locator("main form").count() == 0
    one.go("/node/{node}/")
    assert page.locator("main form").count() == 0
