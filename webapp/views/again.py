"""Run a task again from its page: as it was, or with changes to its description."""

from __future__ import annotations

import json
import secrets

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from grid.core.again import again
from grid.core.models import Task
from tasks.errors import Conflict, Fault, GridError, NotAllowed, SpecError, TooLarge
from tasks.jsontext import parse_json
from webapp.forms import AgainForm
from webapp.views.finding import task_or_404
from webapp.views.people import person


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def again_page(request: HttpRequest, task_id: str) -> HttpResponse:
    """The description of a task to be changed and run; a POST without one runs the task as it was."""
    task = task_or_404(request, task_id)
    if request.method != "POST":
        return _page(request, task, described(task), [])
    form = AgainForm(request.POST)
    if not form.is_valid():
        found = [Fault(field, str(words)) for field, several in form.errors.items() for words in several]
        return _page(request, task, request.POST.get("spec", ""), found, 422)
    text = form.cleaned_data["spec"] if "spec" in request.POST else None
    try:
        spec = None if text is None else parse_json(text.encode(errors="replace"))
        key = f"again/{task.id}/{form.cleaned_data['key']}"
        made = again(task, user=person(request), spec=spec, key=key, now=timezone.now())
    except GridError as error:
        faults = list(error.faults) if isinstance(error, SpecError) else [Fault("", str(error))]
        return _page(request, task, described(task) if text is None else text, faults, _status(error))
    messages.info(request, f"This is {task.name}, run again.")
    return redirect("task", task_id=made.id)


def described(task: Task) -> str:
    """The description of a task as text for people."""
    return json.dumps(task.spec, indent=2, ensure_ascii=False)


def new_key() -> str:
    """A key for a form: a button that is pressed twice makes one task."""
    return secrets.token_hex(16)


def _page(request: HttpRequest, task: Task, text: str, faults: list[Fault], status: int = 200) -> HttpResponse:
    context = {"task": task, "text": text, "faults": faults, "key": new_key()}
    return render(request, "task_again.html", context, status=status)


def _status(error: GridError) -> int:
    known = {SpecError: 422, TooLarge: 413, Conflict: 409, NotAllowed: 403}
    return next((status for kind, status in known.items() if isinstance(error, kind)), 503)
