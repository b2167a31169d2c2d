"""The command ``grid worker execute``: run one task folder on this machine, with no server and no broker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from grid.cli import common, printing
from grid.cli.exits import exit_status
from grid.lone import Ways, execute, job_of
from tasks.errors import GridError
from tasks.profiles import PROFILES
from tasks.result import Result

Shell = Annotated[
    bool, typer.Option("--shell", help="After a failure open a shell in the task's folder and image (on a terminal).")
]
Observer = Annotated[
    Path | None, typer.Option("--observer", metavar="SOCKET", help="Where the observer of this machine answers.")
]
Pull = Annotated[bool, typer.Option("--pull/--no-pull", help="Fetch an image that is not here.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Do not show what the program prints.")]
Directory = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="Where runs keep their things while they go on.")
]


def run_folder(
    context: typer.Context,
    task_dir: Annotated[str, typer.Argument(metavar="TASK", help="Folder with a task.json or kolejka_task.json.")],
    result_dir: Annotated[Path, typer.Argument(metavar="RESULT", help="New folder for the result.")],
    shell: Shell = False,
    profile: Annotated[str | None, typer.Option(help="Container profile: standard or judge.")] = None,
    observer: Observer = None,
    pull: Pull = True,
    quiet: Quiet = False,
    force: common.Force = False,
    directory: Directory = None,
    as_json: common.AsJson = False,
    memory: common.Memory = None,
    swap: common.Swap = None,
    cpus: common.Cpus = None,
    pids: common.Pids = None,
    time: common.Time = None,
    cpu_time: common.CpuTime = None,
    storage: common.Storage = None,
    files: common.Files = None,
    output: common.Output = None,
    network: common.Network = None,
    gpus: common.Gpus = None,
    gpu_memory: common.GpuMemory = None,
) -> None:
    """Run the task in a folder on this machine as a node would, and write its result into RESULT.

    Neither a server nor a broker is needed. Exits as grid run does: 0 when the task succeeded, else its program's exit
    code (128+n for signal n); 124 when a time limit ended it; 125 when it was cancelled, could not be started, or the
    machine failed; 2 when the folder has faults.
    """
    if profile is not None and profile not in PROFILES:
        raise typer.BadParameter(f"there are {' and '.join(PROFILES)}", param_hint="--profile")
    job = job_of(task_dir, common.limits_of(context), profile)
    ways = Ways(directory, observer, pull, echo=not (quiet or as_json), shell=shell_wanted(shell))
    printing.note(f"task {job.id}: {job.spec.image} on this machine")
    result = execute(job, ways, result_dir, force=force)
    if as_json:
        printing.say_json(result)
    printing.note(ending(result))
    raise typer.Exit(exit_status(result))


def shell_wanted(asked: bool) -> bool:
    """Whether to open a shell: only for somebody who sits at a terminal. Raises GridError."""
    if asked and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GridError("--shell needs a terminal; leave it out, the result folder tells what happened")
    return asked


def ending(result: Result) -> str:
    """How it ended, in one sentence."""
    advice = f" ({result.advice})" if result.advice else ""
    unheld = f"; not enforced here: {', '.join(result.not_enforced)}" if result.not_enforced else ""
    return f"{result.verdict}: {result.reason}{advice}{unheld}"
