"""Contents, results and logs over the REST API: whole, private, and never shown by a browser."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import pytest
from asgiref.sync import async_to_sync
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone

from grid.core import intake, logs, outcomes
from grid.core.models import Task
from grid.core.people.tokens import Scope
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


def sha256(content: bytes) -> str:
    """The name of a content."""
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def api() -> Client:
    """Ada's door."""
    return doors.api_of(given.a_user())


def put(api: Client, name: str, content: bytes) -> int:
    """The status of an upload."""
    return api.put(f"/api/v1/blobs/{name}", content, content_type="application/octet-stream").status_code


def a_finished_task(**files: bytes) -> Task:
    """A task of ada's that brought these files back."""
    now = timezone.now()
    task, attempt, order = given.running(now)
    outcomes.accept(attempt.node, given.an_outcome(order, files), now)
    return task


def test_what_was_uploaded_is_no_longer_missing_and_comes_back_whole(api: Client) -> None:
    content = bytes(range(256)) * 5000
    ask = {"sha256": [sha256(content), "0" * 64]}
    assert api.post("/api/v1/blobs/missing", ask, content_type="application/json").json()["missing"] == ask["sha256"]
    assert put(api, sha256(content), content) == 201
    assert api.post("/api/v1/blobs/missing", ask, content_type="application/json").json()["missing"] == ["0" * 64]
    assert api.get(f"/api/v1/blobs/{sha256(content)}").getvalue() == content


def test_a_content_with_the_wrong_hash_is_refused(api: Client) -> None:
    assert put(api, "0" * 64, b"something else") == 422
    assert put(api, "not-a-hash", b"") == 422
    assert api.get(f"/api/v1/blobs/{'0' * 64}").status_code == 404


def test_a_content_over_the_servers_limit_is_refused_before_it_is_read(api: Client, settings: LazySettings) -> None:
    settings.GRID = settings.GRID.model_copy(update={"max_blob_bytes": 10})
    assert put(api, sha256(b"x" * 11), b"x" * 11) == 413
    assert put(api, sha256(b"x" * 10), b"x" * 10) == 201


def test_knowing_a_hash_opens_nobody_elses_content(api: Client) -> None:
    put(api, sha256(b"mine"), b"mine")
    bob = doors.api_of(given.a_user("bob"))
    assert bob.get(f"/api/v1/blobs/{sha256(b'mine')}").status_code == 404
    ask = {"sha256": [sha256(b"mine")]}
    assert bob.post("/api/v1/blobs/missing", ask, content_type="application/json").json()["missing"] == ask["sha256"]


def test_a_result_is_there_once_the_task_is_final(api: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now)
    answer = api.get(f"/api/v1/tasks/{task.id}/result")
    assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
    outcomes.accept(attempt.node, given.an_outcome(order, {"out.txt": b"hi"}), now)
    found = api.get(f"/api/v1/tasks/{task.id}/result").json()
    assert (found["verdict"], found["class"], found["files"]["out.txt"]["size"]) == ("succeeded", "success", 2)


def test_what_a_task_wrote_is_for_saving_and_no_browser_runs_it(api: Client) -> None:
    page = b"<script>alert(1)</script>"
    task = a_finished_task(**{"out/page.html": page})
    answer = api.get(f"/api/v1/tasks/{task.id}/files/out/page.html")
    assert answer.getvalue() == page
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="page.html"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")


@pytest.mark.parametrize("path", ["nothing.txt", "../../secret_key", "%2e%2e/secret_key", "/etc/passwd"])
def test_a_file_that_did_not_come_back_is_not_there(api: Client, path: str) -> None:
    task = a_finished_task(**{"out.txt": b"hi"})
    assert api.get(f"/api/v1/tasks/{task.id}/files/{path}").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_large_file_streams_through_the_server() -> None:
    content = b"0123456789abcdef" * 65_536 * 3
    stored = intake.upload(given.a_user(), [content], None, timezone.now())
    token = doors.a_token(given.a_user(), Scope.READ, Scope.SUBMIT)
    answer = async_to_sync(doors.Request(f"/api/v1/blobs/{stored.sha256}", token).send)()
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == content
    again = doors.Request(f"/api/v1/blobs/{stored.sha256}", token, method="PUT", body=content)
    assert async_to_sync(again.send)().status == 201


@pytest.mark.django_db(transaction=True)
def test_an_upload_without_a_length_is_refused_and_not_taken_for_an_empty_one() -> None:
    token = doors.a_token(given.a_user(), Scope.SUBMIT)
    endless = {"content-length": "", "transfer-encoding": "chunked"}
    request = doors.Request(f"/api/v1/blobs/{sha256(b'x')}", token, method="PUT", body=b"x", headers=endless)
    assert async_to_sync(request.send)().status == 411


@pytest.mark.django_db(transaction=True)
def test_a_body_that_is_far_too_large_for_an_ordinary_request_is_refused() -> None:
    token = doors.a_token(given.a_user(), Scope.SUBMIT)
    request = doors.Request("/api/v1/tasks", token, method="POST", body=b"x" * (34 * 1024**2))
    assert async_to_sync(request.send)().status == 413


def log_of(task: Task, query: str = "") -> Callable[[], doors.Answer]:
    """A look at the log of a task of ada's."""
    token = doors.a_token(given.a_user(), Scope.READ)
    return lambda: async_to_sync(doors.Request(f"/api/v1/tasks/{task.id}/logs/stdout{query}", token).send)()


@pytest.mark.django_db(transaction=True)
def test_a_log_is_read_from_an_offset_and_says_whether_more_may_come() -> None:
    now = timezone.now()
    task, attempt, order = given.running(now)
    logs.append(attempt.id, "stdout", 0, b"one\ntwo\n")
    answer = log_of(task, "?offset=4")()
    assert (answer.body, answer.headers["grid-log-size"]) == (b"two\n", "8")
    assert (answer.headers["grid-log-complete"], answer.headers["grid-log-attempt"]) == ("false", attempt.id)
    given.finished(order, attempt.node, now)
    assert log_of(task, "?offset=0&limit=4")().headers["grid-log-complete"] == "false"
    assert log_of(task, "?offset=8")().headers["grid-log-complete"] == "true"


@pytest.mark.django_db(transaction=True)
def test_a_log_that_has_not_begun_is_empty() -> None:
    answer = log_of(given.a_task(timezone.now()))()
    assert (answer.status, answer.body, answer.headers["grid-log-complete"]) == (200, b"", "false")


@pytest.mark.django_db(transaction=True)
def test_who_follows_a_log_is_answered_as_soon_as_something_is_printed() -> None:
    task, attempt, _ = given.running(timezone.now())
    token = doors.a_token(given.a_user(), Scope.READ)

    async def story() -> doors.Answer:
        path = f"/api/v1/tasks/{task.id}/logs/stdout?wait=15"
        waiting = asyncio.create_task(doors.Request(path, token).send())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        logs.append(attempt.id, "stdout", 0, b"hello\n")
        return await waiting

    assert async_to_sync(story)().body == b"hello\n"


@pytest.mark.parametrize(
    ("asked", "status", "got", "place"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=5-2", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_part_of_a_file_is_given_and_nothing_else(
    asked: str, status: int, got: bytes | None, place: str | None
) -> None:
    task, attempt, order = given.running(timezone.now())
    outcomes.accept(attempt.node, given.an_outcome(order, {"out.bin": b"0123456789"}), timezone.now())
    api, path = doors.api_of(task.owner), f"/api/v1/tasks/{task.id}/files/out.bin"
    found = api.get(path, headers={"range": asked})
    assert (found.status_code, found.headers.get("Content-Range")) == (status, place)
    if got is None:
        assert found.headers["Content-Type"] == "application/problem+json"
        return
    assert (found.getvalue(), found.headers["Content-Length"]) == (got, str(len(got)))
    assert found.headers["Content-Security-Policy"].startswith("sandbox")
    of_another = {"range": "bytes=2-4", "if-range": '"another"'}
    assert api.get(path, headers=of_another).getvalue() == b"0123456789"
    assert api.get(path, headers={**of_another, "if-range": found.headers["ETag"]}).getvalue() == b"234"
