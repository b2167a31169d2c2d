"""Many tasks in one request: cancel them, or run them again."""

from __future__ import annotations

import uuid
from typing import Annotated

from django.http import HttpResponse
from django.utils import timezone
from ninja import Header, Router

from grid.core import many
from grid.core.tokens import Scope
from tasks.views import ManyBody, ManyView
from webapp.api.answers import answer
from webapp.auth import Allow, Request

router = Router(tags=["tasks"])


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
    """Run many tasks again, by their ids or by a filter: new tasks with the label ``retry_of``.

    The same Idempotency-Key answers the same new tasks. By a filter, no task is run again a second time.
    """
    return answer(many.retry_many(request.auth.user, body, idempotency_key or uuid.uuid4().hex, timezone.now()))
