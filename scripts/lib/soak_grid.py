"""The grid of a soak: ``grid up`` without a node, a second dispatcher, and nodes of its own behind gates."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from soak_gate import HOST, Gate, Gates

from grid import Client, GridError
from grid.up.place import Memory
from grid.up.programs import Plan, django_command
from nodes.config import NodeConfig

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
POLL_SECONDS = 0.05
# How the nodes answer to SIGTERM; each of them differently.
WAYS_TO_STOP = (("--on-stop", "keep"), ("--on-stop", "return"), ("--on-stop", "drain", "--shutdown-seconds", "3"))
# How a program of ``grid up`` is recognised by its command line.
PROGRAMS = {"broker": "valkey", "web": "uvicorn", "dispatcher": "rundispatcher"}
SETTINGS: Mapping[str, str] = {
    "GRID_LEASE_SECONDS": "2",
    "GRID_STAGING_SECONDS": "60",
    "GRID_UPLOAD_SECONDS": "60",
    "GRID_RUN_GRACE_SECONDS": "10",
    "GRID_CANCEL_GRACE_SECONDS": "10",
}


def until(done: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until ``done()``. Raises GridError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise GridError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)


def environment(**more: str) -> dict[str, str]:
    """The environment of a program of the soak that is not the server: nothing of the grid but ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRID_", "DJANGO_"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", **more}


@dataclass
class Program:
    """A program that the soak keeps by itself, with its log."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL, seconds: float = 30.0) -> bool:
        """Send a signal and wait for the end; kill it when that takes too long, and return False then."""
        if self.process is None:
            return True
        self.send(number)
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False


@dataclass
class Node:
    """A node of the soak, and the gate before the server through which it speaks."""

    config: NodeConfig
    program: Program
    gate: Gate

    @property
    def name(self) -> str:
        """Its name in the grid."""
        return self.config.name


class Server:
    """``grid up`` and the second dispatcher, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "grid"
        self._said = folder / "up.said"
        self._folder = folder
        self._up: Program | None = None
        self.standby: Program | None = None

    def start(self) -> None:
        """Start it, for the first time or after everything was killed, and wait until it answers."""
        command = [str(Path(sys.executable).with_name("grid")), "up", "--json", "--dir", str(self.directory)]
        # The JSON goes to a file of its own; the shell is only there for that.
        command = ["sh", "-c", 'exec "$@" >"$0"', str(self._said), *command, "--port", "0", "--no-node", "--no-flower"]
        variables = environment(**SETTINGS, GRID_CONFIG=str(self._folder / "client.toml"))
        self._said.unlink(missing_ok=True)
        self._up = Program("up", command, variables, self._folder / "up.log")
        self._up.start()
        until(self._has_said, "the start of the grid")
        if self.standby is None:
            variables = environment(**SETTINGS) | self.variables
            self.standby = Program(
                "standby", django_command("rundispatcher"), variables, self._folder / "logs" / "standby.log"
            )
        self.standby.start()

    def _has_said(self) -> bool:
        if self._up is None or self._up.process is None or self._up.process.poll() is not None:
            raise GridError(f"the grid did not start:\n{(self._folder / 'up.log').read_text()}")
        return self._said.exists() and self._said.read_text().endswith("\n")

    @property
    def memory(self) -> Memory:
        """Ports, passwords and tokens."""
        return Memory.model_validate_json((self.directory / "up.json").read_bytes())

    @property
    def variables(self) -> dict[str, str]:
        """The variables that make a process one of the server's."""
        known = Plan(self.directory, self.memory, self.memory.web_port).server_environment(with_flower=False)
        return {name: value for name, value in known.items() if name.startswith(("GRID_", "DJANGO_", "PYTHON"))}

    @property
    def broker_url(self) -> str:
        """The broker's address, with the password."""
        return Plan(self.directory, self.memory, self.memory.web_port).broker_url

    @property
    def url(self) -> str:
        """The address of the web server."""
        return f"http://{HOST}:{self.memory.web_port}"

    def find(self, program: str) -> int | None:
        """The process of ``broker``, ``web`` or ``dispatcher``; None while it does not run."""
        if self._up is None or self._up.process is None:
            return None
        parent = self._up.process.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
                with contextlib.suppress(OSError):
                    if PROGRAMS[program].encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                        return int(child)
        return None

    def send(self, program: str, number: signal.Signals) -> bool:
        """Send a signal to a program; False when it does not run."""
        pid = self.find(program)
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, number)
                return True
        return False

    @contextlib.contextmanager
    def unwatched(self) -> Iterator[None]:
        """While this lasts, what ends stays away, for the supervisor sleeps."""
        if self._up is not None:
            self._up.send(signal.SIGSTOP)
        try:
            yield
        finally:
            if self._up is not None:
                self._up.send(signal.SIGCONT)

    def start_missing(self) -> None:
        """Let go on whatever is frozen, and start whatever does not run."""
        if self._up is None or self._up.process is None or self._up.process.poll() is not None:
            self.start()
        self._up_goes_on()
        for program in PROGRAMS:
            until(partial(self._runs, program), f"the start of {program}")
            self.send(program, signal.SIGCONT)
        if self.standby is not None:
            self.standby.send(signal.SIGCONT)
            self.standby.start()

    def _runs(self, program: str) -> bool:
        return self.find(program) is not None

    def _up_goes_on(self) -> None:
        if self._up is not None:
            self._up.send(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9 of ``grid up``, which takes everything with it that it started."""
        if self._up is not None:
            self._up.end(signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End everything of it."""
        if self.standby is not None:
            self.standby.send(signal.SIGCONT)
            self.standby.end(number)
        if self._up is not None:
            self._up.send(signal.SIGCONT)
            self._up.end(number, 60.0)


class SoakGrid:
    """All of it, in ``folder``; ``client`` is the operator's."""

    client: Client

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder)
        self.nodes: list[Node] = []
        self._gates = Gates()

    def start(self, nodes: int, simulated: int, slots: int) -> None:
        """Start it with so many nodes of each kind, and wait until they are ready."""
        self.server.start()
        self.client = Client(self.server.url, self.server.memory.user_token)
        for number in range(nodes):
            way = WAYS_TO_STOP[number % len(WAYS_TO_STOP)]
            self.nodes.append(self._node(f"node-{number}", slots, "-m", "nodes", "start", "--no-pull", *way))
        self.notes.mkdir()
        for number in range(simulated):
            name = f"simulated-{number}"
            command = (str(Path(__file__).with_name("soak_simulated.py")), "--notes", str(self.notes / f"{name}.jsonl"))
            self.nodes.append(self._node(name, 2 * slots, *command))
        self.wait_ready()

    @property
    def notes(self) -> Path:
        """The folder in which simulated nodes note what they run."""
        return self.folder / "notes"

    def _node(self, name: str, slots: int, *program_of_node: str) -> Node:
        token = self.client.add_node(name).token
        gate = self._gates.make(self.server.memory.web_port)
        address = f"http://{HOST}:{gate.port}"
        directory = self.folder / name
        command = [sys.executable, *program_of_node, "--server", address, "--name", name]
        command += ["--dir", str(directory), "--slots", str(slots)]
        variables = environment(GRID_TOKEN=token)
        variables["PYTHONPATH"] += f":{Path(__file__).parent}"
        program = Program(name, command, variables, self.folder / "logs" / f"{name}.log")
        program.start()
        return Node(NodeConfig(server=address, name=name, directory=directory, token=token), program, gate)

    def wait_ready(self) -> None:
        """Until all nodes are there."""
        until(self._all_ready, "all nodes ready")

    def _all_ready(self) -> bool:
        with contextlib.suppress(GridError):
            # That of ``grid up`` itself is known too, but never started.
            ready = {node.name for node in self.client.nodes() if node.ready}
            return all(node.name in ready for node in self.nodes)
        return False

    def repair(self) -> None:
        """Take every fault back, and wait until all parts work."""
        for node in self.nodes:
            node.gate.open()
            node.program.send(signal.SIGCONT)
            node.program.start()
        self.server.start_missing()
        until(self._resumed, "the nodes resumed")
        self.wait_ready()

    def _resumed(self) -> bool:
        with contextlib.suppress(GridError):
            for node in self.nodes:
                self.client.resume(node.name, "the soak is over")
            return True
        return False

    def end(self) -> list[str]:
        """End everything as an operator would; the names of what did not end by itself."""
        stubborn = [node.name for node in self.nodes if not node.program.end(signal.SIGTERM)]
        self.server.end()
        self._gates.close()
        return stubborn
