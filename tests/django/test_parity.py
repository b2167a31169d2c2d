"""What the pages can do the API can do. The table is held against the addresses and the verbs that there are."""

from __future__ import annotations

import pytest

from tests.django import builders as given
from tests.django import doors
from tests.django.test_access import PAGES
from webapp import staffforms
from webapp.api.routes import api
from webapp.views import nodes, tasks

pytestmark = pytest.mark.django_db

# Address -> what of the API shows the same, and what does the same (verbs of an address in the order of its code).
# A page that has no counterpart says why.
SAME: dict[str, tuple[str, ...] | str] = {
    "": ("GET /tasks", "GET /tasks/alike"),
    "tasks/many/": ("POST /tasks/cancel", "POST /tasks/retry"),
    "tasks/example/": ("POST /tasks",),
    "tasks/<str:task_id>/": (
        "GET /tasks/{task_id}",
        "GET /tasks/{task_id}/attempts",
        "GET /tasks/{task_id}/deliveries",
        "GET /tasks/{task_id}/events",
        "GET /tasks/{task_id}/explain",
        "GET /tasks/{task_id}/result",
        "GET /tasks/{task_id}/spec",
    ),
    "tasks/<str:task_id>/cancel/": ("POST /tasks/{task_id}/cancel",),
    "tasks/<str:task_id>/remove/": ("DELETE /tasks/{task_id}",),
    "tasks/<str:task_id>/again/": ("GET /tasks/{task_id}/spec", "POST /tasks/retry", "POST /tasks/{task_id}/copy"),
    "tasks/<str:task_id>/file/": ("GET /tasks/{task_id}/files/{path}",),
    "tasks/<str:task_id>/picture/": ("GET /tasks/{task_id}/files/{path}",),
    "tasks/<str:task_id>/log/<str:stream>/": ("GET /tasks/{task_id}/logs/{stream}",),
    "submit/": ("POST /blobs/missing", "PUT /blobs/{sha256}", "POST /tasks"),
    "submit/check/": ("POST /tasks/check",),
    "nodes/": ("GET /nodes", "GET /nodes/{name}/history"),
    "nodes/join/": ("POST /nodes",),
    "node/<str:name>/": ("GET /nodes/{name}", "GET /nodes/{name}/history", "GET /tasks"),
    "nodes/<str:name>/<str:verb>/": (
        "POST /nodes/{name}/cordon",
        "POST /nodes/{name}/drain",
        "POST /nodes/{name}/resume",
        "DELETE /nodes/{name}",
    ),
    "queue/": ("GET /queue",),
    "account/": ("GET /account", "GET /tokens", "POST /tokens"),
    "account/share/": ("PUT /account/sharing",),
    "account/sessions/end/": "sessions are of browsers; programs come with a token",
    "account/tokens/<int:token_id>/revoke/": ("DELETE /tokens/{token_id}",),
    "staff/": ("GET /users", "GET /groups", "GET /rules", "POST /users", "POST /groups"),
    "staff/audit/": ("GET /audit",),
    "staff/tokens/": ("GET /tokens", "DELETE /tokens/{token_id}"),
    "staff/users/<name:name>/": ("GET /users/{name}", "PATCH /users/{name}"),
    "staff/groups/<name:name>/": ("GET /groups/{name}", "PATCH /groups/{name}"),
    "flower/": "a window of another program, which has an API of its own",
    "flower/<path:path>": "the same",
    "login/": "programs come with a token",
    "login/external/": "the same",
    "login/external/callback/": "the same",
    "logout/": "the same",
    "health": "it is no page",
    "health/live": "it is no page",
    "metrics": "it is no page",
    "api/docs": "it is the API",
    "api/openapi.json": "it is the API",
    "api/": "it is the API",
}
OPERATIONS = {
    f"{method.upper()} {path.removeprefix('/api/v1')}"
    for path, methods in api.get_openapi_schema()["paths"].items()
    for method in methods
}


def test_every_page_is_listed_with_what_does_the_same() -> None:
    assert set(SAME) == set(PAGES)
    named = {operation for same in SAME.values() if not isinstance(same, str) for operation in same}
    assert named <= OPERATIONS


def test_a_page_that_does_something_has_an_operation_that_does_it() -> None:
    """Whatever address answers a POST otherwise than by "not allowed" does something."""
    words = {"<str:task_id>": "0", "<str:stream>": "stdout", "<int:token_id>": "0", "<name:name>": "nobody"}
    words |= {"<str:verb>": "drain", "<str:name>": "alpha"}
    operator = doors.browser_of(given.a_user("root", staff=True))
    for route, same in SAME.items():
        if isinstance(same, str):
            continue
        path = "/" + route
        for part, word in words.items():
            path = path.replace(part, word)
        writes = operator.post(path).status_code != 405
        assert any(not one.startswith("GET ") for one in same) == writes, route


def test_every_verb_for_many_tasks_and_for_nodes_has_its_operation() -> None:
    for route, verbs in (("tasks/many/", tasks.VERBS), ("nodes/<str:name>/<str:verb>/", nodes.VERBS)):
        same = SAME[route]
        assert not isinstance(same, str)
        named = {"remove" if one.startswith("DELETE") else one.rpartition("/")[2] for one in same}
        assert named == set(verbs)


def test_every_field_of_the_operators_forms_is_a_key_of_the_operation() -> None:
    schemas = api.get_openapi_schema()["components"]["schemas"]
    for form, body in (("NewUserForm", "NewPersonBody"), ("PersonForm", "PersonChange"), ("TokenForm", "TokenBody")):
        fields = set(getattr(staffforms, form).base_fields)
        # Scopes are chosen one by one, not as a set with a name.
        fields = {"scopes" if name == "opens" else name for name in fields}
        assert fields <= set(schemas[body]["properties"]), form
