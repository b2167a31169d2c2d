"""kolejka's foremen: each task goes to one of them, what fits is found behind what does not, nothing stays stuck."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone

from grid.core import bulk, offers, records
from grid.core.conf import conf
from grid.core.delivery import outbox
from grid.core.dispatcher import Dispatcher
from grid.core.kolejka import foremen
from grid.core.models import Attempt, BlobOwner, Delivery, Node, Secret, Task
from grid.core.people import access
from grid.core.reconciler import Reconciler
from grid.core.upkeep import doctor
from tasks.dialects.kolejka_foremen import read_wish
from tasks.views import Level
from tests.django import builders as given
from tests.django.kolejkas import TASK, Program, a_client, a_foreman
from tests.support.publishers import RecordingPublisher

pytestmark = pytest.mark.django_db


def reconciled(now: datetime) -> None:
    """One tick of the reconciler."""
    publisher = RecordingPublisher()
    dispatcher = Dispatcher(conf(), publisher, "one", "")
    assert dispatcher.lead(now)
    Reconciler(conf(), dispatcher, publisher).tick(now)


def test_a_foreman_is_given_a_task_fetches_its_files_and_brings_its_result() -> None:
    ada, foreman = a_client(), a_foreman()
    task = ada.submit(files={"in.txt": {"reference": ada.put(b"3 4\n")}}, requires=["fast"])
    assert foreman.dequeue(4, cpus=2, memory="1G") == []
    (found,) = foreman.dequeue(4, tags=("fast",), cpus=2, memory="1G")
    assert (found["id"], found["limits"]["cpus"], found["limits"]["time"]) == (task, 1, "1.0s")
    assert foreman.dequeue(4, tags=("fast",), cpus=2, memory="1G") == []
    again = foreman.ask("GET", f"task/task/{task}/")["task"]
    assert again == found
    assert foreman.ask("GET", f"blob/reference/{again['files']['in.txt']['reference']}/") == b"3 4\n"
    output = foreman.put(b"Linux\n")
    stats = {"cpu": {"usage": "0.2s"}, "memory": {"max_usage": "1024b"}, "time": "0.4s"}
    told = foreman.report(task, files={"stdout.txt": {"reference": output}}, stats=stats)
    assert told["result"]["id"] == task
    result = ada.ask("GET", f"task/result/{task}/")["result"]
    assert (result["verdict"], result["node"]) == ("succeeded", "kolejka-foreman-old")
    assert result["stats"]["cpu"]["usage"] == "0.2s"
    assert ada.ask("GET", f"blob/reference/{result['files']['stdout.txt']['reference']}/") == b"Linux\n"


def test_what_a_foreman_brings_belongs_to_the_owner_of_the_task_alone() -> None:
    ada, foreman = a_client(), a_foreman()
    secret = ada.put(b"secret")
    task = ada.submit(files={"in": {"reference": secret}})
    foreman.dequeue()
    key, sha256 = foreman.put(b"out"), hashlib.sha256(b"out").hexdigest()
    foreman.report(task, files={"out": {"reference": key}})
    owners = BlobOwner.objects.filter(blob=sha256).values_list("owner__username", flat=True)
    assert list(owners) == ["ada"]
    for path in (
        f"blob/reference/{key}/",
        f"blob/reference/{secret}/",
        f"blob/reference/{sha256}/",
        f"task/task/{task}/",
    ):
        foreman.ask("GET", path)
        assert foreman.status == 404
    assert ada.ask("GET", f"blob/reference/{key}/") == b"out"


def test_a_foreman_cannot_report_contents_that_are_not_its_own() -> None:
    ada, foreman, other = a_client(), a_foreman(), a_foreman("other")
    task = ada.submit()
    foreman.dequeue()
    answer = foreman.report(task, files={"x": {"reference": other.put(b"secret")}})
    assert (foreman.status, answer["message"]) == (400, "files.x: Reference for file x is unknown")
    assert Task.objects.get(id=task).state == "running"


def test_the_same_result_again_is_taken_and_another_foreman_is_refused() -> None:
    ada, foreman, other = a_client(), a_foreman(), a_foreman("other")
    task = ada.submit()
    foreman.dequeue()
    other.report(task)
    assert other.status == 403
    for _ in range(2):
        foreman.report(task, 3)
        assert foreman.status == 200
    assert Task.objects.get(id=task).exit_code == 3


@pytest.mark.parametrize(
    ("code", "stats", "verdict"),
    [
        (0, {}, "succeeded"),
        (7, {}, "exit_code"),
        (137, {"time": "1.7s"}, "time_limit"),
        (137, {"time": "0.2s", "memory": {"failures": 12, "max_usage": "67108864b"}}, "memory_limit"),
        (139, {"time": "0.2s"}, "signal"),
        (1, {"time": "0.2s", "pids": {"failures": 1}}, "pids_limit"),
    ],
)
def test_what_the_numbers_of_a_foreman_mean(code: int, stats: dict[str, Any], verdict: str) -> None:
    ada, foreman = a_client(), a_foreman()
    task = ada.submit()
    foreman.dequeue()
    foreman.report(task, code, stats=stats)
    assert Task.objects.get(id=task).verdict == verdict


def test_where_the_foremans_docker_failed_the_task_is_tried_again() -> None:
    ada, foreman = a_client(), a_foreman()
    task = ada.submit()
    foreman.dequeue()
    foreman.report(task, 128)
    assert foreman.status == 200
    assert Task.objects.get(id=task).state in ("queued", "waiting")


def test_one_that_fits_is_found_at_once_behind_a_hundred_that_do_not() -> None:
    ada, foreman = a_client(), a_foreman()
    for _ in range(100):
        ada.submit(limits={**TASK["limits"], "memory": "8G"})
    fits = ada.submit()
    assert [one["id"] for one in foreman.dequeue(4, cpus=4, memory="1G")] == [fits]


def test_a_foreman_is_given_what_fits_on_it_together() -> None:
    ada, foreman = a_client(), a_foreman()
    for _ in range(6):
        ada.submit(limits={**TASK["limits"], "cpus": 2})
    assert len(foreman.dequeue(8, cpus=4, memory="1G")) == 2
    assert len(foreman.dequeue(1)) == 1
    assert foreman.dequeue(0) == []


def test_an_exclusive_task_comes_alone() -> None:
    ada, foreman = a_client(), a_foreman()
    ids = [ada.submit(exclusive="yes"), ada.submit()]
    waves = [[one["id"] for one in foreman.dequeue(8)] for _ in range(2)]
    assert sorted(map(len, waves)) == [1, 1]
    assert sorted(waves[0] + waves[1]) == sorted(ids)


def test_what_a_foreman_cannot_do_is_kept_for_our_own_nodes() -> None:
    now, ada = timezone.now(), given.a_user()
    Secret.objects.create(owner=ada, name="KEY", value=b"x", changed_at=now)
    for changes in (
        {"secrets": ["KEY"]},
        {"singleton": "one"},
        {"limits": {"cpu_time": "5s"}},
        {"limits": {"storage": "1G"}},
        {"limits": {"time": "2h"}},
    ):
        given.a_task(now, ada, **changes)
    assert a_foreman().dequeue(8, time="1H") == []
    taken = given.a_task(now, ada, limits={"storage": "1G", "time": "5s"}, best_effort=["storage"])
    assert [one["id"] for one in a_foreman().dequeue(8, time="1H")] == [taken.id]


def test_a_network_that_a_foreman_does_not_give_is_not_asked_of_it(settings: Any) -> None:
    settings.GRID = settings.GRID.model_copy(update={"allow_network": True})
    ada, foreman = a_client(), a_foreman()
    ada.submit()
    closed = ada.submit(limits={**TASK["limits"], "network": "false"})
    assert [one["id"] for one in foreman.dequeue(8, network=False)] == [closed]
    assert len(foreman.dequeue(8)) == 1


def test_what_does_not_come_back_is_tried_again_elsewhere() -> None:
    ada, foreman = a_client(), a_foreman()
    task = ada.submit()
    foreman.dequeue()
    now, attempt = timezone.now(), Attempt.objects.get()
    # Twice the time limit and 10 s, and what files may need: so long it may well be at work.
    reconciled(attempt.phase_deadline - timedelta(seconds=1))
    assert Task.objects.get(id=task).state == "running"
    assert attempt.phase_deadline - now < timedelta(hours=2)
    reconciled(attempt.phase_deadline + timedelta(seconds=1))
    assert Task.objects.get(id=task).state in ("waiting", "queued")
    foreman.report(task)
    assert foreman.status == 403


def test_a_cancelled_task_is_over_whatever_the_foreman_does() -> None:
    ada, foreman = a_client(), a_foreman()
    task = ada.submit()
    foreman.dequeue()
    records.cancel(Task.objects.get(id=task), by="ada", reason="", now=timezone.now())
    reconciler_time = timezone.now() + timedelta(seconds=conf().cancel_grace_seconds + 1)
    publisher = RecordingPublisher()
    dispatcher = Dispatcher(conf(), publisher, "one", "")
    assert dispatcher.lead(reconciler_time)
    Reconciler(conf(), dispatcher, publisher).cancels(reconciler_time)
    assert Task.objects.get(id=task).state == "cancelled"
    foreman.report(task)
    assert foreman.status == 403


def test_the_dispatcher_gives_a_foreman_nothing_and_sees_what_it_has() -> None:
    ada, foreman = a_client(), a_foreman()
    ada.submit()
    foreman.dequeue()
    ada.submit()
    now, publisher = timezone.now(), RecordingPublisher()
    dispatcher = Dispatcher(conf(), publisher, "one", "")
    assert dispatcher.lead(now)
    assert dispatcher.dispatch(lambda: now) == 0
    node = Node.objects.get()
    assert (node.ready, node.not_ready_reason) == (False, foremen.NOT_READY)
    Node.objects.update(mode="cordoned")
    assert foreman.dequeue() == []


def test_the_doctor_knows_that_a_foreman_is_never_ready() -> None:
    a_foreman().dequeue()
    conf().dir.mkdir(parents=True, exist_ok=True)

    def finding(now: datetime) -> Any:
        return next(one for one in doctor.examine(now) if one.name == "node kolejka-foreman-old")

    assert finding(timezone.now()).level is Level.PASS
    gone = finding(timezone.now() + timedelta(minutes=5))
    assert (gone.level, "grid node remove" in gone.hint) == (Level.WARN, True)


def test_a_quota_of_running_tasks_holds_for_foremen_too(settings: Any) -> None:
    quota = settings.GRID.user_quota.model_copy(update={"running": 2})
    settings.GRID = settings.GRID.model_copy(update={"user_quota": quota})
    ada, foreman = a_client(), a_foreman()
    for _ in range(3):
        ada.submit()
    assert len(foreman.dequeue(8)) == 2
    assert foreman.dequeue(8) == []


def test_processors_of_an_older_grid_may_work_after_the_migration() -> None:
    assert Group.objects.get(name="Processors").permissions.filter(codename="add_attempt").exists()


def test_a_foreman_without_a_name_and_one_with_a_strange_one_have_a_node_each() -> None:
    first, second = a_foreman("f@x"), a_foreman("f-x")
    for one in (first, second):
        one.ask("POST", "queue/dequeue/", {"tags": ["hostname:a b"]})
    names = sorted(Node.objects.values_list("name", flat=True))
    assert names[0] == "kolejka-f-x-a-b"
    assert names[1].startswith("kolejka-f-x-a-b-")


@pytest.mark.parametrize(
    "wish", [b"[]", b"{", {"tags": 3}, {"limits": []}, {"limits": {"cpus": "x"}}, {"concurency": "many"}]
)
def test_a_wish_that_cannot_be_read_is_the_foremans_fault(wish: object) -> None:
    answer = (foreman := a_foreman()).ask("POST", "queue/dequeue/", wish)
    assert (foreman.status, answer["status"]) == (400, "FAIL")


def test_a_callback_is_told_in_the_words_of_the_task_and_signed() -> None:
    ada, foreman = a_client(), a_foreman()
    task = ada.submit(callback_url="https://host.example/done")
    foreman.dequeue()
    foreman.report(task, 5)
    delivery = Delivery.objects.get()
    parcel = outbox.parcel(delivery.id, conf(), timezone.now())
    assert parcel.secrets
    body = json.loads(parcel.body)
    assert (body["task"]["id"], body["result"]["id"], body["result"]["result"]) == (task, task, 5)


# --------------------------------------------------------------------------------------------------------------- races


@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_eight_pollers_hand_out_each_of_a_thousand_tasks_once() -> None:
    offers.forget()
    now = timezone.now()
    ada = given.a_user()
    wishes = [bulk.Wish(given.a_spec()) for _ in range(1000)]
    bulk.submit_all(owner=ada, wishes=wishes, contents={}, idempotency_key="", now=now)
    users = []
    for number in range(8):
        user = given.a_user(f"foreman{number}")
        user.groups.add(Group.objects.get(name="Processors"))
        users.append(user)
    access.forget()
    wish = read_wish({"concurency": 50, "limits": {}, "tags": ["hostname:x"]})

    def poll(user: Any) -> list[str]:
        found: list[str] = []
        try:
            while tasks := foremen.dequeue(user, wish, timezone.now()):
                found += [one["id"] for one in tasks]
        finally:
            connection.close()
        return found

    with ThreadPoolExecutor(len(users)) as pool:
        handed = [one for part in pool.map(poll, users) for one in part]
    assert len(handed) == 1000
    assert max(Counter(handed).values()) == 1
    assert Attempt.objects.count() == 1000


def test_the_program_of_the_tests_checks_csrf() -> None:
    program = Program(given.a_user())
    program.ask("POST", "queue/dequeue/", {}, csrf=False)
    assert program.status == 403
