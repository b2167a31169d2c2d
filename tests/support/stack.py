"""The stack of containers for a test: ``scripts/compose`` in a folder of its own, on free ports, under a new name."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import httpx

from grid import Client, Task, config
from tests.support.broker import free_port
from tests.support.grids import ROOT
from tests.support.images import BUSYBOX, docker

# A fresh machine makes the images first, of a few hundred packages.
UP_SECONDS = 600
SMALL: dict[str, object] = {
    "limits": {"memory": "64M", "swap": 0, "cpus": 0.25, "pids": 16, "time": "30s", "storage": "16M", "files": 100}
}
_OURS = ("GRID_", "STACK_", "COMPOSE_")


def build_images() -> dict[str, str]:
    """The names of the stack's images by kind (``grid``, ``postgres``, ``redis``); made when they are not there yet."""
    done = subprocess.run(
        [ROOT / "compose/images/build"], env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the images could not be made: {done.stderr}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


class Stack:
    """A running stack; use ``running``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"grid-test-{secrets.token_hex(4)}"
        self._settings = {
            "STACK_DIR": str(folder),
            "STACK_NAME": self.name,
            "STACK_PORT": str(free_port()),
            "STACK_BROKER_PORT": str(free_port()),
            "STACK_FLOWER_PORT": str(free_port()),
            "STACK_HEALTH_INTERVAL": "3s",
            "STACK_LEASE_SECONDS": "4",
            "STACK_NODE_OPTIONS": "--on-stop return --slots 2",
        }

    def command(self, *arguments: str) -> str:
        """What ``scripts/compose`` prints; RuntimeError with all it said when it fails."""
        done = subprocess.run(
            [ROOT / "scripts/compose", *arguments],
            env=_environment() | self._settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=UP_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"scripts/compose {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    @cached_property
    def client(self) -> Client:
        """A client with the operator's token, as ``GRID_CONFIG`` would give it."""
        found = config.read(self.folder / "client.toml")
        return Client(found.server, found.token)

    @property
    def server(self) -> str:
        """The address of the web server."""
        return f"http://127.0.0.1:{self._settings['STACK_PORT']}"

    @property
    def flower(self) -> str:
        """The address of Flower."""
        return f"http://127.0.0.1:{self._settings['STACK_FLOWER_PORT']}/flower"

    def secret(self, name: str) -> str:
        """The text of one of its secrets."""
        return (self.folder / "secrets" / name).read_text().strip()

    def submit(self, folder: Path, *args: str, **spec: object) -> Task:
        """Submit ``args`` in busybox as a task, described in the new folder ``folder``."""
        folder.mkdir(parents=True)
        (folder / "task.json").write_text(json.dumps({"image": BUSYBOX, "args": list(args), **SMALL, **spec}))
        return self.client.submit(folder)

    def ready(self) -> bool:
        """Whether its server calls itself ready, with all nodes online."""
        try:
            health = httpx.get(f"{self.server}/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        return bool(health["ready"]) and health["nodes_online"] == len(self.containers("node"))

    def containers(self, service: str = "") -> list[str]:
        """The ids of its containers, running or not; of all services or of one."""
        wanted = ["--filter", f"label=com.docker.compose.project={self.name}"]
        if service:
            wanted += ["--filter", f"label=com.docker.compose.service={service}"]
        return docker("ps", "--all", "--quiet", "--no-trunc", *wanted).decode().split()

    def inspect(self, service: str) -> list[dict[str, object]]:
        """All that the engine says of a service's containers."""
        found: list[dict[str, object]] = json.loads(docker("inspect", *self.containers(service)))
        return found

    def processes(self, service: str) -> list[int]:
        """The process of each of a service's containers on this machine; 0 for one that does not run."""
        said = docker("inspect", "--format", "{{.State.Pid}}", *self.containers(service))
        return [int(line) for line in said.split()]

    def kill(self, service: str) -> int:
        """kill -9 a service of one container, as a crash would and no operator does: the restart policy has to act.

        Returns what its process was.
        """
        (pid,) = self.processes(service)
        if not pid:
            raise RuntimeError(f"{service} does not run")
        os.kill(pid, signal.SIGKILL)
        return pid

    def left(self) -> list[str]:
        """What the engine and the machine still have of it."""
        label = ["--quiet", "--filter", f"label=com.docker.compose.project={self.name}"]
        found = [*self.containers(), *docker("network", "ls", *label).decode().split()]
        found += docker("volume", "ls", *label).decode().split()
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.folder) in line]
        groups = Path("/sys/fs/cgroup")
        found += [str(path) for where in ("*/grid", "grid") for path in groups.glob(f"{where}/{self.name}-*")]
        return [*found, *map(str, self.folder.glob("*"))]


@contextmanager
def running(folder: Path, nodes: int) -> Iterator[Stack]:
    """A stack with so many nodes, ready. At the end nothing may be left of it."""
    stack = Stack(folder)
    try:
        stack.command("up", "--nodes", str(nodes))
        yield stack
    finally:
        if "client" in vars(stack):
            stack.client.close()
        stack.command("down", "--everything")
    assert stack.left() == []


def _environment() -> dict[str, str]:
    """Nothing of the caller's own grid or stack."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
