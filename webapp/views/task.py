"""One task: verdict and reason first, then how it went, what it left, why it waits; how it is cancelled and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from grid.core import records
from grid.core.delivery import outbox
from grid.core.models import Task
from grid.core.people import access
from grid.core.reading import explain, present
from grid.core.upkeep import removal
from tasks.errors import Conflict
from tasks.limits import Limits
from tasks.outcome import OutputFile
from tasks.states import TaskState
from tasks.views import AttemptView, TaskView
from webapp import plots
from webapp.forms import CancelForm
from webapp.views.again import described, new_key
from webapp.views.files import looks_like_picture
from webapp.views.finding import task_or_404
from webapp.views.logs import window, wish_of
from webapp.views.people import person

MOST_PICTURES = 8
MOST_FILES = 500
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
class Command:
    """How to do a thing elsewhere than on the page: the line for a shell, and that for Python."""

    title: str
    shell: str
    python: str


@login_required
@require_safe
def task_page(request: HttpRequest, task_id: str) -> HttpResponse:
    """All about one task."""
    now = timezone.now()
    task = task_or_404(request, task_id)
    view = present.task_view(task)
    attempts = [present.attempt_view(row) for row in task.attempts.select_related("node").order_by("number")]
    last = attempts[-1] if attempts else None
    context = {
        "now": now,
        "task": view,
        "attempts": attempts,
        "last": last,
        "events": present.timeline(task),
        "timeline": timeline(view, last, now),
        "log": window(view, attempts, wish_of(request.GET)),
        "streams": ("stdout", "stderr"),
        "merged": _merged(task),
        "spec": described(task),
        "spec_hash": task.spec_hash,
        "inputs": task.inputs.order_by("path").values_list("path", "blob_id")[:MOST_FILES],
        "limits": task.limits,
        "why": None if view.state.final or view.state == TaskState.RUNNING else explain.explain(task, now),
        "cancel": CancelForm(),
        "may_change": access.may_change(person(request), task),
        "key": new_key(),
        "commands": commands(view),
        "deliveries": outbox.of_task(task) if task.spec.get("callback_url") else (),
        **_left(chosen(attempts, request.GET.get("attempt", "")), task),
    }
    return render(request, "task.html", context)


def chosen(attempts: Sequence[AttemptView], number: str) -> AttemptView | None:
    """The attempt of this number, or else the newest."""
    return next((one for one in attempts if str(one.number) == number), attempts[-1] if attempts else None)


def _left(last: AttemptView | None, task: Task) -> dict[str, object]:
    """What an attempt left: its first files, those that look like pictures, the plots of what it used."""
    files: tuple[OutputFile, ...] = last.files if last else ()
    pictures = [file for file in files if looks_like_picture(file.path, file.size)]
    limits = Limits.model_validate(task.limits)
    if last is not None and last.memory_bytes is not None:
        limits = limits.model_copy(update={"memory": last.memory_bytes})
    return {
        # In addresses the newest attempt goes without its number.
        "of": last.number if last and last.id != task.attempt_id else None,
        "files": files[:MOST_FILES],
        "more_files": max(0, len(files) - MOST_FILES),
        "pictures": pictures[:MOST_PICTURES],
        "plots": plots.pictures(last.usage, limits) if last and last.usage else None,
    }


@login_required
@require_POST
def cancel(request: HttpRequest, task_id: str) -> HttpResponse:
    """Cancel the task and show it."""
    form = CancelForm(request.POST)
    user, task = person(request), task_or_404(request, task_id)
    if not access.may_change(user, task):
        raise PermissionDenied("you may look at this task; it is somebody else's")
    if form.is_valid():
        task = records.cancel(task, by=user.username, reason=form.cleaned_data["reason"].strip(), now=timezone.now())
        final = TaskState(task.state).final and task.state != TaskState.CANCELLED
        messages.info(request, "It had ended before." if final else "It is being cancelled.")
    return redirect("task", task_id=task.id)


@login_required
@require_POST
def remove(request: HttpRequest, task_id: str) -> HttpResponse:
    """Take a task that has ended off the record, and show the list."""
    user, task = person(request), task_or_404(request, task_id)
    if not access.may_change(user, task):
        raise PermissionDenied("you may look at this task; it is somebody else's")
    try:
        removal.remove(task, by=user.username, now=timezone.now())
    except Conflict as error:
        messages.error(request, str(error))
        return redirect("task", task_id=task.id)
    messages.info(request, f"{task.name or task.id} was removed.")
    return redirect("tasks")


def timeline(task: TaskView, last: AttemptView | None, now: datetime) -> tuple[Stretch, ...]:
    """The phases of the newest attempt as parts of a bar; until it has reported, only how long it waits and runs."""
    found: dict[str, float] = {}
    if last is not None and last.phases is not None:
        found = last.phases.model_dump()
        if not found["queue"] and last.started_at and task.queued_at:
            # The node does not know how long it waited.
            found["queue"] = (last.started_at - task.queued_at).total_seconds()
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


def commands(task: TaskView) -> tuple[Command, ...]:
    """The same as the buttons of the page do, in a shell and in Python."""
    found = [Command("Look at it", f"grid status {task.id}", f'task = grid.get("{task.id}")')]
    found.append(
        Command("Read its output", f"grid logs {task.id} -f", "for text in task.logs(follow=True): print(text)")
    )
    if task.state.final:
        found.append(Command("Fetch its files", f"grid result {task.id} result/", 'task.download("result")'))
        found.append(Command("Run it again", f"grid retry {task.id}", "new = task.retry()"))
        changed = ("grid copy " + task.id + " --set priority=5", "new = task.copy(priority=5)")
        found.append(Command("Run it again with changes", *changed))
        found.append(Command("Remove it", f"grid rm {task.id}", "task.remove()"))
    else:
        found.append(Command("Why it waits", f"grid explain {task.id}", "print(task.explain().summary)"))
        found.append(Command("Cancel it", f'grid cancel {task.id} --reason "why"', 'task.cancel("why")'))
    return tuple(found)


def _merged(task: Task) -> bool:
    """Whether both streams go to one file, so that all output is in stdout."""
    return bool(task.spec.get("stdout")) and task.spec.get("stdout") == task.spec.get("stderr")
