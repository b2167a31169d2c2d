"""Who may see and do what: owners their own, groups what is shared with them, and by permission everything.

The permissions are Django's, given by the groups Clients, Inspectors and Managers (``grid.core.people.groups``) or
by groups of one's own: ``add_task`` submits, ``view_task`` sees all tasks, ``delete_task`` cancels and removes any,
``add_attempt`` runs tasks of others as a foreman of kolejka's. Staff may all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import Group, User
from django.db.models import Q, QuerySet
from django.utils import timezone

from grid.core.conf import conf
from grid.core.contents import blobs
from grid.core.models import InputFile, OutputFile, Task
from grid.core.people import standing
from tasks.errors import NotAllowed, NotFound
from tasks.states import TaskState

REMEMBER_SECONDS = 2.0
MOST_REMEMBERED = 10_000
# SQLite puts at most 500 queries together.
MOST_PARTS = 400

_lock = threading.Lock()
_known: dict[tuple[int, bool], tuple[float, Sight]] = {}


@dataclass(frozen=True, slots=True)
class Sight:
    """What a user may see and do beside their own: everything, or what ``mates`` own or is shared with ``groups``.

    ``processes``: take tasks of others and run them, as a foreman of kolejka's.
    """

    everything: bool = False
    manages: bool = False
    submits: bool = True
    processes: bool = False
    mates: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()


def sight(user: User) -> Sight:
    """What the user may see and do, as of at most two seconds ago."""
    if user.is_staff:
        return Sight(everything=True, manages=True, processes=True)
    key = (user.pk, user.is_superuser)
    with _lock:
        known = _known.get(key)
        if known is not None and time.monotonic() - known[0] < REMEMBER_SECONDS:
            return known[1]
    found = _sight(user)
    with _lock:
        if len(_known) >= MOST_REMEMBERED:
            _known.clear()
        _known[key] = (time.monotonic(), found)
    return found


def forget() -> None:
    """Look everybody up again; who changes groups, permissions or policies calls it."""
    standing.forget()
    with _lock:
        _known.clear()


def _sight(user: User) -> Sight:
    permissions = user.get_all_permissions()
    manages = "core.delete_task" in permissions
    return Sight(
        everything=manages or "core.view_task" in permissions,
        manages=manages,
        submits=conf().open_submit or "core.add_task" in permissions,
        processes="core.add_attempt" in permissions,
        mates=standing.shared_owners(user.pk, timezone.now()),
        groups=frozenset(Group.objects.filter(user=user).values_list("pk", flat=True)),
    )


def check_submit(user: User) -> None:
    """Raise NotAllowed for somebody who may not submit here."""
    if not sight(user).submits:
        raise NotAllowed("this account may not submit tasks; ask the operator to make you a member of Clients")


def visible_tasks(user: User) -> QuerySet[Task]:
    """The tasks that ``user`` may see."""
    found = sight(user)
    if found.everything:
        return Task.objects.all()
    if not found.groups:
        return Task.objects.filter(owner=user)
    owned = Q(owner_id__in=sorted({user.pk, *found.mates})) if found.mates else Q(owner=user)
    return Task.objects.filter(owned | Q(shared_with_id__in=sorted(found.groups)))


def visible_parts(user: User) -> list[QuerySet[Task]]:
    """The same tasks in parts that may overlap, each of which has an index in the order of ids; nothing if too many.

    For all of them at once a database gathers and sorts everything that the groups of ``user`` ever had.
    """
    found = sight(user)
    if found.everything:
        return [Task.objects.all()]
    owners = {user.pk, *found.mates} if found.groups else {user.pk}
    if len(owners) + len(found.groups) > MOST_PARTS:
        return []
    owned = [Task.objects.filter(owner_id=owner) for owner in sorted(owners)]
    return owned + [Task.objects.filter(shared_with_id=group) for group in sorted(found.groups)]


def sees_others(user: User) -> bool:
    """Whether the user may see tasks of other people."""
    found = sight(user)
    return found.everything or bool(found.groups)


def get_task(user: User, task_id: str) -> Task:
    """The task of this id; raises NotFound also when it is somebody else's, so that ids tell nothing."""
    found = visible_tasks(user).select_related("owner", "attempt").filter(id=task_id).first()
    if found is None:
        raise NotFound(f"there is no task {task_id}, or it is not yours")
    return found


def own_task(user: User, task_id: str) -> Task:
    """The task of this id, to cancel, remove or share it. Raises NotFound, and NotAllowed for who may only see it."""
    found = get_task(user, task_id)
    if not may_change(user, found):
        raise NotAllowed(f"the task {task_id} is {found.owner.username}'s; you may look at it")
    return found


def may_change(user: User, task: Task) -> bool:
    """Whether the user may cancel, remove or share the task."""
    return task.owner_id == user.pk or sight(user).manages


def share(task: Task, group: str) -> Task:
    """Let the members of one of its owner's groups see the task, or nobody any more with an empty name.

    Raises NotFound when the owner is in no such group.
    """
    found = Group.objects.filter(name=group, user=task.owner_id).first() if group else None
    if group and found is None:
        raise NotFound(f'the owner of the task is in no group "{group}"')
    Task.objects.filter(id=task.id).update(shared_with=found)
    task.shared_with = found
    return task


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
    taken, brought = InputFile.objects.filter(blob_id=sha256), OutputFile.objects.filter(blob_id=sha256)
    found = sight(user)
    if not found.everything:
        if not found.groups:
            return False
        seen = visible_tasks(user).values("id")
        taken, brought = taken.filter(task__in=seen), brought.filter(attempt__task__in=seen)
    return taken.exists() or brought.exists()


def missing_blobs(user: User, hashes: Iterable[str], now: datetime) -> list[str]:
    """Of the given contents those that ``user`` has to upload before a task can use them; the others stay for now."""
    wanted = list(dict.fromkeys(hashes))
    have = blobs.relied_on(user.pk, wanted, now) if wanted else {}
    return [one for one in wanted if one not in have]
