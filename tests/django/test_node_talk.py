"""What the server answers its nodes: hello, heartbeats, orders, files, logs and outcomes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from django_celery_results.models import TaskResult
from pytest_django import DjangoAssertNumQueries

from grid.core import intake, logs, nodes, outcomes, records, secretbox, snapshot
from grid.core.contents import blobs
from grid.core.models import Attempt, Secret
from grid.core.reading import explain, present
from tasks.errors import Conflict, NotFound, Stale
from tasks.order import Foreign, Hello, WaitingOrder
from tasks.outcome import LogTail
from tasks.placement import decide
from tasks.states import Phase
from tests.django import builders as given

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def test_a_heartbeat_renews_the_leases_it_names_and_no_others() -> None:
    _, attempt, order = given.running(NOW)
    later = given.later(NOW, 20)
    reply = nodes.heartbeat(attempt.node, given.a_beat(attempt.node, order), later)
    attempt.refresh_from_db()
    assert attempt.lease_until == given.later(later, 30)
    assert (reply.cancel, reply.stale) == ((), ())
    nodes.heartbeat(attempt.node, given.a_beat(attempt.node), given.later(later, 5))
    attempt.refresh_from_db()
    assert attempt.lease_until == given.later(later, 30)


def test_a_node_is_told_of_orders_whose_message_it_has_not_read() -> None:
    node = given.a_node(NOW)
    attempt = given.assigned(given.a_task(NOW), node, NOW)
    beat = given.a_beat(node)
    waiting = (WaitingOrder(attempt=attempt.id, nonce=attempt.nonce),)
    # The broker has no message of it yet: it may be about to.
    assert nodes.heartbeat(node, beat, given.later(NOW, 3)).waiting == ()
    Attempt.objects.filter(id=attempt.id).update(sent_at=NOW)
    assert nodes.heartbeat(node, beat, given.later(NOW, 2)).waiting == ()
    assert nodes.heartbeat(node, beat, given.later(NOW, 3)).waiting == waiting
    leaving = beat.model_copy(update={"ready": False, "not_ready_reason": "it is shutting down"})
    assert nodes.heartbeat(node, leaving, given.later(NOW, 3)).waiting == ()
    order = given.taken(attempt, given.later(NOW, 4))
    assert nodes.heartbeat(node, given.a_beat(node, order), given.later(NOW, 5)).waiting == ()


def test_heartbeats_look_for_unread_orders_together(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    alpha, beta = given.a_node(NOW), given.a_node(NOW, name="beta")
    with django_assert_num_queries(2):  # the first asks for all of them
        nodes.heartbeat(alpha, given.a_beat(alpha), NOW)
    with django_assert_num_queries(1):
        nodes.heartbeat(beta, given.a_beat(beta), given.later(NOW, 0.9))
    attempt = given.assigned(given.a_task(NOW), beta, given.later(NOW, -10))
    Attempt.objects.filter(id=attempt.id).update(sent_at=given.later(NOW, -10))
    assert nodes.heartbeat(alpha, given.a_beat(alpha), given.later(NOW, 1.1)).waiting == ()
    (told,) = nodes.heartbeat(beta, given.a_beat(beta), given.later(NOW, 1.2)).waiting
    assert told.attempt == attempt.id


def test_a_node_is_told_which_of_its_attempts_are_stale_or_cancelled() -> None:
    task, attempt, order = given.running(NOW)
    records.cancel(task, by="ada", reason="typo", now=NOW)
    forged = order.model_copy(update={"attempt": "0" * 32})
    reply = nodes.heartbeat(attempt.node, given.a_beat(attempt.node, order, forged), NOW)
    assert [(one.attempt, one.reason) for one in reply.cancel] == [(attempt.id, "cancelled by ada: typo")]
    assert reply.stale == ("0" * 32,)


def test_the_heartbeat_tells_the_phase_and_gives_it_a_deadline() -> None:
    _, attempt, order = given.running(NOW)
    nodes.heartbeat(attempt.node, given.a_beat(attempt.node, order, phase=Phase.EXECUTING), NOW)
    attempt.refresh_from_db()
    assert attempt.phase == "executing"
    assert attempt.phase_deadline == given.later(NOW, 5 + 30 + 10)


def test_a_node_that_has_been_replaced_is_told_to_stop() -> None:
    node = given.a_node(NOW)
    beat = given.a_beat(node)
    given.a_node(NOW)
    with pytest.raises(Conflict, match="taken over"):
        nodes.heartbeat(node, beat, NOW)


def test_another_machine_cannot_take_the_name_of_a_living_node() -> None:
    node = given.a_node(NOW)
    rival = Hello(session="s2", home="two:/var", facts=given.facts())
    with pytest.raises(Conflict, match="is at work at one:/var"):
        nodes.hello(node, rival, given.later(NOW, 5))
    nodes.hello(node, rival, given.later(NOW, 60))


def test_a_restarted_node_keeps_the_attempts_it_adopts_and_loses_the_others() -> None:
    node = given.a_node(NOW)
    kept, gone = (given.assigned(given.a_task(NOW), node, NOW) for _ in range(2))
    for attempt in (kept, gone):
        given.taken(attempt, NOW)
    welcome = nodes.hello(node, Hello(session="s2", facts=given.facts(), adopted=(kept.id, "f" * 32)), NOW)
    assert welcome.drop == ("f" * 32,)
    kept.refresh_from_db()
    gone.refresh_from_db()
    assert (kept.state, kept.session) == ("running", "s2")
    assert (gone.state, gone.verdict) == ("ended", "node_lost")
    assert gone.task.state in ("assigned", "running", "waiting", "queued")


def test_an_order_carries_small_files_and_secrets_and_says_what_is_not_enforced() -> None:
    Secret.objects.create(owner=given.a_user(), name="KEY", value=secretbox.seal("hush"), changed_at=NOW)
    node = given.a_node(NOW, enforces=("memory", "swap", "cpus", "pids", "time", "cpu_time", "output", "network"))
    task = given.a_task(NOW, secrets=["KEY"], files={"a": {"content": "hi"}})
    order = given.taken(given.assigned(task, node, NOW), NOW)
    assert order.secrets == {"KEY": "hush"}
    assert base64.b64decode(order.inline[order.files[0].sha256]) == b"hi"
    assert order.not_enforced == ("storage", "files")


def test_a_node_reads_the_files_of_its_own_attempts_only() -> None:
    stored = intake.upload(given.a_user(), [b"data"], None, NOW)
    other = intake.upload(given.a_user(), [b"other"], None, NOW)
    _, attempt, order = given.running(NOW, files={"a": {"reference": stored.sha256}})
    with nodes.attempt_blob(attempt.node, attempt.id, order.token, stored.sha256) as file:
        assert file.read() == b"data"
    with pytest.raises(NotFound):
        nodes.attempt_blob(attempt.node, attempt.id, order.token, other.sha256)
    with pytest.raises(Stale):
        nodes.attempt_blob(given.a_node(NOW, "beta"), attempt.id, order.token, stored.sha256)


def test_an_outcome_whose_files_are_missing_is_asked_for_them_first() -> None:
    task, attempt, order = given.running(NOW)
    outcome = given.an_outcome(order, {"big.bin": b"x" * 10}).model_copy(update={"inline": {}})
    with pytest.raises(outcomes.MissingBlobs) as refused:
        outcomes.accept(attempt.node, outcome, NOW)
    (sha256,) = refused.value.missing
    nodes.upload_blob(attempt.node, attempt.id, order.token, sha256, [b"x" * 10], NOW)
    outcomes.accept(attempt.node, outcome, NOW)
    task.refresh_from_db()
    assert present.result(task).files["big.bin"].size == 10


def test_a_node_cannot_name_a_content_that_it_never_had() -> None:
    """Otherwise a node could read other people's files by their hashes."""
    foreign = blobs.keep(given.a_user("bob").pk, [b"secret of bob"], None, None, now=NOW)
    _, attempt, order = given.running(NOW)
    outcome = given.an_outcome(order, {"x": b"secret of bob"}).model_copy(update={"inline": {}})
    with pytest.raises(outcomes.MissingBlobs) as refused:
        outcomes.accept(attempt.node, outcome, NOW)
    assert refused.value.missing == [foreign.sha256]


def test_the_outcome_is_mirrored_for_celerys_tools_under_the_attempts_id() -> None:
    _, attempt, order = given.running(NOW)
    given.finished(order, attempt.node, NOW, exit_code=1)
    row = TaskResult.objects.filter(task_id=attempt.id).values_list("status", "task_name", "worker").get()
    assert row == ("FAILURE", "uname", "alpha")


def test_a_live_log_grows_by_offsets_and_repeats_do_no_harm() -> None:
    _, attempt, order = given.running(NOW)

    def send(offset: int, data: bytes) -> int:
        return nodes.append_log(attempt.node, attempt.id, order.token, "stdout", offset, data)

    assert send(0, b"hello ") == 6
    assert send(3, b"lo world") == 11
    assert send(0, b"hello") == 11
    with pytest.raises(Conflict, match="11 bytes"):
        send(20, b"gap")
    part = logs.read(attempt, "stdout", 6, 100)
    assert (part.data, part.size, part.complete) == (b"world", 11, False)
    with pytest.raises(NotFound):
        logs.read(attempt, "../../etc/passwd", 0, 1)


def test_the_last_bytes_of_the_log_come_with_the_outcome() -> None:
    _, attempt, order = given.running(NOW)
    nodes.append_log(attempt.node, attempt.id, order.token, "stdout", 0, b"one ")
    tail = LogTail(offset=4, data=base64.b64encode(b"two").decode())
    outcomes.accept(attempt.node, given.an_outcome(order).model_copy(update={"log_tails": {"stdout": tail}}), NOW)
    attempt = Attempt.objects.get(id=attempt.id)
    part = logs.read(attempt, "stdout", 0, 100)
    assert (part.data, part.complete) == (b"one two", True)


def test_a_result_has_everything_a_user_asks_for() -> None:
    task, attempt, order = given.running(NOW, stdout="stdout.txt")
    outcomes.accept(attempt.node, given.an_outcome(order, {"stdout.txt": b"Linux\n"}), given.later(NOW, 2))
    task.refresh_from_db()
    result = present.result(task)
    assert (result.verdict, result.exit_code, result.node) == ("succeeded", 0, "alpha")
    assert result.files["stdout.txt"].reference
    assert result.provenance.spec_hash == task.spec_hash


def test_there_is_no_result_before_the_end() -> None:
    with pytest.raises(Conflict, match="it has no result yet"):
        present.result(given.a_task(NOW))


def test_the_status_of_nodes_counts_what_is_in_use() -> None:
    given.running(NOW)
    (status,) = nodes.status(NOW)
    assert (status.name, status.online, status.ready, status.running, status.cpus_used) == ("alpha", True, True, 1, 1.0)
    (status,) = nodes.status(given.later(NOW, 60))
    assert (status.online, status.not_ready_reason) == (False, "not heard of since 12:00:00 UTC")


# ------------------------------------------------------------------------------------------------------------- others
def test_what_others_use_of_a_node_is_not_given_to_tasks() -> None:
    node = given.a_node(NOW)
    task = given.a_task(NOW, limits={"memory": "64M", "cpus": 2})
    nodes.heartbeat(node, given.a_beat(node, foreign=Foreign(cpus=3, memory=1024**3)), NOW)
    decision = decide(snapshot.backlogs(1), snapshot.nodes(NOW, 30.0), {}, (), NOW.timestamp())
    assert decision.placements == ()
    [told] = explain.explain(task, NOW).nodes
    assert (told.fits_ever, told.reasons) == (True, ("3 of 4 cpus are in use by others, needs 2",))
    [status] = nodes.status(NOW)
    assert (status.cpus_others, status.memory_others) == (3, 1024**3)
    node.refresh_from_db()
    nodes.heartbeat(node, given.a_beat(node), NOW)
    decision = decide(snapshot.backlogs(1), snapshot.nodes(NOW, 30.0), {}, (), NOW.timestamp())
    assert [placement.task_id for placement in decision.placements] == [task.id]


def test_a_node_that_starts_again_is_taken_as_unused_until_it_tells() -> None:
    node = given.a_node(NOW)
    nodes.heartbeat(node, given.a_beat(node, foreign=Foreign(cpus=3)), NOW)
    given.a_node(NOW)
    [status] = nodes.status(NOW)
    assert status.cpus_others == 0


def test_details_that_changed_come_with_a_heartbeat() -> None:
    node = given.a_node(NOW, details={"kernel": "6.1"})
    nodes.heartbeat(node, given.a_beat(node, details={"kernel": "6.1", "image cache": "3 images, 1.2G"}), NOW)
    [status] = nodes.status(NOW)
    assert status.details["image cache"] == "3 images, 1.2G"
