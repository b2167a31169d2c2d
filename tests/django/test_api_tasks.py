"""Tasks over the REST API: submit, look, wait, cancel, and every refusal as a problem that says what to do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.test import Client
from django.utils import timezone

from grid.core import outcomes, records
from grid.core.models import Task
from grid.core.people.tokens import Scope
from tasks.views import TaskPage, TaskView
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Client:
    """Ada's door."""
    return doors.api_of(given.a_user())


def submit(api: Client, key: str = "", **body: Any) -> Any:
    """The answer to a submit."""
    headers = {"Idempotency-Key": key} if key else {}
    return api.post("/api/v1/tasks", {"spec": given.a_spec(), **body}, content_type="application/json", headers=headers)


def test_a_submitted_task_is_answered_and_can_be_looked_up(api: Client) -> None:
    answer = submit(api, name="week 3")
    assert answer.status_code == 201
    made = TaskView.model_validate_json(answer.content)
    assert (made.name, made.owner, made.state, made.args) == ("week 3", "ada", "queued", ("uname",))
    assert TaskView.model_validate_json(api.get(f"/api/v1/tasks/{made.id}").content) == made
    assert api.get(f"/api/v1/tasks/{made.id}/spec").json()["args"] == ["uname"]


def test_the_same_key_makes_one_task_however_often_it_is_sent(api: Client) -> None:
    first, again = submit(api, key="k1"), submit(api, key="k1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert Task.objects.count() == 1


def test_a_key_that_was_used_for_another_task_is_refused(api: Client) -> None:
    submit(api, key="k1")
    answer = submit(api, key="k1", spec=given.a_spec(args=["ls"]))
    assert answer.status_code == 409
    assert "take a new one" in answer.json()["detail"]


def test_every_fault_of_a_description_comes_back_with_its_path(api: Client) -> None:
    answer = submit(api, spec={"image": "busybox", "argz": ["x"], "limits": {"memory": "64X"}})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    faults = {fault["path"]: fault for fault in answer.json()["faults"]}
    assert set(faults) == {"argz", "limits.memory"}
    assert faults["argz"]["hint"] == 'did you mean "args"?'
    assert Task.objects.count() == 0


def test_the_body_around_the_description_is_checked_too(api: Client) -> None:
    answer = submit(api, blob={"x": 1})
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["faults"]] == ["blob"]


@pytest.mark.parametrize("body", ["{", "[1]", "", "\x00"])
def test_a_body_that_is_no_json_object_is_refused(api: Client, body: str) -> None:
    answer = api.post("/api/v1/tasks", body, content_type="application/json")
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_small_files_may_come_with_the_submit(api: Client) -> None:
    sha256 = hashlib.sha256(b"3 4\n").hexdigest()
    spec = given.a_spec(files={"in.txt": {"reference": sha256}})
    assert submit(api, spec=spec).status_code == 422
    answer = submit(api, spec=spec, blobs={sha256: base64.b64encode(b"3 4\n").decode()})
    assert answer.status_code == 201
    assert api.get(f"/api/v1/blobs/{sha256}").getvalue() == b"3 4\n"


def test_files_in_a_submit_have_to_be_base64_and_small(api: Client) -> None:
    assert submit(api, blobs={"0" * 64: "!"}).status_code == 422
    large = base64.b64encode(b"x" * (1024**2 + 1)).decode()
    assert submit(api, blobs={hashlib.sha256(b"x" * (1024**2 + 1)).hexdigest(): large}).status_code == 413


def test_the_list_is_paged_from_the_newest_on_and_narrowed_by_filters(api: Client) -> None:
    made = [submit(api, name=f"sweep {number}").json()["id"] for number in range(5)]
    Task.objects.filter(id=made[0]).update(state="failed", verdict="exit_code")
    first = TaskPage.model_validate_json(api.get("/api/v1/tasks?limit=3").content)
    rest = TaskPage.model_validate_json(api.get(f"/api/v1/tasks?limit=3&after={first.next}").content)
    assert [task.id for task in (*first.items, *rest.items)] == made[::-1]
    assert rest.next == ""
    assert [task["id"] for task in api.get("/api/v1/tasks?verdict=exit_code").json()["items"]] == made[:1]
    assert [task["id"] for task in api.get("/api/v1/tasks?text=sweep+3").json()["items"]] == [made[3]]
    assert api.get("/api/v1/tasks?state=running").json() == {"items": [], "next": "", "previous": ""}
    assert api.get("/api/v1/tasks?limit=1000000").status_code == 422


def test_people_see_their_own_tasks_and_operators_all(api: Client) -> None:
    submit(api)
    assert doors.api_of(given.a_user("bob")).get("/api/v1/tasks").json()["items"] == []
    operator = doors.api_of(given.a_user("root", staff=True), *doors.EVERY_SCOPE)
    assert len(operator.get("/api/v1/tasks").json()["items"]) == 1


def test_a_cancelled_task_says_by_whom_and_why_and_cancelling_again_is_no_error(api: Client) -> None:
    path = f"/api/v1/tasks/{submit(api).json()['id']}/cancel"
    for _ in range(2):
        answer = api.post(path, {"reason": "typo"}, content_type="application/json")
        assert answer.status_code == 200
        assert answer.json()["reason"] == "cancelled by ada: typo"


def test_a_task_that_has_ended_cannot_be_cancelled(api: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now)
    given.finished(order, attempt.node, now)
    answer = api.post(f"/api/v1/tasks/{task.id}/cancel", {"reason": ""}, content_type="application/json")
    assert answer.status_code == 409
    assert "ended before" in answer.json()["detail"]


def test_a_waiting_task_explains_itself_node_by_node(api: Client) -> None:
    given.a_node(timezone.now(), "alpha")
    task = submit(api, spec=given.a_spec(limits={"memory": "64M", "cpus": 4})).json()["id"]
    found = api.get(f"/api/v1/tasks/{task}/explain").json()
    assert (found["position"], found["queued"], found["can_ever_run"]) == (1, 1, True)
    assert [node["node"] for node in found["nodes"]] == ["alpha"]


def test_timeline_and_attempts_tell_how_it_went(api: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now)
    outcomes.accept(attempt.node, given.an_outcome(order, {"out.txt": b"hi"}), now)
    kinds = [event["kind"] for event in api.get(f"/api/v1/tasks/{task.id}/events").json()]
    assert kinds == ["submitted", "assigned", "started", "attempt_ended", "finished"]
    (tried,) = api.get(f"/api/v1/tasks/{task.id}/attempts").json()
    assert (tried["number"], tried["node"], tried["verdict"]) == (1, "alpha", "succeeded")
    assert [file["path"] for file in tried["files"]] == ["out.txt"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("DELETE", "/api/v1/tasks", 405),
        ("GET", "/api/v1/tasks/nobody", 404),
        ("GET", "/api/v1/tasks/%00", 422),
        ("GET", "/api/v1/nodes/nobody", 404),
    ],
)
def test_every_refusal_is_a_problem(api: Client, method: str, path: str, status: int) -> None:
    answer = api.generic(method, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


def test_a_wrong_token_is_told_what_is_wrong() -> None:
    answer = Client(headers={"authorization": "Bearer grid_wrong"}).get("/api/v1/tasks")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="grid"')
    assert "revoked" in answer.json()["detail"]


def test_the_cookie_of_the_pages_opens_the_api_but_writes_need_the_csrf_token() -> None:
    browser = doors.browser_of(given.a_user(), csrf=True)
    assert browser.get("/api/v1/tasks").status_code == 200
    body = {"spec": given.a_spec()}
    assert browser.post("/api/v1/tasks", body, content_type="application/json").status_code == 403
    browser.get("/submit/")
    token = browser.cookies["csrftoken"].value
    answer = browser.post("/api/v1/tasks", body, content_type="application/json", headers={"X-CSRFToken": token})
    assert answer.status_code == 201


def test_whoami_and_the_schema(api: Client) -> None:
    assert api.get("/api/v1/whoami").json() | {"server_version": ""} == {
        "user": "ada",
        "scopes": ["read", "submit"],
        "server_version": "",
    }
    assert Client().get("/api/v1/schema").json()["properties"]["image"]


def test_secrets_are_shown_by_name_only(api: Client) -> None:
    put = api.put("/api/v1/secrets/API_KEY", {"value": "hush"}, content_type="application/json")
    assert (put.status_code, put.json()) == (200, {"name": "API_KEY"})
    assert api.get("/api/v1/secrets").json() == [{"name": "API_KEY"}]
    assert submit(api, spec=given.a_spec(secrets=["API_KEY"])).status_code == 201
    assert doors.api_of(given.a_user("bob")).get("/api/v1/secrets").json() == []
    assert api.delete("/api/v1/secrets/API_KEY").status_code == 204
    assert api.delete("/api/v1/secrets/API_KEY").status_code == 404
    assert api.put("/api/v1/secrets/2x", {"value": "v"}, content_type="application/json").status_code == 422


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_a_task_hears_of_its_end_at_once() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    task = given.a_task(timezone.now())

    async def story() -> doors.Answer:
        waiting = asyncio.create_task(doors.Request(f"/api/v1/tasks/{task.id}/wait?timeout=15", token).send())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await sync_to_async(records.cancel)(task, by="ada", reason="", now=timezone.now())
        return await waiting

    answer = async_to_sync(story)()
    assert (answer.status, answer.json()["state"]) == (200, "cancelled")


@pytest.mark.django_db(transaction=True)
def test_who_waits_too_long_gets_the_task_as_it_is() -> None:
    token = doors.a_token(given.a_user(), Scope.READ)
    task = given.a_task(timezone.now())
    answer = async_to_sync(doors.Request(f"/api/v1/tasks/{task.id}/wait?timeout=0.05", token).send)()
    assert (answer.status, answer.json()["state"]) == (200, "queued")
