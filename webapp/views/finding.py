"""Finding what an address names, for the people who may see it."""

from __future__ import annotations

from django.http import Http404, HttpRequest

from grid.core.models import Task
from grid.core.people import access
from tasks.errors import NotFound
from webapp.views.people import person


def task_or_404(request: HttpRequest, task_id: str) -> Task:
    """The task of this id, if whoever asks may see it. Raises Http404."""
    try:
        return access.get_task(person(request), task_id)
    except NotFound as error:
        raise Http404(str(error)) from None
