"""The server's clock is set: no lease is lost by that, none lasts for longer, and a dispatcher leads on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from grid.core import locks, snapshot
from grid.core.conf import GridSettings
from grid.core.dispatcher import Dispatcher
from grid.core.models import Attempt, Node, Task
from grid.core.reconciler import Reconciler
from grid.core.upkeep.clockwatch import ClockWatch, grant_again
from grid.core.wake import DISPATCHER
from tasks.states import AttemptState, TaskState
from tasks.verdicts import Verdict
from tests.django import builders as given
from tests.support.publishers import RecordingPublisher

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOURS = timedelta(hours=2)
LEASE_SECONDS = given.LEASE_SECONDS


class TestNoticing:
    def test_time_that_passes_is_no_jump(self) -> None:
        watch = ClockWatch(1.0)
        assert [watch.jump(NOW + timedelta(seconds=passed), 100.0 + passed) for passed in (0, 1, 5000)] == [
            timedelta()
        ] * 3

    @pytest.mark.parametrize("jump", [HOURS, -HOURS])
    def test_a_jump_is_told_once(self, jump: timedelta) -> None:
        watch = ClockWatch(1.0)
        watch.jump(NOW, 100.0)
        assert watch.jump(NOW + jump + timedelta(seconds=3), 103.0) == jump
        assert watch.jump(NOW + jump + timedelta(seconds=4), 104.0) == timedelta()

    def test_small_steps_are_none(self) -> None:
        watch = ClockWatch(1.0)
        watch.jump(NOW, 100.0)
        assert watch.jump(NOW + timedelta(seconds=0.9), 100.0) == timedelta()


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [HOURS, -HOURS])
class TestGranting:
    def test_what_had_a_lease_has_a_whole_one(self, jump: timedelta) -> None:
        _, attempt, _ = given.running(NOW)
        deadline = Attempt.objects.get(id=attempt.id).phase_deadline
        given.a_node(NOW - timedelta(seconds=LEASE_SECONDS + 1), "gone")
        now = NOW + jump
        grant_again(jump, now, LEASE_SECONDS)
        attempt.refresh_from_db()
        assert attempt.lease_until == now + timedelta(seconds=LEASE_SECONDS)
        assert deadline <= attempt.phase_deadline - jump < deadline + timedelta(minutes=1)
        alive = {node.name: snapshot.online(node, now) for node in Node.objects.all()}
        assert alive == {"alpha": True, "gone": False}

    def test_what_was_written_by_the_new_time_before_anybody_noticed_stays_right(self, jump: timedelta) -> None:
        now = NOW + jump
        task, attempt, _ = given.running(now)
        Attempt.objects.filter(id=attempt.id).update(sent_at=now)
        Task.objects.filter(id=task.id).update(cancel_requested_at=now)
        deadline = Attempt.objects.get(id=attempt.id).phase_deadline
        grant_again(jump, now, LEASE_SECONDS)
        attempt.refresh_from_db()
        task.refresh_from_db()
        assert deadline <= attempt.phase_deadline < deadline + timedelta(minutes=1)
        assert (attempt.sent_at, task.cancel_requested_at) == (now, now)
        assert Node.objects.get(name="alpha").lease_until == now + timedelta(seconds=LEASE_SECONDS)

    def test_a_retry_that_waits_by_the_new_time_waits_no_longer(self, jump: timedelta) -> None:
        now = NOW + jump
        task, _, order = given.running(now)
        given.finished(order, Node.objects.get(name="alpha"), now, fault={"kind": "staging", "message": "once"})
        task.refresh_from_db()
        before = task.not_before
        grant_again(jump, now, LEASE_SECONDS)
        task.refresh_from_db()
        assert task.not_before == before

    def test_a_retry_waits_no_longer_than_before(self, jump: timedelta) -> None:
        task, _, order = given.running(NOW)
        given.finished(order, Node.objects.get(name="alpha"), NOW, fault={"kind": "staging", "message": "once"})
        task.refresh_from_db()
        assert (task.state, task.not_before is not None) == (TaskState.WAITING, True)
        before = task.not_before
        grant_again(jump, NOW + jump, LEASE_SECONDS)
        task.refresh_from_db()
        assert before is not None
        assert task.not_before == before + jump

    def test_nobody_is_lost_by_a_jump_and_the_dead_are_missed_soon(self, jump: timedelta) -> None:
        publisher = RecordingPublisher()
        settings = GridSettings(lease_seconds=LEASE_SECONDS)
        dispatcher = Dispatcher(settings, publisher, "here", "")
        reconciler = Reconciler(settings, dispatcher, publisher)
        _, attempt, _ = given.running(NOW)
        assert dispatcher.lead(NOW)
        now = NOW + jump
        assert dispatcher.lead(now)
        reconciler.clock_was_set(jump, now)
        reconciler.tick(now)
        attempt.refresh_from_db()
        assert attempt.state == AttemptState.RUNNING

        # Nothing more is heard of its node: the lease is as long as ever.
        later = given.later(now, LEASE_SECONDS + 1)
        assert dispatcher.lead(later)
        reconciler.tick(later)
        attempt.refresh_from_db()
        assert (attempt.state, attempt.verdict) == (AttemptState.ENDED, Verdict.NODE_LOST)


@pytest.mark.django_db
class TestTheRole:
    def test_one_who_died_before_the_clock_was_set_back_holds_nothing_up(self) -> None:
        assert locks.acquire(DISPATCHER, "dead", "", now=NOW, seconds=5) == 1
        assert locks.acquire(DISPATCHER, "next", "", now=NOW, seconds=5) is None
        assert locks.acquire(DISPATCHER, "next", "", now=NOW - HOURS, seconds=5) == 2

    def test_a_server_whose_clock_is_somewhat_ahead_keeps_the_role(self) -> None:
        assert locks.acquire(DISPATCHER, "ahead", "", now=given.later(NOW, 60), seconds=5) == 1
        assert locks.acquire(DISPATCHER, "other", "", now=NOW, seconds=5) is None
