"""The nodes: who is there, what they offer, what is in use."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from grid.core import nodes


@login_required
@require_safe
def node_list(request: HttpRequest) -> HttpResponse:
    """All nodes."""
    now = timezone.now()
    return render(request, "nodes.html", {"now": now, "nodes": nodes.status(now)})
