"""Faults of the grid are forgiven and go elsewhere, the user's own only where the task asks for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.retry import FINAL, EndedAttempt, RetryDecision, RetryPolicy, after_attempt
from tasks.spec import Retry
from tasks.verdicts import CLASS_OF, Verdict, VerdictClass

NOW = 1000.0
POLICY = RetryPolicy()


MIB = 1024**2


def ended(verdict: Verdict, node: str = "", exit_code: int | None = None, memory: int | None = None) -> EndedAttempt:
    return EndedAttempt(verdict, CLASS_OF[verdict], node, exit_code, memory)


def starved(mebibytes: int) -> EndedAttempt:
    """An attempt that ran out of so much memory."""
    return ended(Verdict.MEMORY_LIMIT, "n", 137, mebibytes * MIB)


def after(*attempts: EndedAttempt, rule: Retry | None = None, policy: RetryPolicy = POLICY) -> RetryDecision:
    """The decision after the last of the attempts."""
    return after_attempt(attempts[-1], attempts[:-1], rule, policy, NOW)


class TestFaultsOfTheGrid:
    def test_they_are_retried_elsewhere_at_no_charge(self) -> None:
        decision = after(ended(Verdict.STAGING, "n1"))
        assert decision == RetryDecision(
            again=True,
            not_before=NOW + 1,
            avoid=frozenset({"n1"}),
            verdict_override=None,
            reason="staging is a fault of the grid: retry 1 of 3 elsewhere",
        )

    def test_all_nodes_that_failed_are_avoided_and_the_waits_grow(self) -> None:
        decision = after(ended(Verdict.STAGING, "n1"), ended(Verdict.EXIT_CODE, "n2"), ended(Verdict.NODE_DISK, "n3"))
        assert decision.avoid == {"n1", "n3"}
        assert decision.not_before == NOW + 2

    def test_after_three_retries_the_fault_is_final(self) -> None:
        faults = [ended(verdict, "n") for verdict in (Verdict.STAGING, Verdict.UPLOAD, Verdict.IMAGE_PULL)]
        assert after(*faults).again
        decision = after(*faults, ended(Verdict.RUNTIME_ERROR, "n"))
        assert not decision.again
        assert decision.verdict_override is None
        assert decision.reason == "4 attempts ended by faults of the grid; 3 are retried"

    def test_a_fault_without_a_node_is_retried_anywhere(self) -> None:
        decision = after(ended(Verdict.INPUT_MISSING))
        assert decision.avoid == frozenset()
        assert decision.reason == "input_missing is a fault of the grid: retry 1 of 3"

    def test_a_task_under_which_three_nodes_were_lost_is_poison(self) -> None:
        lost = [ended(Verdict.NODE_LOST, name) for name in ("n1", "n2", "n3")]
        assert after(*lost[:2]).again
        decision = after(*lost)
        assert (decision.again, decision.verdict_override) == (False, "poison")
        assert decision.reason == "3 nodes were lost under the task"

    def test_other_faults_between_do_not_hide_the_poison_nor_make_it(self) -> None:
        lost = ended(Verdict.NODE_LOST, "n")
        policy = RetryPolicy(infrastructure_retries=9)
        assert after(lost, ended(Verdict.STAGING), lost, ended(Verdict.STAGING), policy=policy).again
        assert after(lost, ended(Verdict.STAGING), lost, lost, policy=policy).verdict_override == "poison"

    def test_one_lost_node_is_told_in_the_singular(self) -> None:
        decision = after(ended(Verdict.NODE_LOST, "n"), policy=RetryPolicy(node_lost_attempts=1))
        assert decision.reason == "1 node was lost under the task"
        decision = after(ended(Verdict.UPLOAD, "n"), policy=RetryPolicy(infrastructure_retries=0))
        assert decision.reason == "1 attempt ended by faults of the grid; 0 are retried"

    def test_the_tasks_own_retries_are_not_used_up(self) -> None:
        rule = Retry(attempts=2, on=("exit_code",))
        assert after(ended(Verdict.STAGING), ended(Verdict.UPLOAD), ended(Verdict.EXIT_CODE), rule=rule).again


class TestFailuresOfTheUser:
    def test_they_are_final_where_the_task_says_nothing(self) -> None:
        decision = after(ended(Verdict.EXIT_CODE, "n1"))
        assert not decision.again
        assert decision.avoid == frozenset()
        assert decision.reason == "exit_code is not retried: the task asks for no retries"

    def test_they_are_retried_as_often_as_the_task_says_with_growing_waits(self) -> None:
        rule = Retry(attempts=3, on=("exit_code",), delay=10.0, backoff=2.0)
        failed = ended(Verdict.EXIT_CODE, "n1")
        first = after(failed, rule=rule)
        assert (first.again, first.not_before) == (True, NOW + 10)
        assert first.reason == "attempt 1 of 3 ended with exit_code: again in 10s"
        assert after(failed, failed, rule=rule).not_before == NOW + 20
        last = after(failed, failed, failed, rule=rule)
        assert not last.again
        assert last.reason == "attempt 3 of 3 ended with exit_code: none is left"

    def test_without_a_delay_the_next_run_is_at_once_and_may_be_on_the_same_node(self) -> None:
        decision = after(ended(Verdict.SIGNAL, "n1"), rule=Retry(attempts=2))
        assert (decision.not_before, decision.avoid) == (NOW, frozenset())
        assert decision.reason == "attempt 1 of 2 ended with signal: again"

    def test_only_the_verdicts_that_are_named_are_retried(self) -> None:
        decision = after(ended(Verdict.TIME_LIMIT), rule=Retry(attempts=3, on=("exit_code",)))
        assert not decision.again
        assert decision.reason == "time_limit is not among the verdicts that the task wants retried"
        assert after(ended(Verdict.TIME_LIMIT), rule=Retry(attempts=3, on=("user",))).again

    def test_the_growth_of_the_wait_is_bounded_but_not_the_wait_that_was_asked_for(self) -> None:
        failed = [ended(Verdict.EXIT_CODE)] * 60
        assert after(*failed, rule=Retry(attempts=100, delay=10.0, backoff=10.0)).not_before == NOW + 3600
        assert after(failed[0], rule=Retry(attempts=2, delay=7200.0)).not_before == NOW + 7200

    def test_the_task_may_bound_the_growth_itself(self) -> None:
        rule = Retry(attempts=9, delay=10.0, backoff=10.0, max_delay=60.0)
        failed = ended(Verdict.EXIT_CODE)
        assert after(failed, failed, failed, rule=rule).not_before == NOW + 60

    def test_chance_adds_up_to_a_tenth_to_a_wait(self) -> None:
        rule = Retry(attempts=2, delay=10.0)
        failed = ended(Verdict.EXIT_CODE)
        assert after_attempt(failed, (), rule, POLICY, NOW, chance=0.5).not_before == NOW + 10.5
        assert after_attempt(ended(Verdict.UPLOAD), (), None, POLICY, NOW, chance=1.0).not_before == NOW + 1.1


class TestExitCodes:
    def test_they_tell_apart_what_is_worth_another_try(self) -> None:
        rule = Retry(attempts=3, exit_codes=(75, 139))
        assert after(ended(Verdict.EXIT_CODE, exit_code=75), rule=rule).again
        assert after(ended(Verdict.SIGNAL, exit_code=139), rule=rule).again
        decision = after(ended(Verdict.EXIT_CODE, exit_code=1), rule=rule)
        assert not decision.again
        assert decision.reason == "exit 1 is not among the exit codes that the task wants retried"

    def test_they_say_nothing_of_limits(self) -> None:
        rule = Retry(attempts=3, on=("time_limit",), exit_codes=(75,))
        assert after(ended(Verdict.TIME_LIMIT, exit_code=137), rule=rule).again
        assert after(ended(Verdict.EXIT_CODE, exit_code=75), rule=rule).again


class TestWantOfMemory:
    def test_a_factor_gives_more_each_time_until_the_budget_is_used_up(self) -> None:
        rule = Retry(memory=2, delay=5.0)
        first = after(starved(64), rule=rule)
        assert (first.again, first.memory_bytes, first.not_before) == (True, 128 * MIB, NOW + 5)
        assert first.reason == "memory_limit at 64M (1 of 3): again with 128M in 5s"
        second = after(starved(64), starved(128), rule=rule)
        assert second.memory_bytes == 256 * MIB
        last = after(starved(64), starved(128), starved(256), rule=rule)
        assert (last.again, last.memory_bytes) == (False, None)
        assert last.reason == "memory_limit at 256M (3 of 3): none is left"

    def test_a_list_gives_the_next_larger_size(self) -> None:
        rule = Retry.model_validate({"memory": ["1G", "32M", "128M"]})
        assert after(starved(64), rule=rule).memory_bytes == 128 * MIB
        assert after(starved(64), starved(128), rule=rule).memory_bytes == 1024 * MIB
        decision = after(starved(1024), rule=rule)
        assert not decision.again
        assert decision.reason == "memory_limit at 1G (1 of 4): the task names no larger size"

    def test_it_gets_no_more_than_there_is(self) -> None:
        policy = RetryPolicy(most_memory_bytes=100 * MIB)
        assert after(starved(64), rule=Retry(memory=2), policy=policy).memory_bytes == 100 * MIB
        decision = after(starved(64), starved(100), rule=Retry(memory=2), policy=policy)
        assert not decision.again
        assert decision.reason == "memory_limit at 100M (2 of 3): no task can be given more than 100M here"

    def test_its_budget_and_the_others_are_apart(self) -> None:
        rule = Retry(attempts=2, memory=2, memory_attempts=2)
        failed = ended(Verdict.EXIT_CODE, exit_code=1)
        assert after(starved(64), failed, rule=rule).again
        assert not after(starved(64), failed, failed, rule=rule).again
        assert after(failed, starved(64), rule=rule).again
        assert not after(failed, starved(64), starved(128), rule=rule).again

    def test_a_fault_of_the_grid_between_costs_nothing(self) -> None:
        decision = after(starved(64), ended(Verdict.NODE_LOST, "n1"), starved(128), rule=Retry(memory=2))
        assert decision.memory_bytes == 256 * MIB

    def test_without_a_way_to_more_it_is_like_any_failure(self) -> None:
        assert not after(starved(64), rule=Retry(attempts=3)).again
        decision = after(starved(64), rule=Retry(attempts=3, on=("memory_limit",)))
        assert (decision.again, decision.memory_bytes) == (True, None)

    def test_where_nothing_was_limited_nothing_can_be_raised(self) -> None:
        assert not after(ended(Verdict.MEMORY_LIMIT, "n"), rule=Retry(memory=2)).again

    def test_a_task_without_own_attempts_has_its_first_one(self) -> None:
        assert not after(ended(Verdict.EXIT_CODE), rule=Retry(memory=2)).again


@pytest.mark.parametrize("verdict", sorted(FINAL))
def test_some_verdicts_are_final_whatever_the_task_says(verdict: Verdict) -> None:
    decision = after(ended(verdict), rule=Retry(attempts=9, on=("user",)))
    assert not decision.again
    assert decision.reason == f"{verdict} is final"


@pytest.mark.parametrize("verdict", [Verdict.SUCCEEDED, Verdict.CANCELLED, Verdict.EXPIRED, Verdict.SKIPPED])
def test_what_was_reached_or_called_off_is_not_run_again(verdict: Verdict) -> None:
    assert not after(ended(verdict), rule=Retry(attempts=9, on=("user",))).again


@given(st.lists(st.sampled_from(sorted(Verdict)), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 5))
def test_every_task_comes_to_an_end(verdicts: list[Verdict], attempts: int, faults: int) -> None:
    rule = Retry(attempts=attempts, on=("user",))
    policy = RetryPolicy(infrastructure_retries=faults)
    past: list[EndedAttempt] = []
    for verdict in verdicts:
        past.append(ended(verdict, "n"))
        decision = after(*past, rule=rule, policy=policy)
        assert decision.not_before >= NOW
        if not decision.again:
            break
    used = sum(one.verdict_class is VerdictClass.USER for one in past)
    assert used <= attempts
    assert len(past) - used <= faults + 1
