"""Run a task again from its page: as it was, or with changes in the form that takes new tasks."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from grid.core.models import Task
from webapp.views.submit import new_key, take

__all__ = ["again_page", "described", "new_key"]


# As for the form for new tasks: the check is inside.
@csrf_exempt
def again_page(request: HttpRequest, task_id: str) -> HttpResponse:
    """The form with the description of a task; a POST without one runs the task as it was."""
    return take(request, task_id)


def described(task: Task) -> str:
    """The description of a task as text for people."""
    return json.dumps(task.spec, indent=2, ensure_ascii=False)
