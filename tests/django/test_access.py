"""Who may open which address: every address times every kind of caller. A new address fails until it is listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from grid.core import intake, logs, outcomes, secretbox
from grid.core.models import Delivery, Secret, Task
from grid.core.people import tokens
from grid.core.people.tokens import Scope
from tests.django import builders as given
from tests.django import doors
from webapp.api.routes import api

# Live views look into the database from other threads, which see only what is committed.
pytestmark = pytest.mark.django_db(transaction=True)

CALLERS = ("anonymous", "owner", "other", "node", "admin")

# Address -> status for each of CALLERS. 401: who are you, 403: not you, 404: as if it did not exist. Each caller goes
# through the table from top to bottom, so what makes a thing readable stands below what reads it.
API = {
    "POST /api/v1/tasks": (401, 201, 201, 403, 201),
    "POST /api/v1/tasks/check": (401, 200, 200, 403, 200),
    "POST /api/v1/tasks/bulk": (401, 201, 201, 403, 201),
    "POST /api/v1/tasks/cancel": (401, 200, 200, 403, 200),
    "POST /api/v1/tasks/retry": (401, 200, 200, 403, 200),
    "GET /api/v1/tasks": (401, 200, 200, 403, 200),
    "GET /api/v1/tasks/{task_id}": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/spec": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/wait": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/result/wait": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/events": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/attempts": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/explain": (401, 200, 404, 403, 200),
    "POST /api/v1/tasks/{task_id}/cancel": (401, 409, 404, 403, 409),
    "POST /api/v1/tasks/{task_id}/copy": (401, 201, 404, 403, 201),
    "PUT /api/v1/tasks/{task_id}/sharing": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/alike": (401, 200, 200, 403, 200),
    "GET /api/v1/tasks/{task_id}/result": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/files/{path}": (401, 200, 404, 403, 200),
    "GET /api/v1/tasks/{task_id}/logs/{stream}": (401, 200, 404, 403, 200),
    "POST /api/v1/blobs/missing": (401, 200, 200, 403, 200),
    "GET /api/v1/blobs/{sha256}": (401, 200, 404, 403, 200),
    "PUT /api/v1/blobs/{sha256}": (401, 201, 201, 403, 201),
    "GET /api/v1/nodes": (401, 200, 200, 403, 200),
    "GET /api/v1/nodes/{name}": (401, 200, 200, 403, 200),
    "POST /api/v1/nodes": (401, 403, 403, 403, 201),
    "POST /api/v1/nodes/{name}/cordon": (401, 403, 403, 403, 200),
    "POST /api/v1/nodes/{name}/drain": (401, 403, 403, 403, 200),
    "POST /api/v1/nodes/{name}/resume": (401, 403, 403, 403, 200),
    "GET /api/v1/tasks/{task_id}/deliveries": (401, 200, 404, 403, 200),
    "GET /api/v1/webhooks/secret": (401, 200, 200, 403, 200),
    "POST /api/v1/webhooks/secret": (401, 201, 201, 403, 201),
    "GET /api/v1/webhooks/deliveries": (401, 200, 200, 403, 200),
    "GET /api/v1/webhooks/deliveries/{delivery_id}": (401, 200, 404, 403, 200),
    "POST /api/v1/webhooks/deliveries/{delivery_id}/redeliver": (401, 200, 404, 403, 200),
    "GET /api/v1/mail": (401, 200, 200, 403, 200),
    "PUT /api/v1/mail": (401, 200, 200, 403, 200),
    "GET /api/v1/nodes/{name}/history": (401, 200, 200, 403, 200),
    "GET /api/v1/queue": (401, 200, 200, 403, 200),
    "GET /api/v1/tokens": (401, 200, 200, 403, 200),
    "POST /api/v1/tokens": (401, 201, 201, 403, 201),
    "DELETE /api/v1/tokens/{token_id}": (401, 204, 404, 403, 204),
    "GET /api/v1/account": (401, 200, 200, 403, 200),
    "PUT /api/v1/account/sharing": (401, 200, 200, 403, 200),
    "GET /api/v1/rules": (401, 403, 403, 403, 200),
    "GET /api/v1/users": (401, 403, 403, 403, 200),
    "POST /api/v1/users": (401, 403, 403, 403, 201),
    "GET /api/v1/users/{name}": (401, 403, 403, 403, 200),
    "PATCH /api/v1/users/{name}": (401, 403, 403, 403, 200),
    "GET /api/v1/groups": (401, 403, 403, 403, 200),
    "POST /api/v1/groups": (401, 403, 403, 403, 201),
    "GET /api/v1/groups/{name}": (401, 403, 403, 403, 200),
    "PATCH /api/v1/groups/{name}": (401, 403, 403, 403, 200),
    "GET /api/v1/doctor": (401, 403, 403, 403, 200),
    "GET /api/v1/audit": (401, 403, 403, 403, 200),
    "GET /api/v1/secrets": (401, 200, 200, 403, 200),
    "DELETE /api/v1/secrets/{name}": (401, 204, 404, 403, 404),
    "PUT /api/v1/secrets/{name}": (401, 200, 200, 403, 200),
    "GET /api/v1/events": (401, 200, 200, 403, 200),
    "GET /api/v1/whoami": (401, 200, 200, 403, 200),
    "GET /api/v1/schema": (200, 200, 200, 200, 200),
    # The attempt has ended: its own node passes the door and is told that it is stale.
    "POST /api/v1/node/heartbeat": (401, 403, 403, 200, 403),
    "POST /api/v1/node/hello": (401, 403, 403, 200, 403),
    "POST /api/v1/node/attempts/{attempt_id}/order": (401, 403, 403, 409, 403),
    "POST /api/v1/node/attempts/{attempt_id}/phase": (401, 403, 403, 409, 403),
    "GET /api/v1/node/attempts/{attempt_id}/blobs/{sha256}": (401, 403, 403, 409, 403),
    "PUT /api/v1/node/attempts/{attempt_id}/blobs/{sha256}": (401, 403, 403, 409, 403),
    "POST /api/v1/node/attempts/{attempt_id}/logs/{stream}": (401, 403, 403, 409, 403),
    "POST /api/v1/node/attempts/{attempt_id}/outcome": (401, 403, 403, 409, 403),
    # At the end, for this takes the task and the token of the node away.
    "DELETE /api/v1/tasks/{task_id}": (401, 204, 404, 403, 204),
    "DELETE /api/v1/nodes/{name}": (401, 403, 403, 403, 204),
}
# Pages know people by their session; the token of a node is nobody there (302: to the log-in).
PAGES = {
    "": (302, 200, 200, 302, 200),
    "tasks/many/": (302, 404, 404, 302, 404),
    "tasks/example/": (302, 405, 405, 302, 405),
    "tasks/<str:task_id>/": (302, 200, 404, 302, 200),
    "tasks/<str:task_id>/cancel/": (302, 405, 405, 302, 405),
    "tasks/<str:task_id>/remove/": (302, 405, 405, 302, 405),
    "tasks/<str:task_id>/again/": (302, 200, 404, 302, 200),
    "tasks/<str:task_id>/file/": (302, 200, 404, 302, 200),
    "tasks/<str:task_id>/picture/": (302, 404, 404, 302, 404),
    "tasks/<str:task_id>/log/<str:stream>/": (302, 200, 404, 302, 200),
    "submit/": (302, 200, 200, 302, 200),
    "submit/check/": (302, 405, 405, 302, 405),
    "nodes/": (302, 200, 200, 302, 200),
    "nodes/join/": (302, 405, 405, 302, 405),
    "node/<str:name>/": (302, 200, 200, 302, 200),
    "queue/": (302, 200, 200, 302, 200),
    "nodes/<str:name>/<str:verb>/": (302, 405, 405, 302, 405),
    # There is no Flower behind this server.
    "flower/": (302, 403, 403, 302, 404),
    "flower/<path:path>": (302, 403, 403, 302, 404),
    "login/": (200, 302, 302, 200, 302),
    "login/external/": (404, 404, 404, 404, 404),
    "login/external/callback/": (404, 404, 404, 404, 404),
    "logout/": (405, 405, 405, 405, 405),
    "account/": (302, 200, 200, 302, 200),
    "account/sessions/end/": (302, 405, 405, 302, 405),
    "account/share/": (302, 405, 405, 302, 405),
    "account/tokens/<int:token_id>/revoke/": (302, 405, 405, 302, 405),
    "staff/": (302, 403, 403, 302, 200),
    "staff/audit/": (302, 403, 403, 302, 200),
    "staff/tokens/": (302, 403, 403, 302, 200),
    "staff/users/<name:name>/": (302, 403, 403, 302, 200),
    "staff/groups/<name:name>/": (302, 403, 403, 302, 200),
    "health": (503, 503, 503, 503, 503),
    "health/live": (200, 200, 200, 200, 200),
    "metrics": (401, 200, 200, 403, 200),
    "api/docs": (200, 200, 200, 200, 200),
    "api/openapi.json": (200, 200, 200, 200, 200),
    "api/": (404, 404, 404, 404, 404),
}
BODIES = {
    "POST /api/v1/tasks": {"spec": given.a_spec()},
    "POST /api/v1/tasks/check": {"spec": given.a_spec()},
    "POST /api/v1/tasks/bulk": {"tasks": [{"spec": given.a_spec()}]},
    "POST /api/v1/tasks/cancel": {"ids": ["0"]},
    "POST /api/v1/tasks/retry": {"ids": ["0"]},
    "POST /api/v1/tasks/{task_id}/cancel": {"reason": "no"},
    "POST /api/v1/tasks/{task_id}/copy": {},
    "PUT /api/v1/tasks/{task_id}/sharing": {"group": ""},
    "POST /api/v1/tokens": {"name": "laptop", "scopes": ["read"]},
    "PUT /api/v1/account/sharing": {"share": False},
    "POST /api/v1/users": {"name": "eve"},
    "PATCH /api/v1/users/{name}": {"rules": {"quota": {"running": 3}}},
    "POST /api/v1/groups": {"name": "new ones"},
    "PATCH /api/v1/groups/{name}": {"rules": {}},
    "POST /api/v1/blobs/missing": {"sha256": []},
    "PUT /api/v1/secrets/{name}": {"value": "v"},
    "POST /api/v1/webhooks/secret": {},
    "PUT /api/v1/mail": {"on_failure": False},
    "POST /api/v1/nodes": {"name": "beta"},
    "POST /api/v1/nodes/{name}/cordon": {"reason": "new disk"},
    "POST /api/v1/nodes/{name}/drain": {"deadline_seconds": 0},
    "POST /api/v1/nodes/{name}/resume": {},
    "POST /api/v1/node/attempts/{attempt_id}/order": {"session": "s", "nonce": "n"},
    "POST /api/v1/node/attempts/{attempt_id}/phase": {"token": "t", "phase": "executing"},
}


@dataclass
class World:
    """One finished task of ada's, and everybody who may ask."""

    api: dict[str, Client]
    pages: dict[str, Client]
    names: dict[str, str]
    bodies: dict[str, object]


@pytest.fixture
def world() -> World:
    now = timezone.now()
    ada, bob, root = given.a_user(), given.a_user("bob"), given.a_user("root", staff=True)
    stored = intake.upload(ada, [b"data"], None, now)
    task, attempt, order = given.running(now, owner=ada, files={"in.txt": {"reference": stored.sha256}})
    logs.append(attempt.id, "stdout", 0, b"Linux\n")
    outcome = given.an_outcome(order, {"stdout.txt": b"Linux\n"})
    outcomes.accept(attempt.node, outcome, now)
    Secret.objects.create(owner=ada, name="KEY", value=secretbox.seal("v"), changed_at=now)
    node = doors.api_of_node(attempt.node, root)
    names = {"task_id": task.id, "path": "stdout.txt", "stream": "stdout", "sha256": stored.sha256}
    names["delivery_id"] = _a_delivery(task, now).id
    return World(
        api={
            "anonymous": Client(),
            "owner": doors.api_of(ada),
            "other": doors.api_of(bob),
            "node": node,
            "admin": doors.api_of(root, *doors.EVERY_SCOPE),
        },
        pages={
            "anonymous": Client(),
            "owner": doors.browser_of(ada),
            "other": doors.browser_of(bob),
            "node": node,
            "admin": doors.browser_of(root),
        },
        names={**names, "attempt_id": attempt.id, "token_id": _a_spare_token(ada)},
        bodies={
            "POST /api/v1/node/hello": {"session": "s2", "facts": given.facts().model_dump(mode="json")},
            "POST /api/v1/node/heartbeat": {"session": attempt.node.session},
            "POST /api/v1/node/attempts/{attempt_id}/outcome": outcome.model_dump(mode="json"),
            **BODIES,
        },
    )


def _a_delivery(task: Task, now: datetime) -> Delivery:
    return Delivery.objects.create(
        task=task, owner=task.owner, url="https://host.example/", state="failed", made_at=now, tries_left=0
    )


def _a_spare_token(owner: User) -> str:
    return str(tokens.create(owner=owner, name="spare", scopes=[Scope.READ], now=timezone.now())[0].pk)


def ask(client: Client, entry: str, world: World) -> int:
    """The status of the answer to one entry of the table."""
    method, _, path = entry.partition(" ")
    name = {"nodes": "alpha", "users": "ada", "groups": "Clients"}.get(path.split("/")[3] if path else "", "KEY")
    path = path.format(**world.names, name=name) + ("?offset=0" if "/logs/" in path else "")
    if "wait" in path:
        path += "?timeout=0"
    known = world.bodies.get(entry)
    body, kind = (b"data", "application/octet-stream") if known is None else (json.dumps(known), "application/json")
    answer = client.generic(method, path, body, content_type=kind, headers={"Grid-Attempt-Token": "t"})
    answer.close()
    return answer.status_code


@pytest.mark.parametrize("caller", CALLERS)
def test_every_operation_of_the_api_opens_to_those_and_only_those_it_should(world: World, caller: str) -> None:
    place = CALLERS.index(caller)
    found = {entry: ask(world.api[caller], entry, world) for entry in API}
    assert found == {entry: statuses[place] for entry, statuses in API.items()}


@pytest.mark.parametrize("caller", CALLERS)
def test_every_page_opens_to_those_and_only_those_it_should(world: World, caller: str) -> None:
    place = CALLERS.index(caller)
    words = {
        "<str:task_id>": world.names["task_id"],
        "<str:name>/<str:verb>": "alpha/drain",
        "users/<name:name>": "users/ada",
        "groups/<name:name>": "groups/Clients",
        "<int:token_id>": world.names["token_id"],
        "/node/<str:name>/": "/node/alpha/",
        "<str:stream>": "stdout",
        "/file/": "/file/?path=stdout.txt",
    }
    paths = {route: "/" + route for route in PAGES}
    for part, word in words.items():
        paths = {route: path.replace(part, word) for route, path in paths.items()}
    found = {route: world.pages[caller].get(path).status_code for route, path in paths.items()}
    assert found == {route: statuses[place] for route, statuses in PAGES.items()}


def test_a_new_address_fails_until_it_is_listed() -> None:
    operations = {
        f"{method.upper()} {path}" for path, methods in api.get_openapi_schema()["paths"].items() for method in methods
    }
    assert operations == set(API)
    elsewhere = ("api/v1", "admin/", "kolejka/")
    routes = {route for route in _routes(get_resolver().url_patterns) if not route.startswith(elsewhere)}
    assert routes == set(PAGES)


def test_the_operators_pages_are_closed_to_everybody_else(world: World) -> None:
    for caller in ("anonymous", "owner", "other", "node"):
        for route in _routes(get_resolver().url_patterns):
            if route.startswith("admin/") and "<" not in route and "(" not in route:
                answer = world.pages[caller].get("/" + route)
                # The log-in page of the operator's pages is open, as it has to be.
                assert answer.status_code in (302, 404) or route in ("admin/login/",), (caller, route)


def test_a_token_that_may_only_read_cannot_write(world: World) -> None:
    reader = doors.api_of(User.objects.get(username="ada"), Scope.READ)
    for entry in API:
        writes = not entry.startswith("GET ") and "/node/" not in entry
        if writes:
            assert ask(reader, entry, world) == 403, entry


def test_a_token_without_the_scope_admin_has_no_rights_of_staff(world: World) -> None:
    operator = User.objects.get(username="root")
    assert ask(doors.api_of(operator), "GET /api/v1/tasks/{task_id}", world) == 404
    operator.refresh_from_db()
    assert operator.is_staff


def test_a_person_who_is_no_operator_gains_nothing_from_the_scope_admin(world: World) -> None:
    bob = doors.api_of(User.objects.get(username="bob"), *doors.EVERY_SCOPE)
    assert ask(bob, "GET /api/v1/tasks/{task_id}", world) == 404


def _routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for one in patterns:
        route = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _routes(one.url_patterns, route)
        else:
            yield route
