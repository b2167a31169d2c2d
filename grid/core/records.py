"""The only writer of states: every move of a task or an attempt is one function here.

A move is a conditional UPDATE that names the state it saw; zero rows means that somebody else was first, which is
normal. Each move appends an event. A final task never changes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from grid.core import events, wake
from grid.core.delivery import outbox
from grid.core.models import Attempt, Demand, Dependency, Node, Task
from grid.core.people import audit
from grid.core.rows import insert
from tasks.states import ACTIVE_STATES, FINAL_STATES, AttemptState, Phase, TaskState
from tasks.verdicts import Judgement, Verdict, final_state, other

_NOT_STARTED = (TaskState.WAITING, TaskState.QUEUED)

Transaction = Callable[[], AbstractContextManager[None]]
"""Opens the transaction of one move: Django's own, or one that checks first whether the caller still leads."""


@dataclass(frozen=True, slots=True)
class Larger:
    """What a task gets from its next attempt on: its limits, and what it demands of a node with them."""

    limits: Mapping[str, Any]
    demand_key: str
    demand_data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Again:
    """A task goes back to the queue after an attempt: not before a time, and not on the nodes named.

    ``larger`` is set where it gets more than it had.
    """

    not_before: datetime
    avoid: tuple[str, ...]
    reason: str
    larger: Larger | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends: its judgement, the facts to keep with it, and ``again`` when the task is to be tried again.

    ``judgement`` is that of the attempt, ``task_judgement`` that of the task where it differs (poison). ``decision``
    says why the task is, or is not, tried again.
    """

    judgement: Judgement
    again: Again | None = None
    task_judgement: Judgement | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    decision: str = ""


def create(task: Task, demand_data: Mapping[str, Any], needs: Iterable[str], now: datetime) -> None:
    """Write a new task: queued, or waiting while something it needs has not succeeded."""
    Demand.objects.get_or_create(key=task.demand_id, defaults={"owner_id": task.owner_id, "data": dict(demand_data)})
    task.created_at = now
    needs = list(needs)
    # Locked: what it needs ends either before this look, or after the commit and then sees that somebody waits for it.
    states = Task.objects.select_for_update().filter(id__in=needs).order_by("id").values_list("state", flat=True)
    unmet = any(state != TaskState.SUCCEEDED for state in states)
    task.state = TaskState.WAITING if unmet else TaskState.QUEUED
    task.queued_at = None if unmet else now
    insert([task])
    insert(Dependency(task_id=task.id, needs_id=need) for need in needs)
    events.append(task.id, "submitted", now, name=task.name)
    if unmet:
        _settle_waiting([task.id], now)
    else:
        _note_queued(task.demand_id)


def create_all(tasks: Sequence[Task], demands: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
    """Write many new tasks that wait for nothing; ``demands`` are the data of their demands by key."""
    if not tasks:
        return
    owner = tasks[0].owner_id
    rows = [Demand(key=key, owner_id=owner, data=dict(demands[key])) for key in sorted(demands)]
    Demand.objects.bulk_create(rows, ignore_conflicts=True)
    for task in tasks:
        task.created_at = task.queued_at = now
        task.state = TaskState.QUEUED
    insert(tasks)
    insert(events.make(task.id, "submitted", now, name=task.name) for task in tasks)
    events.tell({task.id for task in tasks})
    for key in sorted(demands):
        _note_queued(key)


def assign(task_id: str, node: Node, now: datetime, lease_seconds: float) -> Attempt | None:
    """Give a queued task to a node; None when it is not queued any more."""
    with transaction.atomic():
        return next(iter(assign_all([(task_id, node)], now, lease_seconds)), None)


def assign_all(pairs: Sequence[tuple[str, Node]], now: datetime, lease_seconds: float) -> list[Attempt]:
    """Give queued tasks to nodes; those not queued any more are left out. The caller's transaction checks the fence."""
    # Everybody who locks several tasks does so in the order of their ids, so that nobody waits in a circle.
    rows = Task.objects.select_for_update().filter(id__in=[task for task, _ in pairs]).order_by("id")
    seen = {task: (made, memory) for task, made, memory in rows.values_list("id", "attempts_made", "limits__memory")}
    until = now + timedelta(seconds=lease_seconds)
    attempts = []
    for task_id, node in pairs:
        made_before, memory_bytes = seen.get(task_id, (0, None))
        number = made_before + 1
        attempt = Attempt(
            task_id=task_id,
            number=number,
            node=node,
            nonce=secrets.token_hex(8),
            token=secrets.token_hex(24),
            memory_bytes=memory_bytes,
            assigned_at=now,
            lease_until=until,
            phase_deadline=until,
        )
        # The attempt's row follows at the end; until then the reference is checked by nobody but the commit.
        moved = Task.objects.filter(id=task_id, state=TaskState.QUEUED, attempts_made=number - 1).update(
            state=TaskState.ASSIGNED, attempts_made=number, node_name=node.name, attempt_id=attempt.id
        )
        if moved:
            attempts.append(attempt)
    insert(attempts)
    events.append_all(
        events.make(one.task_id, "assigned", now, node=one.node.name, attempt=one.id, number=one.number)
        for one in attempts
    )
    return attempts


def start(
    attempt: Attempt,
    session: str,
    now: datetime,
    lease_seconds: float,
    phase_seconds: float,
    phase: Phase = Phase.STAGING,
) -> bool:
    """A node takes the attempt up, and begins with a phase; False when it is not waiting for that any more."""
    with transaction.atomic():
        taken = Attempt.objects.filter(id=attempt.id, nonce=attempt.nonce, state=AttemptState.ASSIGNED).update(
            state=AttemptState.RUNNING,
            phase=phase,
            session=session,
            started_at=now,
            lease_until=now + timedelta(seconds=lease_seconds),
            phase_deadline=now + timedelta(seconds=phase_seconds),
        )
        moved = taken and Task.objects.filter(id=attempt.task_id, attempt=attempt, state=TaskState.ASSIGNED).update(
            state=TaskState.RUNNING, started_at=now
        )
        if not moved:
            transaction.set_rollback(bool(taken))
            return False
        events.append(attempt.task_id, "started", now, node=attempt.node.name, attempt=attempt.id)
    return True


def set_phase(attempt: Attempt, phase: Phase, deadline: datetime, now: datetime) -> bool:
    """A running attempt is in another phase; False when nothing changed."""
    with transaction.atomic():
        rows = Attempt.objects.filter(id=attempt.id, token=attempt.token, state=AttemptState.RUNNING).exclude(
            phase=phase
        )
        if not rows.update(phase=phase, phase_deadline=deadline):
            return False
        events.append(attempt.task_id, "phase", now, attempt=attempt.id, phase=phase.value)
    return True


def end(attempt: Attempt, ending: Ending, now: datetime) -> bool:
    """End an attempt, and with it the task or this try of it; False when the attempt had ended before.

    Belongs into the caller's transaction, so that an outcome and its files are accepted together or not at all.
    """
    judgement = ending.judgement
    ended = (
        Attempt.objects.filter(id=attempt.id, token=attempt.token)
        .exclude(state=AttemptState.ENDED)
        .update(
            state=AttemptState.ENDED,
            ended_at=now,
            verdict=judgement.verdict,
            verdict_class=judgement.verdict_class,
            reason=judgement.reason,
            advice=judgement.advice,
            decision=ending.decision,
            **ending.facts,
        )
    )
    if not ended:
        return False
    events.append(
        attempt.task_id,
        "attempt_ended",
        now,
        attempt=attempt.id,
        node=attempt.node.name,
        verdict=judgement.verdict.value,
        reason=judgement.reason,
    )
    if ending.again is not None and _requeue(attempt, ending.again, now):
        return True
    final = ending.task_judgement or judgement
    if ending.again is not None:
        # A cancel came since the decision to try again was made, or the program failed before it heard of the cancel.
        final = cancel_judgement(Task.objects.get(id=attempt.task_id))
    _finish([attempt.task_id], tuple(ACTIVE_STATES), final, now, exit_code=ending.facts.get("exit_code"))
    return True


def _requeue(attempt: Attempt, again: Again, now: datetime) -> bool:
    """Queue the task again; False when it was cancelled: then nobody wants another attempt."""
    later, larger = again.not_before > now, again.larger
    wanted = Task.objects.filter(id=attempt.task_id, attempt=attempt, cancel_requested_at__isnull=True)
    if larger is not None:
        owner = attempt.task.owner_id
        Demand.objects.get_or_create(
            key=larger.demand_key, defaults={"owner_id": owner, "data": dict(larger.demand_data)}
        )
    moved = wanted.filter(state__in=ACTIVE_STATES).update(
        state=TaskState.WAITING if later else TaskState.QUEUED,
        not_before=again.not_before if later else None,
        queued_at=None if later else now,
        started_at=None,
        avoid=list(again.avoid),
        **({} if larger is None else {"limits": dict(larger.limits), "demand_id": larger.demand_key}),
    )
    if moved:
        events.append(attempt.task_id, "retry", now, reason=again.reason)
        _note_queued(Task.objects.values_list("demand_id", flat=True).get(id=attempt.task_id))
    return bool(moved)


def hold(task_id: str) -> None:
    """Let nobody else move the task until the caller's transaction ends; in the order in which everybody locks."""
    list(Attempt.objects.select_for_update().filter(task_id=task_id).order_by("id").values_list("id", flat=True))
    list(Task.objects.select_for_update().filter(id=task_id).values_list("id", flat=True))


def cancel(task: Task, *, by: str, reason: str, now: datetime) -> Task:
    """Cancel a task: at once while nothing runs, else the node is asked to end it. A final task stays as it is."""
    judgement = other(Verdict.CANCELLED, _cancel_words(by, reason))
    with transaction.atomic():
        noted = (
            Task.objects.filter(id=task.id, cancel_requested_at__isnull=True)
            .exclude(state__in=FINAL_STATES)
            .update(cancel_requested_at=now, cancel_by=by, cancel_reason=reason)
        )
        if noted:
            events.append(task.id, "cancel_requested", now, by=by, reason=reason)
            audit.note("task_cancelled", f"task {task.id}", now, by=by, reason=reason)
        ended = _finish([task.id], _NOT_STARTED, judgement, now)
    if not ended:
        _cancel_untaken(task.id, judgement, now)
    wake.dispatcher()
    task.refresh_from_db()
    return task


def _cancel_untaken(task_id: str, judgement: Judgement, now: datetime) -> None:
    """An attempt that no node has taken up yet ends at once; its message in the broker will open nothing.

    In a transaction of its own: everybody locks the attempt first and its task second.
    """
    attempt = Attempt.objects.select_related("node").filter(task_id=task_id, state=AttemptState.ASSIGNED).first()
    if attempt is None:
        return
    with transaction.atomic():
        if Attempt.objects.filter(id=attempt.id, state=AttemptState.ASSIGNED).update(session="-"):
            end(attempt, Ending(judgement), now)


def cancel_judgement(task: Task) -> Judgement:
    """The judgement on a task that was ended because somebody cancelled it."""
    return other(Verdict.CANCELLED, _cancel_words(task.cancel_by, task.cancel_reason))


def _cancel_words(by: str, reason: str) -> str:
    return f"cancelled by {by or 'the grid'}" + (f": {reason}" if reason else "")


def expire(now: datetime, limit: int = 500, moving: Transaction = transaction.atomic) -> int:
    """End tasks that did not start, or not start again, before their time; return how many."""
    late = Task.objects.filter(state__in=_NOT_STARTED, expires_at__lte=now).values_list("id", flat=True)[:limit]
    moved = 0
    for task_id in list(late):
        with moving():
            tried = Attempt.objects.filter(task_id=task_id, started_at__isnull=False).count()
            moved += _finish([task_id], _NOT_STARTED, other(Verdict.EXPIRED, _expiry_words(tried)), now)
    return moved


def _expiry_words(tried: int) -> str:
    if not tried:
        return "the task had not started when its time to start was over"
    times = "once" if tried == 1 else f"{tried} times"
    return f"the task had been tried {times}, and its time to start was over before it could be tried again"


def promote(now: datetime, limit: int = 500, moving: Transaction = transaction.atomic) -> int:
    """Queue the waiting tasks whose delay is over; return how many."""
    ready = list(
        Task.objects.filter(state=TaskState.WAITING, not_before__lte=now).values_list("id", "demand_id")[:limit]
    )
    moved = 0
    for task_id, demand_id in ready:
        with moving():
            rows = Task.objects.filter(id=task_id, state=TaskState.WAITING, not_before__lte=now)
            if rows.update(state=TaskState.QUEUED, not_before=None, queued_at=now):
                moved += 1
                events.append(task_id, "queued", now)
                _note_queued(demand_id)
    return moved


def _finish(
    task_ids: list[str],
    states: tuple[TaskState, ...],
    judgement: Judgement,
    now: datetime,
    exit_code: int | None = None,
) -> int:
    """Make tasks final, and settle those that wait for them; return how many were moved."""
    moved = 0
    state = final_state(judgement.verdict)
    for task_id in task_ids:
        done = Task.objects.filter(id=task_id, state__in=states).update(
            state=state,
            finished_at=now,
            verdict=judgement.verdict,
            verdict_class=judgement.verdict_class,
            reason=judgement.reason,
            advice=judgement.advice,
            exit_code=exit_code,
        )
        if done:
            moved += 1
            events.append(
                task_id, "finished", now, state=state.value, verdict=judgement.verdict.value, reason=judgement.reason
            )
            outbox.note(task_id, now)
            _settle_waiting(Dependency.objects.filter(needs_id=task_id).values_list("task_id", flat=True), now)
    if moved:
        wake.dispatcher()
    return moved


def _settle_waiting(task_ids: Iterable[str], now: datetime) -> None:
    """Queue the waiting tasks whose needs have all succeeded, skip those with a need that never will.

    The rows are locked first: of two needs that finish at the same moment the second sees the first.
    """
    waiting = Task.objects.select_for_update().filter(id__in=list(task_ids), state=TaskState.WAITING, not_before=None)
    for task in waiting.order_by("id"):
        needs = list(Task.objects.filter(children__task=task).values_list("id", "state", "name"))
        broken = [(need, name) for need, state, name in needs if state in FINAL_STATES - {TaskState.SUCCEEDED}]
        if broken:
            need, name = broken[0]
            judgement = other(Verdict.SKIPPED, f"it was to run after {name} ({need}), which did not succeed")
            _finish([task.id], (TaskState.WAITING,), judgement, now)
        elif all(state == TaskState.SUCCEEDED for _, state, _ in needs):
            rows = Task.objects.filter(id=task.id, state=TaskState.WAITING)
            if rows.update(state=TaskState.QUEUED, queued_at=now):
                events.append(task.id, "queued", now)
                _note_queued(task.demand_id)


def _note_queued(demand_id: str) -> None:
    """Show the dispatcher that there is something of this demand, and wake it."""
    Demand.objects.filter(key=demand_id, active=False).update(active=True)
    wake.dispatcher()
