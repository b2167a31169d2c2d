"""Many tasks in one request: cancel them, retry them, or see the same failures together."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Annotated

from django.http import HttpResponse
from django.utils import timezone
from ninja import Header, Query, Router

from grid.core import many
from grid.core.people.tokens import Scope
from grid.core.reading import alike
from tasks.model import Record
from tasks.views import ManyBody, ManyView
from webapp.api.answers import answer
from webapp.api.tasks import Filters
from webapp.auth import Allow, Request

router = Router(tags=["tasks"])


class AlikeGroup(Record):
    """So many failures that are the same; ``verdict`` and ``cause`` are the filters that find them."""

    verdict: str
    cause: str
    words: str
    count: int


class AlikeView(Record):
    """The same failures together, of the ``counted`` newest; ``complete`` says that there are no older ones."""

    groups: tuple[AlikeGroup, ...]
    counted: int
    complete: bool


@router.post("/cancel", auth=Allow(Scope.SUBMIT), response=ManyView)
def cancel_many(request: Request, body: ManyBody) -> HttpResponse:
    """Cancel many tasks, by their ids or by a filter: what was done, and what was refused and why."""
    return answer(many.cancel_many(request.auth.user, body, timezone.now()))


@router.post("/retry", auth=Allow(Scope.SUBMIT), response=ManyView)
def retry_many(
    request: Request,
    body: ManyBody,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=100)] = "",
) -> HttpResponse:
    """Retry tasks, by their ids or by a filter: new tasks of the same owners with the label ``retry_of``.

    It needs the right to change them: to run what one may only see there is ``POST /tasks/{task_id}/copy``.
    The same Idempotency-Key answers the same new tasks. By a filter, no task is run again a second time.
    """
    return answer(many.retry_many(request.auth.user, body, idempotency_key or uuid.uuid4().hex, timezone.now()))


@router.get("/alike", auth=Allow(Scope.READ), response=AlikeView)
def same_failures(request: Request, filters: Query[Filters]) -> HttpResponse:
    """The newest failures among the tasks that fit, the same ones together: verdict, cause, number."""
    found = alike.failures(request.auth.user, filters.chosen())
    groups = tuple(AlikeGroup(**asdict(one)) for one in found.groups)
    return answer(AlikeView(groups=groups, counted=found.counted, complete=found.complete))
