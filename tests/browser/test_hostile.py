"""What strangers write stays text in a browser: the corpus goes in through the fields that people have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits
from tests.browser.visits import Visitor
from tests.browser.world import ADA, STAFF, World
from tests.support.hostile import CORPUS, MARK

pytestmark = pytest.mark.needs("docker", "busybox", "root", "chromium")

# For fields that take one line: a tag, the end of an attribute, the end of an element.
LINES = (
    "<img xssmark src=x onerror=alert(1)>",
    '"><svg xssmark onload=alert(1)>',
    "</title><script xssmark>alert(1)</script>",
)
ALIVE = f"{MARK}, [{MARK}]"


def a_file_name(payload: str) -> str:
    """The payload as the name of a file, as far as a file may be called so."""
    return re.sub(r"[/\x00-\x1f\\]", "-", payload).strip(" .")[:80]


def nothing_lives(page: Page) -> None:
    """Nothing of the corpus has become an element; dialogs and what the policy stopped fail the test by themselves."""
    assert page.locator(ALIVE).count() == 0, page.url


def hostile_spec() -> str:
    """A task.json whose every text is one of the corpus; it prints all, and brings back files that are called so."""
    plain = [re.sub(r"[\x00-\x1f]", " ", payload).strip() for payload in CORPUS]
    prints = 'cat all.txt; cat all.txt >&2; for one in out/*; do cp all.txt "$one"; done; exit 3'
    files = {
        f"out/{number} {a_file_name(payload)}.{end}": {"content": payload}
        for number, payload in enumerate(CORPUS)
        for end in ("html", "svg")[: 1 + number % 2]
    }
    return json.dumps(
        {
            "name": LINES[1],
            "image": "busybox:local",
            "args": ["sh", "-c", prints, *plain],
            "labels": {f"{number}{text}"[:60]: text for number, text in enumerate(plain)},
            "environment": {f"WORD{number}": text for number, text in enumerate(plain)},
            "files": {"all.txt": {"content": "\n".join(CORPUS)}, **files},
            "collect": [{"glob": "out/*"}],
            "limits": {"memory": "64M", "time": "20s"},
        }
    )


@pytest.fixture(scope="module")
def places() -> dict[str, str]:
    """Where the hostile task is, once a test has submitted it."""
    return {}


def test_a_task_full_of_it_is_text_on_all_its_pages(visits: Visits, world: World) -> None:
    one = visits(ADA)
    page = one.go("/submit/")
    page.get_by_text("All of it as JSON").first.click()
    page.locator("#id_spec").fill(hostile_spec())
    # The page has looked at it, and moves no more.
    expect(page.locator("#same-shell")).to_be_visible()
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(r"/tasks/[0-9a-f]{32}/"))
    place = page.url.removeprefix(world.server).partition("?")[0]
    expect(page.locator("#verdict .badge")).to_have_text("exit code")
    expect(page.locator("#log")).to_contain_text("onload=alert(1)")
    nothing_lives(page)
    files = page.locator("#files td a[href*='/file/']").evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    )
    assert len(files) >= len(CORPUS)
    for address in ["/", *_pages_of(place), *files[:4], "/queue/", "/nodes/", f"/node/{world.node}/"]:
        page.goto(world.server + address)
        nothing_lives(page)
    theirs = visits(STAFF)
    for address in ("/", place, "/staff/audit/"):
        nothing_lives(theirs.go(address.replace("{", "{{").replace("}", "}}")))


def _pages_of(place: str) -> Iterator[str]:
    yield f"{place}again/"
    yield f"{place}?{urlencode({'find': LINES[0]})}"
    yield f"{place}?{urlencode({'stream': 'stderr', 'attempt': LINES[1]})}"


def test_what_is_asked_for_in_addresses_is_text(visits: Visits) -> None:
    one = visits(STAFF)
    for payload in LINES:
        query = urlencode({name: payload for name in ("text", "state", "label", "node", "owner", "cause")})
        for address in (
            f"/?{query}",
            f"/tasks/many/?verb=cancel&{query}",
            f"/staff/audit/?actor={quote(payload)}",
            f"/nodes/?after={quote(payload)}",
            f"/staff/?after={quote(payload)}",
            f"/login/?next={quote(payload)}",
            f"/node/{quote(payload, safe='')}/",
            f"/staff/users/{quote(payload, safe='')}/",
        ):
            one.page.goto(one.world.server + address)
            nothing_lives(one.page)
    one.forgive(404)
    one.forgive(400)


def test_what_is_typed_into_fields_is_text(visits: Visits) -> None:
    typed = visits(ADA)
    page = typed.go("/")
    for payload in CORPUS[::6]:
        page.get_by_label("Name or id").fill(payload)
        page.wait_for_url(re.compile("text="))
        nothing_lives(page)
    _a_token(typed)
    operator = visits(STAFF)
    page = operator.go("/node/lab2/")
    page.get_by_label("Why").fill(LINES[0])
    page.get_by_role("button", name="Cordon").click()
    expect(page.locator("#state")).to_contain_text(LINES[0])
    for address in ("/nodes/", "/staff/audit/"):
        nothing_lives(operator.go(address))
    page = operator.go("/node/lab2/")
    page.get_by_role("button", name="Resume").click()
    _a_person(operator)


def _a_token(one: Visitor) -> None:
    page = one.go("/account/")
    page.get_by_label("Name").fill(LINES[1])
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("main")).to_contain_text(LINES[1])
    nothing_lives(page)


def _a_person(one: Visitor) -> None:
    page = one.go("/staff/")
    page.get_by_label("New group").fill(LINES[0])
    page.get_by_role("button", name="Make the group").click()
    expect(page.locator("h1")).to_contain_text(LINES[0])
    nothing_lives(page)
    nothing_lives(one.go("/staff/"))
