"""A task that ran out of memory comes back with more of it, is placed by what it then needs, and all of it is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.urls import reverse

from grid.core import records, snapshot
from grid.core.models import Attempt, Demand, Node, Task
from grid.core.reading import explain, present
from tasks.order import Capacity, Order
from tasks.placement import decide
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
MIB = 1024**2


def starve(node: Node, task: Task) -> Order:
    """One attempt on the node that runs out of memory."""
    task.refresh_from_db()
    order = given.taken(given.assigned(task, node, NOW), NOW)
    given.finished(order, node, NOW, exit_code=137, oom_kills=1)
    task.refresh_from_db()
    return order


def a_hungry_task(**retry: Any) -> Task:
    return given.a_task(NOW, retry={"memory": 2, **retry})


def test_each_attempt_has_more_memory_than_the_one_before_until_the_budget_is_used_up() -> None:
    node, task = given.a_node(NOW), a_hungry_task()
    assert [starve(node, task).limits.memory for _ in range(3)] == [64 * MIB, 128 * MIB, 256 * MIB]
    assert (task.state, task.verdict) == ("failed", "memory_limit")
    views = [present.attempt_view(one) for one in task.attempts.select_related("node").order_by("number")]
    assert [view.memory_bytes for view in views] == [64 * MIB, 128 * MIB, 256 * MIB]
    assert [view.decision for view in views] == [
        "memory_limit at 64M (1 of 3): again with 128M",
        "memory_limit at 128M (2 of 3): again with 256M",
        "memory_limit at 256M (3 of 3): none is left",
    ]
    assert "more than 256M of memory" in task.reason


def test_the_description_stays_as_it_was_and_so_does_its_hash() -> None:
    node, task = given.a_node(NOW), a_hungry_task()
    before = (task.spec, task.spec_hash)
    starve(node, task)
    assert (task.spec, task.spec_hash) == before
    assert task.limits["memory"] == 128 * MIB


def test_placement_goes_by_the_larger_memory() -> None:
    small = given.a_node(NOW, "small", capacity=Capacity(cpus=4, memory=100 * MIB, storage=100 * 1024**3, slots=8))
    task = a_hungry_task()
    large = given.a_node(NOW, "large")
    starve(small, task)
    views = snapshot.nodes(NOW, 30.0)
    decision = decide(snapshot.backlogs(4), views, {}, (), NOW.timestamp())
    assert [(one.task_id, one.node) for one in decision.placements] == [(task.id, "large")]
    reasons = {one.node: one.reasons for one in explain.explain(task, NOW).nodes}
    assert reasons["small"] == ("needs 128M of memory, the node has 100M",)
    attempt = given.assigned(task, large, NOW)
    [lease] = [lease for view in snapshot.nodes(NOW, 30.0) for lease in view.leases]
    assert (lease.attempt, lease.amounts.memory) == (attempt.id, 128 * MIB)


def test_tasks_that_grew_alike_share_a_demand() -> None:
    node = given.a_node(NOW)
    for _ in range(2):
        starve(node, a_hungry_task())
    assert Demand.objects.filter(active=True).count() == 2
    assert Task.objects.values("demand_id").distinct().count() == 1


def test_no_task_gets_more_than_a_node_has() -> None:
    node = given.a_node(NOW, capacity=Capacity(cpus=4, memory=100 * MIB, storage=100 * 1024**3, slots=8))
    task = a_hungry_task()
    starve(node, task)
    assert (task.state, task.limits["memory"]) == ("queued", 100 * MIB)
    starve(node, task)
    assert task.state == "failed"
    assert Attempt.objects.get(id=task.attempt_id).decision == (
        "memory_limit at 100M (2 of 3): no task can be given more than 100M here"
    )


def test_what_it_had_grown_to_is_kept_over_a_fault_of_the_grid() -> None:
    node, task = given.a_node(NOW), a_hungry_task()
    starve(node, task)
    order = given.taken(given.assigned(task, node, NOW), NOW)
    given.finished(order, node, NOW, fault={"kind": "staging", "message": "no room"})
    task.refresh_from_db()
    records.promote(given.later(NOW, 60))
    assert starve(node, task).limits.memory == 128 * MIB


def test_only_the_exit_codes_that_were_named_are_tried_again() -> None:
    node = given.a_node(NOW)
    for code, state in ((75, "queued"), (1, "failed")):
        task = given.a_task(NOW, retry={"attempts": 2, "exit_codes": [75]})
        given.finished(given.taken(given.assigned(task, node, NOW), NOW), node, NOW, exit_code=code)
        task.refresh_from_db()
        assert task.state == state


def test_a_task_that_waits_for_its_next_attempt_says_when_that_is_and_why() -> None:
    node, task = given.a_node(NOW), a_hungry_task(delay="10min")
    starve(node, task)
    view = present.task_view(task)
    assert task.state == "waiting"
    assert view.tried_again_at is not None
    assert 600 <= (view.tried_again_at - NOW).total_seconds() <= 660
    told = explain.explain(task, NOW).summary
    assert told.startswith(f"it is tried again at {view.tried_again_at:%H:%M:%S} UTC (memory_limit at 64M (1 of 3)")
    page = doors.browser_of(given.a_user()).get(reverse("task", args=[task.id])).content.decode()
    assert "memory_limit at 64M (1 of 3): again with 128M in 10min" in page
    assert f"{view.tried_again_at:%H:%M:%S}</time> UTC with 128M of memory" in page
    records.promote(given.later(NOW, 700))
    task.refresh_from_db()
    assert present.task_view(task).tried_again_at is None


def test_a_cancel_while_it_waits_is_the_end() -> None:
    node, task = given.a_node(NOW), a_hungry_task(delay="10min")
    starve(node, task)
    records.cancel(task, by="ada", reason="", now=NOW)
    assert task.state == "cancelled"
    assert records.promote(given.later(NOW, 700)) == 0
