"""A node as it is run: ``python -m nodes start`` with a real broker and engine, killed and stopped in all ways."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from grid.celery import CANCEL_COMMAND, RUN_TASK, hostname_of, make_app, queue_of
from nodes.config import NodeConfig
from nodes.runtimes.docker import DockerRuntime
from tasks.states import StopCause
from tests.support.agents import new_name
from tests.support.broker import Broker
from tests.support.node_api import NodeApi, eventually, order, serving

# Containers are named for their attempts, whatever grid they are of.
A1, A2 = new_name(), new_name()

pytestmark = pytest.mark.needs("docker", "busybox", "root")


class Grid:
    """A small server, a broker, and a node that can be started, killed and stopped."""

    def __init__(self, api: NodeApi, address: str, broker: Broker, directory: Path) -> None:
        self.api, self.address, self.broker, self.directory = api, address, broker, directory
        self.celery: Celery = make_app(broker.url)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *options: str, token: str | None = None) -> subprocess.Popen[str]:
        """Start the node; its log goes to a file."""
        command = [sys.executable, "-m", "nodes", "start", "--server", self.address, "--name", self.api.node]
        command += ["--dir", str(self.directory / "node"), "--slots", "2", *options]
        with (self.directory / "log").open("a") as log:
            process = subprocess.Popen(
                command, stderr=log, text=True, env={**os.environ, "GRID_TOKEN": token or self.api.token}
            )
        self.processes.append(process)
        return process

    def serve(self, *options: str) -> subprocess.Popen[str]:
        """Start the node and wait until it consumes its queue."""
        before = self.log().count("action=serving")
        process = self.start(*options)
        eventually(lambda: self.log().count("action=serving") > before)
        return process

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def give(self, attempt: str, *args: str, **changes: object) -> str:
        """Have an attempt for the node, and wake it as the dispatcher does."""
        self.api.orders[attempt] = order(attempt, *args, **changes)
        self.wake(attempt)
        return attempt

    def wake(self, attempt: str, nonce: str = "nonce") -> None:
        self.celery.send_task(RUN_TASK, args=[attempt, nonce], queue=queue_of(self.api.node), task_id=attempt)

    def says(self, attempt: str, word: bytes) -> bool:
        return word in self.api.logs.get((attempt, "stdout"), b"")

    def let_go(self, attempt: str) -> None:
        """Tell a task that waits for the file ``go`` to go on."""
        (self.directory / "node" / "workspaces" / attempt / "task" / "go").touch()

    def left_behind(self) -> list[Path]:
        node = self.directory / "node"
        return [path for name in ("attempts", "workspaces", "spool") for path in (node / name).glob("[!.]*")]

    def end(self) -> None:
        """Kill what still runs, and clear the engine of what it had."""
        for process in self.processes:
            process.kill()
            process.wait()
        home = self.directory / "node"
        config = NodeConfig(server=self.address, name=self.api.node, directory=home, token="none")
        runtime = DockerRuntime(config.identity)
        runtime.reap(())
        runtime.close()
        self.celery.close()


WAITS = ("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.05; done; echo over; echo result > file")


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    broker = Broker(tmp_path / "broker")
    broker.start()
    api = NodeApi(node=new_name(), broker_url=broker.url)
    with serving(api) as address:
        made = Grid(api, address, broker, tmp_path)
        yield made
        made.end()
    broker.kill()


def test_a_woken_node_runs_and_reports(grid: Grid) -> None:
    grid.serve()
    grid.give(A1, "echo", "hello")
    eventually(lambda: A1 in grid.api.outcomes)
    assert grid.api.logs[A1, "stdout"] == b"hello\n"
    eventually(lambda: grid.left_behind() == [])


def test_containers_outlive_a_killed_agent_and_are_adopted(grid: Grid) -> None:
    first = grid.serve()
    grid.give(A1, *WAITS, spec={"collect": [{"glob": "file"}]})
    eventually(lambda: grid.says(A1, b"ready"))
    first.kill()
    first.wait()
    grid.serve()
    assert grid.api.hellos[-1].adopted == (A1,)
    grid.wake(A1)  # the message is repeated as well
    grid.let_go(A1)
    eventually(lambda: A1 in grid.api.outcomes)
    assert grid.api.taken[A1] == 1
    assert grid.api.logs[A1, "stdout"] == b"ready\nover\n"
    assert grid.api.file(A1, "file") == b"result\n"
    assert grid.api.outcomes[A1].usage.wall_seconds > 0.5
    eventually(lambda: grid.left_behind() == [])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core there is nothing to share out")
def test_the_cores_of_an_adopted_attempt_stay_its_own(grid: Grid) -> None:
    pinned = ("sh", "-c", "grep Cpus_allowed_list /proc/self/status; while [ ! -e go ]; do sleep 0.05; done")
    first = grid.serve()
    grid.give(A1, *pinned, limits={"cpus": 1})
    eventually(lambda: grid.says(A1, b"\n"))
    first.kill()
    first.wait()
    grid.serve()
    assert grid.api.hellos[-1].adopted == (A1,)
    grid.give(A2, *pinned, limits={"cpus": 1})
    eventually(lambda: grid.says(A2, b"\n"))
    cores = [grid.api.logs[attempt, "stdout"].split()[1] for attempt in (A1, A2)]
    assert all(core.isdigit() for core in cores)
    assert cores[0] != cores[1]
    for attempt in (A1, A2):
        grid.let_go(attempt)
    eventually(lambda: {A1, A2} <= set(grid.api.outcomes))


def test_what_ended_while_no_agent_lived_is_collected_not_run_again(grid: Grid) -> None:
    first = grid.serve()
    grid.give(A1, *WAITS, spec={"collect": [{"glob": "file"}]})
    eventually(lambda: grid.says(A1, b"ready"))
    first.kill()
    first.wait()
    grid.let_go(A1)
    eventually(lambda: (grid.directory / "node/workspaces" / A1 / "task/file").exists())
    grid.serve()
    eventually(lambda: A1 in grid.api.outcomes)
    assert grid.api.outcomes[A1].evidence.exit_code == 0
    assert grid.api.file(A1, "file") == b"result\n"


def test_an_attempt_that_the_server_gave_away_meanwhile_is_not_adopted(grid: Grid) -> None:
    first = grid.serve()
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    first.kill()
    first.wait()
    grid.api.stale.add(A1)
    grid.serve()
    eventually(lambda: grid.left_behind() == [])
    assert grid.api.outcomes == {}


def test_a_stop_leaves_running_containers_to_the_next_start(grid: Grid) -> None:
    first = grid.serve("--shutdown-seconds", "0.3")
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    grid.serve()
    grid.let_go(A1)
    eventually(lambda: A1 in grid.api.outcomes)
    assert grid.api.logs[A1, "stdout"] == b"ready\nover\n"


def test_a_stop_lets_short_tasks_end(grid: Grid) -> None:
    node = grid.serve("--shutdown-seconds", "20")
    grid.give(A1, "sh", "-c", "echo ready; sleep 1")
    eventually(lambda: grid.says(A1, b"ready"))
    node.send_signal(signal.SIGTERM)
    assert node.wait(15) == 0
    assert grid.api.outcomes[A1].evidence.exit_code == 0


def test_a_stop_is_said_at_once_and_a_drain_waits_for_what_runs(grid: Grid) -> None:
    grid.api.heartbeat_seconds = 10.0
    node = grid.serve("--on-stop", "drain")
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    node.send_signal(signal.SIGTERM)
    eventually(lambda: not grid.api.beats[-1].ready, seconds=3)
    assert grid.api.beats[-1].not_ready_reason == "it is shutting down"
    assert node.poll() is None
    grid.let_go(A1)
    assert node.wait(15) == 0
    assert grid.api.outcomes[A1].evidence.exit_code == 0


@pytest.mark.parametrize("options", [("return",), ("drain", "--shutdown-seconds", "0.3")], ids=["return", "drain"])
def test_a_stop_hands_back_what_it_ends(grid: Grid, options: tuple[str, ...]) -> None:
    node = grid.serve("--on-stop", *options)
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    node.send_signal(signal.SIGTERM)
    assert node.wait(15) == 0
    evidence = grid.api.outcomes[A1].evidence
    assert (evidence.stopped, evidence.stop_reason) == (StopCause.HANDED_BACK, "it is shutting down")
    assert grid.left_behind() == []


def test_a_second_signal_waits_for_nothing(grid: Grid) -> None:
    node = grid.serve("--on-stop", "drain")
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    node.send_signal(signal.SIGTERM)
    eventually(lambda: not grid.api.beats[-1].ready)
    assert A1 not in grid.api.outcomes
    node.send_signal(signal.SIGTERM)
    assert node.wait(15) == 0
    assert grid.api.outcomes[A1].evidence.stopped is StopCause.HANDED_BACK


def test_a_task_that_the_server_wants_back_is_ended_and_handed_back(grid: Grid) -> None:
    grid.serve()
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    grid.api.hand_back[A1] = "it is being drained by ann"
    eventually(lambda: A1 in grid.api.outcomes)
    evidence = grid.api.outcomes[A1].evidence
    assert (evidence.stopped, evidence.stop_reason) == (StopCause.HANDED_BACK, "it is being drained by ann")


def test_a_stop_does_not_wait_for_a_broker_that_is_gone(grid: Grid) -> None:
    node = grid.serve()
    grid.broker.kill()
    node.send_signal(signal.SIGTERM)
    assert node.wait(15) == 0


def test_a_node_survives_its_broker(grid: Grid) -> None:
    grid.serve()
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    grid.broker.kill()
    grid.let_go(A1)
    eventually(lambda: A1 in grid.api.outcomes)
    grid.broker.forget()
    grid.broker.start()
    grid.give(A2, "true")
    eventually(lambda: A2 in grid.api.outcomes)


def test_the_control_command_cancels_at_once(grid: Grid) -> None:
    grid.api.heartbeat_seconds = 10.0
    grid.serve()
    grid.give(A1, *WAITS)
    eventually(lambda: grid.says(A1, b"ready"))
    grid.celery.control.broadcast(
        CANCEL_COMMAND, {"attempt": A1, "reason": "by ann"}, destination=[hostname_of(grid.api.node)]
    )
    eventually(lambda: A1 in grid.api.outcomes, seconds=5)
    evidence = grid.api.outcomes[A1].evidence
    assert (evidence.stopped, evidence.stop_reason) == (StopCause.CANCELLED, "by ann")


def test_a_second_agent_says_who_is_in_its_way(grid: Grid) -> None:
    first = grid.serve()
    second = grid.start()
    assert second.wait(15) == 2
    assert f"pid {first.pid}" in grid.log()


def test_a_refused_token_ends_the_start_with_a_reason(grid: Grid) -> None:
    node = grid.start(token="wrong")
    assert node.wait(15) == 3
    assert "refuses this node: this token is not known" in grid.log()
    assert "wrong" not in grid.log()


def test_a_start_waits_for_a_server_that_is_away(grid: Grid) -> None:
    grid.api.away = True
    grid.start()
    eventually(lambda: "action=hello_later" in grid.log())
    grid.api.away = False
    eventually(lambda: "action=serving" in grid.log())


def test_a_node_whose_name_was_taken_over_ends(grid: Grid) -> None:
    node = grid.serve()
    grid.api.session = "another"
    assert node.wait(15) == 3
