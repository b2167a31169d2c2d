"""What others use of a machine: a difference of counters, smoothed, told in steps, less what is theirs anyway."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from nodes.foreign import ForeignLoad, Steadies, Steady, Work, busy_seconds, group_of, process_seconds, withheld
from observer.cgroups import Layout
from tasks.order import Capacity, Foreign

GIB = 1024**3
MIB = 1024**2
OFFERED = Capacity(cpus=4, memory=9 * GIB)


def work(at: float, all_cpu: float = 0.0, own_cpu: float = 0.0, all_memory: int = 0, own_memory: int = 0) -> Work:
    return Work(at, all_cpu, own_cpu, all_memory, own_memory)


class TestTheDifference:
    def test_what_is_not_ours_is_theirs(self) -> None:
        before = work(0, all_cpu=100, own_cpu=40)
        assert work(10, all_cpu=130, own_cpu=60, all_memory=5 * GIB, own_memory=GIB).foreign_since(before) == (
            1.0,
            4 * GIB,
        )

    def test_our_own_work_is_nobody_elses(self) -> None:
        assert work(10, all_cpu=40, own_cpu=40).foreign_since(work(0)) == (0.0, 0)

    def test_counters_that_disagree_a_little_make_nothing_negative(self) -> None:
        assert work(10, all_cpu=39.5, own_cpu=40, own_memory=1).foreign_since(work(0)) == (0.0, 0)

    def test_groups_that_were_removed_count_anew(self) -> None:
        assert work(10, all_cpu=130, own_cpu=5).foreign_since(work(0, all_cpu=100, own_cpu=4000))[0] == 2.5


class TestSteady:
    def test_it_is_told_in_steps_and_a_little_noise_is_nothing(self) -> None:
        assert Steady(0.5).add(0.2, 0) == 0.0
        assert Steady(0.5).add(0.3, 0) == 0.5
        assert Steady(0.5).add(3.0, 0) == 3.0

    def test_a_short_burst_is_smoothed_away(self) -> None:
        steady = Steady(0.5, smooth_seconds=20, calm_seconds=30)
        steady.add(0.0, 0)
        assert steady.add(1.0, 5) == 0.0
        assert steady.add(0.0, 10) == 0.0

    def test_it_rises_with_a_load_that_stays(self) -> None:
        steady = Steady(0.5, smooth_seconds=20, calm_seconds=30)
        found = [steady.add(3.0 if at else 0.0, at) for at in range(0, 125, 5)]
        assert found == sorted(found)
        assert found[-1] == 3.0

    def test_it_falls_only_after_a_while_of_calm(self) -> None:
        steady = Steady(0.5, smooth_seconds=0, calm_seconds=30)
        steady.add(2.0, 0)
        assert [steady.add(0.0, at) for at in (10, 29)] == [2.0, 2.0]
        assert steady.add(2.0, 29.5) == 2.0
        assert steady.add(0.0, 45) == 2.0
        assert steady.add(0.0, 60) == 0.0

    def test_a_load_that_goes_up_and_down_does_not_flap(self) -> None:
        steady = Steady(0.5, smooth_seconds=20, calm_seconds=30)
        steady.add(2.0, 0)
        found = [steady.add(2.0 if at % 10 else 1.0, at) for at in range(5, 600, 5)]
        assert sum(one != other for one, other in pairwise(found)) == 1
        assert found[-1] == 1.5


class TestWhatIsWithheld:
    def test_all_that_others_use_where_everything_is_offered(self) -> None:
        assert withheld(OFFERED, Foreign(cpus=3, memory=0), 4, 10 * GIB) == Foreign(cpus=3, memory=0)

    def test_what_is_not_offered_is_theirs_first(self) -> None:
        half = Capacity(cpus=2, memory=4 * GIB)
        assert withheld(half, Foreign(cpus=2, memory=5 * GIB), 4, 10 * GIB) == Foreign()
        assert withheld(half, Foreign(cpus=3, memory=0), 4, 10 * GIB).cpus == 1

    def test_memory_counts_above_what_the_system_may_have(self) -> None:
        assert withheld(OFFERED, Foreign(memory=512 * MIB), 4, 10 * GIB).memory == 0
        assert withheld(OFFERED, Foreign(memory=3 * GIB), 4, 10 * GIB).memory == pytest.approx(2.5 * GIB, abs=MIB)

    def test_never_more_than_is_offered(self) -> None:
        assert withheld(OFFERED, Foreign(cpus=64, memory=64 * GIB), 4, 10 * GIB) == Foreign(cpus=4, memory=9 * GIB)


def test_the_first_look_says_nothing_and_the_next_ones_tell() -> None:
    looks = iter([work(0), work(10, all_cpu=30, own_cpu=10), work(20, all_cpu=60, own_cpu=20)])
    load = ForeignLoad(lambda: next(looks), 4, 10 * GIB, Steadies(0, 0))
    assert load(OFFERED) == Foreign()
    assert load(OFFERED) == Foreign(cpus=2.0)
    assert load(OFFERED) == Foreign(cpus=2.0)


class TestReading:
    def test_busy_is_all_but_idle_and_waiting_on_our_cores_alone(self) -> None:
        text = (
            "cpu  9 9 9 9 9\ncpu0 100 20 30 4000 500 6 7 8 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\ncpu10 5 0 0 0 0 0 0 0 0 0\n"
        )
        assert busy_seconds(text, {0}) == 1.71
        assert busy_seconds(text, {0, 10}) == 1.76

    def test_a_process_may_have_any_name(self) -> None:
        fields = " ".join(str(number) for number in range(3, 30))
        assert process_seconds(f"1 (a) b) {fields}") == (22, (14 + 15 + 16 + 17) / 100)

    def test_the_group_of_a_process(self) -> None:
        v1 = Layout({"cpuacct": Path("/c"), "memory": Path("/m")})
        text = "9:memory:/m\n3:cpu,cpuacct:/system.slice/docker.service\n0::/other\n"
        assert group_of(text, v1) == "/system.slice/docker.service"
        assert group_of(text, Layout({}, Path("/u"))) == "/other"
        assert group_of("", v1) == "/"
