"""The records of a soak's grid: watched while it runs, so that a final state that changes is seen; judged after it."""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import django
from soak_clients import Submitted
from soak_faults import Word
from soak_leftovers import Run
from soak_plan import KINDS, Kind

from tasks.retry import RetryPolicy
from tasks.states import FINAL_STATES, AttemptState, StopCause
from tasks.verdicts import Verdict, VerdictClass

if TYPE_CHECKING:
    from grid.core.models import Attempt, Task

LOOK_SECONDS = 1.0
WORDS = 40
# Only a program that ran can end like this.
_RAN = frozenset({Verdict.SUCCEEDED, Verdict.EXIT_CODE, Verdict.MISSING_OUTPUT, Verdict.TIME_LIMIT})

Frozen = tuple[object, ...]


def set_up(variables: Mapping[str, str]) -> None:
    """Let this process read the records of the server with these variables."""
    os.environ.update(variables)
    django.setup()


class Watch:
    """Looks at the records again and again in a thread of its own; ``changed`` names final tasks that did not stay so.

    ``states`` counts the tasks by state as they were at the last look, ``moved`` when a task last became final.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.changed: list[str] = []
        self.states: Counter[str] = Counter()
        self.moved = clock()
        self._clock = clock
        self._final: dict[str, Frozen] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look a last time, and at everything."""
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Look now."""
        from grid.core.models import Task

        columns = ("state", "verdict", "reason", "finished_at", "exit_code", "attempt_id", "attempts_made")
        states: Counter[str] = Counter()
        for task_id, *row in Task.objects.values_list("id", *columns):
            states[row[0]] += 1
            if row[0] in FINAL_STATES and task_id not in self._final:
                self._final[task_id] = tuple(row)
                self.moved = self._clock()
            elif task_id in self._final and self._final[task_id] != tuple(row):
                self.changed.append(f"{task_id} was {self._final[task_id]} and is {tuple(row)}")
                self._final[task_id] = tuple(row)
        self.states = states

    @property
    def open(self) -> int:
        """How many tasks were not final at the last look."""
        return sum(number for state, number in self.states.items() if state not in FINAL_STATES)

    def _loop(self) -> None:
        from django.db import OperationalError, connection

        while not self._over.wait(LOOK_SECONDS):
            try:
                self.look()
            except OperationalError:  # a busy database: the next look will do
                continue
        connection.close()


def words() -> list[Word]:
    """What nodes were told of attempts lately: of those that run, and of those that have ended."""
    from grid.core.models import Attempt

    rows = Attempt.objects.order_by("-id").values_list("id", "nonce", "token", "node__name")[:WORDS]
    return [Word(*row) for row in rows]


@dataclass
class Findings:
    """The account of the records. Each list has a line for each task (or attempt) that is not as it must be."""

    tasks: int = 0
    final: int = 0
    attempts: int = 0
    accepted: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    exhausted: int = 0
    overlapping: int = 0
    cancelled: int = 0
    lost: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    retried: Counter[str] = field(default_factory=Counter)


def audit(submitted: Mapping[str, Submitted], runs: Sequence[Run]) -> Findings:
    """Compare what clients were told with the records, and the records with themselves and with the engine's runs."""
    from grid.core.models import Attempt, Event, Task

    found = Findings()
    tasks = {task.id: task for task in Task.objects.all()}
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in Attempt.objects.select_related("node").order_by("task_id", "number"):
        attempts[attempt.task_id].append(attempt)
    ends = Counter(Event.objects.filter(kind="finished").values_list("task_id", flat=True))
    found.tasks, found.attempts = len(tasks), sum(len(some) for some in attempts.values())
    known: set[str] = set()
    for one in submitted.values():
        known |= one.ids
        if len(one.ids) > 1:
            found.doubled.append(f"the key {one.key} made the tasks {', '.join(sorted(one.ids))}")
        found.lost += [f"{task_id} ({one.key}) is not in the records" for task_id in sorted(one.ids - tasks.keys())]
        for task_id in one.ids & tasks.keys():
            _audit_task(found, one, tasks[task_id], attempts[task_id])
    found.unknown = [f"{task_id} is nobody's" for task_id in sorted(tasks.keys() - known)]
    found.doubled += [f"{task_id} has finished {times} times" for task_id, times in ends.items() if times > 1]
    _compare(found, {one.id: one for some in attempts.values() for one in some}, runs)
    return found


def _compare(found: Findings, attempts: Mapping[str, Attempt], runs: Sequence[Run]) -> None:
    """The records against the engine: no attempt ran twice, none that ended by itself did not run, few ran at once."""
    starts = Counter(run.attempt for run in runs)
    found.doubled += [f"{attempt} was started {times} times" for attempt, times in starts.items() if times > 1]
    found.doubled += [f"{attempt} ran, but is not in the records" for attempt in starts.keys() - attempts.keys()]
    for one in attempts.values():
        # A program that was ended while the engine was about to start it has an exit code too.
        if one.verdict in _RAN and not starts[one.id]:
            found.wrong.append(f"the attempt {one.id} is {one.verdict}, but the engine has started no container for it")
    latest: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.began):
        before = latest.get(run.task)
        latest[run.task] = run
        if before is None or before.ended <= run.began or before.attempt not in attempts:
            continue
        if (verdict := attempts[before.attempt].verdict) == Verdict.NODE_LOST:
            found.overlapping += 1
        elif before.attempt != run.attempt:
            found.doubled.append(f"{before.attempt} ({verdict}) still ran when {run.attempt} of its task was started")


def _audit_task(found: Findings, one: Submitted, task: Task, tries: list[Attempt]) -> None:
    found.verdicts[task.verdict] += 1
    found.retried.update(str(attempt.verdict) for attempt in tries[:-1])
    if task.state not in FINAL_STATES:
        found.stuck.append(f"{task.id} ({one.kind}) is {task.state} on {task.node_name or 'no node'}")
        return
    found.final += 1
    found.accepted += sum(attempt.report is not None for attempt in tries[-1:])
    found.cancelled += task.verdict == Verdict.CANCELLED
    found.exhausted += task.verdict_class == VerdictClass.INFRASTRUCTURE
    classes = Counter(attempt.verdict_class for attempt in tries)
    if classes[VerdictClass.SUCCESS] != (task.verdict == Verdict.SUCCEEDED):
        found.doubled.append(f"{task.id} is {task.verdict} with {classes[VerdictClass.SUCCESS]} successful attempts")
    problem = _open_attempt(tries) or _too_many(tries, KINDS[one.kind]) or _not_as_it_must(one, task, tries)
    if problem:
        found.wrong.append(f"{task.id} ({one.kind}): {problem}")


def _open_attempt(tries: list[Attempt]) -> str:
    going_on = [attempt for attempt in tries if attempt.state != AttemptState.ENDED]
    return f"it is final, but {len(going_on)} attempts go on" if going_on else ""


def _too_many(tries: list[Attempt], kind: Kind) -> str:
    policy = RetryPolicy()
    taken = [attempt for attempt in tries if attempt.started_at is not None and attempt.verdict != Verdict.HANDED_BACK]
    classes = Counter(attempt.verdict_class for attempt in taken)
    if [attempt.number for attempt in tries] != list(range(1, len(tries) + 1)):
        return f"its attempts have the numbers {[attempt.number for attempt in tries]}"
    if classes[VerdictClass.USER] > kind.attempts:
        return f"its program has failed {classes[VerdictClass.USER]} times; {kind.attempts} were allowed"
    if classes[VerdictClass.INFRASTRUCTURE] > policy.infrastructure_retries + 1:
        return f"{classes[VerdictClass.INFRASTRUCTURE]} attempts ended by faults of the grid"
    return ""


def _not_as_it_must(one: Submitted, task: Task, tries: list[Attempt]) -> str:
    """Why the verdict is not the one that this kind of task must have; empty when it is."""
    kind = KINDS[one.kind]
    if task.verdict_class == VerdictClass.INFRASTRUCTURE:
        return ""
    if one.cancelled and task.verdict == Verdict.CANCELLED:
        return ""
    if kind.after and task.verdict == Verdict.SKIPPED:
        unmet = [need.needs.verdict for need in task.needs.select_related("needs")]
        return "" if set(unmet) - {Verdict.SUCCEEDED} else "it was skipped, but what it waited for has succeeded"
    if kind.verdict == Verdict.SKIPPED and not any(
        need.needs.verdict == Verdict.SUCCEEDED for need in task.needs.all()
    ):
        return f"it ran ({task.verdict}) after a task that did not succeed"
    if task.verdict != kind.verdict:
        return f"it is {task.verdict}, not {kind.verdict}: {task.reason}"
    if kind.exit_code is not None and task.exit_code != kind.exit_code:
        return f"it exited with {task.exit_code}, not with {kind.exit_code}"
    ended = [attempt for attempt in tries if _by_itself(attempt)]
    if kind.attempts > 1 and len(ended) != kind.attempts:
        return f"it was tried {len(ended)} times; it asked for {kind.attempts}"
    return ""


def _by_itself(attempt: Attempt) -> bool:
    """Whether its program came to the end that the task asked to have retried."""
    stopped = (attempt.report or {}).get("evidence", {}).get("stopped")
    return attempt.verdict_class == VerdictClass.USER and stopped != StopCause.CANCELLED
