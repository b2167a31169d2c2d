"""The dispatcher with a real broker: what is placed and sent, also when the broker is away or a rival is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.utils import timezone
from kombu import Connection

from grid.celery import queue_of
from grid.core import locks, nodes, records, snapshot
from grid.core.broker.publisher import Publisher
from grid.core.conf import conf
from grid.core.dispatcher import Dispatcher
from grid.core.models import Attempt, Demand, Task
from grid.core.reading.explain import explain
from grid.core.reconciler import Reconciler
from grid.core.wake import DISPATCHER
from tests.django import builders as given
from tests.support.broker import Broker

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def dispatcher(broker: Broker) -> Dispatcher:
    made = Dispatcher(conf(), Publisher(broker.url), "here", "127.0.0.1:9")
    assert made.lead(NOW)
    return made


def messages(broker: Broker, node: str) -> list[list[str]]:
    """The arguments of all messages that wait for a node; they are taken from its queue."""
    found = []
    with (
        Connection(broker.url) as connection,
        connection.SimpleQueue(queue_of(node)) as queue,
        contextlib.suppress(queue.Empty),
    ):
        while True:
            message = queue.get(block=False)
            found.append(message.payload[0])
            message.ack()
    return found


def test_a_queued_task_is_placed_and_its_node_woken_with_ids_only(dispatcher: Dispatcher, broker: Broker) -> None:
    given.a_node(NOW)
    task = given.a_task(NOW)
    assert dispatcher.dispatch(lambda: NOW) == 1
    attempt = Attempt.objects.get(task=task)
    assert attempt.sent_at == NOW
    assert messages(broker, "alpha") == [[attempt.id, attempt.nonce]]


def test_no_node_gets_more_than_it_has(dispatcher: Dispatcher) -> None:
    given.a_node(NOW)
    for _ in range(10):
        given.a_task(NOW)
    assert dispatcher.dispatch(lambda: NOW) == 4
    assert Task.objects.filter(state="queued").count() == 6
    assert dispatcher.dispatch(lambda: NOW) == 0


def test_a_hundred_small_tasks_go_out_in_one_call(dispatcher: Dispatcher, broker: Broker) -> None:
    capacity = given.facts().capacity.model_copy(update={"cpus": 100, "slots": 100, "memory": 2**40, "storage": 2**50})
    given.a_node(NOW, capacity=capacity)
    for _ in range(100):
        given.a_task(NOW)
    assert dispatcher.dispatch(lambda: NOW) == 100
    assert len(messages(broker, "alpha")) == 100


def test_a_demand_without_queued_tasks_is_put_to_rest_and_wakes_with_the_next_one(dispatcher: Dispatcher) -> None:
    given.a_node(NOW)
    given.a_task(NOW)
    assert snapshot.rest() == 0
    dispatcher.dispatch(lambda: NOW)
    assert snapshot.rest() == 1
    assert not Demand.objects.get().active
    given.a_task(NOW)
    assert Demand.objects.get().active


def test_a_demand_that_rests_by_mistake_is_found_again() -> None:
    given.a_task(NOW)
    Demand.objects.update(active=False)
    assert snapshot.revive() == 1
    assert Demand.objects.get().active


def test_only_the_dispatcher_that_leads_may_place(dispatcher: Dispatcher, broker: Broker) -> None:
    given.a_node(NOW)
    given.a_task(NOW)
    rival = Dispatcher(conf(), Publisher(broker.url), "there", "127.0.0.1:10")
    assert not rival.lead(NOW)
    assert rival.lead(given.later(NOW, 60))

    with pytest.raises(Exception, match="another process holds the role"):
        dispatcher.dispatch(lambda: NOW)
    assert rival.dispatch(lambda: NOW) == 1


def test_a_standby_takes_over_at_once_when_the_leader_steps_down(dispatcher: Dispatcher) -> None:
    dispatcher.step_down()
    assert locks.acquire(DISPATCHER, "there", "", now=NOW, seconds=10) == 2


def test_while_the_broker_is_dead_nothing_new_is_placed_and_afterwards_all_is_sent(
    dispatcher: Dispatcher, broker: Broker
) -> None:
    given.a_node(NOW)
    first = given.a_task(NOW)
    broker.kill()
    dispatcher.dispatch(lambda: NOW)
    second = given.a_task(NOW)
    assert dispatcher.dispatch(lambda: NOW) == 0
    second.refresh_from_db()
    assert second.state == "queued"

    broker.start()
    assert dispatcher.dispatch(lambda: NOW) == 1
    Reconciler(conf(), dispatcher, dispatcher._publisher).tick(NOW)
    sent = {attempt for attempt, _ in messages(broker, "alpha")}
    assert sent == set(Attempt.objects.filter(task__in=[first, second]).values_list("id", flat=True))


def test_a_broker_that_forgot_everything_is_told_again(dispatcher: Dispatcher, broker: Broker) -> None:
    given.a_node(NOW)
    given.a_task(NOW)
    dispatcher.dispatch(lambda: NOW)
    broker.kill()
    broker.forget()
    broker.start()
    later = given.later(NOW, conf().resend_seconds + 1)
    Reconciler(conf(), dispatcher, dispatcher._publisher).tick(later)
    Reconciler(conf(), dispatcher, dispatcher._publisher).tick(later)
    assert [attempt for attempt, _ in messages(broker, "alpha")] == [Attempt.objects.get().id]


@pytest.fixture
def reconciler(dispatcher: Dispatcher) -> Reconciler:
    return Reconciler(conf(), dispatcher, dispatcher._publisher)


def test_a_silent_node_loses_its_attempt_and_the_task_is_tried_again(reconciler: Reconciler) -> None:
    task, attempt, _ = given.running(NOW)
    reconciler.tick(given.later(NOW, 29))
    attempt.refresh_from_db()
    assert attempt.state == "running"

    reconciler.tick(given.later(NOW, 31))
    attempt.refresh_from_db()
    task.refresh_from_db()
    assert (attempt.verdict, attempt.reason) == (
        "node_lost",
        "node alpha was not heard of for 30 s while the task was on it",
    )
    assert (task.state, task.avoid) == ("waiting", ["alpha"])


def test_a_task_under_which_three_nodes_were_lost_is_poison(reconciler: Reconciler, dispatcher: Dispatcher) -> None:
    now = NOW
    task = given.a_task(now)
    for name in ("alpha", "beta", "gamma"):
        node = given.a_node(now, name)
        given.taken(given.assigned(task, node, now), now)
        now = given.later(now, 60)
        reconciler.tick(now)
        records.promote(given.later(now, 60))
    task.refresh_from_db()
    assert (task.state, task.verdict) == ("failed", "poison")
    assert "3 nodes were lost under the task" in task.reason


def test_an_order_whose_node_went_away_goes_back_to_the_queue_and_does_not_count(reconciler: Reconciler) -> None:
    node, task = given.a_node(NOW), given.a_task(NOW)
    given.assigned(task, node, NOW)
    reconciler.tick(given.later(NOW, 31))
    task.refresh_from_db()
    assert (task.state, task.avoid) == ("queued", [])


def test_an_order_that_a_living_node_never_takes_up_goes_elsewhere(reconciler: Reconciler) -> None:
    node, task = given.a_node(NOW), given.a_task(NOW)
    attempt = given.assigned(task, node, NOW)
    Attempt.objects.filter(id=attempt.id).update(sent_at=NOW)
    late = given.later(NOW, 61)
    nodes.heartbeat(node, given.a_beat(node), late)
    reconciler.tick(late)
    task.refresh_from_db()
    assert (task.state, task.avoid) == ("queued", ["alpha"])


def test_an_attempt_that_hangs_in_a_phase_is_taken_from_its_node(reconciler: Reconciler) -> None:
    _, attempt, _ = given.running(NOW)
    late = given.later(NOW, conf().staging_seconds + 1)
    Attempt.objects.update(lease_until=given.later(late, 10))
    reconciler.tick(late)
    attempt.refresh_from_db()
    assert attempt.verdict == "runtime_error"
    assert attempt.reason == "node alpha did not finish staging in the time it is given for that"


def test_a_cancelled_task_whose_node_never_answers_is_cancelled_after_the_grace(reconciler: Reconciler) -> None:
    task, attempt, _ = given.running(NOW)
    records.cancel(task, by="ada", reason="", now=NOW)
    reconciler.cancels(NOW)
    attempt.refresh_from_db()
    assert attempt.cancel_sent_at == NOW
    reconciler.cancels(given.later(NOW, conf().cancel_grace_seconds + 1))
    task.refresh_from_db()
    assert (task.state, task.reason) == ("cancelled", "cancelled by ada")


def test_a_task_says_why_it_waits_by_the_dispatchers_own_rules(dispatcher: Dispatcher) -> None:
    now = timezone.now()
    given.a_node(now)
    for _ in range(5):
        given.a_task(now)
    dispatcher.lead(now)
    dispatcher.dispatch(lambda: now)
    waiting = Task.objects.get(state="queued")
    found = explain(waiting, now)
    assert (found.position, found.queued) == (1, 1)
    assert [(one.node, one.fits_now, one.fits_ever) for one in found.nodes] == [("alpha", False, True)]
    assert "cpu" in found.nodes[0].reasons[0]
