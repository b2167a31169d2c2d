"""Cores are handed out to attempts, never twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nodes.cores import Cores


def test_whole_numbers_get_cores_that_nobody_shares() -> None:
    cores = Cores({0, 1, 4, 5})
    assert cores.take("a", 2.0) == (0, 1)
    assert cores.take("b", 1) == (4,)
    assert cores.free == {5}
    cores.release("a")
    assert cores.take("c", 2) == (0, 1)


def test_fractions_nothing_and_too_many_get_none() -> None:
    cores = Cores({0, 1})
    assert [cores.take("a", cpus) for cpus in (0.5, 1.5, None, 0, 3)] == [()] * 5
    assert cores.free == {0, 1}


def test_an_attempt_that_asks_again_gets_the_same() -> None:
    cores = Cores({0, 1})
    assert cores.take("a", 1) == cores.take("a", 1) == (0,)
    cores.release("a")
    cores.release("a")
    assert cores.free == {0, 1}


def test_adopted_attempts_take_their_own_again() -> None:
    cores = Cores({0, 1, 2})
    cores.retake("a", (1, 7))
    assert cores.take("a", 1) == (1,)
    cores.retake("b", (1, 2))
    assert cores.take("b", 2) == (2,)
    assert cores.free == {0}


def test_the_context_gives_them_back() -> None:
    cores = Cores({3})
    with cores.taken("a", 1) as taken:
        assert (taken, cores.free) == ((3,), frozenset())
    assert cores.free == {3}


def test_many_threads_never_share_a_core() -> None:
    cores = Cores(set(range(4)))
    busy: set[int] = set()

    def work(number: int) -> bool:
        with cores.taken(str(number), 2) as taken:
            alone = not busy & set(taken)
            busy.update(taken)
            busy.difference_update(taken)
            return alone

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(500)))
    assert cores.free == {0, 1, 2, 3}


def test_by_default_the_cores_of_the_machine_are_shared_out() -> None:
    assert Cores().free
