"""Threads that meet at the same rows, with real commits: what one of them does, the others see or wait for.

On SQLite writers wait for each other as a whole; on PostgreSQL for single rows, so that order matters.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import pytest
from django.db import connection, transaction

from grid.core import nodes, records
from grid.core.conf import conf
from grid.core.contents import blobs
from grid.core.contents.store import Stored
from grid.core.dispatcher import Dispatcher
from grid.core.models import Attempt, Blob, BlobOwner, Event, Task
from grid.core.reading import hub
from grid.core.reading.horizon import STUCK_SECONDS, Horizon
from tasks.errors import Stale
from tests.django import builders as given
from tests.support.node_api import eventually
from tests.support.publishers import RecordingPublisher

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ROUNDS = 15
T = TypeVar("T")


def at_once(*actions: Callable[[], T]) -> list[T]:
    """What the actions return, each made in a thread of its own; all begin at the same moment."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        try:
            barrier.wait(10)
            return action()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [one.result(60) for one in [pool.submit(run, action) for action in actions]]


def was_taken(action: Callable[[], object]) -> bool:
    """Whether the action was taken; a refusal as stale is no fault."""
    try:
        action()
    except Stale:
        return False
    return True


def states(tasks: Sequence[Task]) -> Counter[str]:
    """How many of the tasks are in which state."""
    return Counter(Task.objects.filter(id__in=[one.id for one in tasks]).values_list("state", flat=True))


class Rush:
    """Dispatchers and nodes' workers that hurry through the same tasks."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.publisher = RecordingPublisher()
        self.done = threading.Event()

    def lead(self, name: str) -> None:
        """A dispatcher that gives the role back after each round, so that it goes to and fro."""
        dispatcher = Dispatcher(conf(), self.publisher, name, "")
        now = NOW
        while not self.done.wait(0.001):
            now = given.later(now, 0.001)
            if dispatcher.lead(now):
                dispatcher.dispatch(partial(given.later, now, 0))
                dispatcher.step_down()

    def take(self, part: int) -> None:
        """A worker that takes up a quarter of the messages; two of them read each."""
        seen = 0
        while not self.done.wait(0.001):
            for message in self.publisher.sent[seen:]:
                seen += 1
                if seen % 4 == part % 4:
                    nodes.take(message.node, message.id, message.node.session, message.nonce, NOW)
            if Event.objects.filter(kind="started").count() >= self.tasks:
                self.done.set()


def test_two_dispatchers_and_eight_takers_give_each_of_200_tasks_to_one() -> None:
    room = given.facts().capacity.model_copy(update={"cpus": 100, "slots": 100, "memory": 2**40, "storage": 2**50})
    for name in ("alpha", "beta"):
        given.a_node(NOW, name, capacity=room)
    tasks = [given.a_task(NOW) for _ in range(200)]
    rush = Rush(len(tasks))
    at_once(*(partial(rush.lead, name) for name in ("one", "two")), *(partial(rush.take, part) for part in range(8)))
    assert states(tasks) == {"running": 200}
    assert Attempt.objects.count() == 200
    assert sorted(one.id for one in rush.publisher.sent) == sorted(Attempt.objects.values_list("id", flat=True))
    assert Event.objects.filter(kind="started").count() == 200


def test_a_task_that_is_cancelled_while_its_node_takes_it_up_is_one_or_the_other() -> None:
    node = given.a_node(NOW)
    for _ in range(ROUNDS):
        task = given.a_task(NOW)
        attempt = given.assigned(task, node, NOW)
        taken, _ = at_once(
            partial(was_taken, partial(given.taken, attempt, NOW)),
            partial(was_taken, partial(records.cancel, task, by="ada", reason="", now=NOW)),
        )
        task.refresh_from_db()
        attempt.refresh_from_db()
        assert (task.state, attempt.state) == (("running", "running") if taken else ("cancelled", "ended"))
        assert task.cancel_requested_at is not None


def test_a_task_submitted_while_what_it_needs_ends_does_not_wait_for_ever() -> None:
    node = given.a_node(NOW)
    for _ in range(ROUNDS):
        first = given.a_task(NOW)
        order = given.taken(given.assigned(first, node, NOW), NOW)
        _, second = at_once(partial(given.finished, order, node, NOW), partial(given.a_task, NOW, after=[first.id]))
        assert second is not None
        assert states([second]) == {"queued": 1}


def test_the_same_contents_are_noted_by_two_in_opposite_orders() -> None:
    owner = given.a_user()
    for number in range(ROUNDS):
        stored = [Stored(sha256=f"{number:04}{index:060}", size=1) for index in range(1000)]
        at_once(*(partial(blobs.note, owner.pk, some, NOW) for some in (stored, stored[::-1])))
    assert Blob.objects.count() == BlobOwner.objects.count() == 1000 * ROUNDS


def test_who_expires_and_who_is_submitted_after_it_do_not_wait_for_each_other() -> None:
    for _ in range(ROUNDS):
        early = [given.a_task(NOW, expires="5s") for _ in range(6)]
        needs = [one.id for one in reversed(early)]
        expired, second = at_once(
            partial(records.expire, given.later(NOW, 10)), partial(given.a_task, NOW, after=needs)
        )
        assert expired == len(early)
        assert isinstance(second, Task)
        assert states([second]) == {"skipped": 1}


def test_an_event_that_appears_behind_a_later_one_is_news_too() -> None:
    """PostgreSQL gives out numbers before the commit, so that a slow transaction's events come in between."""
    early, late = given.a_task(NOW), given.a_task(NOW)
    Event.objects.all().delete()
    look = hub.Look()
    Event.objects.create(id=1000, task=late, at=NOW, kind="queued")
    newest, changed = look(None)
    assert (newest, changed) == (1000, {late.id})
    assert look(newest) == (1000, set())
    Event.objects.create(id=999, task=early, at=NOW, kind="queued")
    assert look(newest) == (1000, {early.id})
    assert look(newest) == (1000, set())


@pytest.mark.skipif(connection.vendor != "postgresql", reason="one writer at a time: numbers appear in their order")
def test_nobody_who_follows_events_steps_over_one_that_commits_late() -> None:
    early, late = given.a_task(NOW), given.a_task(NOW)
    horizon = Horizon()
    before = horizon.look()
    written, seen = threading.Event(), threading.Event()

    def slow() -> int:
        with transaction.atomic():
            made = Event.objects.create(task=early, at=NOW, kind="queued")
            written.set()
            assert seen.wait(30)
        return made.id

    def quick() -> int:
        assert written.wait(30)
        made = Event.objects.create(task=late, at=NOW, kind="queued")
        assert horizon.look() == (before[0], True), "the newest is there, but one before it may appear"
        # Others that have begun since hold nobody up.
        with ThreadPoolExecutor(1) as pool, transaction.atomic():
            Event.objects.create(task=late, at=NOW, kind="queued")
            seen.set()
            pool.submit(settles, horizon, made.id).result(30)
        return made.id

    first, second = at_once(slow, quick)
    assert before[0] < first < second
    assert horizon.look() == (second + 1, False)


def settles(horizon: Horizon, number: int) -> None:
    """Wait until all events up to this number are there."""
    try:
        eventually(lambda: horizon.look()[0] == number)
    finally:
        connection.close()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="one writer at a time: numbers appear in their order")
def test_a_transaction_that_never_ends_holds_up_followers_for_a_while_only() -> None:
    task = given.a_task(NOW)
    moment = [0.0]
    horizon = Horizon(clock=lambda: moment[0])

    def look() -> tuple[tuple[int, bool], ...]:
        try:
            first = horizon.look()
            moment[0] = STUCK_SECONDS + 1
            return first, horizon.look()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        Event.objects.create(task=task, at=NOW, kind="queued")  # the look does not see it, only that somebody writes
        newest = Event.objects.order_by("-id").values_list("id", flat=True)[1]
        assert pool.submit(look).result(30) == ((0, True), (newest, False))
