"""What stories about faults tell again and again: where a task runs, that it ended once, that nothing is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from grid import Task
from nodes.config import NodeConfig
from tasks.views import AttemptView
from tests.support.commands import WAITS
from tests.support.containers import containers
from tests.support.grids import WAIT_SECONDS, RunningGrid, Worker
from tests.support.node_api import eventually

PATIENCE_SECONDS = 60.0
"""For what has to come; generous, for the machine may be busy."""


def a_running_task(grid: RunningGrid, *args: str, **spec: Any) -> Task:
    """A task that has printed "ready"; ``spec`` as for ``RunningGrid.submit``."""
    task = grid.submit(*args, **spec)
    has_printed(task, "ready\n")
    return task


def a_waiting_task(grid: RunningGrid, *tags: str, **spec: Any) -> Task:
    """A task that runs on a node with these tags, and waits to be let go (see ``may_go_on``)."""
    return a_running_task(grid, *WAITS, requires=list(tags), **spec)


def has_printed(task: Task, text: str) -> None:
    """Wait until the server has ``text`` of the task's output."""
    eventually(lambda: text in "".join(task.logs()), PATIENCE_SECONDS)


def runs_on(task: Task, node: str) -> None:
    """Wait until the task runs on the node of this name."""
    eventually(lambda: (task.refresh().node, task.state) == (node, "running"), PATIENCE_SECONDS)


def may_go_on(node: Path, task: Task) -> None:
    """Let a task that runs ``WAITS`` on the node with this folder go on."""
    eventually(lambda: _let_go(node / "workspaces" / task.refresh().view.attempt / "task"), PATIENCE_SECONDS)


def _let_go(folder: Path) -> bool:
    try:
        # The folder is there before the workspace is mounted on it, and changes hands last of all.
        if folder.stat().st_uid == os.getuid():
            return False
        (folder / "go").touch()
    except FileNotFoundError:
        return False
    return True


def ended_once(task: Task, runs: int | None = None) -> None:
    """Wait until the task has succeeded: by exactly one accepted outcome, and after nodes took it up so many times."""
    assert task.wait(WAIT_SECONDS).verdict == "succeeded"
    attempts = task.attempts()
    verdicts = [attempt.verdict for attempt in attempts]
    assert verdicts.count("succeeded") == 1
    assert verdicts[-1] == "succeeded"
    assert runs in (None, runs_of(task)), [f"{one.verdict}: {one.reason}" for one in attempts]


def runs_of(task: Task) -> int:
    """How many attempts of the task were taken up by a node; those that never were count for nothing."""
    return len(tries_of(task))


def tries_of(task: Task) -> list[AttemptView]:
    """The attempts that a node took up, oldest first."""
    return [attempt for attempt in task.attempts() if attempt.started_at is not None]


def ended(pid: int) -> bool:
    """True when the process has ended, though nobody may have asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def identity(grid: RunningGrid, node: Worker | None = None) -> str:
    """The name by which the containers of a node are known, by default of the grid's own one."""
    name, folder = (node.name, node.directory) if node else (str(grid.facts["node"]), grid.directory / "node")
    return NodeConfig(server=grid.server, name=name, directory=folder, token="").identity


def nothing_is_left(grid: RunningGrid, node: Worker | None = None) -> None:
    """Wait until a node, by default the grid's own, has no container, no mount and no outcome that waits."""
    folder = node.directory if node else grid.directory / "node"
    owner = identity(grid, node)
    eventually(lambda: not _left(folder) and not containers(owner), PATIENCE_SECONDS)


def _left(folder: Path) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    files = [str(path) for name in ("attempts", "spool", "workspaces") for path in (folder / name).glob("[!.]*")]
    return files + [mount for mount in mounts if mount.startswith(f"{folder}/")]
