"""What similar tasks of the same owner really used: two questions, both answered by an index."""

from __future__ import annotations

from django.contrib.auth.models import User

from grid.core.models import Task
from tasks.limits import Limits
from tasks.spec import TaskSpec
from tasks.states import TaskState
from tasks.usual import Sample, choose, likeness, usual
from tasks.views import SimilarView

LEARNT_FROM = 30
# Among so many of the same image and program those of the same name are looked for.
_LOOKED_AT = 300

_USED = {
    "memory": "memory_peak_bytes",
    "time": "wall_seconds",
    "cpu_time": "cpu_seconds",
    "storage": "storage_peak_bytes",
    "pids": "pids_peak",
}
# One by one: the report as a whole holds a series of hundreds of points.
_PATHS = {name: f"attempt__report__usage__{key}" for name, key in _USED.items()}


def similar(owner: User, spec: TaskSpec) -> SimilarView | None:
    """What the last tasks of ``owner`` with the image and the program of ``spec`` used; None when there were none."""
    key = likeness(spec)
    if not key:
        return None
    ended = Task.objects.filter(owner=owner, likeness=key, finished_at__isnull=False).order_by("-id")
    chosen, by = choose(list(ended.values_list("id", "name")[:_LOOKED_AT]), spec.name, LEARNT_FROM)
    if not chosen:
        return None
    rows = Task.objects.filter(
        id__in=chosen, state__in=(TaskState.SUCCEEDED, TaskState.FAILED), attempt__report__isnull=False
    )
    samples = [
        Sample(verdict, Limits.model_validate(limits), _numbers(used))
        for verdict, limits, *used in rows.order_by("-id").values_list("verdict", "limits", *_PATHS.values())
    ]
    return usual(samples, by) if samples else None


def _numbers(used: list[object]) -> dict[str, float]:
    return {
        name: float(value) for name, value in zip(_PATHS, used, strict=True) if isinstance(value, int | float) and value
    }
