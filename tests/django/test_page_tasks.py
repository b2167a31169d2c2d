"""The list of tasks: what narrows it, what is done to many at once, and how the same failures stand together."""

from __future__ import annotations

from datetime import datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from grid.core import many
from grid.core.models import AuditEntry, InputFile, Task
from grid.core.reading import lists
from tasks.views import ManyBody
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Client:
    """Ada's browser."""
    return doors.browser_of(given.a_user())


class Links(HTMLParser):
    """The addresses of a page's links, by their texts, and the values of its hidden fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.by_text: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        self._href: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where a link leads, or what a field holds."""
        found = dict(attrs)
        if tag == "a":
            self._href = found.get("href")
        if tag == "input" and found.get("type") == "hidden":
            self.hidden[str(found.get("name"))] = found.get("value") or ""

    def handle_data(self, data: str) -> None:
        """Note the text of a link."""
        if self._href and data.strip():
            self.by_text.setdefault(" ".join(data.split()), self._href)

    def handle_endtag(self, tag: str) -> None:
        """The link is over."""
        if tag == "a":
            self._href = None


def page_of(client: Client, path: str = "/", **headers: str) -> str:
    """The text of a page."""
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200
    return str(answer.content.decode())


def failed(now: datetime, name: str, verdict: str = "exit_code", exit_code: int | None = 1, **changes: Any) -> Task:
    """A task that has ended badly."""
    task = given.a_task(now, name=name, **changes)
    words = {"state": "failed", "verdict": verdict, "verdict_class": "user", "finished_at": now, "reason": "so it was"}
    Task.objects.filter(id=task.id).update(exit_code=exit_code, **words)
    task.refresh_from_db()
    return task


def send(client: Client, verb: str, *tasks: Task, **fields: str) -> str:
    """The page that follows on doing something to many tasks."""
    form = {"verb": verb, "key": "k1", "task": [task.id for task in tasks], **fields}
    return str(client.post("/tasks/many/", form, follow=True).content.decode())


def state_of(task: Task) -> str:
    """The state of a task now."""
    return str(Task.objects.values_list("state", flat=True).get(id=task.id))


# --------------------------------------------------------------------------------------------------------------- filter
def test_htmx_is_answered_with_the_list_alone_and_its_clean_address(ada: Client) -> None:
    given.a_task(timezone.now(), name="sweep")
    answer = ada.get("/?text=sweep&state=&verdict=", headers={"HX-Request": "true"})
    assert answer.content.decode().lstrip().startswith('<div id="list"')
    assert "sweep" in answer.content.decode()
    assert answer.headers["HX-Replace-Url"] == "/?text=sweep"
    assert "HX-Request" in answer.headers["Vary"]
    assert "<html" in page_of(ada, "/?text=sweep")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=failed", ["bad"]),
        ("verdict=exit_code", ["bad"]),
        ("label=course%3Db", ["good"]),
        ("node=n1", ["good"]),
        ("owner=ada", ["bad", "good"]),
        ("owner=bob", []),
        ("text=goo", ["good"]),
        ("verdict=exit_code&cause=exit%3D1", ["bad"]),
        ("verdict=exit_code&cause=exit%3D2", []),
        ("cause=memory%3D67108864", ["bad", "good"]),
        ("cause=nonsense", []),
    ],
)
def test_every_filter_narrows_the_list_without_scripts(ada: Client, query: str, expected: list[str]) -> None:
    now = timezone.now()
    failed(now, "bad", labels={"course": "a"})
    good = given.a_task(now, name="good", labels={"course": "b"})
    Task.objects.filter(id=good.id).update(node_name="n1")
    links = Links(page_of(ada, f"/?{query}")).by_text
    assert [name for name in ("bad", "good") if name in links] == expected


def test_a_label_in_the_list_leads_to_all_that_have_it(ada: Client) -> None:
    given.a_task(timezone.now(), name="one", labels={"a&b": "c=d e"})
    links = Links(page_of(ada)).by_text
    assert "one" in Links(page_of(ada, links["a&b=c=d e"])).by_text


def test_pages_lead_both_ways_and_keep_the_filter(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.views.tasks.PAGE", 2)
    for number in range(5):
        given.a_task(timezone.now(), name=f"t{number}", labels={"k": "v"})

    def names(links: dict[str, str]) -> list[str]:
        return [text for text in links if text.startswith("t") and text[1:].isdigit()]

    first = Links(page_of(ada, "/?label=k")).by_text
    second = Links(page_of(ada, first["Older"])).by_text
    third = Links(page_of(ada, second["Older"])).by_text
    assert [names(one) for one in (first, second, third)] == [["t4", "t3"], ["t2", "t1"], ["t0"]]
    assert "Older" not in third
    assert "Newer" not in first
    back = Links(page_of(ada, third["Newer"])).by_text
    assert names(back) == ["t2", "t1"]
    assert names(Links(page_of(ada, back["Newer"])).by_text) == ["t4", "t3"]
    assert names(Links(page_of(ada, back["Older"])).by_text) == ["t0"]


@pytest.mark.parametrize("window", [1, 3, 100])
def test_walking_up_finds_what_walking_down_found(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "WINDOW", window)
    now, ada = timezone.now(), given.a_user()
    wanted = [given.a_task(now, name="yes" if number % 3 else "no").id for number in range(8)]
    expected = [task_id for number, task_id in enumerate(wanted) if number % 3]
    found: list[str] = []
    cursor = wanted[0]
    for _ in range(20):
        page = lists.page(ada, {"text": "yes"}, lists.Place(before=cursor), 2)
        found += reversed([task.id for task in page.items])
        cursor = page.previous
        if not cursor:
            break
    assert found == expected


def test_a_page_asks_as_many_questions_for_many_tasks_as_for_one(
    ada: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        failed(timezone.now(), f"t{number}", labels={"a": "b"})
    page_of(ada)
    with django_assert_max_num_queries(10):
        page_of(ada)


# ------------------------------------------------------------------------------------------------------------- failures
def test_the_same_failures_stand_together_and_lead_to_themselves(ada: Client) -> None:
    now = timezone.now()
    for number in range(3):
        failed(now, f"big {number}", "memory_limit", 137)
    for number in range(2):
        failed(now, f"wrong {number}", "exit_code", 3)
    failed(now, "alone", "exit_code", 4)
    page = page_of(ada)
    assert "Counted among the newest 6 failures." in page
    links = Links(page).by_text
    big = Links(page_of(ada, links["3 tasks"])).by_text
    assert [f"big {number}" in big for number in range(3)] == [True] * 3
    assert not {"alone", "wrong 0"} & set(big)
    assert "memory limit at 64M" in page
    wrong = Links(page_of(ada, links["2 tasks"])).by_text
    assert {"wrong 0", "wrong 1"} <= set(wrong)
    assert not {"alone", "big 0"} & set(wrong)


def test_groups_follow_the_filter_and_say_how_far_they_looked(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    for course in "aab":
        failed(now, f"of {course}", labels={"course": course})
    assert "2 tasks" in page_of(ada, "/?label=course%3Da")
    assert "The same failures" not in page_of(ada, "/?label=course%3Db")
    assert "The same failures" not in page_of(ada, "/?state=queued")
    monkeypatch.setattr("grid.core.reading.alike.MOST_COUNTED", 2)
    assert "newest 2 failures; older ones were not looked at" in page_of(ada)


# ----------------------------------------------------------------------------------------------------------------- many
def test_chosen_tasks_are_cancelled_with_a_reason_and_each_refusal_is_told(ada: Client) -> None:
    now = timezone.now()
    one, two, over = given.a_task(now, name="one"), given.a_task(now, name="two"), failed(now, "over")
    bobs = given.a_task(now, given.a_user("bob"), name="bobs")
    page = send(ada, "cancel", one, two, over, bobs, **{"many-reason": "wrong input"})
    assert "2 tasks were cancelled." in page
    assert "Left alone: over: it has ended before: exit_code" in page
    assert "bobs" not in page
    assert [state_of(task) for task in (one, two, over, bobs)] == ["cancelled", "cancelled", "failed", "queued"]
    one.refresh_from_db()
    assert one.reason == "cancelled by ada: wrong input"


def test_chosen_tasks_are_run_again_with_their_files_and_a_label(ada: Client) -> None:
    now = timezone.now()
    bad = failed(now, "bad", files={"in.txt": {"content": "1 2"}}, labels={"course": "a"})
    running = given.a_task(now, name="queued one")
    page = send(ada, "retry", bad, running)
    assert "1 task was submitted again." in page
    assert Links(page).by_text[f"again of …{bad.id[-6:]}"] == f"/tasks/{bad.id}/"
    assert "queued one: it is queued; cancel it first" in page
    made = Task.objects.get(labels__retry_of=bad.id)
    assert (made.name, made.labels["course"], made.state, made.owner) == ("bad", "a", "queued", bad.owner)
    assert InputFile.objects.filter(task=made, path="in.txt").exists()
    send(ada, "retry", bad)
    assert Task.objects.filter(labels__retry_of=bad.id).count() == 1


def test_what_failed_of_a_filter_is_run_again_after_its_number_was_shown_and_only_once(ada: Client) -> None:
    now = timezone.now()
    for number in range(3):
        failed(now, f"b{number}", labels={"course": "b"})
    failed(now, "other", labels={"course": "a"})
    given.a_task(now, name="fine", labels={"course": "b"})
    ask = Links(page_of(ada, "/?label=course%3Db")).by_text["Run again what failed of these…"]
    page = page_of(ada, ask)
    assert "<b>3 tasks</b>" in page
    fields = Links(page).hidden
    told = ada.post("/tasks/many/", fields, follow=True).content.decode()
    assert "3 tasks were submitted again." in told
    assert sorted(Task.objects.filter(labels__has_key="retry_of").values_list("name", flat=True)) == ["b0", "b1", "b2"]
    told = ada.post("/tasks/many/", {**fields, "key": "another"}, follow=True).content.decode()
    assert "it was run again as" in told
    assert Task.objects.filter(labels__has_key="retry_of").count() == 3


def test_what_has_not_ended_of_a_filter_is_cancelled(ada: Client) -> None:
    now = timezone.now()
    mine = [given.a_task(now, name=f"m{number}", labels={"k": "v"}) for number in range(2)]
    other = given.a_task(now, name="other")
    ask = Links(page_of(ada, "/?label=k")).by_text["Cancel what has not ended of these…"]
    page = page_of(ada, ask)
    assert "<b>2 tasks</b>" in page
    ada.post("/tasks/many/", {**Links(page).hidden, "many-reason": "over"}, follow=True)
    assert [state_of(task) for task in (*mine, other)] == ["cancelled", "cancelled", "queued"]


def test_an_operator_runs_a_students_task_again_for_the_student(ada: Client) -> None:
    bad = failed(timezone.now(), "bad", files={"in.txt": {"content": "1 2"}})
    send(doors.browser_of(given.a_user("root", staff=True)), "retry", bad)
    made = Task.objects.get(labels__retry_of=bad.id)
    assert made.owner == bad.owner
    (noted,) = AuditEntry.objects.filter(action="task_retried")
    assert (noted.actor, noted.target, noted.detail) == ("root", f"task {bad.id}", {"made": made.id})


def test_a_filter_takes_no_more_than_its_bound_and_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MOST_MANY", 2)
    now, ada = timezone.now(), given.a_user()
    tasks = [failed(now, f"t{number}") for number in range(3)]
    first = many.retry_many(ada, ManyBody(filter={}), "k", now + timedelta(seconds=1))
    assert (first.done, first.refused, [item.name for item in first.items]) == (2, 0, ["t2", "t1"])
    rest = many.retry_many(ada, ManyBody(filter={}, after=first.next), "k", now + timedelta(seconds=1))
    assert ([item.task for item in rest.items], rest.next) == ([tasks[0].id], "")


def test_verbs_that_are_none_and_choices_of_nothing_do_nothing(ada: Client) -> None:
    assert ada.get("/tasks/many/?verb=delete").status_code == 404
    assert ada.post("/tasks/many/", {"verb": "delete"}).status_code == 404
    assert "Choose tasks first." in send(ada, "cancel")


def test_the_bar_needs_its_csrf_token() -> None:
    browser = doors.browser_of(given.a_user(), csrf=True)
    task = given.a_task(timezone.now())
    assert browser.post("/tasks/many/", {"verb": "cancel", "task": task.id}).status_code == 403
    assert state_of(task) == "queued"


# ------------------------------------------------------------------------------------------------------------------ api
def post(user: User, verb: str, body: dict[str, Any], **headers: str) -> Any:
    """The answer of the API, as JSON."""
    answer = doors.api_of(user).post(f"/api/v1/tasks/{verb}", body, content_type="application/json", headers=headers)
    return {"status": answer.status_code, **answer.json()}


def test_the_api_tells_for_each_task_what_became_of_it() -> None:
    now, ada = timezone.now(), given.a_user()
    one, over = given.a_task(now, name="one"), failed(now, "over")
    done = post(ada, "cancel", {"ids": [one.id, over.id, "0"], "reason": "no"})
    assert (done["status"], done["done"], done["refused"]) == (200, 1, 2)
    assert [item["done"] for item in done["items"]] == [True, False, False]
    made = post(ada, "retry", {"ids": [over.id]}, **{"Idempotency-Key": "k"})["items"][0]["made"]
    assert post(ada, "retry", {"ids": [over.id]}, **{"Idempotency-Key": "k"})["items"][0]["made"] == made
    assert Task.objects.get(id=made).labels == {"retry_of": over.id}


def test_the_api_takes_a_filter_and_refuses_what_is_none() -> None:
    ada = given.a_user()
    failed(timezone.now(), "bad", labels={"k": "v"})
    assert post(ada, "retry", {"filter": {"label": "k"}})["done"] == 1
    assert post(ada, "retry", {"filter": {"colour": "red"}})["status"] == 422
    assert post(ada, "retry", {})["status"] == 422
    assert post(ada, "cancel", {"ids": ["0"] * 501})["status"] == 422


# -------------------------------------------------------------------------------------------------------------- example
def test_an_empty_grid_offers_an_example_that_becomes_a_task_once(ada: Client) -> None:
    assert "Run an example" in page_of(ada)
    for _ in range(2):
        answer = ada.post("/tasks/example/", {"key": "k"})
        assert answer.headers["Location"] == f"/tasks/{Task.objects.get().id}/"
    assert "Run an example" not in page_of(ada)


def test_an_example_that_no_node_can_run_says_so(ada: Client) -> None:
    given.a_node(timezone.now(), images=("ubuntu:latest",), registry=False)
    page = ada.post("/tasks/example/", {}, follow=True).content.decode()
    assert "The example was not taken" in page
    assert not Task.objects.exists()
