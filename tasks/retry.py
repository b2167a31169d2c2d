"""Whether a task is run again after an attempt, when, and where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.retryrule import Retry
from tasks.units import human_seconds, human_size
from tasks.verdicts import Verdict, VerdictClass

FINAL = frozenset({Verdict.IMAGE_NOT_FOUND, Verdict.IMAGE_REFUSED, Verdict.FILE_TOO_LARGE, Verdict.POISON})
"""Another attempt would end the same way, whoever asks for it."""

# Of these the exit code may decide.
_OF_THE_PROGRAM = frozenset({Verdict.EXIT_CODE, Verdict.SIGNAL})


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt as it was judged; ``memory_bytes`` is the limit that it had, None when it had none."""

    verdict: Verdict
    verdict_class: VerdictClass
    node: str = ""
    exit_code: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The server's part: how often faults of the grid are forgiven, free of charge to the user.

    After ``infrastructure_retries`` such faults the next one is final; the loss of the ``node_lost_attempts``-th node
    under a task makes the task ``poison``. The waits between them start at ``delay_seconds`` and double. No wait, the
    task's own ones included, grows beyond ``max_delay_seconds`` unless it starts there. Up to the share ``jitter`` of a
    wait is added to it by chance. ``most_memory_bytes`` is what a task can be given here at most, None for no bound.
    """

    infrastructure_retries: int = 3
    node_lost_attempts: int = 3
    delay_seconds: float = 1.0
    max_delay_seconds: float = 3600.0
    jitter: float = 0.1
    most_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do: when ``again``, not before the time ``not_before`` and not on the nodes ``avoid``.

    ``verdict_override`` replaces the verdict of the last attempt as the task's. ``reason`` is for the timeline.
    ``memory_bytes`` is the memory limit of the next attempt where it is to have more.
    """

    again: bool
    not_before: float
    avoid: frozenset[str]
    verdict_override: Literal["poison"] | None
    reason: str
    memory_bytes: int | None = None


def after_attempt(
    ended: EndedAttempt,
    earlier: Sequence[EndedAttempt],
    rule: Retry | None,
    policy: RetryPolicy,
    now: float,
    chance: float = 0.0,
) -> RetryDecision:
    """Judge whether the attempt that just ended is the last; ``earlier`` are those before it, ``rule`` the task's wish.

    Faults of the grid are retried on another node and not charged to the task's own retries; the user's failures are
    retried only where the task says so, want of memory from a budget of its own and with more of it. Some verdicts are
    final whatever the task says: `FINAL`. ``chance`` (0 to 1) is a random number for the waits.
    """
    attempts = (*earlier, ended)
    avoid = frozenset(one.node for one in attempts if one.verdict_class is VerdictClass.INFRASTRUCTURE and one.node)
    if ended.verdict in FINAL or ended.verdict_class in (VerdictClass.SUCCESS, VerdictClass.CANCELLED):
        return RetryDecision(False, now, avoid, None, f"{ended.verdict} is final")
    case = _Case(attempts, avoid, policy, now, chance)
    if ended.verdict_class is VerdictClass.INFRASTRUCTURE:
        return _after_fault(case)
    if ended.verdict is Verdict.MEMORY_LIMIT and rule is not None and rule.memory is not None:
        return _after_want_of_memory(case, rule)
    return _after_failure(case, rule)


@dataclass(frozen=True, slots=True)
class _Case:
    """What there is to judge by: all attempts so far, and the terms."""

    attempts: tuple[EndedAttempt, ...]
    avoid: frozenset[str]
    policy: RetryPolicy
    now: float
    chance: float

    @property
    def ended(self) -> EndedAttempt:
        return self.attempts[-1]

    def stop(self, reason: str, verdict: Literal["poison"] | None = None) -> RetryDecision:
        return RetryDecision(False, self.now, self.avoid, verdict, reason)

    def again(self, wait_seconds: float, reason: str, memory_bytes: int | None = None) -> RetryDecision:
        wait = wait_seconds * (1 + self.policy.jitter * self.chance)
        return RetryDecision(True, self.now + wait, self.avoid, None, reason, memory_bytes)


def _after_fault(case: _Case) -> RetryDecision:
    """A fault of the grid: go elsewhere, until there were too many of them."""
    ended, policy = case.ended, case.policy
    lost = sum(one.verdict is Verdict.NODE_LOST for one in case.attempts)
    if ended.verdict is Verdict.NODE_LOST and lost >= policy.node_lost_attempts:
        return case.stop(f"{_count(lost, 'node was', 'nodes were')} lost under the task", "poison")
    faults = sum(one.verdict_class is VerdictClass.INFRASTRUCTURE for one in case.attempts)
    if faults > policy.infrastructure_retries:
        times = _count(faults, "attempt", "attempts")
        return case.stop(f"{times} ended by faults of the grid; {policy.infrastructure_retries} are retried")
    wait = _wait(policy.delay_seconds, 2.0, faults, policy.max_delay_seconds)
    where = " elsewhere" if ended.node else ""
    return case.again(
        wait, f"{ended.verdict} is a fault of the grid: retry {faults} of {policy.infrastructure_retries}{where}"
    )


def _after_want_of_memory(case: _Case, rule: Retry) -> RetryDecision:
    """The task ran out of memory and wants more: again while its budget for that lasts and there is more to give."""
    had, most = case.ended.memory_bytes, case.policy.most_memory_bytes
    if had is None:
        return case.stop(f"{case.ended.verdict} is not retried: there was no limit that could be raised")
    used = sum(one.verdict is Verdict.MEMORY_LIMIT for one in case.attempts)
    told = f"{case.ended.verdict} at {human_size(had)} ({used} of {rule.memory_budget})"
    if used >= rule.memory_budget:
        return case.stop(f"{told}: none is left")
    wanted = rule.larger_than(had)
    if wanted <= had:
        return case.stop(f"{told}: the task names no larger size")
    given = wanted if most is None else min(wanted, most)
    if given <= had:
        return case.stop(f"{told}: no task can be given more than {human_size(max(had, most or 0))} here")
    wait = _own_wait(rule, used, case.policy)
    return case.again(wait, f"{told}: again with {human_size(given)}{_later(wait)}", given)


def _after_failure(case: _Case, rule: Retry | None) -> RetryDecision:
    """A failure of the user's program: again only if the task names it and has attempts left."""
    verdict = case.ended.verdict
    if rule is None:
        return case.stop(f"{verdict} is not retried: the task asks for no retries")
    if verdict in _OF_THE_PROGRAM and rule.exit_codes:
        if case.ended.exit_code not in rule.exit_codes:
            return case.stop(f"exit {case.ended.exit_code} is not among the exit codes that the task wants retried")
    elif verdict not in rule.on and VerdictClass.USER not in rule.on:
        return case.stop(f"{verdict} is not among the verdicts that the task wants retried")
    used, most = sum(_charged(one, rule) for one in case.attempts), rule.attempts or 1
    if used >= most:
        return case.stop(f"attempt {used} of {most} ended with {verdict}: none is left")
    wait = _own_wait(rule, used, case.policy)
    return case.again(wait, f"attempt {used} of {most} ended with {verdict}: again{_later(wait)}")


def _charged(one: EndedAttempt, rule: Retry) -> bool:
    """Whether an attempt counts among the task's own ones."""
    if one.verdict is Verdict.MEMORY_LIMIT and rule.memory is not None:
        return False
    return one.verdict_class is VerdictClass.USER


def _own_wait(rule: Retry, number: int, policy: RetryPolicy) -> float:
    return _wait(rule.delay, rule.backoff, number, rule.max_delay or policy.max_delay_seconds)


def _later(wait_seconds: float) -> str:
    return f" in {human_seconds(wait_seconds)}" if wait_seconds else ""


def _wait(first_seconds: float, factor: float, number: int, most_seconds: float) -> float:
    """The wait before the retry of that number (from 1); the exponent is bounded, for powers of floats overflow."""
    return min(max(most_seconds, first_seconds), first_seconds * factor ** min(number - 1, 100))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
