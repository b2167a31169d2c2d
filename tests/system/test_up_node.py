"""``grid up`` with a node: what dies comes back, and its end leaves nothing on the machine."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
from pathlib import Path

import pytest

from nodes.config import NodeConfig
from tests.support.commands import command
from tests.support.containers import containers
from tests.support.grids import GridMaker, RunningGrid
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

CGROUPS = Path("/sys/fs/cgroup")
END_SECONDS = 40
ORDER = ("node", "web", "dispatcher", "flower", "broker")


def test_no_argument_of_a_process_holds_a_secret(grid: RunningGrid) -> None:
    memory = json.loads((grid.directory / "up.json").read_text())
    secrets = {name: text for name, text in memory.items() if name.endswith(("_password", "_token"))}
    secrets["password"] = str(grid.facts["password"])
    secrets["key"] = (grid.directory / "secret_key").read_text().strip()
    assert len(secrets) == 6
    assert all(len(secret) >= 12 for secret in secrets.values())

    seen = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        seen += str(grid.directory) in arguments
        assert [name for name, secret in secrets.items() if secret in arguments] == []
    assert seen >= 2


def test_what_holds_a_secret_is_private(grid: RunningGrid) -> None:
    assert stat.S_IMODE(grid.config_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(grid.directory.stat().st_mode) == 0o700
    for name in ("up.json", "secret_key", "admin-password"):
        assert stat.S_IMODE((grid.directory / name).stat().st_mode) == 0o600, name


def test_a_second_grid_in_the_folder_is_refused(grid: RunningGrid) -> None:
    done = command(grid, "up", "--dir", grid.directory, "--port", "0")

    assert (done.status, done.out) == (2, "")
    assert done.err == f"grid: a grid runs in {grid.directory} already: {grid.server} (process {grid.pid})\n"
    assert grid.client.whoami()["user"] == "admin"


def test_the_port_of_another_is_refused_with_the_name_of_who_has_it(grid: RunningGrid, tmp_path: Path) -> None:
    port = grid.server.rpartition(":")[2]
    done = command(grid, "up", "--dir", tmp_path / "other", "--port", port, "--no-node")

    assert done.status == 2
    assert f"port {port} is taken by " in done.err


def test_its_end_leaves_nothing(new_grid: GridMaker) -> None:
    grid = new_grid()
    identity = identity_of(grid)
    assert grid.run("echo", "done").succeeded
    tasks = [grid.submit("sleep", seconds, limits={"time": "900s"}) for seconds in ("600", "1")]
    eventually(lambda: {task.refresh().state for task in tasks} == {"running"})
    eventually(lambda: sum(one.running for one in containers(identity)) == 2)
    programs = {pid: name for name in ORDER if (pid := grid.find(name)) is not None}
    assert len(programs) == 4

    os.kill(grid.pid, signal.SIGTERM)
    assert ends(programs) == [name for name in ORDER if name in programs.values()]
    eventually(lambda: state_of(grid.pid) == "Z")
    assert containers(identity) == []
    assert str(grid.folder) not in Path("/proc/mounts").read_text()
    assert [path for root in CGROUPS.iterdir() for path in root.glob(f"grid/{identity}*")] == []
    assert processes_of(grid.directory) == []


def test_what_ran_at_the_end_runs_again_at_the_next_start(new_grid: GridMaker) -> None:
    grid = new_grid()
    task = grid.submit("sh", "-c", "test -e again || sleep 600", limits={"time": "900s"})
    done = grid.run("true")
    eventually(lambda: task.refresh().state == "running")
    grid.stop()

    grid.start()
    eventually(lambda: grid.client.get(task.id).view.attempts == 2)
    again = grid.client.get(task.id)
    first = again.attempts()[0]
    assert (first.verdict, first.verdict_class) == ("handed_back", "infrastructure")
    assert grid.client.get(done.id).verdict == "succeeded"
    again.cancel()
    assert again.wait().verdict == "cancelled"


def ends(programs: dict[int, str]) -> list[str]:
    """The names of the programs in the order of their ends."""
    watched = select.poll()
    names = {}
    for pid, name in programs.items():
        names[descriptor := os.pidfd_open(pid)] = name
        watched.register(descriptor, select.POLLIN)
    seen: list[str] = []
    while names:
        ready = watched.poll(END_SECONDS * 1000)
        assert ready, f"these do not end: {names}"
        for descriptor, _ in ready:
            seen.append(names.pop(descriptor))
            watched.unregister(descriptor)
            os.close(descriptor)
    return seen


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that have to do with the folder and still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(folder) in arguments:
            found.append(arguments)
    return found


def state_of(pid: int) -> str:
    """The kernel's letter for what the process does; Z when it has ended and nobody has asked how."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def identity_of(grid: RunningGrid) -> str:
    """The name by which the containers of the grid's own node are known."""
    home = grid.directory / "node"
    return NodeConfig(server=grid.server, name=grid.facts["node"], directory=home, token="").identity
