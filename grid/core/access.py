"""Who may see what: owners their own, staff all."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db.models import QuerySet

from grid.core import blobs
from grid.core.models import InputFile, OutputFile, Task
from tasks.errors import NotFound
from tasks.states import TaskState


def visible_tasks(user: User) -> QuerySet[Task]:
    """The tasks that ``user`` may see."""
    return Task.objects.all() if user.is_staff else Task.objects.filter(owner=user)


def get_task(user: User, task_id: str) -> Task:
    """The task of this id; raises NotFound also when it is somebody else's, so that ids tell nothing."""
    found = visible_tasks(user).select_related("owner", "attempt").filter(id=task_id).first()
    if found is None:
        raise NotFound(f"there is no task {task_id}, or it is not yours")
    return found


def is_final(user: User, task_id: str) -> bool:
    """Whether the task has ended, by the smallest look there is; raises NotFound like ``get_task``."""
    state = visible_tasks(user).filter(id=task_id).values_list("state", flat=True).first()
    if state is None:
        raise NotFound(f"there is no task {task_id}, or it is not yours")
    return TaskState(state).final


def may_read_blob(user: User, sha256: str) -> bool:
    """Whether ``user`` has the content, or may see a task that takes it in or brought it back."""
    if blobs.owned(user.pk, [sha256]):
        return True
    if not user.is_staff:
        return False
    return InputFile.objects.filter(blob_id=sha256).exists() or OutputFile.objects.filter(blob_id=sha256).exists()


def missing_blobs(user: User, hashes: Iterable[str]) -> list[str]:
    """Of the given contents those that ``user`` has to upload before a task can use them."""
    wanted = list(dict.fromkeys(hashes))
    have = blobs.owned(user.pk, wanted) if wanted else {}
    return [one for one in wanted if one not in have]
