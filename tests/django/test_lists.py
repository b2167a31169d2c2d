"""Lists of tasks: every filter finds its tasks, alone and with others, and no page looks at more than a window."""

from __future__ import annotations

import itertools

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from grid.core.models import Task
from grid.core.reading import lists
from tasks.errors import SpecError
from tests.django import builders as given

pytestmark = pytest.mark.django_db


@pytest.fixture
def people() -> tuple[User, User]:
    """Ada with a failed and a queued task, Ben with a succeeded and a queued one, and an operator who sees all."""
    now = timezone.now()
    ada, ben = given.a_user("ada"), given.a_user("ben")
    for owner, name, state, verdict, node in (
        (ada, "sort one", "failed", "exit_code", "n1"),
        (ben, "sort two", "succeeded", "succeeded", "n2"),
        (ada, "merge", "queued", "", ""),
        (ben, "merge 50%", "queued", "", ""),
    ):
        task = given.a_task(now, owner, name=name, labels={"course": owner.username})
        Task.objects.filter(id=task.id).update(state=state, verdict=verdict, node_name=node)
    return ada, given.a_user("root", staff=True)


def names(user: User, limit: int = 50, **filters: str) -> list[str]:
    """The names that come back, over as many pages as there are."""
    found: list[str] = []
    after = ""
    for _ in range(100):
        page = lists.page(user, filters, lists.Place(after), limit)
        found += [task.name for task in page.items]
        after = page.next
        if not after:
            return found
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["merge 50%", "merge", "sort two", "sort one"]),
        ({"state": "queued"}, ["merge 50%", "merge"]),
        ({"state": "failed,succeeded"}, ["sort two", "sort one"]),
        ({"verdict": "exit_code"}, ["sort one"]),
        ({"owner": "ben"}, ["merge 50%", "sort two"]),
        ({"owner": "ben,nobody"}, ["merge 50%", "sort two"]),
        ({"owner": "nobody"}, []),
        ({"node": "n2"}, ["sort two"]),
        ({"label": "course=ada"}, ["merge", "sort one"]),
        ({"label": "course"}, ["merge 50%", "merge", "sort two", "sort one"]),
        ({"label": "term"}, []),
        ({"label": "contains=x"}, []),
        ({"text": "SORT"}, ["sort two", "sort one"]),
        ({"text": "50%"}, ["merge 50%"]),
        ({"state": "queued", "owner": "ada"}, ["merge"]),
        ({"state": "queued", "text": "sort"}, []),
        ({"verdict": "exit_code", "node": "n2"}, []),
        ({"owner": "ada", "state": "failed", "text": "one", "label": "course=ada"}, ["sort one"]),
    ],
)
@pytest.mark.parametrize("window", [1, 2, 10_000])
def test_an_operator_finds_tasks_by_every_filter(
    people: tuple[User, User],
    monkeypatch: pytest.MonkeyPatch,
    window: int,
    filters: dict[str, str],
    expected: list[str],
) -> None:
    monkeypatch.setattr(lists, "WINDOW", window)
    for limit in (1, 50):
        assert names(people[1], limit, **filters) == expected


def test_others_find_only_their_own(people: tuple[User, User]) -> None:
    ada, _ = people
    assert names(ada) == ["merge", "sort one"]
    assert names(ada, state="queued") == ["merge"]
    assert names(ada, owner="ben") == []
    other = Task.objects.get(name="sort two")
    assert names(ada, text=other.id) == []


def test_a_task_is_found_by_the_beginning_of_its_id(people: tuple[User, User]) -> None:
    task = Task.objects.get(name="sort one")
    assert names(people[0], text=task.id) == ["sort one"]
    assert "sort one" in names(people[1], text=task.id[:10])
    assert names(people[1], text=task.id[:-1] + "x") == []


def test_a_page_without_tasks_says_where_to_go_on(people: tuple[User, User], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "WINDOW", 2)
    first = lists.page(people[1], {"text": "sort one"}, lists.Place(), 50)
    assert (first.items, bool(first.next)) == ((), True)
    second = lists.page(people[1], {"text": "sort one"}, lists.Place(first.next), 50)
    assert ([task.name for task in second.items], second.next) == (["sort one"], "")


def test_pages_follow_each_other_without_gaps(people: tuple[User, User]) -> None:
    all_names = names(people[1])
    for limit, window in itertools.product((1, 2, 3), (1, 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lists, "WINDOW", window)
            assert names(people[1], limit) == all_names


def test_an_unknown_filter_is_refused(people: tuple[User, User]) -> None:
    with pytest.raises(SpecError, match="filters are"):
        lists.page(people[1], {"colour": "red"}, lists.Place(), 50)
