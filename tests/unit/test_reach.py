"""Whether a registry can be reached: asked seldom, never waited for, and believed when it changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from nodes import reach
from nodes.reach import Reach
from tests.support.node_api import eventually


class Network:
    """A network that may be away, slow, and counts how often it was asked."""

    def __init__(self) -> None:
        self.there = True
        self.asked = 0
        self.answering = threading.Event()
        self.answering.set()

    def look(self) -> bool:
        self.asked += 1
        self.answering.wait(20)
        return self.there


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.answering.set()


def test_what_was_reached_is_not_asked_again_for_a_while(network: Network) -> None:
    now = 0.0
    known = Reach(network.look, lambda: now)
    assert [known(), known()] == [True, True]
    assert network.asked == 1
    now = reach.TRUSTED_SECONDS + 1
    network.there = False
    assert known() is False
    assert network.asked == 2


def test_a_network_that_comes_back_is_noticed(network: Network) -> None:
    network.there = False
    known = Reach(network.look)
    assert [known(), known()] == [False, False]
    network.there = True
    assert known() is True


def test_nobody_waits_for_a_network_that_does_not_answer(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "WAIT_SECONDS", 0.01)
    network.there = False
    network.answering.clear()
    known = Reach(network.look)
    assert [known(), known()] == [True, True]
    assert network.asked == 1
    network.answering.set()
    eventually(lambda: known() is False)
