"""States with an ETag: who has one already is told so in a few bytes, may wait for another, and change no other one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.test import Client
from django.utils import timezone

from grid.core import records
from grid.core.people.tokens import Scope
from tests.django import builders as given
from tests.django import doors
from tests.django.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_task_that_is_still_the_same_is_not_told_again() -> None:
    ada = doors.api_of(given.a_user())
    task = given.a_task(timezone.now())
    path = f"/api/v1/tasks/{task.id}"
    first = ada.get(path)
    assert first.headers["Cache-Control"] == "private, no-cache"
    same = ada.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert ada.get(path, headers={"If-None-Match": f'"x", W/{first.headers["ETag"]}'}).status_code == 304
    assert ada.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    assert ada.get(path, headers={"If-None-Match": "nonsense"}).status_code == 200
    records.cancel(task, by="ada", reason="", now=timezone.now())
    other = ada.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (other.status_code, other.json()["state"]) == (200, "cancelled")
    assert other.headers["ETag"] != first.headers["ETag"]


def test_a_result_has_an_etag_and_a_stranger_learns_nothing_by_one() -> None:
    task, attempt, order = given.running(timezone.now())
    given.finished(order, attempt.node, timezone.now())
    path = f"/api/v1/tasks/{task.id}/result"
    ada, bob = doors.api_of(given.a_user()), doors.api_of(given.a_user("bob"))
    etag = ada.get(path).headers["ETag"]
    assert ada.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert bob.get(path, headers={"If-None-Match": etag}).status_code == 404
    assert bob.get(path, headers={"If-None-Match": "*"}).status_code == 404


def test_one_may_wait_until_a_task_is_another_than_the_one_known() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    node = given.a_node(timezone.now())
    task = given.a_task(timezone.now())
    path = f"/api/v1/tasks/{task.id}/wait"

    def asking(etag: str, seconds: int) -> doors.Request:
        return doors.Request(f"{path}?timeout={seconds}", token, headers={"if-none-match": etag})

    async def story() -> tuple[doors.Answer, doors.Answer, doors.Answer]:
        first = await doors.Request(f"{path}?timeout=0", token).send()
        same = await asking(first.headers["etag"], 0).send()
        waiting = asyncio.create_task(asking(first.headers["etag"], 30).send(60))
        await asyncio.sleep(0)
        await sync_to_async(given.assigned)(task, node, timezone.now())
        return first, same, await waiting

    first, same, moved = async_to_sync(story)()
    assert json.loads(first.body)["state"] == "queued"
    assert (same.status, same.body) == (304, b"")
    assert (moved.status, moved.json()["state"]) == (200, "assigned")


def test_a_final_task_that_is_known_is_not_waited_for() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    task = records.cancel(given.a_task(timezone.now()), by="ada", reason="", now=timezone.now())
    first = async_to_sync(doors.Request(f"/api/v1/tasks/{task.id}/wait", token).send)()
    again = doors.Request(
        f"/api/v1/tasks/{task.id}/wait?timeout=60", token, headers={"if-none-match": first.headers["etag"]}
    )
    assert async_to_sync(again.send)().status == 304


def test_a_task_is_changed_only_while_it_is_as_the_caller_has_seen_it() -> None:
    ada = doors.api_of(given.a_user())
    task = given.a_task(timezone.now())
    path = f"/api/v1/tasks/{task.id}"
    seen = ada.get(path).headers["ETag"]
    for wanted in ('"another"', f"W/{seen}", seen.strip('"')):
        refused = _cancel(ada, path, wanted)
        assert refused.status_code == 412
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert (refused.json()["title"], refused.json()["status"]) == ("Changed meanwhile", 412)
    sharing = ada.put(f"{path}/sharing", {"group": ""}, content_type="application/json", headers={"If-Match": '"old"'})
    assert sharing.status_code == 412
    assert _cancel(ada, path, f'"another", {seen}').json()["state"] == "cancelled"
    # What was seen is no more.
    assert ada.delete(path, headers={"If-Match": seen}).status_code == 412
    assert ada.delete(path, headers={"If-Match": ada.get(path).headers["ETag"]}).status_code == 204
    assert ada.delete(path, headers={"If-Match": "*"}).status_code == 404


def test_a_condition_tells_strangers_nothing_and_any_state_may_be_meant() -> None:
    ada, bob = doors.api_of(given.a_user()), doors.api_of(given.a_user("bob"))
    path = f"/api/v1/tasks/{given.a_task(timezone.now()).id}"
    assert _cancel(bob, path, '"another"').status_code == 404
    assert _cancel(ada, path, "*").status_code == 200


def test_of_two_who_have_seen_the_same_one_changes_it() -> None:
    ada = given.a_user()
    first, second = doors.api_of(ada), doors.api_of(ada)
    path = f"/api/v1/tasks/{given.a_task(timezone.now()).id}"
    seen = first.get(path).headers["ETag"]
    answers = at_once(*(lambda client=client: _cancel(client, path, seen).status_code for client in (first, second)))
    assert sorted(answers) == [200, 412]


def _cancel(client: Client, path: str, wanted: str) -> Any:
    body = {"reason": "not wanted"}
    return client.post(f"{path}/cancel", body, content_type="application/json", headers={"If-Match": wanted})
