"""Every page that the server shows, by its route: who sees it, at which address. A new one fails until it is listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import URLPattern, URLResolver, get_resolver

from tests.browser.world import ADA, BOB, NEW, STAFF


@dataclass(frozen=True, slots=True)
class Sight:
    """A page as somebody sees it. ``{name}`` in the address stands for the id of that task, or for the node.

    ``ours`` is False for pages that others wrote and we hand out: what they look like is not for us to judge.
    """

    address: str
    who: str = ADA
    status: int = 200
    ours: bool = True

    def __str__(self) -> str:
        return f"{self.who or 'nobody'} at {self.address}"


NOBODY = ""

SIGHTS: dict[str, tuple[Sight, ...]] = {
    "": (
        Sight("/"),
        Sight("/", NEW),
        Sight("/?owner=ada", STAFF),
        Sight("/?state=failed&text=lab"),
        Sight("/?text=no+such+task"),
    ),
    "tasks/many/": (Sight("/tasks/many/?verb=retry&state=failed"), Sight("/tasks/many/?verb=cancel", BOB)),
    "tasks/<str:task_id>/": (
        Sight("/tasks/{succeeded}/"),
        Sight("/tasks/{succeeded}/?find=right"),
        Sight("/tasks/{failed}/?stream=stderr"),
        Sight("/tasks/{hog}/", STAFF),
        Sight("/tasks/{running}/"),
        Sight("/tasks/{waiting}/"),
        Sight("/tasks/{cancelled}/"),
    ),
    "tasks/<str:task_id>/again/": (Sight("/tasks/{succeeded}/again/"),),
    "tasks/<str:task_id>/file/": tuple(
        Sight(f"/tasks/{{succeeded}}/file/?path={path}") for path in ("score.txt", "plot.png", "report.html")
    ),
    "submit/": (Sight("/submit/"),),
    "nodes/": (Sight("/nodes/"), Sight("/nodes/", STAFF)),
    "node/<str:name>/": (Sight("/node/{node}/"), Sight("/node/{node}/", STAFF), Sight("/node/lab2/", STAFF)),
    "queue/": (Sight("/queue/"), Sight("/queue/", STAFF)),
    "login/": (Sight("/login/", NOBODY),),
    "account/": (Sight("/account/"), Sight("/account/", BOB)),
    "staff/": (Sight("/staff/", STAFF),),
    "staff/audit/": (Sight("/staff/audit/", STAFF),),
    "staff/tokens/": (Sight("/staff/tokens/", STAFF),),
    "staff/users/<name:name>/": (Sight(f"/staff/users/{BOB}/", STAFF),),
    "staff/groups/<name:name>/": (Sight("/staff/groups/Clients/", STAFF),),
    "api/": (Sight("/no/such/page/", status=404),),
    "api/docs": (Sight("/api/docs", ours=False),),
    "flower/": (Sight("/flower/", STAFF, ours=False),),
    "flower/<path:path>": (Sight("/flower/workers", STAFF, ours=False), Sight("/flower/", ADA, status=403)),
    "admin/": (Sight("/admin/", STAFF, ours=False), Sight("/admin/core/task/", STAFF, ours=False)),
}

# Answers that are no pages: verbs that lead to one (their flows are told elsewhere), bytes, and what programs read.
NOT_PAGES = {
    "tasks/example/",
    "tasks/<str:task_id>/cancel/",
    "tasks/<str:task_id>/remove/",
    "tasks/<str:task_id>/picture/",
    "tasks/<str:task_id>/log/<str:stream>/",
    "submit/check/",
    "nodes/join/",
    "nodes/<str:name>/<str:verb>/",
    "login/external/",
    "login/external/callback/",
    "logout/",
    "account/sessions/end/",
    "account/share/",
    "account/tokens/<int:token_id>/revoke/",
    "health",
    "health/live",
    "metrics",
    "api/openapi.json",
}

EACH = [sight for sights in SIGHTS.values() for sight in sights]


def routes() -> set[str]:
    """The routes of the server; of the operators' records only the first page, of what programs speak none."""
    found = set(_routes(get_resolver().url_patterns))
    return {route for route in found if not route.startswith(("api/v1", "admin/", "kolejka/"))} | {"admin/"}


def _routes(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route
