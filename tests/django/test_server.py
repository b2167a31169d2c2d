"""The ASGI server: ordinary requests, transfers on which nothing moves, and its start and end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.utils import timezone

from grid.core import intake
from grid.core.models import Blob
from grid.core.people.tokens import Scope
from tests.django import builders as given
from tests.django import doors
from webapp import asgi

pytestmark = pytest.mark.django_db(transaction=True)


def ask(path: str, token: str = "", **more: Any) -> doors.Answer:
    """The answer to one request."""
    return async_to_sync(doors.Request(path, token, **more).send)()


def test_an_ordinary_request_is_answered_whole_and_with_its_length() -> None:
    answer = ask("/health/live")
    assert (answer.status, answer.body) == (200, b'{"live": true}')
    assert answer.headers["content-length"] == "14"
    token = doors.a_token(given.a_user(), Scope.SUBMIT)
    body = b'{"spec": {"image": "busybox", "args": ["uname"]}}'
    made = ask("/api/v1/tasks", token, method="POST", body=body, headers={"content-type": "application/json"})
    assert (made.status, made.json()["state"]) == (201, "queued")


def test_ordinary_requests_keep_their_connections_and_threads() -> None:
    async def story() -> list[int]:
        answers = await asyncio.gather(*(doors.Request("/health").send() for _ in range(50)))
        return [answer.status for answer in answers]

    assert async_to_sync(story)() == [503] * 50


def test_an_upload_on_which_nothing_moves_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "SILENCE_SECONDS", 0.1)
    token = doors.a_token(given.a_user(), Scope.SUBMIT)
    answer = ask(f"/api/v1/blobs/{'0' * 64}", token, method="PUT", headers={"content-length": "10"}, silent=True)
    assert answer.status == 0
    assert not Blob.objects.exists()


def test_a_reader_who_stops_reading_frees_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "SILENCE_SECONDS", 0.1)
    owner: User = given.a_user()
    stored = intake.upload(owner, [b"x" * 8 * 1024**2], None, timezone.now())
    token = doors.a_token(owner, Scope.READ)
    sent: list[Mapping[str, Any]] = []

    async def never_ends() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def stuck(event: Mapping[str, Any]) -> None:
        sent.append(event)
        if len(sent) > 2:
            await asyncio.Event().wait()

    async def story() -> None:
        scope = doors.Request(f"/api/v1/blobs/{stored.sha256}", token).scope()
        async with asyncio.timeout(15):
            await asgi.application(scope, never_ends, stuck)

    async_to_sync(story)()
    assert len(sent) == 3


def test_the_server_says_when_it_has_started_and_ended() -> None:
    said: list[str] = []
    asked = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> dict[str, Any]:
        return {"type": next(asked)}

    async def send(event: Mapping[str, Any]) -> None:
        said.append(event["type"])

    async_to_sync(asgi.application)({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
