"""The visible part of scripts/demo: wait for the grid, submit the examples, show them live and how they ended."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from grid import Client, GridError, Task
from tasks.views import TaskView

START_SECONDS = 60.0
RUN_SECONDS = 120.0
LOOK_SECONDS = 0.1
COLOURS = {"success": "green", "user": "red", "infrastructure": "magenta", "cancelled": "yellow"}
OUTPUT_LINES = 4

console = Console()


def main() -> int:
    """Run the examples; 0 when every one of them is finished."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="the demo's folder, with the grid's folder in it")
    parser.add_argument("process", type=int, help="the process of `grid up`")
    parser.add_argument("examples", type=Path)
    wanted = parser.parse_args()
    wait_for_grid(wanted.process)
    with Client() as client:
        wait_for_node(client, wanted.process)
        folders = sorted(path.parent for path in wanted.examples.glob("*/task.json"))
        tasks = [client.submit(folder) for folder in folders]
        views = watch(client, tasks)
        for task in tasks:
            print_result(task, views[task.id])
        print_addresses(client, wanted.folder)
    return 0 if all(view.state.final for view in views.values()) else 1


def wait_for_grid(process: int) -> None:
    """Until `grid up` has written the client's configuration."""
    patience(process, lambda: Path(os.environ["GRID_CONFIG"]).exists(), "the grid did not start")


def wait_for_node(client: Client, process: int) -> None:
    """Until the server answers and the node is ready."""

    def ready() -> bool:
        try:
            return any(node.ready for node in client.nodes())
        except GridError:
            return False

    patience(process, ready, "the node did not join")


def patience(process: int, done: Callable[[], bool], complaint: str) -> None:
    """Wait for ``done()``; leave with ``complaint`` when it takes too long or the grid has ended."""
    deadline = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > deadline or not Path(f"/proc/{process}").exists():
            sys.exit(complaint)
        time.sleep(LOOK_SECONDS)


def watch(client: Client, tasks: list[Task]) -> dict[str, TaskView]:
    """Show the tasks live until all are final."""
    deadline = time.monotonic() + RUN_SECONDS
    with Live(console=console, auto_refresh=False) as live:
        while True:
            views = {task.id: client.view(task.id) for task in tasks}
            live.update(table(list(views.values())), refresh=True)
            if all(view.state.final for view in views.values()) or time.monotonic() > deadline:
                return views
            time.sleep(LOOK_SECONDS)


def table(views: list[TaskView]) -> Table:
    """State, node, verdict and time of each task."""
    made = Table(box=box.SIMPLE_HEAD, title="examples", title_justify="left")
    for column in ("task", "state", "node", "verdict"):
        made.add_column(column)
    made.add_column("time", justify="right")
    for view in views:
        colour = COLOURS.get(view.verdict_class, "cyan" if view.state == "running" else "default")
        state = f"{view.state}" + (f" ({view.phase})" if view.phase else "")
        made.add_row(view.name, state, view.node, f"[{colour}]{view.verdict}[/]", seconds(view))
    return made


def seconds(view: TaskView) -> str:
    """How long the task has run, or ran."""
    if view.started_at is None or view.finished_at is None:
        return ""
    return f"{(view.finished_at - view.started_at).total_seconds():.2f} s"


def print_result(task: Task, view: TaskView) -> None:
    """The verdict with its reason, and the files that came back."""
    colour = COLOURS.get(view.verdict_class, "default")
    console.print(f"\n[bold]{view.name}[/]  [{colour}]{view.verdict}[/]  {view.reason}", highlight=False)
    if view.advice:
        console.print(f"  [dim]{view.advice}[/]", highlight=False)
    if not view.state.final:
        return
    for name, file in task.result().files.items():
        lines = file.read_text().splitlines()
        shown = " | ".join(lines[:OUTPUT_LINES]) + (" ..." if len(lines) > OUTPUT_LINES else "")
        console.print(f"  {name}: ", end="", highlight=False)
        console.print(shown, style="dim", markup=False, highlight=False)


def print_addresses(client: Client, folder: Path) -> None:
    """Where to look with a browser while the grid runs."""
    known = json.loads((folder / "grid" / "up.json").read_text())
    console.print(f"\nweb page  {client.server}", highlight=False)
    console.print(f"Flower    http://127.0.0.1:{known['flower_port']}/flower/", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
