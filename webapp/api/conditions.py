"""Changes with a condition (RFC 9110): a task is changed only while it is as the caller has seen it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from django.contrib.auth.models import User
from django.db import transaction
from ninja import Header

from grid.core import records
from grid.core.models import Task
from grid.core.people import access
from grid.core.reading import present
from webapp.api.answers import check_unchanged

IfMatch = Annotated[
    str, Header(alias="If-Match", max_length=1000, description="do it only while GET of the task has this ETag")
]


@contextmanager
def to_change(user: User, task_id: str, if_match: str) -> Iterator[Task]:
    """The task, to cancel, remove or share it; where ``if_match`` names its state, nobody else moves it meanwhile.

    Raises NotFound, NotAllowed as ``access.own_task``, and Changed when it is in another state than the one named.
    """
    if not if_match:
        yield access.own_task(user, task_id)
        return
    access.own_task(user, task_id)
    with transaction.atomic():
        records.hold(task_id)
        task = access.own_task(user, task_id)
        check_unchanged(if_match, present.task_view(task))
        yield task
