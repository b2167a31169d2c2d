"""The list of tasks, what is done to many of them at once, and an example to begin with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from grid.core import intake, many, offers, snapshot
from grid.core.models import Node
from grid.core.people import access
from grid.core.reading import alike, lists
from tasks.errors import GridError, SpecError
from tasks.views import MOST_MANY, ManyBody, ManyView, TaskPage
from webapp.forms import CancelForm, FilterForm
from webapp.views.people import person

PAGE = 50
MOST_TOLD = 5
VERBS = ("cancel", "retry")
EXAMPLE_IMAGE = "busybox"
EXAMPLE_PROGRAM = 'echo "Hello from the grid."; uname -a; sleep 2; echo "That was it."'

Filters = dict[str, str]


@login_required
@require_safe
@vary_on_headers("HX-Request")
def task_list(request: HttpRequest) -> HttpResponse:
    """The newest tasks that the person may see; filters and the place in the list are in the address.

    htmx gets the list alone, and the address that it stands for.
    """
    now, user = timezone.now(), person(request)
    form = FilterForm(request.GET)
    filters = _filters(form)
    partial = "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers
    try:
        context = {"now": now, "form": form, **_listed(request, user, filters), **_around(user, now)}
    except SpecError as error:
        # A cause that somebody wrote by hand: nothing fits it.
        context = {"now": now, "form": form, "faults": error.faults, "page": TaskPage(items=()), **_around(user, now)}
    if not partial:
        return render(request, "tasks.html", context)
    answer = render(request, "tasks_list.html", context)
    answer.headers["HX-Replace-Url"] = _address(filters)
    return answer


def _listed(request: HttpRequest, user: User, filters: Filters) -> dict[str, object]:
    place = lists.Place(request.GET.get("after", ""), request.GET.get("before", ""))
    page = lists.page(user, filters, place, PAGE)
    if place.before and not page.previous and len(page.items) < PAGE:
        # The way up ends here: a full page from the top, rather than the few that were left.
        place = lists.Place()
        page = lists.page(user, filters, place, PAGE)
    first = place == lists.Place()
    return {
        "page": page,
        "first_page": first,
        "newest": _address(filters),
        "older": _address({**filters, "after": page.next}) if page.next else "",
        "newer": _address({**filters, "before": page.previous}) if page.previous and not first else "",
        "query": urlencode(filters),
        "filtered": bool(filters),
        "alike": _alike(user, filters) if first else None,
    }


def _alike(user: User, filters: Filters) -> dict[str, object]:
    """The same failures together, each with the address that shows them alone."""
    found = alike.failures(user, filters)
    rest = {name: text for name, text in filters.items() if name != "state"}
    groups = [(one, _address({**rest, "verdict": one.verdict, "cause": one.cause})) for one in found.groups]
    return {"groups": groups, "counted": found.counted, "complete": found.complete}


def _around(user: User, now: datetime) -> dict[str, object]:
    """What the page shows beside the list."""
    known = list(Node.objects.filter(removed_at=None).only("name", "lease_until").order_by("name"))
    return {
        "nodes": [node.name for node in known],
        "nodes_online": sum(snapshot.online(node, now) for node in known),
        # Whoever sees only their own tasks need not read their own name in every line.
        "owners": access.sees_others(user),
        "key": secrets.token_hex(16),
        "reason": CancelForm(prefix="many")["reason"],
    }


@login_required
def do_many(request: HttpRequest) -> HttpResponse:
    """Cancel the chosen tasks or run them again; or, for all that fit a filter, ask first how it is meant."""
    verb = request.GET.get("verb", "") if request.method != "POST" else request.POST.get("verb", "")
    if verb not in VERBS:
        raise Http404("there is no such verb for tasks")
    if request.method != "POST":
        return _ask(request, verb)
    filters = _filters(FilterForm(QueryDict(request.POST.get("filter", ""))))
    reason = request.POST.get("many-reason", "")[:500]
    ids = tuple(request.POST.getlist("task"))
    all_that_fit = "all" in request.POST
    if not ids and not all_that_fit:
        messages.info(request, "Choose tasks first.")
        return redirect(_address(filters))
    try:
        body = ManyBody(ids=() if all_that_fit else ids[:MOST_MANY], filter=filters if all_that_fit else None)
        _carry_out(request, verb, body.model_copy(update={"reason": reason}))
    except SpecError as error:
        messages.error(request, str(error))
    return redirect(_address({name: text for name, text in filters.items() if name not in _passing(verb)}))


def _passing(verb: str) -> tuple[str, ...]:
    """After a retry the new tasks are what one looks for, and they have no end yet."""
    return ("state", "verdict", "cause") if verb == "retry" else ()


def _ask(request: HttpRequest, verb: str) -> HttpResponse:
    """What would be done to how many tasks, and a button that does it."""
    filters = _filters(FilterForm(request.GET))
    states = many.CANCEL_STATES if verb == "cancel" else many.RETRY_STATES
    wanted = {**filters, "state": filters.get("state") or states}
    user = person(request)
    try:
        chosen = many.choose(user, wanted)
    except SpecError as error:
        raise Http404(str(error)) from None
    # Not by a list of the filter: it would look through everything once more.
    told = many.shown(user, chosen, MOST_TOLD)
    context = {
        "verb": verb,
        "count": len(chosen.ids),
        "more": bool(chosen.next),
        "told": told,
        "said": sorted(filters.items()),
        "query": urlencode(filters),
        "back": _address(filters),
        "key": secrets.token_hex(16),
        "reason": CancelForm(prefix="many")["reason"],
    }
    return render(request, "tasks_many.html", context)


def _carry_out(request: HttpRequest, verb: str, body: ManyBody) -> None:
    user, now = person(request), timezone.now()
    if verb == "cancel":
        _tell(request, many.cancel_many(user, body, now), "cancelled")
    else:
        key = request.POST.get("key", "")[:64] or secrets.token_hex(16)
        _tell(request, many.retry_many(user, body, key, now), "submitted again")


def _tell(request: HttpRequest, view: ManyView, done: str) -> None:
    if view.done:
        messages.success(request, f"{view.done} task{' was' if view.done == 1 else 's were'} {done}.")
    refused = [item for item in view.items if not item.done]
    for item in refused[:MOST_TOLD]:
        messages.warning(request, f"Left alone: {item.name or item.task}: {item.reason}")
    if len(refused) > MOST_TOLD:
        messages.warning(request, f"{len(refused) - MOST_TOLD} more were left alone.")
    if not view.items:
        messages.info(request, "No task fits any more.")
    elif view.next:
        messages.info(request, "There are more that fit; do it again for those.")


@login_required
@require_POST
def example(request: HttpRequest) -> HttpResponse:
    """Submit a small task that shows how one looks."""
    spec = {
        "name": "example",
        "image": _example_image(),
        "args": ["sh", "-c", EXAMPLE_PROGRAM],
        "limits": {"memory": "64M", "cpus": 1, "pids": 16, "time": "30s"},
    }
    key = request.POST.get("key", "")[:64] or secrets.token_hex(16)
    try:
        task, _ = intake.submit(
            owner=person(request), spec=spec, contents={}, default_name="", idempotency_key=key, now=timezone.now()
        )
    except GridError as error:
        messages.error(request, f"The example was not taken: {error}")
        return redirect("tasks")
    return redirect("task", task_id=task.id)


def _example_image() -> str:
    """A small image that some node has already, where there is one."""
    offered = offers.current()
    have = offered.images if offered else frozenset()
    near = sorted(image for image in have if EXAMPLE_IMAGE in image)
    return EXAMPLE_IMAGE if f"{EXAMPLE_IMAGE}:latest" in have or not near else near[0]


def _filters(form: FilterForm) -> Filters:
    """The filters that were given and are possible."""
    form.is_valid()
    return {name: form.cleaned_data[name] for name in lists.FILTERS if form.cleaned_data.get(name)}


def _address(words: Mapping[str, str]) -> str:
    query = urlencode({name: text for name, text in words.items() if text})
    return reverse("tasks") + (f"?{query}" if query else "")
