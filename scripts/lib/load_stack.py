"""The server's side of a grid for measurements: broker and web server, a dispatcher when asked for, and no node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grid.up import ports, programs
from grid.up.place import Memory
from grid.up.programs import Plan
from grid.up.supervisor import Program

ROOT = Path(__file__).resolve().parents[2]
LIB = Path(__file__).resolve().parent
START_SECONDS = 180.0
NODE = "load"


@dataclass
class Stack:
    """What runs: its folder, its address, the operator's token, and the programs by name."""

    plan: Plan
    token: str
    node_token: str
    environment: Mapping[str, str] = field(repr=False)
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """The address of the web server."""
        return self.plan.server

    def process(self, name: str) -> int:
        """The process of a program."""
        return self.programs[name].pid

    def start(self, program: Program) -> None:
        """Start a program and wait until it is ready."""
        log = (self.plan.directory / "logs" / f"{program.name}.log").open("ab")
        environment = dict(program.environment)
        self.programs[program.name] = subprocess.Popen(
            program.command, env=environment, stdout=log, stderr=log, pass_fds=program.pass_fds, start_new_session=True
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while program.ready is not None and not program.ready():
            if time.monotonic() > deadline or self.programs[program.name].poll() is not None:
                last = (self.plan.directory / "logs" / f"{program.name}.log").read_text(errors="replace")[-2000:]
                sys.exit(f"{program.name} did not start: {last}")
            time.sleep(0.05)

    def start_dispatcher(self) -> None:
        """Let the dispatcher work."""
        self.start(programs.dispatcher(self.environment))

    def stop(self, name: str) -> None:
        """End a program."""
        process = self.programs.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def inside(self, *words: str, program: str = "load_inside.py") -> dict[str, Any]:
        """Run a command of such a program over the stack's database, and return what it has measured."""
        done = subprocess.run(
            [sys.executable, str(LIB / program), *words],
            env={**self.environment, "PYTHONPATH": f"{ROOT}:{LIB}"},
            stdout=subprocess.PIPE,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@contextlib.contextmanager
def a_stack(folder: Path, database_url: str = "", **settings: str) -> Iterator[Stack]:
    """Start a stack in a folder, and stop it in the end. ``settings`` are ``GRID_`` variables in lower case."""
    for name in ("logs", "broker"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    memory = Memory(node=NODE, broker_password="load", flower_password="", broker_port=ports.find_free())  # noqa: S106 - of a trial
    listener = ports.listen(0)
    plan = Plan(folder, memory, listener.getsockname()[1])
    environment = plan.server_environment(with_flower=False)
    environment = {name: text for name, text in environment.items() if not name.startswith("GRID_DATABASE")}
    environment |= {"GRID_DATABASE_URL": database_url} if database_url else {}
    environment |= {f"GRID_{name.upper()}": text for name, text in settings.items()}
    manage(environment, "migrate", "--verbosity", "0")
    made = json.loads(manage(environment, "gridinit", "--node", NODE))
    stack = Stack(plan, made["user_token"], made["node_token"], environment)
    try:
        config = folder / "broker.conf"
        config.write_text(programs.broker_config(plan))
        stack.start(programs.broker(plan, config))
        stack.start(programs.web(plan, listener.fileno(), environment))
        listener.close()
        yield stack
    finally:
        for name in reversed(list(stack.programs)):
            stack.stop(name)


@contextlib.contextmanager
def a_database(postgres: bool) -> Iterator[str]:
    """The address of a PostgreSQL server of our own, or an empty one for SQLite."""
    if not postgres:
        yield ""
        return
    from tests.support.postgres import Postgres, programs

    installed = programs()
    if installed is None:
        raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
    server = Postgres(installed)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def manage(environment: Mapping[str, str], *words: str) -> str:
    """Run a management command of the server; return what it prints."""
    command = programs.django_command(*words)
    return subprocess.run(command, env=dict(environment), stdout=subprocess.PIPE, check=True, text=True).stdout


def clean_environment() -> None:
    """Forget the shell's settings of other grids."""
    for name in list(os.environ):
        if name.startswith(("GRID_", "DJANGO_")):
            del os.environ[name]
