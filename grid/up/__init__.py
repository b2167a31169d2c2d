"""``grid up``: the whole grid on one machine, in the foreground: broker, web server, dispatcher, node and Flower."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from grid import config
from grid.api import Api
from grid.up import ports, programs
from grid.up.engine import engine_problem
from grid.up.place import AlreadyRunning, Memory, Place
from grid.up.supervisor import Stopped, Supervisor
from tasks.errors import GridError

__all__ = ["AlreadyRunning", "Options", "Running", "UsageError", "run"]

PASSWORD_FILE = "admin-password"  # noqa: S105 - the name of a file
FLOWER_PASSWORD_FILE = "flower-password"  # noqa: S105 - the name of a file


class UsageError(GridError):
    """The grid cannot be started as asked, and the user can change that."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to start. ``port`` 0 takes a free one; ``slots`` None lets the node choose."""

    directory: Path
    port: int = 8080
    with_node: bool = True
    with_flower: bool = True
    slots: int | None = None
    with_observer: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """Where everything is, to be shown to people. ``password`` is only known at the first start."""

    server: str
    directory: Path
    user: str
    password: str
    password_file: Path
    flower_url: str
    flower_user: str
    flower_password_file: Path | None
    config_file: Path
    node: str
    node_ready: bool


def run(options: Options, tell: Callable[[str], None], started: Callable[[Running], None]) -> None:
    """Start the grid, call ``started`` when it works, and keep it running until SIGINT, SIGTERM or SIGHUP.

    ``tell`` gets a line for people now and then. Raises AlreadyRunning, UsageError, and GridError when a part fails.
    """
    with Place(options.directory) as place:
        if options.with_node and (problem := engine_problem()):
            raise UsageError(f"no node can run here: {problem}; or start the grid without a node: grid up --no-node")
        if options.with_observer and os.geteuid() != 0:
            raise UsageError("only root may limit the processes of others; start the grid without --observer")
        memory = place.recall()
        with closing(_listener(options.port, memory.web_port)) as listener:
            supervisor = Supervisor(place.path, tell)
            with supervisor.signals():
                try:
                    started(_Start(options, place, supervisor, tell).all(memory, listener))
                    supervisor.run()
                    tell("stopping")
                except Stopped:
                    tell("stopping")
                finally:
                    supervisor.stop()


def _listener(port: int, remembered: int) -> socket.socket:
    try:
        return ports.listen(port or ports.find_free(remembered))
    except GridError as error:
        raise UsageError(str(error)) from error


def _given_broker() -> str:
    try:
        return programs.given_broker(os.environ)
    except OSError as error:
        raise UsageError(f"cannot read the file of GRID_BROKER_URL_FILE: {error.strerror}") from error


class _Start:
    """The way from a folder to a running grid."""

    def __init__(self, options: Options, place: Place, supervisor: Supervisor, tell: Callable[[str], None]) -> None:
        self._options = options
        self._place = place
        self._supervisor = supervisor
        self._tell = tell

    def all(self, memory: Memory, listener: socket.socket) -> Running:
        """Start everything, in order."""
        memory = memory.model_copy(
            update={
                "broker_port": ports.find_free(memory.broker_port),
                "flower_port": ports.find_free(memory.flower_port),
                "web_port": listener.getsockname()[1],
            }
        )
        self._place.remember(memory)
        plan = programs.Plan(self._place.path, memory, memory.web_port, _given_broker())
        self._place.announce(plan.server)
        environment = plan.server_environment(self._options.with_flower)
        if not plan.given_broker:
            self._supervisor.start(
                programs.broker(plan, self._place.write("broker/valkey.conf", programs.broker_config(plan)))
            )
        plan, password = self._with_tokens(plan, environment)
        # These two are not waited for: they come up while the web server does.
        if self._options.with_flower:
            self._supervisor.start(programs.flower(plan, environment))
        self._supervisor.start(programs.dispatcher(environment))
        self._supervisor.start(programs.web(plan, listener.fileno(), environment))
        self._write_client_config(plan)
        return self._running(plan, password, self._start_node(plan))

    def _with_tokens(self, plan: programs.Plan, environment: dict[str, str]) -> tuple[programs.Plan, str]:
        """Bring the database up to date; the plan with tokens that it knows, and the password of a new user."""
        memory = plan.memory
        command = programs.django_command("gridinit", "--migrate", "--node", memory.node)
        known = {"GRIDINIT_KNOWN_TOKEN": memory.user_token} if memory.user_token else {}
        try:
            made = json.loads(self._supervisor.run_once("gridinit", command, environment | known))
            if made is None:
                return plan, ""
            password = made["password"] or ""
            fresh = {name: made[name] for name in ("user", "user_token", "node_token")}
        except (ValueError, KeyError, TypeError) as error:
            raise GridError(f"gridinit gave no tokens: {error}") from error
        if password:
            self._place.write(PASSWORD_FILE, f"{password}\n")
        memory = memory.model_copy(update=fresh)
        self._place.remember(memory)
        return replace(plan, memory=memory), password

    def _start_node(self, plan: programs.Plan) -> bool:
        if not self._options.with_node:
            return False
        observer = programs.observer_socket(plan) if self._options.with_observer else None
        if observer is not None:
            self._supervisor.start(programs.observer(plan))
        with Api(plan.server, plan.memory.user_token) as api:

            def ready() -> bool:
                return any(node.name == plan.memory.node and node.online and node.ready for node in api.nodes())

            if self._supervisor.start(programs.node(plan, self._options.slots, ready, observer)):
                return True
            reasons = [node.not_ready_reason for node in api.nodes() if node.name == plan.memory.node]
        why = next(filter(None, reasons), "it has not said hello")
        self._tell(f"the node {plan.memory.node} is not ready: {why} (log: {plan.directory / 'logs' / 'node.log'})")
        return False

    def _write_client_config(self, plan: programs.Plan) -> None:
        """Let the client on this machine find the grid; a config for another server is kept beside."""
        path = config.config_path()
        fresh = config.Config(plan.server, plan.memory.user_token)
        try:
            before = config.read(path)
        except GridError:
            before = None
        if path.exists() and (before is None or before.server.rstrip("/") != plan.server):
            kept = path.with_name(f"{path.name}.before")
            path.replace(kept)
            self._tell(f"{path} was for {before.server if before else 'something else'}; it is now {kept}")
        elif before is not None:
            fresh = replace(fresh, nodes=before.nodes)
        config.save(path, fresh)

    def _running(self, plan: programs.Plan, password: str, node_ready: bool) -> Running:
        flower_file = None
        if self._options.with_flower:
            flower_file = self._place.write(FLOWER_PASSWORD_FILE, f"{plan.memory.flower_password}\n")
        return Running(
            server=plan.server,
            directory=plan.directory,
            user=plan.memory.user,
            password=password,
            password_file=plan.directory / PASSWORD_FILE,
            flower_url=plan.flower_url if self._options.with_flower else "",
            flower_user=programs.FLOWER_USER if self._options.with_flower else "",
            flower_password_file=flower_file,
            config_file=config.config_path(),
            node=plan.memory.node if self._options.with_node else "",
            node_ready=node_ready,
        )
