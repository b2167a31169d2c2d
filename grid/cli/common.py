"""What the commands share: the client, the options that come again, and completion from the server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from grid.client import Client
from tasks.errors import GridError
from tasks.limits import LIMIT_NAMES

COMPLETIONS = 50


def complete_tasks(incomplete: str) -> list[tuple[str, str]]:
    """Ids of tasks that begin like this, with their names; nothing when no grid answers."""
    try:
        with Client() as client:
            return [
                (task.id, f"{task.name} ({task.verdict or task.state})")
                for task in client.list_tasks(limit=COMPLETIONS)
                if task.id.startswith(incomplete)
            ]
    except GridError:
        return []


def complete_nodes(incomplete: str) -> list[str]:
    """Names of nodes that begin like this; nothing when no grid answers."""
    try:
        with Client() as client:
            return [node.name for node in client.nodes() if node.name.startswith(incomplete)]
    except GridError:
        return []


def complete_secrets(incomplete: str) -> list[str]:
    """Names of secrets that begin like this; nothing when no grid answers."""
    try:
        with Client() as client:
            return [name for name in client.secrets() if name.startswith(incomplete)]
    except GridError:
        return []


def _limit(name: str, metavar: str, meaning: str) -> object:
    return typer.Option(
        f"--{name}", metavar=metavar, help=meaning, rich_help_panel="Limits, instead of those in the folder"
    )


TaskId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a task, or the beginning of one.", autocompletion=complete_tasks)
]
TaskIds = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="Ids of tasks, or beginnings of them.", autocompletion=complete_tasks),
]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder with a task.json.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Submit nothing: say what is wrong, and what similar tasks used.")
]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")]
Name = Annotated[str | None, typer.Option("--name", help="Name for people, instead of the folder's.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Label; may be given again.")]

Memory = Annotated[str | None, _limit("memory", "SIZE", "Memory of all processes together: 64M, 1.5G.")]
Swap = Annotated[str | None, _limit("swap", "SIZE", "Swap beyond the memory.")]
Cpus = Annotated[str | None, _limit("cpus", "N", "Processors: 1, 0.5.")]
Pids = Annotated[str | None, _limit("pids", "N", "Processes and threads at one time.")]
Time = Annotated[str | None, _limit("time", "TIME", "Wall time: 500ms, 10s, 2min.")]
CpuTime = Annotated[str | None, _limit("cpu-time", "TIME", "Processor time of all processes.")]
Storage = Annotated[str | None, _limit("storage", "SIZE", "Bytes in the task's folder.")]
Files = Annotated[str | None, _limit("files", "N", "Files in the task's folder.")]
Output = Annotated[str | None, _limit("output", "SIZE", "Bytes kept of what the program prints.")]
Network = Annotated[bool | None, _limit("network/--no-network", "", "Ask for network access.")]
Gpus = Annotated[str | None, _limit("gpus", "N", "Graphics cards.")]
GpuMemory = Annotated[str | None, _limit("gpu-memory", "SIZE", "Memory of each graphics card.")]


def limits_of(context: typer.Context) -> dict[str, object]:
    """The limits that were given as options of the command."""
    return {name: context.params[name] for name in LIMIT_NAMES if context.params.get(name) is not None}


def labels_of(given: Iterable[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` texts as a mapping; a text without ``=`` is a usage error."""
    labels: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f'"{text}" is not KEY=VALUE', param_hint="--label")
        labels[key] = value
    return labels
