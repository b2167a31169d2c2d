"""The commands about the grid itself: nodes, node, secret, schema, up."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from grid import config
from grid.cli import common, fleet, printing
from grid.client import Client
from tasks.spec import json_schema

SecretName = Annotated[str, typer.Argument(metavar="NAME", autocompletion=common.complete_secrets)]


def nodes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this node.", autocompletion=common.complete_nodes)
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """List the nodes: name, state, running and slots, cpus, memory, last seen, tags."""
    with Client() as client:
        found = client.nodes() if name is None else (client.node(name),)
    if as_json:
        printing.say_json(found if name is None else found[0])
        return
    now = datetime.now(UTC)
    rows = [
        (
            one.name,
            fleet.state_text(one),
            f"{one.running}/{one.slots}",
            f"{one.cpus_used:g}/{one.cpus:g}" + (f" ({one.cpus_others:g} by others)" if one.cpus_others else ""),
            f"{printing.size(one.memory_used)}/{printing.size(one.memory)}",
            printing.since(one.last_seen, now),
            " ".join(one.tags),
        )
        for one in found
    ]
    printing.table(("node", "state", "running", "cpus", "memory", "seen", "tags"), rows)


def schema(as_json: common.AsJson = True) -> None:
    """Print the JSON Schema of task.json, for editors that check and complete it."""
    printing.say_json(json_schema())


def node_start(context: typer.Context) -> None:
    """Start a node on this machine, in the foreground (--help shows its options)."""
    _become_node("start", context.args)


def node_check(context: typer.Context) -> None:
    """Check whether this machine is fit to be a node (--help shows its options)."""
    _become_node("check", context.args)


def _become_node(verb: str, arguments: list[str]) -> None:
    """Replace this process by the node's; the address of the server is filled in, its token is the node's own."""
    environment = dict(os.environ)
    environment.setdefault("GRID_SERVER", config.load().server)
    sys.stdout.flush()
    command = [sys.executable, "-m", "nodes", verb, *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own program, and no shell


def secret_set(
    name: SecretName,
    value_file: Annotated[
        Path | None, typer.Option("--file", help="Read the value from this file; - is standard input.")
    ] = None,
) -> None:
    """Store a secret. The value is asked for, or read from a pipe or a file: on a command line others could see it."""
    with Client() as client:
        client.put_secret(name, _secret_value(value_file))


def _secret_value(value_file: Path | None) -> str:
    if value_file is not None and str(value_file) != "-":
        return value_file.read_text(encoding="utf-8").removesuffix("\n")
    if sys.stdin.isatty() and value_file is None:
        return str(typer.prompt("value", hide_input=True, err=True))
    return sys.stdin.read().removesuffix("\n")


def secret_list(as_json: common.AsJson = False) -> None:
    """List the names of your secrets."""
    with Client() as client:
        names = client.secrets()
    if as_json:
        printing.say_json([{"name": name} for name in names])
        return
    for name in names:
        printing.say(name)


def secret_remove(name: SecretName) -> None:
    """Remove a secret."""
    with Client() as client:
        client.delete_secret(name)
