"""Run a task again. Two verbs, and they are never mixed.

A retry is the same once more: same description, same files, same owner, whoever asks; it needs the right to change the
task, and the new one has the label ``retry_of``. A copy is a new task of whoever asks, who has only to see the first
one: with a description that may be changed, under their own limits, quotas and secrets, with the label ``copy_of``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from grid.core import intake
from grid.core.contents import blobs
from grid.core.contents.store import Stored
from grid.core.models import InputFile, Task
from grid.core.people import access, quotas
from tasks.errors import Conflict, NotAllowed
from tasks.states import TaskState

RETRY_OF, COPY_OF = "retry_of", "copy_of"
"""The labels of a task that was made of an earlier one; the value is the earlier one's id."""


def again(task: Task, *, user: User, spec: object = None, key: str, now: datetime) -> Task:
    """What the page of a task does: a retry of the task as it was, or with ``spec`` a copy. Raises what these raise.

    Raises NotAllowed for a retry of what ``user`` may only see.
    """
    if spec is not None:
        return copy(task, user=user, spec=spec, key=key, now=now)
    if not access.may_change(user, task):
        raise NotAllowed(f"it is {task.owner.username}'s; you may run it again as a copy of your own")
    return retry(task, key, now=now)


def retry(task: Task, key: str, *, once: bool = False, now: datetime) -> Task:
    """A new task of the same owner from the description and the files of one that has ended, and return it.

    The caller has to hold the right to change the task. The same ``key`` gives the same new task again. Raises Conflict
    for a task that has not ended, with ``once`` for one that was retried before, and what ``intake.submit`` raises.
    """
    if not TaskState(task.state).final:
        raise Conflict(f"it is {task.state}; cancel it first")
    first = f"again/{task.id}/"
    known = Task.objects.filter(owner_id=task.owner_id).exclude(idempotency_key="")
    made = dict(
        known.filter(idempotency_key__gte=first, idempotency_key__lt=f"again/{task.id}0")
        .order_by("idempotency_key")
        .values_list("idempotency_key", "id")
    )
    if once and made and first + key not in made:
        raise Conflict(f"it was run again as {next(iter(made.values()))}")
    return _submitted(task, task.owner, descended(task.spec, RETRY_OF, task.id), first + key, now)


def copy(task: Task, *, user: User, spec: object = None, key: str, now: datetime) -> Task:
    """Submit the task as a new one of ``user``, who may see it, and return it; ``spec`` replaces its description.

    Who may change the task has its input files too; who may only look at it does not. The same ``key`` gives the same
    new task again. Raises what ``intake.submit`` raises.
    """
    access.check_submit(user)
    if task.owner_id != user.pk and access.may_change(user, task):
        _lend_inputs(task, user, now)
    wanted = task.spec if spec is None else spec
    if isinstance(wanted, Mapping):
        wanted = descended(wanted, COPY_OF, task.id)
    return _submitted(task, user, wanted, f"copy/{task.id}/{key}", now)


def descended(spec: Mapping[str, Any], label: str, task_id: str) -> dict[str, Any]:
    """The description with the label that names where it comes from, and none of where that came from itself."""
    labels = spec.get("labels", {})
    if not isinstance(labels, Mapping):
        return dict(spec)  # the one door says what is wrong with it
    kept = {name: text for name, text in labels.items() if name not in (RETRY_OF, COPY_OF)}
    return {**spec, "labels": {**kept, label: task_id}}


def _submitted(task: Task, owner: User, spec: object, key: str, now: datetime) -> Task:
    made, _ = intake.submit(owner=owner, spec=spec, contents={}, default_name=task.name, idempotency_key=key, now=now)
    return made


def _lend_inputs(task: Task, user: User, now: datetime) -> None:
    """Note the input files of a task as those of ``user``, too."""
    rows = InputFile.objects.filter(task=task).values_list("blob_id", "blob__size").distinct()
    sizes = dict(rows)
    have = blobs.owned(user.pk, sizes)
    new = {sha256: size for sha256, size in sizes.items() if sha256 not in have}
    if not new:
        return
    taken = sum(new.values())
    room = quotas.room_to_store(user.pk, now)
    if room is not None and taken > room:
        quotas.refuse_stored(user.pk, taken, now)
    blobs.touch(list(new), now)
    blobs.note(user.pk, [Stored(sha256, size) for sha256, size in new.items()], now)
    quotas.note_stored(user.pk, taken)
