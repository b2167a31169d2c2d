"""One task: verdict and reason first, then how it went, what it left, why it waits; and its cancel button."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from grid.core import access, explain, logs, present, records
from grid.core.models import Attempt, Task
from tasks.errors import NotFound
from tasks.states import TaskState
from tasks.views import AttemptView, TaskView
from webapp.forms import CancelForm
from webapp.views.people import person

TAIL_BYTES = 64 * 1024
BAR = 1000
_PHASES = (
    ("queue", "waited"),
    ("stage_in", "staged in"),
    ("pull", "image"),
    ("run", "ran"),
    ("collect", "collected"),
    ("upload", "uploaded"),
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One phase in the drawn timeline; ``x`` and ``width`` are thousandths of the whole."""

    name: str
    words: str
    seconds: float
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a stream, and where the live log goes on from. ``cut`` bytes before it are only in the download."""

    stream: str
    text: str
    offset: int
    cut: int
    complete: bool


@login_required
@require_safe
def task_page(request: HttpRequest, task_id: str) -> HttpResponse:
    """All about one task."""
    now = timezone.now()
    task = _task(request, task_id)
    view = present.task_view(task)
    attempts = [present.attempt_view(row) for row in task.attempts.select_related("node").order_by("number")]
    stream = "stderr" if request.GET.get("stream") == "stderr" else "stdout"
    context = {
        "now": now,
        "task": view,
        "attempts": attempts,
        "last": attempts[-1] if attempts else None,
        "events": present.timeline(task),
        "timeline": timeline(view, attempts[-1] if attempts else None, now),
        "log": _tail(task.attempt, stream, view),
        "streams": ("stdout", "stderr"),
        "merged": _merged(task),
        "spec": json.dumps(task.spec, indent=2, ensure_ascii=False),
        "limits": task.limits,
        "why": None if view.state.final or view.state == TaskState.RUNNING else explain.explain(task, now),
        "cancel": CancelForm(),
    }
    return render(request, "task.html", context)


@login_required
@require_POST
def cancel(request: HttpRequest, task_id: str) -> HttpResponse:
    """Cancel the task and show it."""
    form = CancelForm(request.POST)
    user, task = person(request), _task(request, task_id)
    if not access.may_change(user, task):
        raise PermissionDenied("you may look at this task; it is somebody else's")
    if form.is_valid():
        task = records.cancel(task, by=user.username, reason=form.cleaned_data["reason"].strip(), now=timezone.now())
        final = TaskState(task.state).final and task.state != TaskState.CANCELLED
        messages.info(request, "It had ended before." if final else "It is being cancelled.")
    return redirect("task", task_id=task.id)


def timeline(task: TaskView, last: AttemptView | None, now: datetime) -> tuple[Stretch, ...]:
    """The phases of the newest attempt as parts of a bar; until it has reported, only how long it waits and runs."""
    found: dict[str, float] = {}
    if last is not None and last.phases is not None:
        found = last.phases.model_dump()
    else:
        begun = task.queued_at or task.created_at
        found["queue"] = ((task.started_at or task.finished_at or now) - begun).total_seconds()
        if task.started_at:
            found["run"] = ((task.finished_at or now) - task.started_at).total_seconds()
    whole = sum(max(0.0, seconds) for seconds in found.values()) or 1.0
    stretches, x = [], 0.0
    for name, words in _PHASES:
        seconds = max(0.0, found.get(name, 0.0))
        if seconds:
            width = round(seconds / whole * BAR, 1)
            stretches.append(Stretch(name, words, seconds, round(x, 1), width))
            x += width
    return tuple(stretches)


def _task(request: HttpRequest, task_id: str) -> Task:
    try:
        return access.get_task(person(request), task_id)
    except NotFound as error:
        raise Http404(str(error)) from None


def _merged(task: Task) -> bool:
    """Whether both streams go to one file, so that all output is in stdout."""
    return bool(task.spec.get("stdout")) and task.spec.get("stdout") == task.spec.get("stderr")


def _tail(attempt: Attempt | None, stream: str, task: TaskView) -> LogTail:
    if attempt is None:
        return LogTail(stream, "", 0, 0, task.state.final)
    known = logs.read(attempt, stream, 0, 0).size
    start = max(0, known - TAIL_BYTES)
    part = logs.read(attempt, stream, start, TAIL_BYTES)
    text = part.data.decode(errors="replace")
    return LogTail(stream, text, start + len(part.data), start, part.complete and task.state.final)
