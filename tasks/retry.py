"""Whether a task is run again after an attempt, when, and where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.spec import Retry
from tasks.units import human_seconds
from tasks.verdicts import Verdict, VerdictClass

FINAL = frozenset({Verdict.IMAGE_NOT_FOUND, Verdict.IMAGE_REFUSED, Verdict.POISON})
"""Another attempt would end the same way, whoever asks for it."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt as it was judged."""

    verdict: Verdict
    verdict_class: VerdictClass
    node: str = ""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The server's part: how often faults of the grid are forgiven, free of charge to the user.

    After ``infrastructure_retries`` such faults the next one is final; the loss of the ``node_lost_attempts``-th node
    under a task makes the task ``poison``. The waits between them start at ``delay_seconds`` and double. No wait, the
    task's own ones included, grows beyond ``max_delay_seconds`` unless it starts there.
    """

    infrastructure_retries: int = 3
    node_lost_attempts: int = 3
    delay_seconds: float = 1.0
    max_delay_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do: when ``again``, not before the time ``not_before`` and not on the nodes ``avoid``.

    ``verdict_override`` replaces the verdict of the last attempt as the task's. ``reason`` is for the timeline.
    """

    again: bool
    not_before: float
    avoid: frozenset[str]
    verdict_override: Literal["poison"] | None
    reason: str


def after_attempt(
    ended: EndedAttempt, earlier: Sequence[EndedAttempt], rule: Retry | None, policy: RetryPolicy, now: float
) -> RetryDecision:
    """Judge whether the attempt that just ended is the last; ``earlier`` are those before it, ``rule`` the task's wish.

    Faults of the grid are retried on another node and not charged to the task's own retries; the user's failures are
    retried only where the task says so. Some verdicts are final whatever the task says: `FINAL`.
    """
    attempts = (*earlier, ended)
    avoid = frozenset(one.node for one in attempts if one.verdict_class is VerdictClass.INFRASTRUCTURE and one.node)
    if ended.verdict in FINAL or ended.verdict_class in (VerdictClass.SUCCESS, VerdictClass.CANCELLED):
        return _stop(now, avoid, f"{ended.verdict} is final")
    if ended.verdict_class is VerdictClass.INFRASTRUCTURE:
        return _after_fault(ended, attempts, avoid, policy, now)
    return _after_failure(ended, attempts, avoid, (rule, policy), now)


def _after_fault(
    ended: EndedAttempt, attempts: Sequence[EndedAttempt], avoid: frozenset[str], policy: RetryPolicy, now: float
) -> RetryDecision:
    """A fault of the grid: go elsewhere, until there were too many of them."""
    lost = sum(one.verdict is Verdict.NODE_LOST for one in attempts)
    if ended.verdict is Verdict.NODE_LOST and lost >= policy.node_lost_attempts:
        return RetryDecision(
            False, now, avoid, "poison", f"{_count(lost, 'node was', 'nodes were')} lost under the task"
        )
    faults = sum(one.verdict_class is VerdictClass.INFRASTRUCTURE for one in attempts)
    if faults > policy.infrastructure_retries:
        times = _count(faults, "attempt", "attempts")
        return _stop(now, avoid, f"{times} ended by faults of the grid; {policy.infrastructure_retries} are retried")
    wait = _wait(policy.delay_seconds, 2.0, faults, policy)
    where = " elsewhere" if ended.node else ""
    reason = f"{ended.verdict} is a fault of the grid: retry {faults} of {policy.infrastructure_retries}{where}"
    return RetryDecision(True, now + wait, avoid, None, reason)


def _after_failure(
    ended: EndedAttempt,
    attempts: Sequence[EndedAttempt],
    avoid: frozenset[str],
    terms: tuple[Retry | None, RetryPolicy],
    now: float,
) -> RetryDecision:
    """A failure of the user's program: again only if the task names it and has attempts left."""
    rule, policy = terms
    if rule is None:
        return _stop(now, avoid, f"{ended.verdict} is not retried: the task asks for no retries")
    if ended.verdict not in rule.on and VerdictClass.USER not in rule.on:
        return _stop(now, avoid, f"{ended.verdict} is not among the verdicts that the task wants retried")
    used = sum(one.verdict_class is VerdictClass.USER for one in attempts)
    if used >= rule.attempts:
        return _stop(now, avoid, f"attempt {used} of {rule.attempts} ended with {ended.verdict}: none is left")
    wait = _wait(rule.delay, rule.backoff, used, policy)
    later = f" in {human_seconds(wait)}" if wait else ""
    reason = f"attempt {used} of {rule.attempts} ended with {ended.verdict}: again{later}"
    return RetryDecision(True, now + wait, avoid, None, reason)


def _stop(now: float, avoid: frozenset[str], reason: str) -> RetryDecision:
    return RetryDecision(False, now, avoid, None, reason)


def _wait(first_seconds: float, factor: float, number: int, policy: RetryPolicy) -> float:
    """The wait before the retry of that number (from 1); the exponent is bounded, for powers of floats overflow."""
    return min(max(policy.max_delay_seconds, first_seconds), first_seconds * factor ** min(number - 1, 100))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
