"""Quotas and policies: what is refused at the door with its reason, and what waits and says why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User

from grid.core import bulk, intake, outcomes
from grid.core.bulk import Wish
from grid.core.conf import conf
from grid.core.dispatcher import Dispatcher
from grid.core.models import CpuUse, Task
from grid.core.people import accounting, quotas, standing
from grid.core.reading import explain
from tasks.errors import SpecError, TooLarge
from tasks.limits import Limits
from tasks.states import TaskState
from tasks.terms import Quota, Rules
from tests.django import builders as given
from tests.support.publishers import RecordingPublisher

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
MIB = 1024**2


def decide(of: User | Group, **rules: object) -> None:
    """Decide for a user or a group."""
    standing.decide(of, Rules.model_validate(rules), by="root", now=NOW)
    quotas.forget()


def a_group(*members: User, name: str = "students") -> Group:
    """A group with these members."""
    group, _ = Group.objects.get_or_create(name=name)
    group.user_set.add(*members)
    return group


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    """A dispatcher that leads."""
    found = Dispatcher(conf(), RecordingPublisher(), "d1", "")
    assert found.lead(NOW)
    yield found
    found.step_down()


def refused(**changes: Any) -> str:
    """What a submit of ada's is refused with."""
    with pytest.raises(SpecError) as error:
        given.a_task(NOW, **changes)
    return str(error.value)


def test_the_queued_quota_of_a_user_refuses_one_too_many() -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    decide(ada, quota={"queued": 2})
    first = given.a_task(NOW)
    given.a_task(NOW, after=[first.id])
    assert refused() == (
        "the quota of user ada is 2 queued tasks, and 2 are waiting; "
        "wait until some have started, cancel some, or ask the operator for more"
    )
    given.a_task(NOW, bob)
    given.assigned(first, given.a_node(NOW), NOW)
    given.a_task(NOW)


def test_the_same_idempotency_key_is_answered_over_the_quota() -> None:
    decide(given.a_user(), quota={"queued": 1})
    first = given.a_task(NOW, key="k")
    assert given.a_task(NOW, key="k").id == first.id


def test_a_group_counts_its_members_together() -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    decide(a_group(ada, bob), quota={"queued": 2})
    given.a_task(NOW, ada)
    given.a_task(NOW, bob)
    assert "the quota of group students is 2 queued tasks" in refused()


def test_many_tasks_are_counted_as_many_and_none_is_made() -> None:
    ada = given.a_user()
    decide(ada, quota={"queued": 3})
    with pytest.raises(SpecError, match="0 are waiting, 4 more were sent"):
        bulk.submit_all(owner=ada, wishes=[Wish(given.a_spec(name="x"))] * 4, contents={}, idempotency_key="", now=NOW)
    assert not Task.objects.exists()


def test_the_server_has_a_quota_for_everybody_without_one(settings: LazySettings) -> None:
    settings.GRID = settings.GRID.model_copy(update={"user_quota": Quota(queued=1)})
    decide(given.a_user("bob"), quota={"queued": 2})
    given.a_task(NOW)
    assert "the quota of each user is 1 queued tasks" in refused()
    for _ in range(2):
        given.a_task(NOW, given.a_user("bob"))


def test_storage_over_the_quota_is_refused_and_nothing_is_kept() -> None:
    ada = given.a_user()
    decide(ada, quota={"storage": "1M"})
    intake.upload(ada, [b"x" * (MIB - 10)], None, NOW)
    with pytest.raises(TooLarge, match="the quota of user ada is 1M of files"):
        intake.upload(ada, [b"y" * 11], None, NOW)
    intake.upload(ada, [b"x" * (MIB - 10)], None, NOW)  # what is there already takes no room
    intake.upload(ada, [b"z" * 10], None, NOW)
    assert quotas.stored(frozenset({ada.pk}), NOW + timedelta(minutes=1)) == MIB
    assert "delete tasks that are not needed any more" in refused()


def test_what_a_task_brought_back_is_kept_over_the_quota_but_the_next_submit_is_not() -> None:
    ada = given.a_user()
    decide(ada, quota={"storage": "4K"})
    task, attempt, order = given.running(NOW)
    outcomes.accept(attempt.node, given.an_outcome(order, {"out": b"x" * 5000}), NOW)
    task.refresh_from_db()
    assert task.state == TaskState.SUCCEEDED
    quotas.forget()
    assert "the quota of user ada is 4K of files, and 5000" in refused()


def test_the_running_quota_lets_tasks_wait_and_explain_says_so(dispatcher: Dispatcher) -> None:
    ada = given.a_user()
    decide(ada, quota={"running": 2})
    given.a_node(NOW)
    tasks = [given.a_task(NOW, limits={"memory": "64M", "cpus": 0.1}) for _ in range(4)]
    other = given.a_task(NOW, given.a_user("bob"))
    assert dispatcher.dispatch(partial(given.later, NOW, 0)) == 3
    other.refresh_from_db()
    assert other.state == TaskState.ASSIGNED
    last = Task.objects.get(id=tasks[3].id)
    found = explain.explain(last, NOW)
    assert found.summary.startswith("waits: the quota of user ada is 2 running, and 2 are")
    assert [node.fits_now for node in found.nodes] == [False]
    assert "quota of user ada" in found.nodes[0].reasons[-1]
    decide(ada, quota={"running": 3})
    assert dispatcher.dispatch(partial(given.later, NOW, 3)) == 1


def test_the_running_quota_of_a_group_holds_for_all_of_it(dispatcher: Dispatcher) -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    decide(a_group(ada, bob), quota={"running": 1})
    given.a_node(NOW)
    for owner in (ada, bob):
        given.a_task(NOW, owner)
    assert dispatcher.dispatch(partial(given.later, NOW, 0)) == 1


# Real transactions: events are settled when whoever wrote them has ended.
@pytest.mark.django_db(transaction=True)
def test_cpu_hours_are_counted_once_and_stop_new_tasks_until_the_window_has_passed(dispatcher: Dispatcher) -> None:
    ada = given.a_user()
    accounting.step(NOW)
    _, attempt, order = given.running(NOW, limits={"cpus": 2, "time": "10h"})
    decide(ada, quota={"cpu_hours": 1.5, "days": 2})
    bound = standing.bounds(ada.pk, NOW)[0]
    hour = NOW + timedelta(hours=1)
    assert quotas.cpu_hours(bound, hour) == pytest.approx(2.0)  # while it runs
    given.finished(order, attempt.node, hour)
    assert accounting.step(hour) == 1
    assert accounting.step(hour) == 0
    assert CpuUse.objects.get().seconds == pytest.approx(7200)
    assert quotas.cpu_hours(bound, hour) == pytest.approx(2.0)
    waiting = given.a_task(hour)
    given.a_node(hour)
    assert dispatcher.dispatch(partial(given.later, hour, 0)) == 0
    assert "2.00 of 1.5 cpu-hours in 2 days are used" in explain.explain(waiting, hour).summary
    given.a_node(later := NOW + timedelta(days=3))
    assert dispatcher.lead(later)
    assert dispatcher.dispatch(partial(given.later, later, 0)) == 1


def test_limits_of_a_user_or_group_cap_what_a_task_gets() -> None:
    ada = given.a_user()
    decide(a_group(ada), limits={"memory": "32M", "time": "3s", "network": False})
    limits = Limits.model_validate(given.a_task(NOW).limits)
    assert (limits.memory, limits.time) == (32 * MIB, 3)
    decide(ada, limits={"memory": "48M"})
    assert Limits.model_validate(given.a_task(NOW).limits).memory == 48 * MIB
    assert Limits.model_validate(given.a_task(NOW, given.a_user("bob")).limits).memory == 64 * MIB


def test_images_are_renamed_before_they_are_looked_up_in_the_lists() -> None:
    ada = given.a_user()
    decide(a_group(ada), images=["busybox:*", "judge*"], image_names={"old/*": "judge/*"})
    assert given.a_task(NOW).spec["image"] == "busybox"
    assert given.a_task(NOW, image="old/cpp:3").spec["image"] == "judge/cpp:3"
    assert refused(image="ubuntu:24.04").startswith("image: ubuntu:24.04 is not among the images that you may use")
    decide(ada, images=["ubuntu*"])
    given.a_task(NOW, image="ubuntu:24.04")
    assert "image: busybox" in refused()


def test_the_profile_of_judges_is_for_those_to_whom_it_was_allowed(settings: LazySettings) -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    assert given.a_task(NOW).spec.get("profile", "standard") == "standard"
    fault = "profile: the container profile judge is not allowed to you"
    assert refused(profile="judge").startswith(fault)
    assert "allow it to you or to a group of yours" in refused(profile="judge")
    decide(a_group(ada), profiles=["judge"])
    assert given.a_task(NOW, profile="judge").spec["profile"] == "judge"
    with pytest.raises(SpecError, match=fault):
        given.a_task(NOW, bob, profile="judge")
    decide(bob, profiles=["judge"])
    given.a_task(NOW, bob, profile="judge")
    settings.GRID = settings.GRID.model_copy(update={"profiles": ("judge",)})
    given.a_task(NOW, given.a_user("eve"), profile="judge")


def test_a_profile_that_is_none_is_told_with_the_nearest() -> None:
    given.a_user()
    assert 'profile: "judges" is not a container profile' in refused(profile="judges")
    assert "judge" in refused(profile="judges").rpartition(";")[2]


def test_a_renamed_image_does_not_make_another_task_of_the_same_request() -> None:
    ada = given.a_user()
    first = given.a_task(NOW, key="k")
    decide(ada, image_names={"busybox": "other"})
    assert given.a_task(NOW, key="k").id == first.id
