"""Who comes in and who does not, and what operators do at a browser."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import expect

from grid import Client, GridError
from tasks.accounts import TokenBody
from tests.browser.conftest import Visits
from tests.browser.world import ADA, BOB, PASSWORD, STAFF, World

pytestmark = pytest.mark.needs("docker", "busybox", "root", "chromium")

scripts = pytest.mark.parametrize("java_script_enabled", [True, False], ids=["with scripts", "without"])


@scripts
def test_people_log_in_and_out(visits: Visits, world: World, java_script_enabled: bool) -> None:
    one = visits(java_script_enabled=java_script_enabled)
    page = one.go("/queue/")
    for password in ("wrong", PASSWORD):
        page.get_by_label("Name").fill(BOB)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        if password == "wrong":
            expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    # They come to the page that they wanted.
    expect(page).to_have_url(f"{world.server}/queue/")
    page.locator("details.who summary").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    one.go("/account/")
    expect(page).to_have_url(re.compile("/login/"))


def test_who_guesses_has_to_wait_and_is_told_how_long(visits: Visits) -> None:
    one = visits()
    # As a program does, and then at the page.
    guesser = httpx.Client(base_url=one.world.server)
    guesser.get("/login/")
    guess = {"username": "nobody of this name", "password": "a guess"}
    for _ in range(5):
        guesser.post("/login/", data={**guess, "csrfmiddlewaretoken": guesser.cookies["csrftoken"]})
    guesser.close()
    page = one.go("/login/")
    page.get_by_label("Name").fill(guess["username"])
    page.get_by_label("Password").fill(guess["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"Too many wrong passwords. Try again in \d+ seconds"))
    one.forgive(429)


@scripts
def test_people_come_in_with_an_identity_from_elsewhere(
    visits: Visits, world: World, provider: str, java_script_enabled: bool
) -> None:
    one = visits(java_script_enabled=java_script_enabled)
    # The provider's pages have styles from the network, which is not needed here.
    one.context.route(re.compile("^https:"), lambda route: route.abort())
    page = one.go("/queue/")
    page.get_by_role("link", name="Log in with your organisation").click()
    expect(page).to_have_url(re.compile(f"^{provider}/"))
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("alert").or_(page.get_by_role("status"))).to_contain_text("refused or given up")
    one.go("/queue/")
    page.get_by_role("link", name="Log in with your organisation").click()
    page.get_by_role("button", name="1001").click()
    # They come to the page that they wanted.
    expect(page).to_have_url(f"{world.server}/queue/")
    expect(page.locator("details.who summary")).to_contain_text("grace")
    one.forget_others()


def test_an_operator_revokes_a_token_of_somebody(visits: Visits, world: World) -> None:
    made = world.people[BOB].client.create_token(TokenBody(name="lost laptop", scopes=("read",)))
    page = visits(STAFF).go("/staff/")
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.get_by_label("Whose").fill(BOB)
    page.get_by_role("button", name="Show").click()
    page.get_by_role("button", name="Revoke lost laptop of bob").click()
    expect(page.get_by_role("status")).to_contain_text("opens nothing any more")
    expect(page.get_by_role("button", name="Revoke lost laptop of bob")).to_have_count(0)
    with Client(world.server, made.token) as client, pytest.raises(GridError):
        client.list_tasks(limit=1)


def test_a_token_is_shown_once_works_and_is_revoked(visits: Visits, world: World) -> None:
    page = visits(BOB).go("/account/")
    page.get_by_label("Name").fill("notebook")
    page.get_by_role("button", name="Make a token").click()
    token = page.get_by_label("Token", exact=True).inner_text()
    with Client(world.server, token) as client:
        assert client.list_tasks(limit=1)
        page.get_by_role("link", name="Tasks", exact=True).click()
        page.goto(f"{world.server}/account/")
        expect(page.get_by_text(token)).to_have_count(0)
        page.get_by_role("button", name="Revoke notebook").click()
        expect(page.get_by_role("button", name="Revoke notebook")).to_have_count(0)
        with pytest.raises(GridError):
            client.list_tasks(limit=1)


def test_an_operator_makes_an_account_and_its_owner_comes_in(visits: Visits, world: World) -> None:
    page = visits(STAFF).go("/staff/")
    page.locator("#user_name").fill("carol")
    page.get_by_role("button", name="Make the account").click()
    password = page.get_by_label("Password").inner_text()
    page.get_by_role("link", name="Groups and quotas of carol").click()
    page.get_by_label("Tasks that run at a time").fill("3")
    page.get_by_role("button", name="Save the policy").click()
    expect(page.get_by_role("status").first).to_be_visible()

    hers = visits().go("/account/")
    hers.get_by_label("Name").fill("carol")
    hers.get_by_label("Password").fill(password)
    hers.get_by_role("button", name="Log in").click()
    expect(hers.get_by_role("heading", name="Your quotas")).to_be_visible()
    expect(hers.get_by_role("row", name=re.compile("carol"))).to_contain_text("0 of 3")

    page.goto(f"{world.server}/staff/audit/")
    expect(page.get_by_role("table")).to_contain_text("carol")


def test_a_fault_in_a_policy_stands_at_its_field(visits: Visits) -> None:
    one = visits(STAFF)
    page = one.go(f"/staff/users/{BOB}/")
    page.get_by_label("Memory of a task").fill("lots")
    page.get_by_role("button", name="Save the policy").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
    expect(page.locator(".wrong")).to_have_count(1)
    one.forgive(422)


def test_a_group_is_made_and_given_a_quota(visits: Visits) -> None:
    page = visits(STAFF).go("/staff/")
    page.get_by_label("New group").fill("Course of 2026")
    page.get_by_role("button", name="Make the group").click()
    page.get_by_label("Tasks that wait at a time").fill("200")
    page.get_by_role("button", name="Save the policy").click()
    expect(page.get_by_role("status")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Tasks that wait at a time")).to_have_value("200")


def test_flower_is_behind_the_log_in_and_for_operators(visits: Visits) -> None:
    page = visits(STAFF).go("/")
    page.get_by_role("link", name="Flower").click()
    expect(page.locator("body")).to_contain_text("node@")
    nobody = visits().go("/flower/")
    expect(nobody).to_have_url(re.compile("/login/"))
    assert visits(ADA).go("/").get_by_role("link", name="Flower").count() == 0
