"""Nodes that went down are started again over ssh: a real sshd, real agents, and the command that operators type."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid import config
from tests.support.commands import command
from tests.support.grid_fixtures import LEASE_SECONDS, pytest_runtest_makereport
from tests.support.grids import RunningGrid, Worker
from tests.support.images import ensure_test_image
from tests.support.node_api import eventually
from tests.support.sshd import Sshd

# Long, for the agents' starts are slow on a machine on which many tests run.
pytestmark = [pytest.mark.needs("docker", "busybox", "root", "sshd"), pytest.mark.timeout(300)]

__all__ = ["pytest_runtest_makereport"]

NODES = ("alpha", "beta")
GONE_SECONDS = 45.0


class Machine:
    """The machine of a node as systemd would have it: ``restart`` ends the agent that runs, and starts another."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.pid_file = folder / f"{worker.name}.pid"
        variables = {name: text for name, text in worker.environment.items() if name.startswith(("GRID_", "PYTHON"))}
        words = ["env", *(f"{name}={text}" for name, text in variables.items()), *worker.command]
        stop = f"kill -9 $(cat {self.pid_file}) 2>/dev/null"
        start = f"setsid {shlex.join(words)} >>{worker.log} 2>&1 </dev/null & echo $! >{self.pid_file}"
        (folder / f"{worker.name}.sh").write_text(f"{stop}\n{start}\n")

    def stop(self) -> None:
        """End the agent that was started there, if one was."""
        if not self.pid_file.exists():
            return
        pid = int(self.pid_file.read_text())
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        eventually(
            lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid with two nodes, and an operator who knows where they are."""
    ensure_test_image()
    folder = tmp_path_factory.mktemp("lab")
    grid = RunningGrid(folder / "grid", node=False, lease_seconds=LEASE_SECONDS)
    with grid as running, Sshd(folder / "ssh", NODES) as ssh:
        machines = [Machine(running.add_node(name), folder) for name in NODES]
        known = config.NodesConfig(
            command=f"sh {folder}/$NODE.sh",
            ssh_options=("-F", str(ssh.client_config)),
            hosts={"alpha": "alpha", "beta": "beta"},
        )
        config.save(running.config_file, config.Config(running.server, running.token, known))
        yield running
        for machine in machines:
            machine.stop()


def test_nodes_that_went_down_are_back_with_one_command(lab: RunningGrid) -> None:
    assert command(lab, "nodes", "restart", "--away").err.strip() == "no node is away"
    for name in NODES:
        lab.workers[name].kill()
    eventually(lambda: all(lab.node_is(name, online=False) for name in NODES), GONE_SECONDS)

    done = command(lab, "nodes", "restart", "--away", "--wait", "50s")
    assert done.status == 0, done.err
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[:3] for row in rows if row[0] in NODES] == [["alpha", "alpha", "back"], ["beta", "beta", "back"]]
    for name in NODES:
        assert lab.node_is(name, online=True, ready=True)
    assert lab.run("true", timeout=60).succeeded


def test_what_cannot_be_reached_does_not_run_or_does_not_come_back_is_told_of(lab: RunningGrid) -> None:
    (failed,) = command(lab, "nodes", "restart", "alpha", "--command", "echo no such unit >&2; exit 5", "--json").json
    assert (failed["outcome"], failed["detail"]) == ("failed", "exit status 5: no such unit")
    started = command(lab, "nodes", "restart", "beta", "alpha", "--command", "true", "--wait", "0s", "--json")
    assert (started.status, [one["outcome"] for one in started.json]) == (0, ["started", "started"])

    stored = config.read(lab.config_file)
    elsewhere = config.NodesConfig(hosts={"alpha": "root@127.0.0.1"}, ssh_options=("-p", "1"))
    config.save(lab.config_file, config.Config(stored.server, stored.token, elsewhere))
    try:
        refused = command(lab, "nodes", "restart", "alpha")
    finally:
        config.save(lab.config_file, stored)
    assert refused.status == 1
    assert (
        "alpha\troot@127.0.0.1\tfailed\tssh: ssh: connect to host 127.0.0.1 port 1: Connection refused" in refused.out
    )

    os.kill(int(next(Path(lab.folder.parent).glob("beta.pid")).read_text()), signal.SIGKILL)
    eventually(lambda: lab.node_is("beta", online=False), GONE_SECONDS)
    late = command(lab, "nodes", "restart", "beta", "--command", "true", "--wait", "2s", "--json")
    assert late.status == 1
    assert late.json[0]["outcome"] == "not back"
    assert "after 2s: not heard of since" in late.json[0]["detail"]
    assert command(lab, "nodes", "restart", "beta", "--wait", "50s").status == 0


def test_a_node_that_runs_is_restarted_too(lab: RunningGrid) -> None:
    done = command(lab, "nodes", "restart", "alpha", "--wait", "50s", "--json")
    assert [one["outcome"] for one in done.json] == ["back"]
    assert command(lab, "nodes", "restart").status == 2
    assert command(lab, "nodes", "restart", "nobody").status == 1
