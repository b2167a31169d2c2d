"""Many tasks at once: cancel them, or run them again; what is refused of them is told for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from grid.core import access, again, audit, lists, records
from grid.core.models import Task
from tasks.errors import Conflict, Fault, GridError, NotAllowed, SpecError
from tasks.states import FINAL_STATES, TaskState
from tasks.views import MOST_MANY, ManyBody, ManyItem, ManyView

ORIGIN_LABEL = "retry_of"
"""The label of a task that was made of an earlier one; its value is the earlier one's id."""
CANCEL_STATES = ",".join(state for state in TaskState if state not in FINAL_STATES)
RETRY_STATES = str(TaskState.FAILED)
# Windows of a list that one choice looks through.
LOOKS = 5

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
    """Make each task that is asked for anew: the same description and files, the same owner, a label with its origin.

    The same ``key`` gives the same tasks again. Of a filter only those are taken that were not run again before, so
    that nothing is doubled by asking twice. Raises SpecError when none can be meant.
    """

    def act(task: Task) -> ManyItem:
        made = retry(task, key, once=not body.ids, now=now)
        if task.owner_id != user.pk:
            audit.note("task_retried", f"task {task.id}", now, by=user.username, made=made.id)
        return ManyItem(task=task.id, name=task.name, done=True, made=made.id)

    return _each(user, body, RETRY_STATES, act)


def retry(task: Task, key: str, *, once: bool, now: datetime) -> Task:
    """A new task from the description and the files of one that has ended.

    The same ``key`` gives the same task again. Raises Conflict for a task that has not ended, with ``once`` also for
    one that was run again before, and what ``again.again`` raises.
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
    mine = first + key
    if once and made and mine not in made:
        raise Conflict(f"it was run again as {next(iter(made.values()))}")
    spec: dict[str, Any] = {**task.spec, "labels": {**task.spec.get("labels", {}), ORIGIN_LABEL: task.id}}
    return again.again(task, user=task.owner, spec=spec, key=mine, now=now)


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
