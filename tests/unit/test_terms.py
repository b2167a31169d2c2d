"""Quotas, image names and retention as plain rules."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from tasks.limits import Limits
from tasks.placement import Ceiling, Policy, decide
from tasks.terms import (
    Quota,
    Retention,
    Rules,
    cpu_reason,
    image_allowed,
    kept_days,
    limits_of,
    mapped_image,
    queue_fault,
    running_reason,
    storage_fault,
)
from tests.support.placement import NOW, a_backlog, a_demand, a_node


@pytest.mark.parametrize(
    ("image", "meant"),
    [
        ("old/judge:2", "new.example.org/judge:2"),
        ("busybox", "mirror/busybox:1.36"),
        ("busybox:1", "busybox:1"),
        ("oldish", "oldish"),
        ("a.b", "a.b"),
    ],
)
def test_an_image_is_put_in_place_of_another(image: str, meant: str) -> None:
    names = {"old/*": "new.example.org/*", "busybox": "mirror/busybox:1.36", "axb": "wrong"}
    assert mapped_image(image, names) == meant


def test_the_most_exact_pattern_counts_in_whatever_order_they_stand() -> None:
    names = {"old/*": "new/*", "*": "all/*", "old/judge": "judge:3", "old/ju*": "ju/*"}
    for order in (names, dict(reversed(names.items()))):
        meant = [mapped_image(image, order) for image in ("old/judge", "old/just", "old/other", "other")]
        assert meant == ["judge:3", "ju/st", "new/other", "all/other"]


@pytest.mark.parametrize(
    ("image", "lists", "allowed"),
    [
        ("ubuntu", [], True),
        ("ubuntu", [["debian*", "ubuntu:*"]], True),
        ("ubuntu:24.04", [["ubuntu:latest"]], False),
        ("host:5000/ubuntu", [["host:5000/ubuntu:latest"]], True),
        ("ubuntu", [["*"], ["debian"]], False),
        ("evil/ubuntu", [["ubuntu*"]], False),
    ],
)
def test_an_image_needs_a_pattern_in_each_list(image: str, lists: list[list[str]], allowed: bool) -> None:
    assert image_allowed(image, lists) is allowed


def test_the_users_own_caps_go_before_the_strictest_of_the_groups() -> None:
    groups = [Limits(memory=2**30, cpus=2), Limits(memory=2**29)]
    assert limits_of(Limits(), groups) == Limits(memory=2**29, cpus=2)
    assert limits_of(Limits(memory=2**31), groups) == Limits(memory=2**31, cpus=2)


def test_retention_is_the_users_then_the_longest_of_groups_then_the_servers() -> None:
    server = Retention(logs={"*": 5, "success": 1})
    groups = [Retention(logs={"*": 10}), Retention(logs={"user": 20})]
    assert kept_days("logs", "success", Retention(), [], server) == 1
    assert kept_days("logs", "user", Retention(), groups, server) == 20
    assert kept_days("logs", "success", Retention(), groups, server) == 10
    assert kept_days("logs", "user", Retention(logs={"user": 0}), groups, server) == 0
    assert kept_days("files", "user", Retention(), groups, server) == math.inf


@pytest.mark.parametrize(
    "rules",
    [
        {"retention": {"logs": {"succeeded": 3}}},
        {"retention": {"logs": {"*": -1}}},
        {"quota": {"running": -1}},
        {"quota": {"cpu_hours": math.nan}},
        {"quota": {"jobs": 3}},
        {"limits": {"memory": "1K"}},
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(rules)


def test_rules_take_units_and_are_written_as_they_were_read() -> None:
    rules = Rules.model_validate({"quota": {"storage": "10G", "running": "3"}, "limits": {"time": "2min"}})
    assert (rules.quota.storage, rules.quota.running, rules.limits.time) == (10 * 2**30, 3, 120)
    assert Rules.model_validate(rules.model_dump(mode="json", exclude_defaults=True)) == rules


def test_a_refusal_names_the_quota_what_is_used_and_what_to_do() -> None:
    fault = queue_fault("group students", Quota(queued=10), 9, 2)
    assert fault is not None
    assert fault.message == "the quota of group students is 10 queued tasks, and 9 are waiting, 2 more were sent"
    assert "cancel some" in fault.hint
    assert queue_fault("x", Quota(queued=10), 9, 1) is None
    assert queue_fault("x", Quota(), 10**6, 1) is None


@pytest.mark.parametrize(("used", "more", "refused"), [(0, 10, False), (0, 11, True), (10, 0, True), (9, 0, False)])
def test_storage_is_full_at_its_quota(used: int, more: int, refused: bool) -> None:
    assert (storage_fault("user ada", Quota(storage=10), used, more) is not None) is refused


def test_reasons_to_wait_are_given_at_the_quota_and_not_before() -> None:
    assert not running_reason("user ada", Quota(running=2), 1)
    assert "2 running, and 2 are" in running_reason("user ada", Quota(running=2), 2)
    assert not cpu_reason("user ada", Quota(cpu_hours=1), 0.99)
    assert "1.00 of 1 cpu-hours in 7 days" in cpu_reason("user ada", Quota(cpu_hours=1), 1.0)


def test_owners_under_one_ceiling_begin_no_more_together_and_others_go_on() -> None:
    backlogs = [a_backlog(a_demand(owner, owner=owner, cpus=0.1, memory=0), 5) for owner in ("ada", "bob", "eve")]
    ceilings = (Ceiling(frozenset({"ada", "bob"}), 3, "r"), Ceiling(frozenset({"bob"}), 1, "r"))
    decision = decide(backlogs, [a_node(slots=100)], {}, (), NOW, Policy(ceilings=ceilings))
    placed = [one.task_id[:3] for one in decision.placements]
    assert (placed.count("ada"), placed.count("bob"), placed.count("eve")) == (2, 1, 5)


def test_nothing_is_kept_for_a_task_whose_owner_may_begin_nothing() -> None:
    large = a_backlog(a_demand("large", owner="ada", cpus=4), waited=10_000)
    small = a_backlog(a_demand("small", owner="bob", cpus=1), first=2)
    held = (Ceiling(frozenset({"ada"}), 0, "r"),)
    decision = decide([large, small], [a_node()], {}, (), NOW, Policy(ceilings=held))
    assert [one.task_id for one in decision.placements] == ["small-2"]
    assert decision.reservations == ()
