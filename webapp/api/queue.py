"""The queue as people see it: shares, whose turn it is, what waits and why."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import timezone
from ninja import Router

from grid.core.people.tokens import Scope
from grid.core.reading import queue
from tasks.views import QueueView
from webapp.api.answers import answer
from webapp.auth import Allow, Request

router = Router(tags=["queue"])


@router.get("", auth=Allow(Scope.READ), response=QueueView)
def whole(request: Request) -> HttpResponse:
    """Who has how much of the grid, whose turn it is, and what has waited longest and why. Of people whose tasks you
    may not see it tells the sum only.
    """
    return answer(queue.view(request.auth.user, timezone.now()))
