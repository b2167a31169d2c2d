"""Run a task again: a new task of the same description, or of a changed one, for whoever asks."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User

from grid.core import access, blobs, intake, quotas
from grid.core.models import InputFile, Task
from grid.core.store import Stored


def again(task: Task, *, user: User, spec: object = None, key: str = "", now: datetime) -> Task:
    """Submit the task again for ``user``, who may see it, and return the new task; ``spec`` replaces its description.

    The new task is the user's own, under the user's own limits, quotas and secrets. Who manages the tasks of others has
    their input files too; who may only look at one does not. The same ``key`` gives the same new task again. Raises
    what ``intake.submit`` raises.
    """
    access.check_submit(user)
    if task.owner_id != user.pk and access.may_change(user, task):
        _lend_inputs(task, user, now)
    made, _ = intake.submit(
        owner=user,
        spec=task.spec if spec is None else spec,
        contents={},
        default_name=task.name,
        idempotency_key=key,
        now=now,
    )
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
