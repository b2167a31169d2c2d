"""Many tasks in one submit: all of them or none, in their order, and once however often they are sent."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from django.test import Client

from grid.core import snapshot
from grid.core.models import Demand, Event, InputFile, Task
from tasks.views import MOST_BULK
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Client:
    """Ada's door."""
    return doors.api_of(given.a_user())


def submit(api: Client, *specs: Any, key: str = "", **body: Any) -> Any:
    """The answer to a submit of many."""
    headers = {"Idempotency-Key": key} if key else {}
    tasks = [{"spec": spec, "name": f"task {number}"} for number, spec in enumerate(specs)]
    return api.post("/api/v1/tasks/bulk", {"tasks": tasks, **body}, content_type="application/json", headers=headers)


def specs(count: int) -> list[dict[str, Any]]:
    """Descriptions that differ in their arguments."""
    return [given.a_spec(args=["echo", str(number)]) for number in range(count)]


def test_they_are_queued_in_the_order_in_which_they_came(api: Client) -> None:
    answer = submit(api, *specs(40))
    assert answer.status_code == 201
    made = answer.json()
    assert [one["args"][1] for one in made] == [str(number) for number in range(40)]
    assert [one["name"] for one in made] == [f"task {number}" for number in range(40)]
    (backlog,) = snapshot.backlogs(100)
    assert [head.id for head in backlog.heads] == [one["id"] for one in made]
    assert Demand.objects.get().active
    assert Event.objects.filter(kind="submitted").count() == 40


def test_each_is_what_a_single_submit_would_have_made(api: Client) -> None:
    spec = given.a_spec(labels={"a": "b"}, priority=3, expires=60, files={"in.txt": {"content": "7\n"}})
    single = api.post("/api/v1/tasks", {"spec": spec, "name": "task 0"}, content_type="application/json").json()
    many = submit(api, spec, given.a_spec()).json()[0]
    unlike = {"id", "name", "created_at", "queued_at"}
    assert {k: v for k, v in single.items() if k not in unlike} == {k: v for k, v in many.items() if k not in unlike}
    first, second = Task.objects.get(id=single["id"]), Task.objects.get(id=many["id"])
    for name in ("spec", "spec_hash", "limits", "demand_id", "labels", "priority", "state"):
        assert getattr(first, name) == getattr(second, name), name
    assert second.expires_at is not None
    paths = InputFile.objects.values_list("task_id", "path", "blob_id", "executable")
    assert {row[1:] for row in paths if row[0] == first.id} == {row[1:] for row in paths if row[0] == second.id}


def test_a_fault_in_one_refuses_all_and_says_where_it_is(api: Client) -> None:
    answer = submit(api, *specs(3), given.a_spec(image=None), given.a_spec(limits={"memory": "much"}))
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["faults"]] == ["tasks[4].limits.memory"]
    answer = submit(api, *specs(3), given.a_spec(files={"a": {"reference": "0" * 64}}))
    assert [fault["path"] for fault in answer.json()["faults"]] == ["tasks[3].files.a"]
    assert not Task.objects.exists()


def test_the_same_key_makes_them_once(api: Client) -> None:
    first, again = submit(api, *specs(3), key="k"), submit(api, *specs(3), key="k")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert Task.objects.count() == 3


@pytest.mark.parametrize("other", [specs(2), specs(4), [*specs(2), given.a_spec()]])
def test_a_key_that_was_used_for_others_is_refused(api: Client, other: list[dict[str, Any]]) -> None:
    submit(api, *specs(3), key="k")
    answer = submit(api, *other, key="k")
    assert answer.status_code == 409
    assert Task.objects.count() == 3


def test_files_that_came_along_are_for_all_of_them(api: Client) -> None:
    content = b"3 4\n"
    name = hashlib.sha256(content).hexdigest()
    spec = given.a_spec(files={"in.txt": {"reference": name}})
    answer = submit(api, spec, spec, blobs={name: base64.b64encode(content).decode()})
    assert answer.status_code == 201
    assert InputFile.objects.filter(blob_id=name).count() == 2


def test_some_may_wait_for_tasks_that_were_there_before(api: Client) -> None:
    before = submit(api, *specs(1)).json()[0]["id"]
    made = submit(api, given.a_spec(after=[before]), given.a_spec()).json()
    assert [one["state"] for one in made] == ["waiting", "queued"]


def test_there_is_a_most_and_a_least(api: Client) -> None:
    assert submit(api).status_code == 422
    assert submit(api, *[{}] * (MOST_BULK + 1)).status_code == 422
