"""kolejka's protocol as its client uses it: every route, its codes and bodies, and who may pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.utils import timezone

from grid.core import outcomes
from grid.core.contents.sweeping import Grace, unused
from grid.core.models import Blob, Reference, Task
from grid.core.people import access
from tasks.limits import Limits
from tests.django import builders as given
from tests.django import doors
from tests.django.kolejkas import TASK, Program, a_client, a_foreman
from webapp.compat.kolejka.urls import urlpatterns

pytestmark = pytest.mark.django_db

# Route and method -> status for somebody unknown, the owner, somebody else, a foreman and a manager. 404: as if it did
# not exist. A task or result that is not known is told of with 200 and FAIL, which is here "fail".
Code = int | str
CALLERS = ("anonymous", "owner", "other", "foreman", "manager")
MATRIX: dict[str, tuple[Code, Code, Code, Code, Code]] = {
    "GET ": (200, 200, 200, 200, 200),
    "GET login/": (200, 200, 200, 200, 200),
    "GET settings/": (403, 200, 200, 200, 200),
    "PUT blob/blob/<str:key>/": (403, 200, 404, 404, 200),
    "GET blob/blob/<str:key>/": (403, 200, 404, 404, 200),
    "POST blob/blob/<str:key>/": (403, 200, 404, 404, 200),
    "DELETE blob/blob/<str:key>/": (403, 403, 403, 403, 409),
    "POST blob/reference/": (403, 200, 200, 200, 200),
    "PUT blob/reference/<str:key>/": (403, 200, 404, 404, 200),
    "GET blob/reference/<str:key>/": (403, 200, 404, 404, 200),
    "POST task/task/": (403, 200, 200, 200, 200),
    "GET task/task/<str:key>/": (403, 200, 404, 404, 200),
    "PUT task/task/<str:key>/": (403, 200, 404, 404, 200),
    "POST task/result/": (403, 403, 403, 403, 403),
    "GET task/result/<str:key>/": (403, 200, "fail", "fail", 200),
    "PUT task/result/<str:key>/": (403, 200, "fail", "fail", 200),
    "POST queue/dequeue/": (403, 403, 403, 200, 403),
    "GET queue/stats/": (403, 200, 200, 200, 200),
    "DELETE task/result/<str:key>/": (403, 200, "fail", "fail", 200),
    "DELETE task/task/<str:key>/": (403, 200, 404, 404, 200),
    "DELETE blob/reference/<str:key>/": (403, 200, 404, 404, 200),
    "GET logout/": (200, 200, 200, 200, 200),
}


def a_manager() -> Program:
    user = given.a_user("manager")
    user.groups.add(Group.objects.get(name="Managers"))
    access.forget()
    return Program(user)


def ended(task: str, content: bytes = b"Linux\n") -> None:
    """A node runs the task to its end."""
    now = timezone.now()
    node = given.a_node(now)
    order = given.taken(given.assigned(Task.objects.get(id=task), node, now), now)
    outcomes.accept(node, given.an_outcome(order, {"stdout.txt": content}), now)


@pytest.mark.parametrize("caller", CALLERS)
def test_every_route_opens_to_those_and_only_those_it_should(caller: str) -> None:
    makers: dict[str, Callable[[], Program]] = {
        "anonymous": Program,
        "owner": a_client,
        "other": lambda: a_client("bob"),
        "foreman": a_foreman,
        "manager": a_manager,
    }
    owner = a_client()
    reference = owner.put(b"data")
    task = owner.submit(files={"in.txt": {"reference": reference}})
    ended(task)
    program = makers[caller]()
    bodies: dict[str, Any] = {"task/task/": TASK, "task/result/": {"id": task, "result": 0}, "queue/dequeue/": {}}
    keys = {"task": task, "blob/blob": hashlib.sha256(b"data").hexdigest(), "blob/reference": reference}
    found: dict[str, Code] = {}
    for entry in MATRIX:
        method, _, route = entry.partition(" ")
        key = next((key for start, key in keys.items() if route.startswith(start)), "")
        answer = program.ask(method, route.replace("<str:key>", key), bodies.get(route, b""))
        failed = program.status == 200 and isinstance(answer, dict) and answer["status"] == "FAIL"
        found[entry] = "fail" if failed else program.status
    assert found == {entry: codes[CALLERS.index(caller)] for entry, codes in MATRIX.items()}
    assert {entry.partition(" ")[2] for entry in MATRIX} == {str(one.pattern) for one in urlpatterns}


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_content_has_many_names_and_each_goes_by_itself() -> None:
    ada = a_client()
    one, two = ada.put(b"data"), ada.put(b"data")
    assert one != two
    assert ada.ask("DELETE", f"blob/reference/{one}/") == {"deleted": True, "status": "OK"}
    ada.ask("GET", f"blob/reference/{one}/")
    assert ada.status == 404
    assert ada.ask("GET", f"blob/reference/{two}/") == b"data"
    assert ada.headers["Content-Type"] == "application/octet-stream"
    told = ada.ask("PUT", f"blob/reference/{two}/")["reference"]
    assert (told["key"], told["blob"], told["size"]) == (two, hashlib.sha256(b"data").hexdigest(), 4)
    assert ada.ask("HEAD", f"blob/reference/{two}/") == b""


def test_who_knows_a_hash_has_not_got_the_content() -> None:
    ada, bob = a_client(), a_client("bob")
    reference, sha256 = ada.put(b"secret"), hashlib.sha256(b"secret").hexdigest()
    for method, path in (("POST", f"blob/blob/{sha256}/"), ("GET", f"blob/blob/{sha256}/")):
        bob.ask(method, path)
        assert bob.status == 404
    for key in (reference, sha256):
        answer = bob.ask("POST", "task/task/", {**TASK, "files": {"x": {"reference": key}}})
        assert answer == {"status": "FAIL", "message": "Reference for file x is unknown"}
    assert ada.ask("POST", f"blob/blob/{sha256}/")["reference"]["blob"] == sha256


def test_a_reference_keeps_its_content_for_a_month_from_when_it_was_read() -> None:
    ada, sha256 = a_client(), hashlib.sha256(b"data").hexdigest()
    ada.put(b"data")
    grace, now = Grace.of_days(1, 30), timezone.now()
    assert not unused(now + timedelta(days=29), grace).filter(sha256=sha256).exists()
    assert unused(now + timedelta(days=31), grace).filter(sha256=sha256).exists()


def test_a_manager_deletes_a_content_with_all_its_names_once_nothing_uses_it() -> None:
    ada, manager = a_client(), a_manager()
    sha256 = hashlib.sha256(b"data").hexdigest()
    task = ada.submit(files={"in": {"reference": ada.put(b"data")}})
    ended(task)
    manager.ask("DELETE", f"blob/blob/{sha256}/")
    assert manager.status == 409
    ada.ask("DELETE", f"task/task/{task}/")
    assert manager.ask("DELETE", f"blob/blob/{sha256}/")["deleted"] is True
    assert not Reference.objects.exists()
    assert Blob.objects.get(sha256=sha256).doomed_at is not None
    ada.ask("GET", f"blob/blob/{sha256}/")
    assert ada.status == 404


# ---------------------------------------------------------------------------------------------------------------- tasks


def test_a_task_goes_in_and_its_result_comes_out_with_what_was_ignored() -> None:
    ada = a_client()
    said = {**TASK, "id": "mine", "files": {"in.txt": {"reference": ada.put(b"3 4\n"), "path": "x"}}, "colour": "red"}
    task = ada.ask("POST", "task/task/", said)["task"]
    assert task["id"] != "mine"
    assert task["limits"]["time"] == "1.0s"
    ada.ask("GET", f"task/result/{task['id']}/")
    assert ada.status == 404
    assert ada.ask("GET", "task/result/nothing/") == {"status": "FAIL", "message": "Task nothing is unknown"}
    ended(task["id"])
    result = ada.ask("GET", f"task/result/{task['id']}/")["result"]
    assert (result["id"], result["result"], result["verdict"]) == (task["id"], 0, "succeeded")
    assert result["warnings"] == ['ignored "colour": not a key of kolejka\'s']
    assert ada.ask("GET", f"blob/reference/{result['files']['stdout.txt']['reference']}/") == b"Linux\n"
    name = task["files"]["in.txt"]["reference"]
    assert ada.ask("GET", f"blob/reference/{name}/") == b"3 4\n"


def test_a_task_that_never_ran_is_told_of_as_a_fault_of_the_harness() -> None:
    ada = a_client()
    task = ada.submit()
    assert ada.ask("DELETE", f"task/task/{task}/")["deleted"] is True
    ada.ask("GET", f"task/task/{task}/")
    assert ada.status == 404
    other = ada.submit()
    doors.api_of(given.a_user()).post(f"/api/v1/tasks/{other}/cancel", {}, content_type="application/json")
    result = ada.ask("GET", f"task/result/{other}/")["result"]
    assert (result["result"], result["verdict"], result["stats"]) == (1, "cancelled", {})


def test_a_result_that_was_deleted_is_gone_and_the_task_stays() -> None:
    ada = a_client()
    task = ada.submit()
    ended(task)
    assert ada.ask("DELETE", f"task/result/{task}/")["deleted"] is True
    for method in ("GET", "DELETE"):
        ada.ask(method, f"task/result/{task}/")
        assert ada.status == 404
    assert ada.ask("GET", f"task/task/{task}/")["task"]["id"] == task


BAD: dict[str, object] = {
    "no JSON": b"{",
    "a list": b"[]",
    "not UTF-8": b"\xff",
    "no image": {"args": ["uname"]},
    "a bad unit": {**TASK, "limits": {"memory": "1GiB"}},
    "an infinite time": {**TASK, "limits": {"time": "inf"}},
    "half a processor": {**TASK, "limits": {"cpus": "1.5"}},
    "files as a list": {**TASK, "files": []},
    "args as a text": {**TASK, "args": "uname"},
    "a path that climbs": {**TASK, "stdout": "../x"},
    "a NUL": {**TASK, "args": ["\0"]},
    "too little memory": {**TASK, "limits": {"memory": "1k"}},
}


@pytest.mark.parametrize("kind", BAD)
def test_what_kolejka_answers_with_a_fault_of_its_own_is_told(kind: str) -> None:
    answer = (ada := a_client()).ask("POST", "task/task/", BAD[kind])
    assert (ada.status, answer["status"]) == (400, "FAIL")
    assert answer["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": {"x": None}}, "File x does not have a reference"),
        ({"limits": {"perf_cycles": "1G"}}, "limits.perf_cycles"),
        ({"limits": {"cgroup_depth": 2}}, "limits.cgroup_depth"),
        ({"callback_url": "http://localhost/x"}, "callback_url"),
        ({"image": "other"}, "not among the images"),
    ],
)
def test_what_the_site_does_not_do_is_said_no_to_by_name(
    changes: dict[str, object], words: str, settings: LazySettings
) -> None:
    settings.GRID = settings.GRID.model_copy(update={"images": ("busybox", "busybox:*")})
    answer = (ada := a_client()).ask("POST", "task/task/", {**TASK, **changes})
    assert (ada.status, answer["status"]) == (200, "FAIL")
    assert words in answer["message"]


def test_the_names_of_images_are_put_in_place_as_everywhere(settings: LazySettings) -> None:
    settings.GRID = settings.GRID.model_copy(update={"image_names": {"kolejka/*": "registry.example/judge/*"}})
    task = a_client().ask("POST", "task/task/", {**TASK, "image": "kolejka/cpp:2"})["task"]
    assert task["image"] == "registry.example/judge/cpp:2"


def test_limits_are_the_least_of_what_is_asked_and_allowed(settings: LazySettings) -> None:
    caps, defaults = Limits(memory=2**25, pids=8), Limits(memory=2**26, time=30, cpus=0.25)
    settings.GRID = settings.GRID.model_copy(update={"max_limits": caps, "default_limits": defaults})
    ada = a_client()
    asked = ada.ask("POST", "task/task/", TASK)["task"]["limits"]
    assert asked == {"cpus": 1, "memory": "33554432b", "pids": 8, "network": False, "time": "1.0s"}
    none = ada.ask("POST", "task/task/", {**TASK, "limits": {}})["task"]["limits"]
    assert none == {"cpus": 1, "memory": "33554432b", "pids": 8, "network": False, "time": "30.0s"}


@pytest.mark.parametrize(
    ("allowed", "said", "given_it"),
    [(True, {}, True), (True, {"network": "no"}, False), (False, {"network": True}, False)],
)
def test_a_task_has_the_network_unless_it_or_the_site_declines(
    allowed: bool, said: dict[str, object], given_it: bool, settings: LazySettings
) -> None:
    settings.GRID = settings.GRID.model_copy(update={"allow_network": allowed})
    task = a_client().ask("POST", "task/task/", {**TASK, "limits": said})["task"]
    assert task["limits"]["network"] is given_it


def test_tasks_of_judges_are_root_in_their_containers(settings: LazySettings) -> None:
    ada = a_client()
    assert Task.objects.get(id=ada.submit()).spec.get("profile", "standard") == "standard"
    settings.GRID = settings.GRID.model_copy(update={"profiles": ("judge",)})
    assert Task.objects.get(id=ada.submit()).spec["profile"] == "judge"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PATCH", "task/task/", 405),
        ("POST", "settings/", 405),
        ("GET", "queue/dequeue/", 405),
        ("POST", "task/task/x/", 403),
        ("POST", "blob/reference/x/", 403),
        ("POST", "task/task", 404),
        ("GET", "nowhere/", 404),
        ("GET", "task/task/%00/", 404),
        ("GET", "blob/reference/%F0%9F%98%80/", 404),
    ],
)
def test_methods_and_addresses_that_are_none(method: str, path: str, code: int) -> None:
    ada = a_client()
    ada.ask(method, path)
    assert ada.status == code


def test_forms_where_bytes_belong_are_refused() -> None:
    ada = a_client()
    answer = ada.ask("POST", "blob/reference/", form={"file": "x"})
    assert (ada.status, answer["status"]) == (400, "FAIL")
