"""Webhooks: who is told of the end of a task, signed and again until taken, and what nobody can make the server ask."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from grid.core import records
from grid.core.conf import GridSettings
from grid.core.delivery import outbox
from grid.core.delivery.webhooks import Courier
from grid.core.models import Delivery, DeliveryTry, Task
from grid.core.upkeep import removal
from tasks import webhook
from tasks.errors import NotAllowed, SpecError
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class Received:
    """One request, as the receiver saw it."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A real receiver on loopback; it answers with ``statuses`` one after the other, and then with 204."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    holds: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    found.holds.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            names = {name.lower(): text for name, text in self.headers.items()}
            found.received.append(Received(self.path, names, body))
            found.holds.wait(60)
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            for name, text in found.headers.items():
                self.send_header(name, text)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A courier that was stopped hangs up."""

    server = Quiet(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    found.holds.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(settings: LazySettings) -> GridSettings:
    """Loopback is allowed by its number, and tries follow each other quickly."""
    changes = {"callback_hosts": ("127.0.0.1",), "callback_delay_seconds": 0.01, "tick_seconds": 0.05}
    settings.GRID = settings.GRID.model_copy(update={**changes, "callback_tries": 4, "callback_seconds": 20.0})
    found: GridSettings = settings.GRID
    return found


@contextmanager
def a_courier(settings: GridSettings) -> Iterator[Courier]:
    courier = Courier(settings)
    courier.start()
    try:
        yield courier
    finally:
        courier.stop()


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def an_ended_task(url: str, owner: User | None = None) -> Task:
    """A task with a callback that was cancelled before it ran."""
    owner = owner or given.a_user()
    if not outbox.has_key(owner.pk):
        outbox.make_key(owner, timezone.now())
    task = given.a_task(timezone.now(), owner, callback_url=url)
    return records.cancel(task, by="ada", reason="enough", now=timezone.now())


def settled(state: str, number: int = 1) -> Callable[[], bool]:
    return lambda: Delivery.objects.filter(state=state, next_at=None).count() == number


def test_the_end_of_a_task_is_told_once_in_a_signed_cloud_event(receiver: Receiver, quick: GridSettings) -> None:
    secret = outbox.make_key(given.a_user(), timezone.now()).secret
    _, attempt, order = given.running(timezone.now(), callback_url=receiver.url("/hook?x=1"))
    with a_courier(quick):
        given.finished(order, attempt.node, timezone.now(), exit_code=3)
        until(settled("delivered"))
    (told,) = receiver.received
    assert told.path == "/hook?x=1"
    assert told.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert told.headers["content-type"].startswith("application/cloudevents+json")
    event = json.loads(told.body)
    task = Task.objects.get()
    assert webhook.verify(secret, told.headers, told.body, timezone.now()) == event["id"]
    assert event["specversion"] == "1.0"
    assert (event["type"], event["subject"]) == ("grid.task.finished", task.id)
    assert event["data"]["task"]["verdict"] == "exit_code"
    assert event["data"]["result"].endswith(f"/api/v1/tasks/{task.id}/result")
    with pytest.raises(NotAllowed):
        webhook.verify(secret, told.headers, told.body + b" ", timezone.now())


def test_a_receiver_that_fails_is_tried_again_with_the_same_id_and_each_try_is_logged(
    receiver: Receiver, quick: GridSettings
) -> None:
    receiver.statuses = [500, 503]
    with a_courier(quick):
        task = an_ended_task(receiver.url())
        until(settled("delivered"))
    assert len({told.headers["webhook-id"] for told in receiver.received}) == 1
    (view,) = outbox.of_task(task)
    assert [one.status for one in view.log] == [500, 503, 204]
    assert [one.number for one in view.log] == [1, 2, 3]
    assert view.log[0].error == "not accepted"


def test_after_its_tries_a_delivery_is_given_up_and_told_again_when_asked(
    receiver: Receiver, quick: GridSettings
) -> None:
    receiver.statuses = [500] * quick.callback_tries
    ada = doors.api_of(given.a_user())
    with a_courier(quick):
        task = an_ended_task(receiver.url())
        until(settled("failed"))
        (failed,) = ada.get("/api/v1/webhooks/deliveries?state=failed").json()["items"]
        assert failed["tries"] == quick.callback_tries
        again = ada.post(f"/api/v1/webhooks/deliveries/{failed['id']}/redeliver")
        assert again.status_code == 200
        until(settled("delivered"))
    one = ada.get(f"/api/v1/webhooks/deliveries/{failed['id']}").json()
    assert (one["task"], one["state"], one["log"][-1]["status"]) == (task.id, "delivered", 204)
    assert ada.get(f"/api/v1/tasks/{task.id}/deliveries").json() == [one]


def test_a_receiver_that_is_gone_is_asked_once(receiver: Receiver, quick: GridSettings) -> None:
    receiver.statuses = [410]
    with a_courier(quick):
        an_ended_task(receiver.url())
        until(settled("failed"))
    assert len(receiver.received) == 1


def test_a_redirect_is_not_followed(receiver: Receiver, quick: GridSettings) -> None:
    receiver.statuses, receiver.headers = [302], {"Location": receiver.url("/elsewhere")}
    with a_courier(quick):
        an_ended_task(receiver.url())
        until(settled("delivered"))
    assert {told.path for told in receiver.received} == {"/hook"}
    first = DeliveryTry.objects.order_by("id")[0]
    assert (first.status, first.error) == (302, "a redirect, which is not followed")


def test_a_receiver_that_says_nothing_is_given_up_in_time_and_the_others_are_told_meanwhile(
    receiver: Receiver, quick: GridSettings
) -> None:
    receiver.holds.clear()
    with a_courier(quick.model_copy(update={"callback_seconds": 0.5})):
        an_ended_task(receiver.url())
        until(settled("failed"))
    assert set(DeliveryTry.objects.values_list("error", flat=True)) == {"no answer within 0.5 s"}


def test_what_a_dying_server_did_not_note_is_told_once_more_with_the_same_id(
    receiver: Receiver, quick: GridSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "CLAIM_MARGIN_SECONDS", 0.5)
    brief = quick.model_copy(update={"callback_seconds": 1.0})
    receiver.holds.clear()
    with a_courier(brief):
        an_ended_task(receiver.url())
        until(lambda: len(receiver.received) == 1)
    assert DeliveryTry.objects.count() == 0
    receiver.holds.set()
    with a_courier(brief):
        until(settled("delivered"))
    assert len(receiver.received) == 2
    assert len({told.headers["webhook-id"] for told in receiver.received}) == 1


def test_of_several_couriers_one_delivers(receiver: Receiver, quick: GridSettings) -> None:
    with a_courier(quick), a_courier(quick), a_courier(quick):
        for _ in range(12):
            an_ended_task(receiver.url())
        until(settled("delivered", 12))
    assert len(receiver.received) == 12


def test_one_receiver_with_much_to_hear_does_not_hold_up_the_others(quick: GridSettings) -> None:
    for number in range(12):
        an_ended_task(f"http://127.0.0.1:{1 if number < 10 else 2}/")
    taken = outbox.claim(quick, timezone.now(), 8, {})
    assert [one.host for one in taken].count("127.0.0.1:1") == outbox.MOST_OF_A_HOST
    assert [one.host for one in taken].count("127.0.0.1:2") == 2
    assert outbox.claim(quick, timezone.now(), 8, {"127.0.0.1:1": outbox.MOST_OF_A_HOST}) == []


INNER = ("localhost", "ip6-localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:10.0.0.1]")


@pytest.mark.parametrize("host", INNER)
def test_inner_addresses_are_not_asked_whatever_they_are_called(
    host: str, receiver: Receiver, quick: GridSettings
) -> None:
    task = given.a_task(timezone.now())
    outbox.make_key(given.a_user(), timezone.now())
    # Past the refusal at the submit: names may come to mean inner addresses later.
    Task.objects.filter(id=task.id).update(spec={**task.spec, "callback_url": f"http://{host}:{receiver.port}/"})
    records.cancel(task, by="ada", reason="", now=timezone.now())
    with a_courier(quick.model_copy(update={"callback_tries": 1})):
        until(lambda: DeliveryTry.objects.exists())
    error = DeliveryTry.objects.order_by("id")[0].error
    assert "is not an address to which this server posts" in error or "Name or service not known" in error
    assert receiver.received == []


@pytest.mark.parametrize("host", ["localhost", "10.1.2.3", "169.254.169.254", "[::1]", "[fe80::1]", "[::]"])
def test_inner_addresses_are_refused_at_the_submit_where_they_are_plain_to_see(host: str) -> None:
    outbox.make_key(given.a_user(), timezone.now())
    with pytest.raises(SpecError, match=r"callback_url: .* is not an address to which this server posts"):
        given.a_task(timezone.now(), callback_url=f"http://{host}/")


def test_without_a_secret_or_where_it_is_turned_off_a_callback_is_refused(settings: LazySettings) -> None:
    with pytest.raises(SpecError, match="you have no secret"):
        given.a_task(timezone.now(), callback_url="https://host.example/")
    settings.GRID = settings.GRID.model_copy(update={"allow_callbacks": False})
    with pytest.raises(SpecError, match="sends no callbacks"):
        given.a_task(timezone.now(), callback_url="https://host.example/")


def test_while_a_secret_is_replaced_both_open_a_delivery(receiver: Receiver, quick: GridSettings) -> None:
    ada = doors.api_of(given.a_user())
    assert ada.get("/api/v1/webhooks/secret").json()["present"] is False
    made = [ada.post("/api/v1/webhooks/secret", {}, content_type="application/json").json() for _ in range(2)]
    assert made[0]["old_until"] is None
    assert made[1]["old_until"]
    assert made[0]["secret"] not in ada.get("/api/v1/webhooks/secret").content.decode()
    with a_courier(quick):
        an_ended_task(receiver.url())
        until(settled("delivered"))
        at_once = ada.post("/api/v1/webhooks/secret", {"overlap_seconds": 0}, content_type="application/json").json()
        an_ended_task(receiver.url())
        until(settled("delivered", 2))
    first, second = receiver.received
    for one in made:
        assert webhook.verify(one["secret"], first.headers, first.body, timezone.now())
    assert webhook.verify(at_once["secret"], second.headers, second.body, timezone.now())
    with pytest.raises(NotAllowed):
        webhook.verify(made[1]["secret"], second.headers, second.body, timezone.now())


def test_a_delivery_is_written_with_the_end_of_the_task_or_not_at_all() -> None:
    outbox.make_key(given.a_user(), timezone.now())
    task = given.a_task(timezone.now(), callback_url="https://host.example/")

    with transaction.atomic():
        records.cancel(task, by="ada", reason="", now=timezone.now())
        assert Delivery.objects.exists()
        transaction.set_rollback(True)
    assert not Delivery.objects.exists()
    task.refresh_from_db()
    assert task.state == "queued"


def test_others_see_nothing_of_it_and_staff_everything() -> None:
    an_ended_task("http://127.0.0.1:1/")
    bob, root = doors.api_of(given.a_user("bob")), doors.api_of(given.a_user("root", staff=True), *doors.EVERY_SCOPE)
    delivery = Delivery.objects.get()
    assert bob.get("/api/v1/webhooks/deliveries").json()["items"] == []
    assert bob.get(f"/api/v1/webhooks/deliveries/{delivery.id}").status_code == 404
    assert bob.post(f"/api/v1/webhooks/deliveries/{delivery.id}/redeliver").status_code == 404
    assert [one["id"] for one in root.get("/api/v1/webhooks/deliveries").json()["items"]] == [delivery.id]


def test_deliveries_are_listed_page_by_page_and_go_with_their_task() -> None:
    tasks = [an_ended_task("http://127.0.0.1:1/") for _ in range(5)]
    ada, found, after = doors.api_of(given.a_user()), [], ""
    while True:
        answer = ada.get(f"/api/v1/webhooks/deliveries?limit=2&after={after}").json()
        found += [one["task"] for one in answer["items"]]
        after = answer["next"]
        if not after:
            break
    assert found == [task.id for task in reversed(tasks)]
    removal.remove_all([task.id for task in tasks])
    assert not Delivery.objects.exists()
