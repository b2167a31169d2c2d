"""The command ``grid up``: the whole grid on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from grid.cli import common, printing
from grid.cli.exits import BAD_INPUT

if TYPE_CHECKING:
    from grid.up import Running


def default_directory() -> Path:
    """Where a grid keeps its things unless told otherwise."""
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "celery-grid"


def up(
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder of the grid [~/.local/share/celery-grid].")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the web server; 0 takes a free one.")] = 8080,
    node: Annotated[bool, typer.Option("--node/--no-node", help="Run tasks on this machine.")] = True,
    flower: Annotated[bool, typer.Option("--flower/--no-flower", help="Start Flower, which watches Celery.")] = True,
    slots: Annotated[int | None, typer.Option(min=1, help="Tasks at one time on this machine.")] = None,
    observer: Annotated[
        bool, typer.Option("--observer/--no-observer", help="Start the observer, for containers that judge others.")
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Start a grid on this machine, and keep it running until Ctrl-C."""
    from grid.up import AlreadyRunning, Options, UsageError, run  # which no other command needs

    options = Options(directory or default_directory(), port, node, flower, slots, observer)
    try:
        run(options, printing.note, _json if as_json else _show)
    except (AlreadyRunning, UsageError) as error:
        printing.complain(str(error))
        raise typer.Exit(BAD_INPUT) from error


def _json(running: Running) -> None:
    """One line of JSON for programs that start a grid."""
    facts = {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(running).items()
    }
    printing.say(json.dumps(facts))
    sys.stdout.flush()


def _show(running: Running) -> None:
    password = running.password or f"in {running.password_file}"
    lines = [("web page", running.server), ("user", f"{running.user}   password {password}")]
    if running.flower_password_file:
        lines.append(("Flower", running.flower_url))
        lines.append(("", f"user {running.flower_user}   password in {running.flower_password_file}"))
    state = "" if running.node_ready else " (not ready yet)"
    lines += [
        ("node", f"{running.node}{state}" if running.node else "none; add one with: grid node start"),
        ("folder", str(running.directory)),
        ("try", "grid run examples/uname"),
        ("stop", "Ctrl-C"),
    ]
    if not printing.on_terminal():
        printing.table((), lines)
        sys.stdout.flush()
        return
    text = Text("\n").join(Text.assemble((f"{name:9} ", "bold"), value) for name, value in lines)
    Console().print(Panel(text, title="the grid is up", expand=False))
