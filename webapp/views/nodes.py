"""The nodes: who is there, what they offer, what is in use; and the operator's buttons."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from grid.core import fleet, nodes
from tasks.errors import NotFound
from webapp.forms import NodeForm
from webapp.views.people import person

VERBS = ("cordon", "drain", "resume")


@login_required
@require_safe
def node_list(request: HttpRequest) -> HttpResponse:
    """All nodes."""
    now = timezone.now()
    return render(request, "nodes.html", {"now": now, "nodes": nodes.status(now), "form": NodeForm(auto_id=False)})


@login_required
@require_POST
def change(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Cordon, drain or resume a node, for staff."""
    if not person(request).is_staff:
        raise PermissionDenied("only operators change nodes")
    form = NodeForm(request.POST)
    if verb not in VERBS:
        raise Http404(f'there is no verb "{verb}" for nodes')
    if form.is_valid():
        try:
            _carry_out(verb, name, person(request).username, form, timezone.now())
        except NotFound as error:
            raise Http404(str(error)) from None
    else:
        messages.error(request, "; ".join(f"{field}: {words.as_text()}" for field, words in form.errors.items()))
    return redirect("nodes")


def _carry_out(verb: str, name: str, by: str, form: NodeForm, now: datetime) -> None:
    reason, minutes = form.cleaned_data["reason"], form.cleaned_data["minutes"]
    if verb == "cordon":
        fleet.cordon(name, by=by, reason=reason, now=now)
    elif verb == "resume":
        fleet.resume(name, by=by, reason=reason, now=now)
    else:
        until = None if minutes is None else now + timedelta(minutes=minutes)
        fleet.drain(name, by=by, reason=reason, now=now, until=until)
