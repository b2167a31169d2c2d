"""The page of the queue: whose turn it is, who has how much, what waits and why; and that it costs the same always."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from grid.core.models import CpuSlice, Demand
from grid.core.people import accounting
from grid.core.reading import queue
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def test_who_has_the_least_is_next_and_is_told_what_they_wait_for(now: datetime) -> None:
    ada, bob, root = given.a_user(), given.a_user("bob"), given.a_user("root", staff=True)
    node = given.a_node(now)
    given.assigned(given.a_task(now, owner=ada, limits={"cpus": 3}), node, now)
    for _ in range(3):
        last = given.a_task(now, owner=ada, limits={"cpus": 2})
    big = given.a_task(now, owner=bob, limits={"cpus": 4})

    told = queue.view(root, now)

    assert [(one.name, one.rank, one.queued, one.running) for one in told.owners] == [
        ("bob", 1, 1, 0),
        ("ada", 2, 3, 1),
    ]
    assert told.owners[1].share == 0.75
    assert told.owners[0].next_task == big.id
    assert "waits for room" in told.owners[0].reason
    assert (told.queued, told.running, told.slots, told.whole, told.exact) == (4, 1, 8, True, True)
    assert [(one.owner, one.alike) for one in told.waits] == [("ada", 3), ("bob", 1)]
    assert told.waits[0].task != last.id


def test_nobody_learns_of_others_more_than_their_sum(now: datetime) -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    mine = given.a_task(now, owner=ada, name="mine")
    theirs = given.a_task(now, owner=bob, name="a secret of theirs", limits={"memory": "100G"})

    told = queue.view(ada, now)
    assert [(one.name, one.queued, one.next_task) for one in told.owners] == [("ada", 1, mine.id), ("", 1, "")]
    assert [one.task for one in told.waits] == [mine.id]
    page = doors.browser_of(ada).get("/queue/").content.decode()
    assert "a secret of theirs" not in page
    assert theirs.id not in page
    assert "bob" not in page
    shown = doors.api_of(ada).get("/api/v1/queue").content.decode()
    assert theirs.id not in shown
    assert "bob" not in shown


def test_groups_are_sums_of_their_members(now: datetime) -> None:
    ada, bob, root = given.a_user(), given.a_user("bob"), given.a_user("root", staff=True)
    course = Group.objects.create(name="course")
    course.user_set.add(ada, bob)
    given.a_task(now, owner=ada)
    given.a_task(now, owner=bob)
    assert [(one.name, one.queued) for one in queue.view(root, now).groups] == [("course", 2)]
    assert [(one.name, one.queued) for one in queue.view(ada, now).groups] == [("course", 2)]
    assert queue.view(given.a_user("eve"), now).groups == ()


def test_processor_time_of_the_last_hour_and_day_is_that_of_what_ended_and_what_runs(now: datetime) -> None:
    ada = given.a_user()
    run = accounting.Run(ada.pk, now - timedelta(hours=3), now - timedelta(minutes=30), cpus=2)
    for (owner, at), seconds in accounting.by_slice([run], now - timedelta(days=1)).items():
        CpuSlice.objects.create(owner_id=owner, at=at, seconds=seconds)
    _, attempt, _ = given.running(now - timedelta(minutes=10), owner=ada)
    assert attempt.state

    hour, day = queue.cpu_seconds(now)[ada.pk]

    # A slice counts whole or not at all: ten minutes of two processors more or less.
    assert hour == pytest.approx(30 * 60 * 2 + 600, abs=1200)
    assert day == pytest.approx(150 * 60 * 2 + 600, abs=1)


def test_the_slices_of_a_run_add_up_to_it_and_old_ones_are_left_out(now: datetime) -> None:
    run = accounting.Run(1, now - timedelta(hours=30), now, cpus=0.5)
    slices = accounting.by_slice([run], now - timedelta(hours=2))
    assert sum(slices.values()) == pytest.approx(3600, abs=300)
    assert len(slices) in (13, 14)


# Real transactions: events are settled when whoever wrote them has ended.
@pytest.mark.django_db(transaction=True)
def test_what_ended_is_counted_by_the_dispatcher(now: datetime) -> None:
    accounting.step(now)
    _, attempt, order = given.running(now - timedelta(minutes=5))
    given.finished(order, attempt.node, now)
    accounting.step(now)
    assert sum(CpuSlice.objects.values_list("seconds", flat=True)) == pytest.approx(300, abs=1)


def test_licences_are_shown_with_what_is_in_use(now: datetime, settings: LazySettings) -> None:
    settings.GRID = settings.GRID.model_copy(update={"licences": {"matlab": 3}})
    node = given.a_node(now)
    given.assigned(given.a_task(now, resources={"matlab": 2}), node, now)
    waits = given.a_task(now, resources={"matlab": 2})

    told = queue.view(given.a_user(), now)
    assert [(one.name, one.total, one.used) for one in told.licences] == [("matlab", 3, 2)]
    assert told.waits[0].task == waits.id
    assert "matlab" in told.waits[0].reason
    page = doors.browser_of(given.a_user()).get("/queue/").content.decode()
    assert "2 of 3" in page


def test_an_empty_queue_says_so(now: datetime) -> None:
    given.a_node(now)
    page = doors.browser_of(given.a_user()).get("/queue/").content.decode()
    assert "Nothing is queued" in page


def test_the_number_of_questions_does_not_grow(now: datetime) -> None:
    root = given.a_user("root", staff=True)
    given.a_node(now)

    def asked(owners: int) -> int:
        for number in range(owners):
            for cpus in (1, 2):
                given.a_task(now, owner=given.a_user(f"u{owners}-{number}"), limits={"cpus": cpus})
        queue.view(root, now)  # what is remembered is read here
        with CaptureQueriesContext(connection) as questions:
            told = queue.view(root, now)
        assert told.queued == Demand.objects.count()
        return len(questions)

    assert asked(1) == asked(8)


def test_a_long_queue_is_counted_up_to_a_bound(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = given.a_user()
    for _ in range(4):
        given.a_task(now)
    monkeypatch.setattr(queue, "MOST_COUNTED", 3)
    told = queue.view(ada, now)
    assert (told.queued, told.exact, told.waits[0].exact) == (3, False, False)
    assert "3 or more" in doors.browser_of(ada).get("/queue/").content.decode()
