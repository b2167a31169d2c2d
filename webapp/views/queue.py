"""The page of the queue: whose turn it is, who has how much of the grid, what has waited longest and why."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from grid.core.reading import queue
from webapp.views.people import person


@login_required
@require_safe
def queue_page(request: HttpRequest) -> HttpResponse:
    """The queue as the reader may see it."""
    now = timezone.now()
    return render(request, "queue.html", {"now": now, "queue": queue.view(person(request), now)})
