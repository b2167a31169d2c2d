"""The stream of events: what happens to one's own tasks, as it happens, and from where one left off."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.utils import timezone

from grid.core import records
from grid.core.people.tokens import Scope
from grid.core.reading.hub import POLL_SECONDS
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db(transaction=True)


def events_of(answer: doors.Answer) -> list[dict[str, Any]]:
    """The events that have come so far."""
    return [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: ")]


def listen(token: str, number: int, query: str = "", last: str = "") -> doors.Request:
    """A listener that hangs up after so many events."""
    return doors.Request(
        f"/api/v1/events{query}",
        token,
        headers={"last-event-id": last} if last else {},
        enough=lambda answer: answer.complete or len(events_of(answer)) >= number,
    )


def test_a_listener_hears_of_their_own_tasks_only() -> None:
    bob = given.a_user("bob")
    token = doors.a_token(given.a_user(), Scope.READ)

    async def story() -> doors.Answer:
        request = listen(token, 2)
        listening = asyncio.create_task(request.send())
        await request.begun.wait()
        await sync_to_async(given.a_task)(timezone.now(), bob)
        mine = await sync_to_async(given.a_task)(timezone.now())
        await sync_to_async(records.cancel)(mine, by="ada", reason="", now=timezone.now())
        return await listening

    answer = async_to_sync(story)()
    assert answer.headers["content-type"] == "text/event-stream"
    assert [event["kind"] for event in events_of(answer)][:2] == ["submitted", "cancel_requested"]
    assert len({event["task"] for event in events_of(answer)}) == 1


def test_a_listener_goes_on_from_the_last_event_it_had() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    task = given.a_task(timezone.now())
    records.cancel(task, by="ada", reason="", now=timezone.now())
    all_of_it = events_of(async_to_sync(listen(token, 3, last="0").send)())
    assert [event["kind"] for event in all_of_it] == ["submitted", "cancel_requested", "finished"]
    rest = events_of(async_to_sync(listen(token, 2, last=str(all_of_it[0]["number"])).send)())
    assert rest == all_of_it[1:]


def test_who_listens_first_and_submits_then_never_misses_their_own_event() -> None:
    ada = given.a_user()
    token = doors.a_token(ada, Scope.READ)

    async def story() -> list[tuple[str, str]]:
        heard = []
        for _ in range(10):
            request = listen(token, 1)
            listening = asyncio.create_task(request.send(60))
            await request.begun.wait()
            mine = await sync_to_async(given.a_task)(timezone.now(), ada)
            (event, *_) = events_of(await listening)
            heard.append((mine.id, event["task"]))
        return heard

    heard = async_to_sync(story)()
    assert [mine for mine, _ in heard] == [told for _, told in heard]


def test_a_listener_whose_line_broke_before_the_first_event_knows_where_to_go_on() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    given.a_task(timezone.now())
    begins = doors.Request("/api/v1/events", token, enough=lambda answer: b"\nid: " in answer.body)
    head = async_to_sync(begins.send)().body.decode()
    place = head.partition("\nid: ")[2].split()[0]
    missed = given.a_task(timezone.now())
    (event,) = events_of(async_to_sync(listen(token, 1, last=place).send)())
    assert (event["task"], event["kind"]) == (missed.id, "submitted")


@pytest.mark.parametrize("asked", ["?format=cloudevents", ""])
def test_events_come_in_the_envelope_of_cloud_events_if_wished(asked: str) -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    task = given.a_task(timezone.now())
    request = listen(token, 1, asked, last="0")
    if not asked:
        request.headers = {**request.headers, "accept": "text/event-stream, application/cloudevents+json"}
    (event,) = events_of(async_to_sync(request.send)())
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "grid.task.submitted", task.id)
    assert event["data"] == {"name": "uname"}
    assert event["source"] == "http://127.0.0.1:8080"


def test_a_listener_may_follow_one_task() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    given.a_task(timezone.now())
    task = given.a_task(timezone.now())
    (event,) = events_of(async_to_sync(listen(token, 1, f"?task={task.id}", last="0").send)())
    assert event["task"] == task.id
    stranger = doors.a_token(given.a_user("bob"), Scope.READ)
    assert async_to_sync(listen(stranger, 1, f"?task={task.id}").send)().status == 404


def test_a_hundred_listeners_cost_no_thread() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)

    async def story() -> tuple[int, int]:
        requests = [listen(token, 1) for _ in range(100)]
        listening = [asyncio.create_task(request.send()) for request in requests]
        await asyncio.gather(*(request.begun.wait() for request in requests))
        threads = threading.active_count()
        await sync_to_async(given.a_task)(timezone.now())
        heard = await asyncio.gather(*listening)
        return threads, sum(len(events_of(one)) for one in heard)

    given.a_user()
    threads, heard = async_to_sync(story)()
    assert heard == 100
    assert threads < 40


@pytest.mark.skipif(connection.vendor != "postgresql", reason="one writer at a time: numbers appear in their order")
def test_a_listener_hears_of_what_commits_behind_a_later_event_and_in_order() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    slow, quick = given.a_task(timezone.now()), given.a_task(timezone.now())
    written, committed = threading.Event(), threading.Event()

    def write_slowly() -> None:
        try:
            with transaction.atomic():
                records.cancel(slow, by="ada", reason="", now=timezone.now())
                written.set()
                assert committed.wait(30)
        finally:
            connection.close()

    async def story() -> doors.Answer:
        request = listen(token, 4)
        listening = asyncio.create_task(request.send())
        await request.begun.wait()
        writing = asyncio.create_task(asyncio.to_thread(write_slowly))
        await asyncio.to_thread(written.wait, 30)
        await sync_to_async(records.cancel)(quick, by="ada", reason="", now=timezone.now())
        # Time for a listener to be told of it, and to step over the other.
        await asyncio.sleep(4 * POLL_SECONDS)
        committed.set()
        await writing
        return await listening

    events = events_of(async_to_sync(story)())
    assert [event["task"] for event in events] == [slow.id] * 2 + [quick.id] * 2
    assert [event["number"] for event in events] == sorted(event["number"] for event in events)
