"""What was true when somebody looked need not be true when they write: the last look is made under the row's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from grid.core import nodes, records
from grid.core.conf import conf
from grid.core.dispatcher import Dispatcher
from grid.core.models import Attempt, Event, Node, Task
from grid.core.reconciler import Reconciler
from tasks.errors import Stale
from tasks.states import AttemptState, NodeMode, Phase
from tests.django import builders as given
from tests.support.publishers import RecordingPublisher

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def dispatcher(publisher: RecordingPublisher) -> Dispatcher:
    return Dispatcher(conf(), publisher, "here", "")


@pytest.fixture
def reconciler(dispatcher: Dispatcher, publisher: RecordingPublisher) -> Reconciler:
    return Reconciler(conf(), dispatcher, publisher)


@contextmanager
def right_after_the_look(words: str, action: Callable[[], object]) -> Iterator[list[str]]:
    """Do ``action`` once, between the SELECT whose condition has ``words`` and what follows from it."""
    looked: list[str] = []

    def meddle(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("SELECT") and words in sql.partition("WHERE")[2] and not looked:
            looked.append(sql)
            action()
        return result

    with connection.execute_wrapper(meddle):
        yield looked
    assert looked, f"nobody looked at {words}"


def beaten(order: Any, now: datetime, phase: Phase = Phase.STAGING) -> None:
    """A heartbeat of node alpha about the order."""
    node = Node.objects.get(name="alpha")
    nodes.heartbeat(node, given.a_beat(node, order, phase=phase), now)


def test_a_lease_that_is_renewed_at_the_last_moment_has_not_lapsed(
    reconciler: Reconciler, dispatcher: Dispatcher
) -> None:
    _, attempt, order = given.running(NOW)
    late = given.later(NOW, 31)
    assert dispatcher.lead(late)
    with right_after_the_look('"lease_until" <=', lambda: beaten(order, late)):
        reconciler.tick(late)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.lease_until) == ("running", given.later(late, 30))


def test_a_phase_that_ends_at_the_last_moment_was_not_too_long(reconciler: Reconciler, dispatcher: Dispatcher) -> None:
    _, attempt, order = given.running(NOW)
    late = given.later(NOW, conf().staging_seconds + 1)
    Attempt.objects.update(lease_until=given.later(late, 10))
    assert dispatcher.lead(late)
    with right_after_the_look('"phase_deadline" <=', lambda: beaten(order, late, Phase.EXECUTING)):
        reconciler.tick(late)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.phase) == ("running", "executing")


def test_what_is_handed_back_at_the_last_moment_is_not_given_up(reconciler: Reconciler, dispatcher: Dispatcher) -> None:
    _, attempt, order = given.running(NOW)
    late = given.later(NOW, 60)
    Attempt.objects.update(lease_until=given.later(late, 10))
    Node.objects.update(mode=NodeMode.DRAINING, drain_until=NOW - timedelta(seconds=60))
    assert dispatcher.lead(late)
    with right_after_the_look('"drain_until" <=', lambda: beaten(order, late, Phase.UPLOADING)):
        reconciler.tick(late)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.phase) == ("running", "uploading")


def moments(reconciler: Reconciler, dispatcher: Dispatcher) -> tuple[Callable[[datetime], object], ...]:
    """All that a dispatcher may be about to write."""
    waiting = list(Attempt.objects.filter(state=AttemptState.ASSIGNED).select_related("node", "task"))
    return reconciler.tick, reconciler.cancels, lambda now: dispatcher.resend(waiting, now)


def everything() -> list[object]:
    """Tasks, attempts and events, as they are."""
    return [list(model.objects.order_by("pk").values()) for model in (Task, Attempt, Event)]


def a_silent_node() -> datetime:
    given.running(NOW)
    return given.later(NOW, 31)


def a_slow_phase() -> datetime:
    given.running(NOW)
    late = given.later(NOW, conf().staging_seconds + 1)
    Attempt.objects.update(lease_until=given.later(late, 10))
    return late


def an_order_nobody_took() -> datetime:
    given.assigned(given.a_task(NOW), given.a_node(NOW), NOW)
    return given.later(NOW, 31)


def a_task_too_late() -> datetime:
    given.a_task(NOW, expires="10s")
    return given.later(NOW, 11)


def a_delay_that_is_over() -> datetime:
    _, attempt, order = given.running(NOW, retry={"attempts": 2, "on": ["exit_code"], "delay": "10s"})
    given.finished(order, attempt.node, NOW, exit_code=1)
    return given.later(NOW, 11)


def a_cancelled_task() -> datetime:
    task, _, _ = given.running(NOW)
    records.cancel(task, by="ada", reason="", now=NOW)
    return given.later(NOW, conf().cancel_grace_seconds + 1)


SITUATIONS: dict[str, Callable[[], datetime]] = {
    "silent": a_silent_node,
    "slow": a_slow_phase,
    "away": an_order_nobody_took,
    "late": a_task_too_late,
    "delayed": a_delay_that_is_over,
    "cancelled": a_cancelled_task,
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_dispatcher_that_slept_writes_nothing_after_another_took_over(
    situation: str, reconciler: Reconciler, dispatcher: Dispatcher
) -> None:
    assert dispatcher.lead(NOW)
    late = SITUATIONS[situation]()
    assert Dispatcher(conf(), RecordingPublisher(), "there", "").lead(given.later(late, 1))
    before = everything()
    fenced = 0
    for moment in moments(reconciler, dispatcher):
        try:
            moment(late)
        except Stale:
            fenced += 1
            assert not dispatcher.lead(given.later(late, 2)), "it asks at once who leads"
    assert fenced, "nothing was due"
    assert everything() == before


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_dispatcher_that_leads_does_write(situation: str, reconciler: Reconciler, dispatcher: Dispatcher) -> None:
    late = SITUATIONS[situation]()
    assert dispatcher.lead(late)
    before = everything()
    reconciler.tick(late)
    reconciler.cancels(late)
    assert everything() != before


def test_a_task_that_was_tried_does_not_expire_as_if_it_had_never_started() -> None:
    _, attempt, order = given.running(NOW, expires="10s", retry={"attempts": 2, "on": ["exit_code"], "delay": "20s"})
    given.finished(order, attempt.node, NOW, exit_code=1)
    assert records.expire(given.later(NOW, 11)) == 1
    task = Task.objects.get()
    assert (task.state, task.verdict) == ("expired", "expired")
    assert task.reason == "the task had been tried once, and its time to start was over before it could be tried again"
