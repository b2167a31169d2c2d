"""A node refuses work while its disk, its engine or its clock is bad, says why, and takes it again when mended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.health import HUNG, Health, clock_problem
from nodes.server import Server
from tasks.errors import NodeFault
from tasks.order import Capacity, Facts, Hello
from tests.support.node_api import NodeApi, eventually, serving

FACTS = Facts(capacity=Capacity(cpus=1, memory=1))


class Machine:
    """What a node would see of its machine."""

    def __init__(self) -> None:
        self.fault: NodeFault | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.offset_seconds: float | None = None

    def gather(self) -> Facts:
        self.answers.wait(60)
        if self.fault is not None:
            raise self.fault
        return FACTS

    def offset(self) -> float | None:
        return self.offset_seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def health(machine: Machine, tmp_path: Path) -> Iterator[Health]:
    (tmp_path / "node").mkdir()
    made = Health(machine.gather, tmp_path / "node", machine.offset)
    made.start()
    yield made
    machine.answers.set()
    made.close()


def says(health: Health, problem: str) -> bool:
    """Look now, and tell whether this is what is wrong."""
    health.look_now()
    return health.state().problem == problem


def test_an_engine_that_hangs_is_a_problem_though_the_look_at_it_does_not_end(
    machine: Machine, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.health.LOOK_SECONDS", 0.05)
    machine.answers.clear()
    eventually(lambda: says(health, HUNG))
    health.told(health.state())
    assert [health.changed] == [False], "it is said once"
    machine.answers.set()
    eventually(lambda: says(health, ""))


def test_a_clock_that_is_far_off_is_a_problem_until_it_is_set_right(machine: Machine, health: Health) -> None:
    assert health.state().problem == ""
    machine.offset_seconds = 7200.4
    eventually(lambda: says(health, "its clock is 2h ahead of the server's"))
    assert health.changed
    machine.offset_seconds = -301.0
    eventually(lambda: says(health, "its clock is 5min 1s behind the server's"))
    machine.offset_seconds = 299.0
    eventually(lambda: says(health, ""))


def test_an_engine_that_is_away_is_a_problem_until_it_is_back(machine: Machine, health: Health) -> None:
    machine.fault = NodeFault("runtime_error", "the engine does not answer")
    eventually(lambda: says(health, "the engine does not answer"))
    machine.fault = None
    eventually(lambda: says(health, ""))


def test_a_folder_that_is_gone_is_a_problem_until_it_is_back(health: Health, tmp_path: Path) -> None:
    (tmp_path / "node").rmdir()
    eventually(lambda: says(health, f"{tmp_path / 'node'}: No such file or directory"))
    (tmp_path / "node").mkdir()
    eventually(lambda: says(health, ""))


@pytest.mark.parametrize("offset", [None, 0.0, 300.0, -300.0])
def test_a_clock_that_is_near_enough_is_no_problem(offset: float | None) -> None:
    assert clock_problem(offset) == ""


def test_every_answer_of_the_server_tells_the_time() -> None:
    api = NodeApi()
    with serving(api) as address:
        server = Server(address, api.token)
        assert server.clock_offset_seconds is None
        server.hello(Hello(session="s", facts=FACTS))
        assert server.clock_offset_seconds == pytest.approx(0.0, abs=5.0)
        server.close()
