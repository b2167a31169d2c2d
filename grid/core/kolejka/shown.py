"""Tasks and results as kolejka's programs read them."""

from __future__ import annotations

from grid.core.models import Task
from grid.core.reading import present
from tasks.dialects.kolejka import DIALECT, KOLEJKA, Json, write_task
from tasks.dialects.kolejka_results import write_result
from tasks.limits import Limits
from tasks.spec import parse_spec


def task_json(task: Task, key: str = "") -> Json:
    """A task with the limits that hold for it; ``key`` is the id it was asked for by, where that is an older one."""
    spec = parse_spec(task.spec, default_name=task.name)
    return write_task(spec, key or task.id, Limits.model_validate(task.limits))


def result_json(task: Task, key: str = "") -> Json:
    """The result of a final task; raises Conflict while it is not."""
    labels = {name: str(text) for name, text in task.labels.items()}
    return {**write_result(present.result(task), labels), "id": key or task.id}


def spoke_kolejka(task: Task) -> bool:
    """Whether the task came as kolejka's JSON, so that who is told of its end expects that too."""
    return bool(task.labels.get(DIALECT) == KOLEJKA)
