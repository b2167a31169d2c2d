"""What must hold of the records after every move, whatever the moves were; a breach fails with the rows concerned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from grid.core.models import Attempt, Dependency, Event, Node, Task
from tasks.order import Facts
from tasks.retry import RetryPolicy
from tasks.states import ACTIVE_STATES, AttemptState, TaskState
from tasks.verdicts import Verdict, VerdictClass

Frozen = tuple[object, ...]
DIMENSIONS = ("cpus", "memory", "pids", "storage")


def is_final(state: str) -> bool:
    """Whether a state is final; rows of the database hold plain words."""
    return TaskState(state).final


class Watch:
    """Checks the records, and remembers final tasks to see that they stay as they were. ``licences`` are the grid's."""

    def __init__(self, licences: Mapping[str, int]) -> None:
        self._licences = licences
        self._final: dict[str, Frozen] = {}

    def check(self) -> None:
        """Look at everything."""
        tasks = list(Task.objects.order_by("id"))
        attempts = defaultdict(list)
        for attempt in Attempt.objects.select_related("node").order_by("task_id", "number"):
            attempts[attempt.task_id].append(attempt)
        kinds = defaultdict(list)
        for task_id, kind in Event.objects.order_by("id").values_list("task_id", "kind"):
            kinds[task_id].append(kind)
        for task in tasks:
            self._check_final(task, kinds[task.id])
            check_attempts(task, attempts[task.id])
            check_timeline(task, kinds[task.id])
        check_waiting(tasks)
        active = [(task, one) for task in tasks for one in attempts[task.id] if one.state != AttemptState.ENDED]
        check_room(active)
        self._check_counters(active)

    def _check_final(self, task: Task, kinds: list[str]) -> None:
        """A final task never changes."""
        if not is_final(task.state):
            assert task.id not in self._final, f"{task.id} was final and is {task.state}"
            return
        row = (task.state, task.verdict, task.reason, task.finished_at, task.exit_code, task.attempt_id, len(kinds))
        assert self._final.setdefault(task.id, row) == row

    def _check_counters(self, active: Iterable[tuple[Task, Attempt]]) -> None:
        """Licences are not lent twice, and of a singleton one runs."""
        lent: Counter[str] = Counter()
        singletons: Counter[tuple[int, str]] = Counter()
        for task, _ in active:
            lent.update(task.spec.get("resources", {}))
            if key := task.spec.get("singleton"):
                singletons[task.owner_id, key] += 1
        assert all(number <= self._licences[name] for name, number in lent.items()), lent
        assert all(number == 1 for number in singletons.values()), singletons


def check_attempts(task: Task, attempts: list[Attempt]) -> None:
    """Attempts are numbered without gaps, as many as the policy allows, and only the last may be going on."""
    assert [one.number for one in attempts] == list(range(1, len(attempts) + 1))
    assert task.attempts_made == len(attempts)
    assert task.attempt_id == (attempts[-1].id if attempts else None)
    going_on = [one for one in attempts if one.state != AttemptState.ENDED]
    if task.state in ACTIVE_STATES:
        assert [(one.id, str(one.state)) for one in going_on] == [(task.attempt_id, str(task.state))], task.id
    else:
        assert not going_on, (task.id, task.state)
    check_verdicts(task, [one for one in attempts if one.state == AttemptState.ENDED and one.started_at is not None])


def check_verdicts(task: Task, ended: list[Attempt]) -> None:
    """The retries stay within the policy; at most one success is accepted, and then it is the task's."""
    policy = RetryPolicy()
    classes = Counter(one.verdict_class for one in ended)
    asked = task.spec.get("retry", {}).get("attempts", 1)
    assert classes[VerdictClass.INFRASTRUCTURE] <= policy.infrastructure_retries + 1
    assert sum(one.verdict == Verdict.NODE_LOST for one in ended) <= policy.node_lost_attempts
    assert classes[VerdictClass.USER] <= asked
    assert classes[VerdictClass.SUCCESS] == (task.state == TaskState.SUCCEEDED), task.id
    if task.state == TaskState.SUCCEEDED:
        assert ended[-1].verdict_class == VerdictClass.SUCCESS
        assert ended[-1].id == task.attempt_id


def check_timeline(task: Task, kinds: list[str]) -> None:
    """The timeline begins with the submit, and ends, once, with the end."""
    assert kinds[0] == "submitted", kinds
    assert kinds.count("finished") == is_final(task.state), (task.state, kinds)
    if is_final(task.state):
        assert kinds[-1] == "finished", kinds
        assert task.verdict
        assert task.finished_at is not None
    else:
        assert not task.verdict
        assert task.finished_at is None


def check_waiting(tasks: list[Task]) -> None:
    """Whatever waits has something to wait for, and nothing that was cancelled goes back to the queue."""
    states = {task.id: task.state for task in tasks}
    needs = defaultdict(list)
    for task_id, needed in Dependency.objects.values_list("task_id", "needs_id"):
        needs[task_id].append(states[needed])
    for task in tasks:
        if task.state == TaskState.WAITING:
            open_needs = [state for state in needs[task.id] if not is_final(state)]
            assert task.not_before is not None or open_needs, f"{task.id} waits for nothing"
        elif task.state not in (TaskState.CANCELLED, TaskState.SKIPPED, TaskState.EXPIRED):
            assert set(needs[task.id]) <= {TaskState.SUCCEEDED}, f"{task.id} did not wait"
        if task.state in (TaskState.WAITING, TaskState.QUEUED):
            assert task.cancel_requested_at is None, f"{task.id} was cancelled and is {task.state}"


def check_room(active: Iterable[tuple[Task, Attempt]]) -> None:
    """No node has given away more than it has, in any dimension; who is to be alone on it is."""
    on: dict[int, list[tuple[Task, Attempt]]] = defaultdict(list)
    for task, attempt in active:
        on[attempt.node_id].append((task, attempt))
    for node in Node.objects.filter(pk__in=on):
        facts = Facts.model_validate(node.facts)
        here = [task for task, _ in on[node.pk]]
        assert len(here) <= facts.capacity.slots, node.name
        for name in DIMENSIONS:
            assert sum(task.limits.get(name) or 0 for task in here) <= getattr(facts.capacity, name), (node.name, name)
        assert len(here) == 1 or not any(task.spec.get("exclusive") for task in here), f"{node.name} is shared"
        assert all(set(task.spec.get("requires", ())) <= set(facts.tags) for task in here), node.name


def check_deadlines(now: datetime) -> None:
    """After a round of the reconciler nothing is over its time."""
    not_started = Task.objects.filter(state__in=[TaskState.WAITING, TaskState.QUEUED])
    assert not not_started.filter(expires_at__lte=now).exists()
    assert not not_started.filter(not_before__lte=now).exists()
    assert not Attempt.objects.filter(state=AttemptState.RUNNING, lease_until__lte=now).exists()
    assert not Attempt.objects.filter(state=AttemptState.RUNNING, phase_deadline__lte=now).exists()
    assert not Attempt.objects.filter(state=AttemptState.ASSIGNED, node__lease_until__lte=now).exists()
