"""Is the server well: for load balancers, supervisors and people; open to everybody, it names nothing of anybody's."""

from __future__ import annotations

from datetime import datetime

from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from grid.core.contents import storecheck
from grid.core.models import Lock, Node
from grid.core.wake import DISPATCHER
from tasks.model import Record


class Health(Record):
    """``ready`` means that submits are kept and placed; a grid without nodes is ready too, its tasks wait.

    It takes all of: the database answers, a dispatcher holds its lease, the store can be written to.
    """

    ready: bool
    database: bool
    dispatcher: bool
    store: bool
    nodes_online: int = 0
    nodes_known: int = 0
    node_last_seen: datetime | None = None
    problem: str = ""


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when the database answers, a dispatcher acts and the store takes files, else 503 with what is wrong."""
    found = look(timezone.now())
    return JsonResponse(found.model_dump(mode="json"), status=200 if found.ready else 503)


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """200 while the process answers at all."""
    return JsonResponse({"live": True})


def look(now: datetime) -> Health:
    """How the server is."""
    full = storecheck.problem()
    try:
        dispatcher = Lock.objects.filter(name=DISPATCHER, until__gt=now).exists()
        online = Node.objects.filter(lease_until__gt=now).count()
        seen = Node.objects.filter(last_seen__isnull=False).order_by("-last_seen").values_list("last_seen", flat=True)
        missing = "" if dispatcher else "no dispatcher acts; start one: manage.py rundispatcher"
        return Health(
            ready=dispatcher and not full,
            database=True,
            dispatcher=dispatcher,
            store=not full,
            nodes_online=online,
            nodes_known=Node.objects.filter(removed_at=None).count(),
            node_last_seen=seen.first(),
            problem="; ".join(filter(None, (missing, full and f"nothing can be stored: {full}"))),
        )
    except DatabaseError as error:
        problem = f"the database: {type(error).__name__}"
        return Health(ready=False, database=False, dispatcher=False, store=not full, problem=problem)
