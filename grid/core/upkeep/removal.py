"""Take ended tasks, or parts of them, off the record; the contents that nothing uses then are swept away later."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django_celery_results.models import TaskResult

from grid.core import events, logs
from grid.core.models import Attempt, Delivery, Dependency, Event, InputFile, OutputFile, Task
from grid.core.people import audit
from grid.core.records import Transaction
from tasks.errors import Conflict
from tasks.states import FINAL_STATES

_BATCH = 200


def remove(task: Task, *, by: str = "", now: datetime) -> None:
    """Remove one task with all that belongs to it; raises Conflict while it has not ended."""
    if not remove_all([task.id]):
        raise Conflict(f"the task {task.id} has not ended; cancel it first")
    audit.note("task_removed", f"task {task.id}", now, by=by, name=task.name)


def remove_all(task_ids: Collection[str], moving: Transaction = transaction.atomic) -> int:
    """Remove those of the tasks that have ended, with attempts, timelines, file names and logs; return how many.

    Who waited for one of them has been settled when it ended, so nobody waits for a task that is gone.
    """
    ids, removed = sorted(task_ids), 0
    for begin in range(0, len(ids), _BATCH):
        with moving():
            rows = Task.objects.select_for_update().filter(id__in=ids[begin : begin + _BATCH], state__in=FINAL_STATES)
            found = list(rows.order_by("id").values_list("id", flat=True))
            attempts = list(Attempt.objects.filter(task_id__in=found).values_list("id", flat=True))
            _remove_logs(attempts)
            _remove_rows(found, attempts)
        removed += len(found)
    return removed


def _remove_rows(tasks: list[str], attempts: list[str]) -> None:
    OutputFile.objects.filter(attempt_id__in=attempts).delete()
    InputFile.objects.filter(task_id__in=tasks).delete()
    Event.objects.filter(task_id__in=tasks).delete()
    Delivery.objects.filter(task_id__in=tasks).delete()
    Dependency.objects.filter(Q(task_id__in=tasks) | Q(needs_id__in=tasks)).delete()
    TaskResult.objects.filter(task_id__in=attempts).delete()
    Task.objects.filter(id__in=tasks).update(attempt=None)
    Attempt.objects.filter(id__in=attempts).delete()
    Task.objects.filter(id__in=tasks).delete()


def clear(kind: str, task_ids: Collection[str], now: datetime, moving: Transaction = transaction.atomic) -> int:
    """Remove ``files`` (outputs), ``inputs`` or ``logs`` of ended tasks; return of how many something was there."""
    ids, cleared = sorted(task_ids), 0
    for begin in range(0, len(ids), _BATCH):
        part = Task.objects.filter(id__in=ids[begin : begin + _BATCH], state__in=FINAL_STATES)
        with moving():
            found = sorted(_CLEAR[kind](list(part.values_list("id", flat=True))))
            if found:
                events.append_all(events.make(task_id, "removed", now, what=kind) for task_id in found)
        cleared += len(found)
    return cleared


def _clear_files(tasks: list[str]) -> set[str]:
    rows = OutputFile.objects.filter(attempt__task_id__in=tasks)
    found = set(rows.values_list("attempt__task_id", flat=True))
    OutputFile.objects.filter(attempt__in=Attempt.objects.filter(task_id__in=found)).delete()
    return found


def _clear_inputs(tasks: list[str]) -> set[str]:
    rows = InputFile.objects.filter(task_id__in=tasks)
    found = set(rows.values_list("task_id", flat=True))
    rows.delete()
    return found


def _clear_logs(tasks: list[str]) -> set[str]:
    pairs = Attempt.objects.filter(task_id__in=tasks).values_list("id", "task_id")
    return {task_id for attempt, task_id in pairs if logs.remove(attempt)}


def _remove_logs(attempts: list[str]) -> None:
    for attempt in attempts:
        logs.remove(attempt)


_CLEAR = {"files": _clear_files, "inputs": _clear_inputs, "logs": _clear_logs}
