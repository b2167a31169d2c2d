"""The command ``grid nodes restart``: start the agents of nodes that went down, over ssh, and see them come back."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from grid import config
from grid.cli import common, printing
from grid.cli.exits import FAILED
from grid.client import Client
from grid.config import NodesConfig
from tasks.errors import GridError, NotFound
from tasks.model import Record
from tasks.states import NodeMode
from tasks.units import human_seconds, parse_duration
from tasks.views import NodeStatus

AT_ONE_TIME = 16
SSH_SECONDS = 120.0
CONNECT_SECONDS = 10
POLL_SECONDS = 1.0
# Nobody is there to type a password, and what a node says of itself must not lead to a host that was never seen.
SSH = ("ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}", "-o", "ForwardAgent=no")
_SSH_FAILED = 255
# A name that begins with a dash would be an option.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9\[][A-Za-z0-9._:%\[\]-]*", re.ASCII)


class Outcome(StrEnum):
    """How the restart of one node went."""

    BACK = "back"
    STARTED = "started"
    LATE = "not back"
    FAILED = "failed"


class Restarted(Record):
    """What became of one node; ``detail`` is for people."""

    node: str
    host: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One node to be started: by ``command`` (words), on ``host``."""

    node: str
    host: str
    command: tuple[str, ...]


def restart(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Names of nodes.", autocompletion=common.complete_nodes),
    ] = None,
    away: Annotated[bool, typer.Option("--away", help="All nodes that are not heard of, and not drained.")] = False,
    command: Annotated[
        str | None, typer.Option("--command", metavar="TEXT", help="Run this there, instead of restarting the unit.")
    ] = None,
    wait: Annotated[
        str, typer.Option("--wait", metavar="TIME", help="How long to wait until they are back; 0s: not at all.")
    ] = "2min",
    as_json: common.AsJson = False,
) -> None:
    """Restart the agents of nodes over ssh, at one time, and wait until they are back; status 1 when one is not."""
    if bool(names) == away:
        raise typer.BadParameter("give names of nodes, or --away", param_hint="NAME")
    try:
        patience = parse_duration(wait)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--wait") from error
    known = config.load().nodes
    known = replace(known, command=command) if command else known
    with Client() as client:
        chosen = choose(client.nodes(), names or ())
        if not chosen:
            printing.note("no node is away")
        with ThreadPoolExecutor(AT_ONE_TIME) as pool:
            done = list(pool.map(lambda node: _restarted(client, node, known, patience), chosen))
    if as_json:
        printing.say_json(done)
    else:
        rows = [(one.node, one.host, Text(one.outcome, style=_colour(one)), one.detail) for one in done]
        printing.table(("node", "host", "", "") if rows else (), rows)
    if any(one.outcome in (Outcome.FAILED, Outcome.LATE) for one in done):
        raise typer.Exit(FAILED)


def choose(known: Iterable[NodeStatus], names: Sequence[str]) -> list[NodeStatus]:
    """The nodes of these names; without names those that were here once, are away, and should not be.

    Raises NotFound for a name that is none of a node.
    """
    found = {node.name: node for node in known}
    if names:
        for name in names:
            if name not in found:
                raise NotFound(f'there is no node "{name}"')
        return [found[name] for name in dict.fromkeys(names)]
    gone = (node for node in found.values() if not node.online and node.last_seen is not None)
    return [node for node in gone if node.mode is NodeMode.OPEN]


def job_for(node: NodeStatus, known: NodesConfig) -> Job:
    """Where to go and what to run: by the configuration, else by the host name that the node has told.

    Raises GridError for a host name that cannot be one.
    """
    told = next((tag.removeprefix("hostname:") for tag in node.tags if tag.startswith("hostname:")), node.name)
    host = known.hosts.get(node.name, told)
    if "@" not in host and known.user:
        host = f"{known.user}@{host}"
    if not _HOST.fullmatch(host):
        raise GridError(
            f'"{host}" is no name of a host; put the right one into [nodes.hosts] of {config.config_path()}'
        )
    return Job(node.name, host, (*SSH, *known.ssh_options, "--", host, known.command))


def run(job: Job) -> str:
    """Run the command there; return why it failed, or nothing."""
    try:
        done = subprocess.run(
            job.command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SSH_SECONDS, check=False
        )
    except FileNotFoundError:
        return "there is no ssh here; install openssh-client"
    except subprocess.TimeoutExpired:
        return f"no end within {human_seconds(SSH_SECONDS)}"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    kind = "ssh" if done.returncode == _SSH_FAILED else f"exit status {done.returncode}"
    return f"{kind}: {said[-1]}" if said else kind


def wait_for(
    look: Callable[[], NodeStatus], patience_seconds: float, clock: Callable[[], float] = time.monotonic
) -> float | None:
    """Seconds until the node is heard of anew and takes tasks, if it may; None when that is too long."""
    begun = clock()
    before = look().last_seen
    while clock() - begun <= patience_seconds:
        node = look()
        fresh = node.last_seen is not None and (before is None or node.last_seen > before)
        if fresh and node.online and (node.ready or node.mode is not NodeMode.OPEN):
            return clock() - begun
        time.sleep(POLL_SECONDS)
    return None


def _restarted(client: Client, node: NodeStatus, known: NodesConfig, patience_seconds: float) -> Restarted:
    try:
        job = job_for(node, known)
    except GridError as error:
        return Restarted(node=node.name, host="", outcome=Outcome.FAILED, detail=str(error))
    failed = run(job)
    if failed:
        return Restarted(node=node.name, host=job.host, outcome=Outcome.FAILED, detail=failed)
    if not patience_seconds:
        return Restarted(node=node.name, host=job.host, outcome=Outcome.STARTED)
    seconds = wait_for(lambda: client.node(node.name), patience_seconds)
    if seconds is None:
        reason = client.node(node.name).not_ready_reason
        detail = f"after {human_seconds(patience_seconds)}: {reason or 'it was not heard of'}; see its log there"
        return Restarted(node=node.name, host=job.host, outcome=Outcome.LATE, detail=detail)
    return Restarted(
        node=node.name, host=job.host, outcome=Outcome.BACK, detail=f"after {human_seconds(round(seconds))}"
    )


def _colour(one: Restarted) -> str:
    return {Outcome.BACK: "green", Outcome.STARTED: "green", Outcome.LATE: "yellow"}.get(one.outcome, "red")
