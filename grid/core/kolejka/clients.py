"""The verbs of kolejka's clients: each ends in the same verbs as those of our own."""

from __future__ import annotations

import re
from datetime import datetime

from django.contrib.auth.models import User
from django.db.models import Count, QuerySet

from grid.core import intake, records
from grid.core.conf import conf
from grid.core.delivery import outbox
from grid.core.kolejka import references, shown
from grid.core.models import Attempt, OlderKey, Task
from grid.core.people import access, standing
from grid.core.upkeep import removal
from tasks.dialects.kolejka import Json, read_task, write_limits
from tasks.errors import Fault, GridError, NotAllowed, NotFound, SpecError
from tasks.limits import combine
from tasks.profiles import Profile
from tasks.spec import parse_spec
from tasks.states import FINAL_STATES, AttemptState, TaskState

RESULT_DELETED = "kolejka-result"
"""The label of a task whose result was deleted by itself."""

_KEY = re.compile(r"[0-9A-Za-z_.-]{1,64}", re.ASCII)


class Declined(GridError):
    """A well-formed request that the site says no to; kolejka's programs show the words to their users."""


def limits_for(user: User, now: datetime) -> Json:
    """The caps of a user's tasks, in kolejka's units."""
    caps = combine(conf().max_limits, standing.caps(user.pk, now))
    return write_limits(caps if conf().allow_network else caps.model_copy(update={"network": False}))


def submit(user: User, data: object, now: datetime) -> Task:
    """Make a task of kolejka's JSON. Raises SpecError for what cannot be read, Declined, NotAllowed."""
    access.check_submit(user)
    allowed = conf().allow_network and standing.caps(user.pk, now).network is not False
    reading = read_task(data, network_allowed=allowed)
    if reading.refused:
        raise Declined(
            "; ".join(fault.message if fault.path[:6] == "files." else str(fault) for fault in reading.refused)
        )
    wanted = reading.references
    found = references.resolve(user, set(wanted.values()), now)
    for name, reference in wanted.items():
        if reference not in found:
            raise Declined(f"Reference for file {name} is unknown")
    spec = reading.labelled(found)
    if standing.may_use_profile(user.pk, Profile.JUDGE, conf(), now):
        # kolejka's containers have root and a root file system to write to; its judges do not work without.
        spec["profile"] = str(Profile.JUDGE)
    parse_spec(spec)
    if "callback_url" in spec and conf().allow_callbacks and not outbox.has_key(user.pk):
        # Callbacks are signed here. kolejka knows no secrets for that: its users renew this one when they want it.
        outbox.make_key(user, now)
    try:
        task, _ = intake.submit(owner=user, spec=spec, contents={}, default_name="kolejka", idempotency_key="", now=now)
    except SpecError as error:
        raise Declined(_words(error.faults)) from None
    return task


def _words(faults: tuple[Fault, ...]) -> str:
    return "; ".join(str(fault) for fault in faults)


def find(user: User, key: str) -> Task:
    """The task of an id, or of the id that it had on an older server; its owner, its foreman and inspectors find it.

    Raises NotFound.
    """
    if not _KEY.fullmatch(key):
        raise NotFound(f"there is no task {key[:64]!r}")
    older = OlderKey.objects.filter(key=key).values_list("task_id", flat=True).first()
    try:
        return access.get_task(user, older or key)
    except NotFound:
        held = _held(user).filter(task_id=key).select_related("task__owner", "task__attempt").first()
        if held is None:
            raise
        return held.task


def _held(user: User) -> QuerySet[Attempt]:
    """What the foremen of an account have now."""
    held = Attempt.objects.filter(node__home__startswith=references.foreman_home(user))
    return held.exclude(state=AttemptState.ENDED)


def result(user: User, key: str) -> Json | None:
    """The result of a task, None while there is none. Raises NotFound."""
    task = find(user, key)
    if not TaskState(task.state).final or RESULT_DELETED in task.labels:
        return None
    return shown.result_json(task, key)


def delete_task(user: User, key: str, now: datetime) -> None:
    """Take a task off the record; one that runs is cancelled, and goes later. Raises NotFound, NotAllowed."""
    task = _own(user, key)
    if not TaskState(task.state).final:
        task = records.cancel(task, by=user.username, reason="deleted by its owner", now=now)
    if TaskState(task.state).final:
        removal.remove(task, by=user.username, now=now)


def delete_result(user: User, key: str, now: datetime) -> bool:
    """Remove the files and logs of a task that has ended; False when it has no result. Raises NotFound, NotAllowed."""
    task = _own(user, key)
    if not TaskState(task.state).final or RESULT_DELETED in task.labels:
        return False
    for kind in ("files", "logs"):
        removal.clear(kind, [task.id], now)
    Task.objects.filter(id=task.id).update(labels={**task.labels, RESULT_DELETED: "deleted"})
    return True


def _own(user: User, key: str) -> Task:
    task = find(user, key)
    if not access.may_change(user, task):
        raise NotAllowed(f"the task {key} is not yours")
    return task


def statistics() -> Json:
    """How many tasks there are, and who has how many of those that run: nodes, where kolejka names accounts."""
    states = dict(Task.objects.values_list("state").annotate(number=Count("id")).order_by())
    total, final = sum(states.values()), sum(states.get(state, 0) for state in FINAL_STATES)
    active = Attempt.objects.exclude(state=AttemptState.ENDED).values_list("node__name")
    assignees = dict(active.annotate(number=Count("id")).order_by())
    return {
        "task_count": total,
        "task_resolved_count": final,
        "task_unresolved_count": total - final,
        "task_unassigned_count": states.get(TaskState.QUEUED, 0) + states.get(TaskState.WAITING, 0),
        "task_assigned_count": sum(assignees.values()),
        "task_assignees": assignees,
    }
