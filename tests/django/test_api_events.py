"""The stream of events: what happens to one's own tasks, as it happens, and from where one left off."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from grid.core import records
from grid.core.tokens import Scope
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
