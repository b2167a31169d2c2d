"""How long the server needs for each page and each list call, over a large record; and how many queries.

Run by ``load_stack`` in the server's environment: ``load_looks.py``; prints JSON. The time is that of the processor, so
that it does not depend on what else the machine does: the request's own, and that of PostgreSQL's process for it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import load_inside  # noqa: F401 - first: it sets Django up

# isort: split
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from grid.core.models import Delivery, Task
from grid.core.people import access, standing
from grid.core.people.tokens import Scope, create
from tasks.states import TaskState
from tasks.terms import Rules
from tasks.verdicts import Verdict
from webapp.api.routes import api

LOOKS = 3
MEMBER = "owner3"
HERE = "127.0.0.1"
# What waits, streams, asks the broker, or is no look.
LEFT_OUT = ("/wait", "/v1/events", "/doctor", "login", "logout", "flower", "/node/attempts", "api/docs", "api/$")
# Every filter of the list, with what is common, what is rare, and what is not there at all; and several together.
FILTERS = (
    "limit=500",
    "state=queued",
    "state=failed",
    "state=running",
    "state=waiting",
    "state=cancelled",
    "state=running,failed",
    "state=succeeded",
    "verdict=succeeded",
    "verdict=exit_code",
    "verdict=memory_limit",
    "verdict=node_lost",
    "verdict=poison",
    "owner=owner3",
    "owner=nobody",
    "node=sim7",
    "node=nowhere",
    "label=course%3Dc3",
    "label=course%3Dnone",
    "label=none",
    "text=exercise",
    "text=pattern",
    "text=nothing-like-this",
    "text=0",
    "cause=exit%3D1",
    "cause=memory%3D1",
    "state=queued&owner=nobody",
    "state=failed&owner=owner3&text=exercise%209",
    "state=failed&node=sim7&label=course%3Dc7",
    "verdict=node_lost&owner=owner5&cause=exit%3D9",
)
MANY = ("verb=retry", "verb=cancel", "verb=retry&owner=owner3", "verb=cancel&label=course%3Dnone&text=none")


def main() -> None:
    """Look at everything, as an operator and as somebody whose groups share."""
    if connection.vendor == "postgresql":
        connection.close()
        connection_created.connect(_alone)
    names = _names()
    paths = [*_pages(names), *_calls(names), *_filtered(names)]
    found = []
    for person in (User.objects.filter(is_superuser=True).get(), _member()):
        client = Client(SERVER_NAME=HERE)
        client.force_login(person)
        scopes = [Scope.READ, Scope.SUBMIT, *([Scope.ADMIN] if person.is_staff else [])]
        _, clear = create(owner=person, name="looks", scopes=scopes, now=timezone.now())
        program = Client(SERVER_NAME=HERE, headers={"authorization": f"Bearer {clear}"})
        for path in paths:
            found.append(_look(program if path.startswith("/api/") or path == "/metrics" else client, path, person))
    sys.stdout.write(json.dumps({"tasks": Task.objects.count(), "looks": found}) + "\n")


def _look(client: Client, path: str, person: User) -> dict[str, Any]:
    """The middle of some looks; what is kept from one request to the next is made anew each time."""
    took = []
    for _ in range(LOOKS):
        standing.forget()
        access.forget()
        began = _spent()
        answer = client.get(path)
        answer.getvalue()
        took.append(_spent() - began)
        if answer.status_code not in (200, 302, 403, 404, 405, 503):
            raise SystemExit(f"{path}: {answer.status_code} {answer.getvalue()[:300]!r}")
    with CaptureQueriesContext(connection) as asked:
        client.get(path)
    sys.stderr.write(f"{statistics.median(took) * 1000:8.1f} ms {len(asked):3} queries  {path}\n")
    return {
        "path": path,
        "who": "operator" if person.is_staff else "member",
        "status": answer.status_code,
        "milliseconds": statistics.median(took) * 1000,
        "queries": len(asked),
    }


def _spent() -> float:
    """Processor seconds of this process so far, with those of the database's process that serves it."""
    own = time.process_time()
    if connection.vendor != "postgresql":
        return own
    connection.ensure_connection()
    statistics_of = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")
    return own + int(statistics_of.read_text().split()[0]) / 1e9


def _alone(connection: BaseDatabaseWrapper, **_: object) -> None:
    """Whose time is measured calls no others to help."""
    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")


def _member() -> User:
    """Somebody whose group shares: they see tasks of ten."""
    user = User.objects.get(username=MEMBER)
    group = Group.objects.filter(user=user).order_by("name")[0]
    standing.decide(group, Rules(share=True), by="looks", now=timezone.now())
    return user


def _names() -> dict[str, str]:
    """What stands in addresses: the names of things that are there."""
    newest = Task.objects.order_by("-id")
    ended = newest.filter(verdict=Verdict.SUCCEEDED, owner__username=MEMBER)[0]
    blob = ended.inputs.values_list("blob_id", flat=True)[0]
    return {
        "task_id": ended.id,
        "path": "out.txt",
        "stream": "stdout",
        "sha256": blob,
        "delivery_id": Delivery.objects.order_by("-id").values_list("id", flat=True)[0],
        "queued": newest.filter(state=TaskState.QUEUED, owner__username=MEMBER)[0].id,
        "running": newest.filter(state=TaskState.RUNNING, owner__username=MEMBER)[0].id,
        "failed": newest.filter(state=TaskState.FAILED, owner__username=MEMBER)[0].id,
        "middle": newest[Task.objects.count() // 2 : Task.objects.count() // 2 + 1][0].id,
    }


def _pages(names: dict[str, str]) -> Iterator[str]:
    """All pages."""
    words = {
        "<str:task_id>": names["task_id"],
        "<str:stream>": "stdout",
        "<int:token_id>": "1",
        "/node/<str:name>": "/node/sim7",
        "users/<name:name>": f"users/{MEMBER}",
        "groups/<name:name>": f"groups/{quote('seminar 0')}",
        "/file/": "/file/?path=out.txt",
        "/picture/": "/picture/?path=out.txt",
    }
    for route in _routes(get_resolver().url_patterns):
        if route.startswith(("api/v1", "admin/")) or any(part in f"{route}$" for part in LEFT_OUT):
            continue
        path = "/" + route
        for part, word in words.items():
            path = path.replace(part, word)
        yield path
    for state in ("queued", "running", "failed", "middle"):
        yield f"/tasks/{names[state]}/"
    yield from (f"/admin/core/{name}/" for name in ("task", "attempt", "auditentry", "blob", "delivery", "event"))
    yield from (f"/tasks/many/?{words}" for words in MANY)
    yield from (f"/staff/audit/?{words}" for words in ("actor=owner3", "action=login", "action=none", "actor=nobody"))


def _calls(names: dict[str, str]) -> Iterator[str]:
    """All calls of the API that look."""
    for path, methods in api.get_openapi_schema()["paths"].items():
        if "get" not in methods or any(part in path for part in LEFT_OUT):
            continue
        name = {"nodes": "sim7", "users": MEMBER, "groups": quote("seminar 0")}.get(path.split("/")[3], "KEY")
        yield path.format(**names, name=name)
    for state in ("queued", "running", "failed", "middle"):
        yield from (f"/api/v1/tasks/{names[state]}{more}" for more in ("", "/explain", "/attempts", "/events"))
    yield from (f"/api/v1/webhooks/deliveries?{words}" for words in ("state=failed", "state=due", "limit=200"))
    yield from (f"/api/v1/audit?{words}" for words in ("actor=owner3", "action=login", "action=none", "limit=500"))


def _filtered(names: dict[str, str]) -> Iterator[str]:
    """The lists of tasks with each filter, from their beginning and from the middle, down and up."""
    middle = names["middle"]
    for words in (*FILTERS, f"text={middle[:12]}", f"text={middle}"):
        for place in ("", f"&after={middle}", f"&before={middle}"):
            yield f"/?{words}{place}"
            yield f"/api/v1/tasks?{words}{place}"
        yield f"/api/v1/tasks/alike?{words.replace('limit=500', '')}"


def _routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for one in patterns:
        route = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _routes(one.url_patterns, route)
        else:
            yield route


if __name__ == "__main__":
    main()
