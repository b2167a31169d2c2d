"""What is done with one task beside cancelling it: copy it, share it."""

from __future__ import annotations

import uuid
from typing import Annotated

from django.http import HttpResponse
from django.utils import timezone
from ninja import Header, Router
from pydantic import Field

from grid.core import again
from grid.core.people import access
from grid.core.people.tokens import Scope
from grid.core.reading import present
from tasks.model import Record
from tasks.views import TaskView
from webapp.api.answers import answer
from webapp.api.conditions import IfMatch, to_change
from webapp.api.tasks import TaskId
from webapp.auth import Allow, Request

router = Router(tags=["tasks"])


class CopyBody(Record):
    """The description of the copy; null is that of the task."""

    spec: dict[str, object] | None = None


class GroupShare(Record):
    """The group whose members see the task; empty for nobody any more."""

    group: Annotated[str, Field(max_length=150)]


@router.post("/{task_id}/copy", auth=Allow(Scope.SUBMIT), response={201: TaskView})
def copy(
    request: Request,
    task_id: TaskId,
    body: CopyBody,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=100)] = "",
) -> HttpResponse:
    """Run a task that you may see as a new one of yours, with the label ``copy_of``; its description may be another.

    The same Idempotency-Key answers the same new task. Input files have to be yours, or the task yours to change.
    """
    user = request.auth.user
    key = idempotency_key or uuid.uuid4().hex
    made = again.copy(access.get_task(user, task_id), user=user, spec=body.spec, key=key, now=timezone.now())
    return answer(present.task_view(made), 201)


@router.put("/{task_id}/sharing", auth=Allow(Scope.SUBMIT), response=TaskView)
def share(request: Request, task_id: TaskId, body: GroupShare, if_match: IfMatch = "") -> HttpResponse:
    """Let the members of one of its owner's groups see the task, or nobody any more; 412 as If-Match says."""
    with to_change(request.auth.user, task_id, if_match) as task:
        return answer(present.task_view(access.share(task, body.group)))
