"""A whole grid for a test: a real ``grid up`` in a folder of its own, whose programs can be killed one by one.

What a test starts it also ends: programs by their process ids, then the containers and mounts of the nodes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grid import Client, GridError, Result, Task
from grid.api import Api
from nodes.config import NodeConfig
from nodes.runtimes.docker import DockerRuntime
from tests.support import migrated
from tests.support.node_api import eventually

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
WAIT_SECONDS = 60.0
# Small, so that many tasks of a test fit into a small machine at one time.
SMALL: Mapping[str, object] = {
    "memory": "64M",
    "swap": 0,
    "cpus": 0.25,
    "pids": 64,
    "time": "30s",
    "storage": "32M",
    "files": 1000,
    "output": "1M",
}
# How a program of the grid is recognised by its command line.
PROGRAMS = {
    "broker": "valkey",
    "web": "uvicorn",
    "dispatcher": "rundispatcher",
    "node": "nodes start",
    "flower": "flower",
}
_TAIL_CHARACTERS = 6000


def wanted(**settings: object) -> dict[str, str]:
    """The environment of a grid: nothing of the caller's own grid, and ``GRID_*`` for each of ``settings``.

    ``lease_seconds=2`` becomes ``GRID_LEASE_SECONDS``; what is no text is written as JSON.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRID_")}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return kept | {f"GRID_{name.upper()}": text for name, text in texts.items()}


@dataclass
class Worker:
    """A node agent beside the one of ``grid up``; ``environment`` is added to it, such as another ``DOCKER_HOST``."""

    name: str
    directory: Path
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.directory.with_suffix(".log")

    def start(self) -> None:
        """Start it, again after a ``kill``."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, number: signal.Signals = signal.SIGKILL, seconds: float = 20.0) -> None:
        """Send a signal (kill -9 by default) and wait for the end; nothing when it does not run."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.process = None


class RunningGrid:
    """A grid in ``folder`` on free ports, with small default limits. ``settings`` are the server's, without ``GRID_``.

    With ``node=False`` it has only the nodes that ``add_node`` gives it. ``environment`` is added to its processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        node: bool = True,
        slots: int = 4,
        flower: bool = False,
        observer: bool = False,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        self.folder = folder
        self.directory = folder / "grid"
        self.config_file = folder / "client.toml"
        self.log_file = folder / "up.log"
        self.workers: dict[str, Worker] = {}
        self.facts: dict[str, Any] = {}
        self._settings: dict[str, object] = {"default_limits": dict(SMALL), **settings}
        self._added = dict(environment or {})
        self._options = ["--slots", str(slots), "--node" if node else "--no-node"]
        self._options += ["--flower" if flower else "--no-flower", "--observer" if observer else "--no-observer"]
        self._process: subprocess.Popen[str] | None = None
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._count = 0

    # ------------------------------------------------------------------------------------------- the grid as a whole
    def start(self) -> RunningGrid:
        """Start it and wait until it works, its node included. What has begun to run is ended when that fails."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).with_name("grid")), "up", "--json", "--dir", str(self.directory)]
        command += ["--port", "0", *self._options]
        environment = wanted(**self._settings) | self._added | {"GRID_CONFIG": str(self.config_file)}
        if not self._settings.get("database_url"):
            migrated.give(self.directory, wanted())
        said = self.folder / "up.json"
        with said.open("w") as out, self.log_file.open("a") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._process = process
        eventually(lambda: said.read_text().endswith("\n") or process.poll() is not None, START_SECONDS)
        if process.poll() is not None:
            raise RuntimeError(f"the grid did not start:\n{self.logs()}")
        self.facts = json.loads(said.read_text())
        if self.facts["node"] and not self.facts["node_ready"]:
            raise RuntimeError(f"the node did not become ready:\n{self.logs()}")
        self._client = Client(self.server, self.token)

    def stop(self) -> None:
        """End everything that it has started, then the containers and mounts that killed nodes have left."""
        if self._client is not None:
            self._client.close()
            self._client = None
        for worker in self.workers.values():
            worker.kill()
        if (process := self._process) is not None:
            self._process = None
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            try:
                process.wait(40)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        self._clear()

    def __enter__(self) -> RunningGrid:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def server(self) -> str:
        """The address of its web server."""
        return str(self.facts["server"])

    @property
    def token(self) -> str:
        """The operator's token."""
        return str(json.loads((self.directory / "up.json").read_text())["user_token"])

    @property
    def client(self) -> Client:
        """A client with the operator's token."""
        if self._client is None:
            raise RuntimeError("the grid does not run")
        return self._client

    @property
    def pid(self) -> int:
        """The process of ``grid up``."""
        if self._process is None:
            raise RuntimeError("the grid does not run")
        return self._process.pid

    @property
    def client_environment(self) -> dict[str, str]:
        """The environment in which the command ``grid`` is this grid's client."""
        return wanted() | {"GRID_CONFIG": str(self.config_file)}

    def logs(self) -> str:
        """The ends of all logs, to be read when a test has failed."""
        paths = [self.log_file, *sorted((self.directory / "logs").glob("*.log"))]
        paths += [worker.log for worker in self.workers.values()]
        parts = [(path, path.read_text(errors="replace")) for path in paths if path.exists()]
        return "\n".join(f"----- {path}\n{text[-_TAIL_CHARACTERS:]}" for path, text in parts if text.strip())

    def django(self, *arguments: str) -> str:
        """What a management command of its server prints."""
        where = {"GRID_DIR": str(self.directory), "DJANGO_SETTINGS_MODULE": "webapp.settings", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "django", *arguments]
        environment = wanted(**self._settings) | where
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    # ------------------------------------------------------------------------------------------------------ programs
    def find(self, program: str) -> int | None:
        """The process id of ``broker``, ``web``, ``dispatcher``, ``node`` or ``flower``; None while it does not run."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if PROGRAMS[program] in command:
                return int(child)
        return None

    def kill(self, program: str, number: signal.Signals = signal.SIGKILL) -> int:
        """kill -9 a program, and return its process id. The supervisor starts it again, unless it is ``held``."""
        pid = self.find(program)
        if pid is None:
            raise RuntimeError(f"{program} does not run")
        os.kill(pid, number)
        return pid

    def restarted(self, program: str, after: int) -> None:
        """Wait until the supervisor has started ``program`` again, whose process was ``after``."""
        eventually(lambda: self.find(program) not in (None, after), START_SECONDS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts the supervisor sleeps: what is killed stays away."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    # --------------------------------------------------------------------------------------------------------- nodes
    def add_node(
        self,
        name: str,
        *options: str,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Worker:
        """Start one more node agent, by default in a folder of its own under ``folder``; ``wait`` until it is ready."""
        with Api(self.server, self.token) as api:
            token = api.add_node(name, renew=True).token
        directory = directory or self.folder / "nodes" / name
        directory.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "nodes", "start", "--server", self.server, "--name", name]
        command += ["--dir", str(directory), "--slots", "4", *options]
        known = wanted() | {"GRID_TOKEN": token, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        worker = Worker(name, directory, command, known | dict(environment or {}))
        self.workers[name] = worker
        worker.start()
        if wait:
            eventually(lambda: self.node_is(name, online=True, ready=True), START_SECONDS)
        return worker

    def retire_nodes(self) -> None:
        """End all nodes that ``add_node`` has started, with what they have left on this machine; they get no work."""
        for worker in self.workers.values():
            worker.kill()
            self.client.cordon(worker.name)
        self._sweep([(worker.name, worker.directory, worker.environment) for worker in self.workers.values()])
        self.workers.clear()

    def node_is(self, name: str, **facts: object) -> bool:
        """Whether the server sees the node so: ``online``, ``ready``..."""
        try:
            status = self.client.node(name)
        except GridError:
            return False
        return all(getattr(status, fact) == value for fact, value in facts.items())

    # --------------------------------------------------------------------------------------------------------- tasks
    def submit(
        self, *args: str, files: Mapping[str, str | bytes] | None = None, name: str | None = None, **spec: object
    ) -> Task:
        """Submit ``args`` in busybox as a task; ``spec`` is the rest of task.json, ``files`` are put beside it.

        Files that ``spec`` does not name are the task's under their own names.
        """
        folder = self.task_folder(*args, files=files, **spec)
        try:
            return self.client.submit(folder, name=name)
        finally:
            shutil.rmtree(folder)

    def run(self, *args: str, timeout: float = WAIT_SECONDS, **options: Any) -> Result:
        """Submit as ``submit`` does, and wait for the result."""
        return self.submit(*args, **options).wait(timeout)

    def task_folder(self, *args: str, files: Mapping[str, str | bytes] | None = None, **spec: object) -> Path:
        """A new folder with the task."""
        with self._lock:
            self._count += 1
            folder = self.folder / "tasks" / f"task-{self._count}"
        folder.mkdir(parents=True)
        given = dict(files or {})
        for path, content in given.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        described: dict[str, object] = {"image": "busybox:local", "args": list(args), **spec}
        if given and "files" not in spec:
            described["files"] = {path: None for path in given}
        (folder / "task.json").write_text(json.dumps(described))
        return folder

    # -------------------------------------------------------------------------------------------------------- inside
    def _clear(self) -> None:
        homes = [(worker.name, worker.directory, worker.environment) for worker in self.workers.values()]
        if self.facts.get("node"):
            homes.append((self.facts["node"], self.directory / "node", {}))
        self._sweep(homes)
        _unmount(self.folder)

    def _sweep(self, homes: list[tuple[str, Path, dict[str, str]]]) -> None:
        """Remove the containers and mounts of these nodes, by name, folder and environment."""
        for name, directory, environment in homes:
            config = NodeConfig(server="http://127.0.0.1", name=name, directory=directory, token="none")
            if "DOCKER_HOST" not in environment:  # an engine of the test's own has gone with what was in it
                runtime = DockerRuntime(config.identity)
                runtime.reap(())
                runtime.close()
            _unmount(directory)


def _unmount(folder: Path) -> None:
    """Take away what is mounted below the folder."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((path for path in mounts if path.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)


GridMaker = Callable[..., RunningGrid]
"""``new_grid(node=False, lease_seconds=2)``: a started grid of the test's own."""
