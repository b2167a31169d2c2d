"""Chores are done again and again, also after one that failed."""

from __future__ import annotations

import threading

from nodes.sweeping import Suspects
from nodes.upkeep import Chore, Upkeep
from tasks.errors import NodeFault
from tests.support.node_api import eventually


def test_chores_are_done_in_turn_and_a_fault_ends_nothing() -> None:
    done: list[str] = []

    def fails() -> None:
        done.append("fails")
        raise NodeFault("runtime_error", "the engine is away")

    upkeep = Upkeep((Chore("fails", 0.01, fails), Chore("works", 0.02, lambda: done.append("works"))))
    upkeep.start()
    eventually(lambda: done.count("fails") > 3 and done.count("works") > 2)
    upkeep.close()


def test_nothing_begins_after_the_close() -> None:
    begun = threading.Event()
    upkeep = Upkeep((Chore("late", 0.2, begun.set),))
    upkeep.start()
    upkeep.close()
    assert not begun.wait(0.4)


def test_a_stranger_is_swept_when_it_is_seen_twice_in_a_row() -> None:
    known = {"mine"}
    suspects = Suspects(known.__contains__)
    assert "mine" in suspects
    assert "stranger" in suspects
    assert "stranger" in suspects
    suspects.turn()
    assert "stranger" not in suspects
    assert "newcomer" in suspects
    suspects.turn()
    suspects.turn()
    assert "stranger" in suspects


def test_an_attempt_that_becomes_known_between_two_looks_stays() -> None:
    known: set[str] = set()
    suspects = Suspects(known.__contains__)
    assert "a" in suspects
    suspects.turn()
    known.add("a")
    assert "a" in suspects
