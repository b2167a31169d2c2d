"""Stories of the observer's pure parts: where sessions are, what they may use, and what is told of them."""

from __future__ import annotations

from observer.cgroups.box import BoxUsage, parse_cores
from observer.cgroups.membership import LEAF, group_name, home, scope_of, sessions_above
from observer.cgroups.usage import GroupUsage
from observer.sessions import choose_cores
from observer.stats import Ended, Stats, to_json
from observer.units import parse_bytes, parse_seconds

OUTER, INNER = "a" * 32, "b" * 32
NAME = group_name("0" * 8, OUTER)


def test_a_leaf_of_ours_is_taken_for_the_group_above() -> None:
    assert home(f"/docker/c1/{LEAF}") == "/docker/c1"
    assert home(f"/{LEAF}") == "/"
    assert home("/docker/c1") == "/docker/c1"


def test_a_container_is_the_same_in_all_its_sessions_and_never_another() -> None:
    plain, deep = {"memory": "/docker/c1"}, {"memory": f"/docker/c1/{NAME}/{LEAF}"}
    assert scope_of(plain, ("memory",)) == scope_of(deep, ("memory",))
    assert scope_of(plain, ("memory",)) != scope_of({"memory": "/docker/c2"}, ("memory",))


def test_the_sessions_around_a_process_are_known_by_its_path() -> None:
    assert sessions_above(f"/docker/c1/{NAME}/{group_name('1' * 8, INNER)}") == (OUTER, INNER)
    assert sessions_above("/docker/c1/grid_observer_x") == ()


def test_processors_are_taken_from_the_offset_or_from_the_first_where_too_few_are_left() -> None:
    assert choose_cores((0, 1, 4, 5), 2, 2) == (4, 5)
    assert choose_cores((0, 1, 4, 5), 2, 3) == (0, 1)
    assert choose_cores((0, 1), 8, 0) == (0, 1)
    assert parse_cores("0-2,5\n") == (0, 1, 2, 5)


def test_statistics_are_told_in_kolejkas_words() -> None:
    group = GroupUsage(cpu_seconds=0.25, memory_peak_bytes=4096, pids=2, oom_kills=1)
    told = to_json(Stats(BoxUsage(group, cores=(0.25, 0.0)), 1.5, ended=Ended.TIME_LIMIT))
    assert told["cpu"] == {"usage": "0.25s", "user": "0.0s", "system": "0.0s"}
    assert told["cpus"] == {"0": {"usage": "0.25s"}, "1": {"usage": "0.0s"}}
    assert told["memory"] == {"max_usage": "4096b", "oom_kills": 1}
    assert (told["time"], told["ended"]) == ("1.5s", "time_limit")
    assert parse_seconds("0.25s") == 0.25
    assert parse_bytes("4096b") == 4096


def test_of_a_session_that_nobody_knows_nothing_is_told() -> None:
    assert to_json(None) == {"cpu": {}, "cpus": {}, "memory": {}, "pids": {}, "perf": {}, "gpus": {}}


def test_the_most_processes_seen_are_kept_where_the_kernel_does_not() -> None:
    first = Stats(BoxUsage(GroupUsage(pids=7)), 1.0)
    assert Stats(BoxUsage(GroupUsage(pids=2)), 2.0).after(first).usage.group.pids_peak == 7
