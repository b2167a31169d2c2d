"""A node knows by its own monotonic clock alone what it may still run."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodes.attempt import AttemptFolder, Running
from nodes.leases import Leases
from tasks.states import Phase
from tests.support.node_api import order


def running(attempt: str, since: float = 0.0) -> Running:
    return Running(order(attempt, "true"), AttemptFolder(Path("/nowhere") / attempt), since)


@pytest.fixture
def leases() -> Leases:
    return Leases()


def test_a_message_that_comes_twice_is_taken_once(leases: Leases) -> None:
    assert leases.claim("a")
    assert not leases.claim("a")
    leases.release("a")
    assert leases.claim("a")


def test_what_was_given_up_is_never_taken_again(leases: Leases) -> None:
    assert leases.claim("a")
    leases.hold("a", "token", running("a"), asked=0.0)
    leases.give_up("a")
    assert not leases.claim("a")
    assert not leases.knows("a"), "what there is of it is to be swept"
    assert leases.attempts() == ()


def test_a_lease_counts_from_the_question_not_from_the_answer(leases: Leases) -> None:
    one = running("a")
    leases.hold("a", "token", one, asked=100.0)
    assert leases.lapsed(130.0, 30.0) == []
    assert leases.lapsed(130.1, 30.0) == [one]


def test_an_answered_heartbeat_renews_only_those_it_named(leases: Leases) -> None:
    leases.hold("a", "token", running("a"), asked=0.0)
    pulses = leases.pulses()
    late = running("b")
    leases.hold("b", "token", late, asked=1.0)
    leases.renew(pulses, sent=20.0)
    assert leases.lapsed(40.0, 30.0) == [late]


def test_a_hello_renews_all_but_those_the_server_dropped(leases: Leases) -> None:
    dropped = running("b")
    leases.hold("a", "token", running("a"), asked=0.0)
    leases.hold("b", "token", dropped, asked=0.0)
    leases.renew_all(20.0, without=("b",))
    assert leases.lapsed(40.0, 30.0) == [dropped]


def test_an_unreported_outcome_is_held_on_and_cannot_be_stopped(leases: Leases) -> None:
    leases.hold("a", "token", running("a"), asked=0.0)
    leases.ended("a")
    assert leases.lapsed(1000.0, 30.0) == []
    assert leases.running() == []
    assert [(pulse.attempt, pulse.phase) for pulse in leases.pulses()] == [("a", Phase.UPLOADING)]


def test_a_long_phase_is_worth_a_heartbeat_of_its_own(leases: Leases) -> None:
    one = running("a", since=0.0)
    leases.hold("a", "token", one, asked=0.0)
    one.enter(Phase.EXECUTING, 10.0)
    assert not leases.untold(10.9)
    assert leases.untold(11.1)
    leases.renew(leases.pulses(), sent=11.1)
    assert not leases.untold(20.0)
