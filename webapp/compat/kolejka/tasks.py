"""Tasks and results, and what foremen ask for and bring."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import timezone

from grid.core.kolejka import clients, foremen, shown
from tasks.dialects.kolejka_foremen import read_wish
from tasks.dialects.kolejka_results import read_result
from tasks.errors import NotAllowed, NotFound
from webapp.auth import Request
from webapp.compat.kolejka.door import body_json, fail, ok, only


@only("POST", "PUT", "GET", "HEAD", "DELETE")
def task(request: Request, key: str = "") -> HttpResponse:
    """POST submits a task; the others tell of it and delete it."""
    user, now = request.auth.user, timezone.now()
    if request.method == "POST":
        if key:
            raise NotAllowed("a new task has no id yet")
        return ok(task=shown.task_json(clients.submit(user, body_json(request), now)))
    if request.method == "DELETE":
        clients.delete_task(user, key, now)
        return ok(deleted=True)
    return ok(task=shown.task_json(clients.find(user, key), key))


@only("POST", "PUT", "GET", "HEAD", "DELETE")
def result(request: Request, key: str = "") -> HttpResponse:
    """POST is a foreman's report. 404: there is no result yet; a task that is not known is told of with FAIL."""
    user, now = request.auth.user, timezone.now()
    if request.method == "POST":
        if key:
            raise NotAllowed("a result is of the task that it names")
        said = body_json(request)
        foremen.report(user, read_result(said), now)
        return ok(result=said)
    try:
        if request.method == "DELETE":
            found: object = clients.delete_result(user, key, now)
        else:
            found = clients.result(user, key)
    except NotFound:
        return fail(f"Task {key[:64]} is unknown")
    if not found:
        raise NotFound(f"the task {key[:64]} has no result")
    return ok(deleted=True) if request.method == "DELETE" else ok(result=found)


@only("POST")
def dequeue(request: Request) -> HttpResponse:
    """Tasks for a foreman to run."""
    user = request.auth.user
    foremen.check_may_process(user)
    return ok(tasks=foremen.dequeue(user, read_wish(body_json(request)), timezone.now()))


@only("GET")
def stats(request: Request) -> HttpResponse:
    """How many tasks there are."""
    return ok(**clients.statistics())
