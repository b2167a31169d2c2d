"""The nodes: what each has, uses and runs, how busy it was, and the operator's buttons."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from grid.core import fleet, nodes
from grid.core.conf import conf
from grid.core.reading import nodeview
from grid.core.upkeep import heat
from tasks.errors import Conflict, NotFound, SpecError
from webapp.forms import JoinForm, NodeForm
from webapp.views.people import only_operators, person

VERBS = ("cordon", "drain", "resume", "remove")
PAGE = 25
MOST_IMAGES = 100


@login_required
@require_safe
def node_list(request: HttpRequest) -> HttpResponse:
    """All nodes, so many by name on a page, with their last day."""
    now = timezone.now()
    found = nodes.status(now)
    after = request.GET.get("after", "")
    behind = [one for one in found if one.name > after]
    shown = behind[:PAGE]
    days = heat.last_day([one.name for one in shown], now)
    context = {
        "now": now,
        "totals": nodeview.totals(found),
        "rows": [(one, heat.strip(days[one.name], now)) for one in shown],
        "after": after,
        "next": shown[-1].name if len(behind) > PAGE else "",
        "form": NodeForm(auto_id=False),
        "join": JoinForm(),
    }
    return render(request, "nodes.html", context)


@login_required
@require_safe
def node_page(request: HttpRequest, name: str) -> HttpResponse:
    """One node: what it is, what runs on it, what ran on it last, and its last day."""
    now = timezone.now()
    try:
        found = nodeview.page(person(request), fleet.find(name), now)
    except NotFound as error:
        raise Http404(str(error)) from None
    context = {
        "now": now,
        "page": found,
        "node": found.status,
        "strip": heat.strip(found.day, now, width=144),
        "images": found.facts.images[:MOST_IMAGES],
        "form": NodeForm(auto_id=False),
    }
    return render(request, "node.html", context)


@login_required
@never_cache
@require_POST
def join(request: HttpRequest) -> HttpResponse:
    """Make a node and show the command that joins it, for staff; the token in it is shown this once."""
    only_operators(request, "only operators change nodes")
    form = JoinForm(request.POST)
    if not form.is_valid():
        return _no_node(request, "; ".join(words.as_text() for words in form.errors.values()))
    name, renew = form.cleaned_data["name"], form.cleaned_data["renew"]
    try:
        node, token = fleet.add(name, by=person(request), renew=renew, now=timezone.now())
    except (Conflict, SpecError) as error:
        return _no_node(request, str(error))
    words = ("grid", "node", "start", "--server", conf().public_url, "--name", node.name)
    context = {"name": node.name, "token": token, "command": shlex.join((*words, "--token", token))}
    return render(request, "node_joins.html", context)


@login_required
@require_POST
def change(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Cordon, drain, resume or remove a node, for staff."""
    only_operators(request, "only operators change nodes")
    form = NodeForm(request.POST)
    if verb not in VERBS:
        raise Http404(f'there is no verb "{verb}" for nodes')
    if not form.is_valid():
        messages.error(request, "; ".join(f"{field}: {words.as_text()}" for field, words in form.errors.items()))
        return _back(request, name)
    try:
        _carry_out(verb, name, person(request).username, form, timezone.now())
    except NotFound as error:
        raise Http404(str(error)) from None
    except Conflict as error:
        messages.error(request, str(error))
        return _back(request, name)
    if verb == "remove":
        messages.success(request, f"The node {name} was removed; the records of what it ran stay.")
        return redirect("nodes")
    return _back(request, name)


def _back(request: HttpRequest, name: str) -> HttpResponse:
    """To the page that the form stood on."""
    return redirect("node", name) if request.POST.get("page") == "node" else redirect("nodes")


def _no_node(request: HttpRequest, why: str) -> HttpResponse:
    messages.error(request, f"No node was made: {why}")
    return redirect(f"{reverse('nodes')}#join")


def _carry_out(verb: str, name: str, by: str, form: NodeForm, now: datetime) -> None:
    reason, minutes = form.cleaned_data["reason"], form.cleaned_data["minutes"]
    if verb == "cordon":
        fleet.cordon(name, by=by, reason=reason, now=now)
    elif verb == "resume":
        fleet.resume(name, by=by, reason=reason, now=now)
    elif verb == "remove":
        fleet.remove(name, by=by, now=now)
    else:
        until = None if minutes is None else now + timedelta(minutes=minutes)
        fleet.drain(name, by=by, reason=reason, now=now, until=until)
