"""Many tasks at once: cancel them, or run them again; what is refused of them is told for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User

from grid.core import again, records
from grid.core.models import Task
from grid.core.people import access, audit
from grid.core.reading import lists, present
from tasks.errors import Conflict, Fault, GridError, NotAllowed, SpecError
from tasks.states import FINAL_STATES, TaskState
from tasks.views import MOST_MANY, ManyBody, ManyItem, ManyView, TaskView

CANCEL_STATES = ",".join(state for state in TaskState if state not in FINAL_STATES)
RETRY_STATES = str(TaskState.FAILED)
# Windows of a list that one choice looks through.
LOOKS = 3

_Act = Callable[[Task], ManyItem]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The ids that fit a filter, the newest first, and the cursor to go on from when there may be more."""

    ids: tuple[str, ...]
    next: str = ""


def choose(user: User, filters: Mapping[str, str], after: str = "") -> Chosen:
    """At most ``MOST_MANY`` of the tasks that fit and that ``user`` may see; raises SpecError as ``lists.look``."""
    ids: list[str] = []
    for _ in range(LOOKS):
        part = lists.look(user, filters, lists.Place(after=after))
        room = MOST_MANY - len(ids)
        found = list(part.rows.values_list("id", flat=True)[: room + 1])
        ids += found[:room]
        if len(found) > room:
            return Chosen(tuple(ids), ids[-1])
        after = part.edge
        if not after:
            break
    return Chosen(tuple(ids), after)


def shown(user: User, chosen: Chosen, count: int) -> tuple[TaskView, ...]:
    """The first of the tasks that were chosen, as lists show them."""
    rows = access.visible_tasks(user).filter(id__in=chosen.ids[:count])
    return tuple(present.task_view(task) for task in rows.select_related("owner", "attempt").order_by("-id"))


def cancel_many(user: User, body: ManyBody, now: datetime) -> ManyView:
    """Cancel the tasks that are asked for; raises SpecError when none can be meant."""

    def act(task: Task) -> ManyItem:
        if not TaskState(task.state).final:
            task = records.cancel(task, by=user.username, reason=body.reason.strip(), now=now)
        if TaskState(task.state).final and task.state != TaskState.CANCELLED:
            raise Conflict(f"it has ended before: {task.verdict}")
        return ManyItem(task=task.id, name=task.name, done=True)

    return _each(user, body, CANCEL_STATES, act)


def retry_many(user: User, body: ManyBody, key: str, now: datetime) -> ManyView:
    """Retry each task that is asked for (``again.retry``), which needs the right to change it.

    The same ``key`` gives the same tasks again. Of a filter only those are taken that were not run again before, so
    that nothing is doubled by asking twice. Raises SpecError when none can be meant.
    """

    def act(task: Task) -> ManyItem:
        made = again.retry(task, key, once=not body.ids, now=now)
        if task.owner_id != user.pk:
            audit.note("task_retried", f"task {task.id}", now, by=user.username, made=made.id)
        return ManyItem(task=task.id, name=task.name, done=True, made=made.id)

    return _each(user, body, RETRY_STATES, act)


def _each(user: User, body: ManyBody, states: str, act: _Act) -> ManyView:
    """Do the same to every task, each for itself, and tell what became of each."""
    chosen = _meant(user, body, states)
    found = access.visible_tasks(user).filter(id__in=chosen.ids).select_related("owner", "attempt").in_bulk()
    items = tuple(_one(user, task_id, found.get(task_id), act) for task_id in chosen.ids)
    done = sum(item.done for item in items)
    return ManyView(done=done, refused=len(items) - done, items=items, next=chosen.next)


def _meant(user: User, body: ManyBody, states: str) -> Chosen:
    if bool(body.ids) == (body.filter is not None):
        raise SpecError([Fault("ids", "either ids or a filter has to be given", 'write {"ids": ["..."]}')])
    if body.filter is None:
        return Chosen(tuple(dict.fromkeys(body.ids)))
    wanted = {name: text for name, text in body.filter.items() if text}
    return choose(user, {"state": states, **wanted}, body.after)


def _one(user: User, task_id: str, task: Task | None, act: _Act) -> ManyItem:
    if task is None:
        return ManyItem(task=task_id, done=False, reason="there is no such task, or it is not yours")
    try:
        if not access.may_change(user, task):
            raise NotAllowed(f"it is {task.owner.username}'s; you may look at it")
        return act(task)
    except SpecError as error:
        return ManyItem(task=task.id, name=task.name, done=False, reason=_words(error.faults))
    except GridError as error:
        return ManyItem(task=task.id, name=task.name, done=False, reason=str(error))


def _words(faults: Sequence[Fault]) -> str:
    return "; ".join(str(fault) for fault in faults)
