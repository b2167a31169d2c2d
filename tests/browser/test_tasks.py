"""What people do with tasks at a browser, from the first example to the failures of a whole course."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from grid import Client, Task
from tests.browser.conftest import Visits
from tests.browser.world import ADA, BOB, NEW, WAITING, World
from tests.support.commands import WAITS
from tests.support.node_api import eventually
from tests.support.story import PATIENCE_SECONDS, has_printed, may_go_on

pytestmark = pytest.mark.needs("docker", "busybox", "root", "chromium")

scripts = pytest.mark.parametrize("java_script_enabled", [True, False], ids=["with scripts", "without"])


def that_waits(world: World, name: str) -> Task:
    """A task of ada's that waits for the seat, which stays taken."""
    return ada(world).submit(world.grid.task_folder("true", resources={"seat": 1}), name=name)


def ada(world: World) -> Client:
    """Her client."""
    return world.people[ADA].client


@scripts
def test_an_empty_grid_explains_itself_and_runs_an_example(visits: Visits, java_script_enabled: bool) -> None:
    one = visits(NEW, java_script_enabled=java_script_enabled)
    if not one.world.people[NEW].client.list_tasks(limit=1):
        page = one.go("/")
        expect(page.get_by_role("heading", name="No tasks yet")).to_be_visible()
        page.get_by_role("button", name="Run an example").click()
    else:
        page = one.go("/")
        page.get_by_role("row").get_by_role("link").first.click()
    # The page follows by itself: by events, or by asking again.
    expect(page.locator("#verdict .badge")).to_have_text("succeeded")


def test_a_live_log_grows_and_the_verdict_comes_by_itself(visits: Visits, world: World) -> None:
    task = ada(world).submit(world.grid.task_folder(*WAITS), name="seen live")
    has_printed(task, "ready\n")
    page = visits(ADA).go(f"/tasks/{task.id}/")
    expect(page.locator("#log")).to_have_text(re.compile("ready"))
    page.evaluate("window.stays = true")
    may_go_on(world.grid.directory / "node", task)
    expect(page.locator("#log")).to_have_text(re.compile("over"))
    expect(page.locator("#verdict .badge")).to_have_text("succeeded")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    assert page.evaluate("window.stays")


@scripts
def test_a_log_is_searched(visits: Visits, java_script_enabled: bool) -> None:
    page = visits(ADA, java_script_enabled=java_script_enabled).go("/tasks/{succeeded}/")
    page.get_by_label("Search the output").fill("answer 1")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#log mark.here")).to_have_count(1)
    before = page.locator("#log mark").count()
    assert before >= 11
    page.locator("#output").get_by_role("link", name="Next").click()
    expect(page.locator("#log mark.here")).to_have_count(1)
    page.get_by_role("link", name="Close the search").click()
    expect(page.locator("#log mark")).to_have_count(0)
    page.get_by_role("link", name="stderr").click()
    expect(page.locator("#log")).to_have_text("1 warning: slow")


@scripts
def test_a_task_is_cancelled_with_a_reason(visits: Visits, world: World, java_script_enabled: bool) -> None:
    task = that_waits(world, "not wanted")
    page = visits(ADA, java_script_enabled=java_script_enabled).go(f"/tasks/{task.id}/")
    expect(page.locator("#verdict")).to_contain_text("seat: 0 of 1 free")
    page.get_by_label("Why").fill("the data was wrong")
    page.get_by_role("button", name="Cancel the task").click()
    expect(page.locator("#verdict")).to_contain_text("Cancelled by ada: the data was wrong")
    assert task.refresh().verdict == "cancelled"


@scripts
def test_a_task_is_run_again(visits: Visits, world: World, java_script_enabled: bool) -> None:
    page = visits(ADA, java_script_enabled=java_script_enabled).go("/tasks/{failed}/")
    page.get_by_role("button", name="Run again", exact=True).click()
    page.wait_for_url(lambda address: "/tasks/" in address and world.tasks["failed"] not in address)
    new = ada(world).get(page.url.rstrip("/").rpartition("/")[2])
    assert new.wait(PATIENCE_SECONDS).verdict == "exit_code"
    page.reload()
    expect(page.locator("#log")).to_have_text("")
    expect(page.locator("#verdict")).to_contain_text("exited with 3")


@scripts
def test_rows_are_chosen_and_cancelled_together(visits: Visits, world: World, java_script_enabled: bool) -> None:
    mark = f"sweep {java_script_enabled}"
    tasks = [that_waits(world, f"{mark} {number}") for number in range(3)]
    page = visits(ADA, java_script_enabled=java_script_enabled).go(f"/?text={mark.replace(' ', '+')}")
    if java_script_enabled:
        page.get_by_label("Choose all on this page").check()
        page.get_by_label(f"Choose {mark} 0").uncheck()
        expect(page.get_by_text("2 tasks chosen:")).to_be_visible()
    else:
        for number in (1, 2):
            page.get_by_label(f"Choose {mark} {number}").check()
    page.get_by_label("Why they are cancelled").fill("the round is over")
    page.get_by_role("form", name="With the chosen tasks").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").first).to_be_visible()
    eventually(lambda: [task.refresh().final for task in tasks] == [False, True, True], PATIENCE_SECONDS)
    assert "the round is over" in str(tasks[1].view.reason)
    tasks[0].cancel()


@scripts
def test_rows_are_chosen_and_run_again(visits: Visits, world: World, java_script_enabled: bool) -> None:
    label = f"retry_of={world.tasks['failed']}"
    before = len(ada(world).list_tasks(label=label))
    page = visits(ADA, java_script_enabled=java_script_enabled).go("/?state=failed&text=lab")
    page.locator(f"#pick-{world.tasks['failed']}").check()
    page.get_by_role("form", name="With the chosen tasks").get_by_role("button", name="Run again").click()
    expect(page.get_by_role("status").first).to_contain_text("1 task was submitted again")
    # The list shows what is new: a retry has no end yet.
    assert "state=" not in page.url
    assert len(ada(world).list_tasks(label=label)) == before + 1


def test_what_failed_of_a_filter_is_run_again_at_once(visits: Visits, world: World) -> None:
    folder = world.grid.task_folder("sh", "-c", "exit 4", labels={"course": "statistics"})
    for task in [ada(world).submit(folder, name=f"draw {number}") for number in range(2)]:
        task.wait(PATIENCE_SECONDS)
    page = visits(ADA).go("/?label=course%3Dstatistics")
    page.get_by_role("link", name="Run again what failed of these").click()
    page.get_by_role("button", name="Run 2 tasks again").click()
    page.goto(f"{world.server}/?label=course%3Dstatistics&text=draw")
    expect(page.locator("#list tbody tr")).to_have_count(4)


def test_a_filter_lives_in_the_address(visits: Visits) -> None:
    page = visits(ADA).go("/")
    page.get_by_label("Name or id").fill("travelling")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.wait_for_url(re.compile("text=travelling"))
    page.get_by_label("Verdict").select_option("time_limit")
    page.wait_for_url(re.compile("verdict=time_limit"))
    page.reload()
    expect(page.get_by_label("Name or id")).to_have_value("travelling")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Show all tasks").click()
    expect(page.locator("#list")).to_contain_text("lab 3: sorting")


def test_a_filter_works_without_scripts(visits: Visits) -> None:
    page = visits(ADA, java_script_enabled=False).go("/")
    page.get_by_label("Name or id").fill("travelling")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#list tbody tr")).to_have_count(1)
    assert "text=travelling" in page.url


def test_the_same_failures_stand_together(visits: Visits) -> None:
    page = visits(ADA).go("/")
    page.get_by_role("region", name="The same failures").get_by_role("link", name=re.compile("memory limit")).click()
    expect(page.locator("#list tbody tr")).to_have_count(2)


@scripts
def test_a_long_list_has_pages(visits: Visits, java_script_enabled: bool) -> None:
    page = visits(BOB, java_script_enabled=java_script_enabled).go("/?text=solution")
    expect(page.locator("#list tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("#list tbody tr")).to_have_count(WAITING - 50)
    expect(page.locator("#list")).to_contain_text("solution 01")
    page.get_by_role("link", name="Newer").or_(page.get_by_role("link", name="Newest")).first.click()
    expect(page.locator("#list tbody tr")).to_have_count(50)


def test_who_waits_is_told_why_and_the_queue_tells_it_too(visits: Visits) -> None:
    one = visits(BOB)
    page = one.go("/tasks/{of bob}/")
    expect(page.locator("#verdict")).to_contain_text("licence seat: 0 of 1 free")
    expect(page.locator("#verdict")).to_contain_text(re.compile(r"Place \d+ of \d+ in the queue"))
    one.go("/queue/")
    expect(page.get_by_role("region", name="Waits longest")).to_contain_text("seat")


def test_files_are_looked_at_and_what_could_run_is_not(visits: Visits) -> None:
    one = visits(ADA)
    page = one.go("/tasks/{succeeded}/")
    page.get_by_role("link", name="score.txt", exact=True).click()
    expect(page.locator("pre.preview")).to_have_text("40 of 40\n")
    one.go("/tasks/{succeeded}/file/?path=plot.png")
    assert page.locator("img.picture").evaluate("image => image.naturalWidth") == 240
    one.go("/tasks/{succeeded}/file/?path=report.html")
    expect(page.locator("main h1")).to_have_text("report.html")
    assert page.locator("main script").count() == 0
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download").first.click()
    assert coming.value.suggested_filename == "report.html"
