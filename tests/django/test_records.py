"""A task's way through its states, each move by one conditional UPDATE."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from grid.core import ending, outcomes, records
from grid.core.models import Attempt, Event, Task
from tasks.errors import Stale
from tests.django import builders as given

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def state_of(task: Task) -> str:
    task.refresh_from_db()
    return task.state


def kinds(task: Task) -> list[str]:
    return list(Event.objects.filter(task=task).order_by("id").values_list("kind", flat=True))


def test_a_task_goes_from_submit_to_success_and_every_move_is_on_its_timeline() -> None:
    task, attempt, order = given.running(NOW)
    outcomes.accept(attempt.node, given.an_outcome(order, {"stdout.txt": b"Linux\n"}), given.later(NOW, 1))

    assert state_of(task) == "succeeded"
    assert (task.verdict, task.verdict_class, task.exit_code) == ("succeeded", "success", 0)
    assert kinds(task) == ["submitted", "assigned", "started", "attempt_ended", "finished"]


def test_only_one_of_two_dispatchers_gets_a_task() -> None:
    node, task = given.a_node(NOW), given.a_task(NOW)
    assert records.assign(task.id, node, NOW, 30) is not None
    assert records.assign(task.id, node, NOW, 30) is None
    assert Attempt.objects.filter(task=task).count() == 1


def test_an_attempt_is_taken_up_once_and_the_same_session_may_ask_again() -> None:
    _, attempt, order = given.running(NOW)
    assert given.taken(attempt, NOW) == order
    attempt.node.session = "another"
    with pytest.raises(Stale):
        given.taken(attempt, NOW)


def test_a_forged_message_opens_nothing() -> None:
    node, task = given.a_node(NOW), given.a_task(NOW)
    attempt = given.assigned(task, node, NOW)
    attempt.nonce = "guessed"
    with pytest.raises(Stale):
        given.taken(attempt, NOW)
    assert state_of(task) == "assigned"


def test_the_second_outcome_of_an_attempt_is_refused() -> None:
    task, attempt, order = given.running(NOW)
    given.finished(order, attempt.node, NOW, exit_code=3)
    with pytest.raises(Stale):
        given.finished(order, attempt.node, NOW, exit_code=0)
    assert state_of(task) == "failed"
    assert task.reason == "the program exited with 3"


def test_an_outcome_with_a_wrong_token_is_refused() -> None:
    task, attempt, order = given.running(NOW)
    with pytest.raises(Stale):
        given.finished(order.model_copy(update={"token": "guessed"}), attempt.node, NOW)
    assert state_of(task) == "running"


def test_a_queued_task_is_cancelled_at_once() -> None:
    task = given.a_task(NOW)
    records.cancel(task, by="ada", reason="wrong input", now=NOW)
    assert state_of(task) == "cancelled"
    assert task.reason == "cancelled by ada: wrong input"


def test_an_assigned_task_is_cancelled_at_once_and_its_message_opens_nothing() -> None:
    node, task = given.a_node(NOW), given.a_task(NOW)
    attempt = given.assigned(task, node, NOW)
    records.cancel(task, by="ada", reason="", now=NOW)
    assert state_of(task) == "cancelled"
    with pytest.raises(Stale):
        given.taken(attempt, NOW)


def test_a_running_task_is_cancelled_when_its_node_reports_the_end() -> None:
    task, attempt, order = given.running(NOW)
    records.cancel(task, by="ada", reason="too slow", now=NOW)
    assert state_of(task) == "running"
    given.finished(order, attempt.node, NOW, exit_code=143, stopped="cancelled")
    assert state_of(task) == "cancelled"
    assert task.reason == "cancelled by ada: too slow"


def test_a_task_that_succeeded_before_the_cancel_reached_it_has_succeeded() -> None:
    task, attempt, order = given.running(NOW)
    records.cancel(task, by="ada", reason="", now=NOW)
    given.finished(order, attempt.node, NOW)
    assert state_of(task) == "succeeded"


def test_cancelling_a_final_task_changes_nothing() -> None:
    task, attempt, order = given.running(NOW)
    given.finished(order, attempt.node, NOW)
    before = kinds(task)
    records.cancel(task, by="ada", reason="", now=NOW)
    assert (state_of(task), kinds(task)) == ("succeeded", before)


def test_a_task_waits_for_what_it_needs() -> None:
    first = given.a_task(NOW)
    second = given.a_task(NOW, after=[first.id])
    assert second.state == "waiting"
    order = given.taken(given.assigned(first, given.a_node(NOW), NOW), NOW)
    attempt = Attempt.objects.get(task=first)
    given.finished(order, attempt.node, NOW)
    assert state_of(second) == "queued"


def test_a_task_is_skipped_with_all_behind_it_when_what_it_needs_fails() -> None:
    first = given.a_task(NOW)
    second = given.a_task(NOW, after=[first.id])
    third = given.a_task(NOW, after=[second.id])
    records.cancel(first, by="ada", reason="", now=NOW)
    assert (state_of(second), state_of(third)) == ("skipped", "skipped")
    assert second.reason == f"it was to run after uname ({first.id}), which did not succeed"


def test_a_task_after_a_failed_one_is_skipped_at_submit() -> None:
    first = given.a_task(NOW)
    records.cancel(first, by="ada", reason="", now=NOW)
    assert state_of(given.a_task(NOW, after=[first.id])) == "skipped"


def test_a_task_that_did_not_start_in_time_expires() -> None:
    task = given.a_task(NOW, expires="10s")
    assert records.expire(given.later(NOW, 9)) == 0
    assert records.expire(given.later(NOW, 11)) == 1
    assert state_of(task) == "expired"


def test_a_failure_is_retried_as_often_as_the_task_asks_and_every_attempt_is_kept() -> None:
    node = given.a_node(NOW)
    task = given.a_task(NOW, retry={"attempts": 2, "on": ["exit_code"], "delay": "10s"})
    given.finished(given.taken(given.assigned(task, node, NOW), NOW), node, NOW, exit_code=1)
    assert state_of(task) == "waiting"

    assert records.promote(given.later(NOW, 5)) == 0
    assert records.promote(given.later(NOW, 11)) == 1
    given.finished(given.taken(given.assigned(task, node, NOW), NOW), node, NOW, exit_code=1)
    assert state_of(task) == "failed"
    assert [one.verdict for one in task.attempts.order_by("number")] == ["exit_code", "exit_code"]


def test_a_cancelled_task_whose_program_fails_before_it_hears_of_that_is_not_tried_again() -> None:
    task, attempt, order = given.running(NOW, retry={"attempts": 3, "on": ["exit_code"]})
    records.cancel(task, by="ada", reason="typo", now=NOW)
    given.finished(order, attempt.node, NOW, exit_code=1)
    assert state_of(task) == "cancelled"
    assert task.reason == "cancelled by ada: typo"
    assert task.attempts.get().verdict == "exit_code"


def test_a_cancel_that_comes_while_an_attempt_is_given_up_is_not_overheard() -> None:
    task, attempt, _ = given.running(NOW)
    seen = Attempt.objects.select_related("node", "task").get(id=attempt.id)
    records.cancel(task, by="ada", reason="", now=NOW)
    assert ending.lost(seen, "its node is gone", NOW)
    assert state_of(task) == "cancelled"
