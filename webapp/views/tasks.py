"""The list of tasks."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from grid.core import access, lists, nodes
from webapp.forms import FilterForm
from webapp.views.people import person

PAGE = 50


@login_required
@require_safe
def task_list(request: HttpRequest) -> HttpResponse:
    """The newest tasks that the person may see; filters and the place in the list are in the address."""
    now = timezone.now()
    form = FilterForm(request.GET)
    filters = {name: value for name, value in form.cleaned_data.items() if value} if form.is_valid() else {}
    page = lists.page(person(request), filters, request.GET.get("after", ""), PAGE)
    older = request.GET.copy()
    older["after"] = page.next
    known = nodes.status(now)
    context = {
        "now": now,
        "form": form,
        "page": page,
        "older": older.urlencode() if page.next else "",
        "filtered": bool(filters),
        "first_page": "after" not in request.GET,
        "nodes": known,
        "nodes_online": sum(node.online for node in known),
        "owners": _shows_owners(person(request)),
    }
    return render(request, "tasks.html", context)


def _shows_owners(user: User) -> bool:
    """Whoever sees only their own tasks need not read their own name in every line."""
    return access.sees_others(user)
