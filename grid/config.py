"""Where the grid is and which token opens it: from the environment, else from a small file that ``grid up`` writes."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.errors import GridError

DEFAULT_SERVER = "http://127.0.0.1:8080"
_KEYS = {"server", "token"}


@dataclass(frozen=True, slots=True)
class NodesConfig:
    """How an operator reaches the machines of nodes over ssh: the table ``[nodes]`` of the file.

    ``hosts`` says where a node is if that is not the host name which it tells; ``user`` logs in there, and runs
    ``command``; ``ssh_options`` are added to ssh's own.
    """

    user: str = ""
    command: str = "systemctl restart celery-grid-node"
    ssh_options: tuple[str, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """The address of a server, and a token (empty: none is known)."""

    server: str = DEFAULT_SERVER
    token: str = field(default="", repr=False)
    nodes: NodesConfig = NodesConfig()


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """The config file: ``$GRID_CONFIG``, else ``celery-grid/config.toml`` in the user's folder of configuration."""
    env = os.environ if environ is None else environ
    if env.get("GRID_CONFIG"):
        return Path(env["GRID_CONFIG"]).expanduser()
    home = env.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "celery-grid" / "config.toml"


def load(environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a client.

    ``GRID_SERVER`` and ``GRID_TOKEN`` (or ``GRID_TOKEN_FILE``) come before the file. The file's token is only
    given to the file's server. Raises GridError when the file or the variables make no sense.
    """
    env = os.environ if environ is None else environ
    token = _token(env)
    stored = Config() if env.get("GRID_SERVER") and token else read(config_path(env))
    server = (env.get("GRID_SERVER") or stored.server).rstrip("/")
    return Config(server, token or (stored.token if server == stored.server.rstrip("/") else ""), stored.nodes)


def read(path: Path) -> Config:
    """The configuration in the file ``path``; the default one when there is no such file. Raises GridError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Config()
    except OSError as error:
        raise GridError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise GridError(f"{path} is not valid TOML: {error}") from error
    table = tables.get("grid", {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise GridError(f'{path}: write [grid] with server = "http://..." and token = "..."')
    unknown = sorted(table.keys() - _KEYS) + sorted(tables.keys() - {"grid", "nodes"})
    if unknown:
        raise GridError(f'{path}: unknown key "{unknown[0]}"; it may have server and token in [grid], and [nodes]')
    return Config(table.get("server") or DEFAULT_SERVER, table.get("token", ""), _nodes(path, tables.get("nodes", {})))


def _nodes(path: Path, table: object) -> NodesConfig:
    """The table ``[nodes]``; raises GridError."""
    known = [one.name for one in fields(NodesConfig)]
    advice = f"[nodes] may have {', '.join(known)}"
    if not isinstance(table, dict) or table.keys() - set(known):
        raise GridError(f"{path}: {advice}")
    try:
        return TypeAdapter(NodesConfig).validate_python(table)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise GridError(f"{path}: {place}: {fault['msg']}; {advice}") from None


def save(path: Path, config: Config) -> None:
    """Write the config file, readable by its owner alone. Raises GridError."""
    # JSON strings of ASCII are TOML strings too.
    text = f"[grid]\nserver = {json.dumps(config.server)}\ntoken = {json.dumps(config.token)}\n" + _written(
        config.nodes
    )
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(text)
        fresh.replace(path)
    except OSError as error:
        raise GridError(f"cannot write {path}: {error.strerror}") from error


def _written(nodes: NodesConfig) -> str:
    """The table ``[nodes]``, when it says something."""
    if nodes == NodesConfig():
        return ""
    rows = [f"{name} = {json.dumps(getattr(nodes, name))}" for name in ("user", "command", "ssh_options")]
    hosts = [f"{json.dumps(name)} = {json.dumps(host)}" for name, host in nodes.hosts.items()]
    return "\n".join(("", "[nodes]", *rows, "", "[nodes.hosts]", *hosts, ""))


def no_token_advice(path: Path) -> str:
    """What to do when a server wants a token and none is known."""
    return (
        f"put a token into GRID_TOKEN or into {path} (`grid up` writes it for a grid on this machine; "
        "for another one ask whoever runs it)"
    )


def _token(env: Mapping[str, str]) -> str:
    if env.get("GRID_TOKEN"):
        return env["GRID_TOKEN"].strip()
    if not env.get("GRID_TOKEN_FILE"):
        return ""
    path = Path(env["GRID_TOKEN_FILE"]).expanduser()
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise GridError(f"cannot read the token from GRID_TOKEN_FILE={path}: {error}") from error
