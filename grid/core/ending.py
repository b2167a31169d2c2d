"""What follows the end of an attempt: the task is final, or it is tried again; the decision is `tasks.retry`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from grid.core import mirror, offers, policy, records
from grid.core.conf import conf
from grid.core.models import Attempt
from grid.core.people import standing
from grid.core.records import Again, Ending, Larger
from tasks.limits import Limits
from tasks.retry import EndedAttempt, RetryDecision, RetryPolicy, after_attempt
from tasks.retryrule import Retry
from tasks.spec import parse_spec
from tasks.states import AttemptState
from tasks.verdicts import Judgement, Verdict, VerdictClass, other


def judged(attempt: Attempt, judgement: Judgement, facts: Mapping[str, Any], now: datetime) -> bool:
    """End an attempt with a judgement; False when it had ended before. Belongs into a transaction."""
    if not records.end(attempt, _ending(attempt, judgement, facts, now), now):
        return False
    mirror.write(attempt, judgement, now)
    return True


def lost(
    attempt: Attempt, why: str, now: datetime, verdict: Verdict = Verdict.NODE_LOST, *, still: Q | None = None
) -> bool:
    """End an attempt of which the grid lost hold; its task is tried elsewhere. False when it had ended before.

    ``still`` is what has to be true of the row even now, under its lock: the node may have spoken since it was read.
    """
    with transaction.atomic():
        if still is not None and not Attempt.objects.select_for_update().filter(still, id=attempt.id):
            return False
        return judged(attempt, other(verdict, why), {}, now)


def returned(
    attempt: Attempt, why: str, now: datetime, verdict: Verdict = Verdict.NODE_LOST, *, elsewhere: bool = False
) -> bool:
    """Take back an attempt that its node never took up: the task queues again, and this counts for nothing.

    With ``elsewhere`` the task avoids the node from now on, as far as another one could run it.
    """
    if attempt.task.cancel_requested_at is not None:
        return lost(attempt, why, now)
    avoid = {*attempt.task.avoid, *([attempt.node.name] if elsewhere else [])}
    again = Again(not_before=now, avoid=tuple(sorted(avoid)), reason=why)
    with transaction.atomic():
        # Naming the state takes the row's lock: a node that takes it up at this moment is either first or stale.
        if not Attempt.objects.filter(id=attempt.id, state=AttemptState.ASSIGNED).update(session="-"):
            return False
        return records.end(attempt, Ending(other(verdict, why), again, decision=again.reason), now)


def _ending(attempt: Attempt, judgement: Judgement, facts: Mapping[str, Any], now: datetime) -> Ending:
    task = attempt.task
    if task.cancel_requested_at is not None and judgement.verdict_class is VerdictClass.INFRASTRUCTURE:
        # Nobody wants it any more: whatever befell it, it is not tried again.
        return Ending(judgement, None, records.cancel_judgement(task), facts)
    if judgement.verdict is Verdict.HANDED_BACK:
        # The operator's doing, and nobody's fault: it counts for nothing, and the task need not avoid the node.
        again = Again(now, tuple(task.avoid), judgement.reason)
        return Ending(judgement, again, None, facts, "handed back: again at once, and it counts for nothing")
    decision = _decide(attempt, judgement, facts, now)
    if decision.again:
        again = Again(
            not_before=datetime.fromtimestamp(decision.not_before, UTC),
            avoid=tuple(sorted(decision.avoid)),
            reason=decision.reason,
            larger=None if decision.memory_bytes is None else _with_memory(attempt, decision.memory_bytes),
        )
        return Ending(judgement, again, None, facts, decision.reason)
    final = (
        other(Verdict.POISON, f"{decision.reason}; the last time: {judgement.reason}")
        if decision.verdict_override
        else None
    )
    return Ending(judgement, None, final, facts, decision.reason)


def _decide(attempt: Attempt, judgement: Judgement, facts: Mapping[str, Any], now: datetime) -> RetryDecision:
    task = attempt.task
    rule = Retry.model_validate(task.spec["retry"]) if task.spec.get("retry") else None
    wants_memory = judgement.verdict is Verdict.MEMORY_LIMIT and rule is not None and rule.memory is not None
    terms = RetryPolicy(
        node_lost_attempts=conf().max_lost_attempts,
        most_memory_bytes=_most_memory(attempt, now) if wants_memory else None,
    )
    ended = EndedAttempt(
        judgement.verdict,
        judgement.verdict_class,
        attempt.node.name,
        facts.get("exit_code"),
        attempt.memory_bytes,
    )
    chance = random.random()  # noqa: S311 - it spreads waits, and keeps no secret
    return after_attempt(ended, _earlier(attempt), rule, terms, now.timestamp(), chance)


def _most_memory(attempt: Attempt, now: datetime) -> int | None:
    """The most memory that the task can be given: by the caps that hold for it, and by the nodes that could run it."""
    offered = offers.current()
    bounds = [conf().max_limits.memory, standing.caps(attempt.task.owner_id, now).memory]
    if offered is not None:
        bounds.append(offered.most_memory(policy.demand_from(attempt.task.demand.data)))
    return min((bound for bound in bounds if bound is not None), default=None)


def _with_memory(attempt: Attempt, memory_bytes: int) -> Larger:
    """The task's limits and demand with so much memory; all else stays as it was effective so far."""
    task = attempt.task
    limits = Limits.model_validate({**task.limits, "memory": memory_bytes})
    demand = policy.demand_of(task.owner_id, parse_spec(task.spec, default_name=task.name), limits)
    return Larger(limits.model_dump(mode="json", exclude_none=True), demand.key, policy.demand_data(demand))


def _earlier(attempt: Attempt) -> list[EndedAttempt]:
    """The attempts before this one that a node had taken up, and did not hand back: those that count."""
    if attempt.number == 1:
        return []
    before = Attempt.objects.filter(task_id=attempt.task_id, number__lt=attempt.number, started_at__isnull=False)
    before = before.exclude(verdict=Verdict.HANDED_BACK)
    columns = ("verdict", "verdict_class", "node__name", "exit_code", "memory_bytes")
    return [
        EndedAttempt(Verdict(verdict), VerdictClass(kind), node, code, memory)
        for verdict, kind, node, code, memory in before.order_by("number").values_list(*columns)
    ]
