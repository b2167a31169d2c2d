"""Commands under kolejka's names, ours behind them: ``kolejka-client``, ``kolejka-worker``, ``kolejka-observer``.

``grid kolejka install DIR`` writes the three programs; nobody has them who did not ask. Programs of others, such as
``kolejka-judge``, find by these names what they call, with kolejka's words for what it is asked to do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import httpx
import typer

from grid.cli import printing
from grid.cli.exits import exit_status
from grid.client import Client
from grid.handle import Task
from grid.lone import KOLEJKA_RECORD, Ways, execute, kolejka_package
from grid.saving import Saver
from tasks.dialects.kolejka import DIALECT, KOLEJKA, write_task
from tasks.dialects.kolejka_results import write_result
from tasks.errors import GridError, Refused, SpecError
from tasks.profiles import Profile
from tasks.spec import parse_spec

PROGRAMS = ("kolejka-client", "kolejka-worker", "kolejka-observer")
FAILED = 1
_MARK = "# Made by `grid kolejka install`."
_TASK_RECORD = "kolejka_task.json"
_LIMITS = ("cpus", "memory", "swap", "pids", "time", "storage", "workspace", "network", "gpus", "gpu-memory")
_UNUSED = ("image", "perf-instructions", "perf-cycles", "cgroup-depth", "cgroup-descendants")


def install(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder on the PATH of those who want them.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also replace programs of these names that are others'.")
    ] = False,
) -> None:
    """Write the programs kolejka-client, kolejka-worker and kolejka-observer, which do their work with this grid."""
    directory.mkdir(parents=True, exist_ok=True)
    targets = {name: directory / name for name in PROGRAMS}
    others = [str(path) for path in targets.values() if path.exists() and _MARK not in path.read_text(errors="replace")]
    if others and not force:
        raise GridError(f"{', '.join(others)}: there already, and not ours; choose another folder, or --force")
    for name, path in targets.items():
        path.write_text(_launcher(name), encoding="utf-8")
        path.chmod(0o755)
        printing.say(str(path))


def _launcher(name: str) -> str:
    """The text of one program; it finds our packages also where they are not installed."""
    root, function = str(Path(__file__).resolve().parents[2]), name.removeprefix("kolejka-")
    return (
        f"#!{sys.executable}\n{_MARK}\nimport sys\n\nsys.path.insert(0, {root!r})\n"
        f"from grid.cli.kolejka import {function}\n\nsys.exit({function}())\n"
    )


def observer() -> int:
    """``kolejka-observer``: our observer with kolejka's manners, at its place; replaces this process."""
    parser = _parser("kolejka-observer")
    parser.add_argument("-s", "--socket", help="where to answer (default: kolejka's place)")
    parser.add_argument("--pid-file", type=Path, help="write the process id into this file")
    options = parser.parse_args()
    if options.pid_file is not None:
        options.pid_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
    where = ["--kolejka", "--socket", options.socket] if options.socket else ["--kolejka-socket"]
    command = [sys.executable, "-m", "observer", "serve", *where]
    os.execve(sys.executable, command, _with_our_packages())  # noqa: S606 - our own program, and no shell


def worker() -> int:
    """``kolejka-worker execute TASK RESULT``: exits with the status of ``grid worker execute``."""
    parser = _parser("kolejka-worker")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = _executing(verbs.add_parser("execute", help="run a task folder on this machine"))
    verb.add_argument("--temp", type=Path, help="folder for what is needed meanwhile")
    verb.add_argument("--pull", action="store_true", help="kept for old scripts: a missing image is fetched anyway")
    return _run(_work, parser)


def _work(options: argparse.Namespace) -> int:
    from grid.lone import job_of_package

    os.environ.update(_with_our_packages())
    task_id, package = kolejka_package(Path(options.task), _limits(options))
    result = execute(job_of_package(package, task_id), Ways(options.temp, echo=False), Path(options.result))
    return exit_status(result)


def client() -> int:
    """``kolejka-client``: 0 when it is done, whatever the task returned; 1 when it cannot be; 2 for wrong usage."""
    parser = _parser("kolejka-client")
    things = parser.add_subparsers(dest="thing", required=True)
    verb = _executing(things.add_parser("execute", help="submit, wait, fetch the result"))
    verb.add_argument("--interval", type=float, help="kept for old scripts: the server tells at once")
    verb.set_defaults(act=_execute)
    for thing, verbs in _THINGS.items():
        inner = things.add_parser(thing).add_subparsers(dest="verb", required=True)
        for name, (act, words) in verbs.items():
            one = inner.add_parser(name)
            for word in words:
                one.add_argument(word)
            if (thing, name) == ("task", "put"):
                _offer_limits(one)
            one.set_defaults(act=act)
    return _run(_acted, parser)


def _acted(options: argparse.Namespace) -> int:
    with Client() as grid:
        options.act(grid, options)
    return 0


def _execute(grid: Client, options: argparse.Namespace) -> None:
    task = _submitted(grid, options)
    task.wait(None)
    _bring(task, Path(options.result))


def _task_put(grid: Client, options: argparse.Namespace) -> None:
    printing.say(_submitted(grid, options).id)


def _submitted(grid: Client, options: argparse.Namespace) -> Task:
    """Judges' containers are as kolejka's; who may not have them gets the standard one."""
    folder = Path(options.task)
    _, package = kolejka_package(folder, _limits(options))
    try:
        return grid.submit_package(package)
    except SpecError as error:
        if {fault.path for fault in error.faults} != {"profile"}:
            raise
    return grid.submit_package(kolejka_package(folder, _limits(options), Profile.STANDARD)[1])


def _task_get(grid: Client, options: argparse.Namespace) -> None:
    task = grid.find(options.key)
    spec = parse_spec(grid.spec(task.id), default_name=task.name)
    saver = Saver(Path(options.folder), force=True)
    for name, source in spec.files.items():
        _fetch(grid, str(source.reference), saver, name)
    said = write_task(spec, task.id, spec.limits)
    said["files"] = {name: {"path": name} for name in spec.files}
    with saver.open(_TASK_RECORD) as out:
        out.write(json.dumps(said, indent=2).encode())


def _task_delete(grid: Client, options: argparse.Namespace) -> None:
    """As kolejka's users mean it: it is gone. What still runs is ended first."""
    task = grid.find(options.key)
    if not task.final:
        task.cancel("deleted by kolejka-client").wait(None)
    task.remove()


def _result_get(grid: Client, options: argparse.Namespace) -> None:
    _bring(grid.find(options.key), Path(options.folder))


def _blob_put(grid: Client, options: argparse.Namespace) -> None:
    printing.say(grid.keep_file(Path(options.file)))


def _blob_get(grid: Client, options: argparse.Namespace) -> None:
    path = Path(options.path)
    _fetch(grid, options.key, Saver(path.parent, force=True), path.name)


def _not_here(reason: str) -> Callable[[Client, argparse.Namespace], None]:
    def refuse(grid: Client, options: argparse.Namespace) -> None:
        raise Refused(reason)

    return refuse


_THINGS: dict[str, dict[str, tuple[Callable[[Client, argparse.Namespace], None], tuple[str, ...]]]] = {
    "task": {
        "put": (_task_put, ("task",)),
        "get": (_task_get, ("key", "folder")),
        "delete": (_task_delete, ("key",)),
    },
    "result": {
        "get": (_result_get, ("key", "folder")),
        "put": (_not_here("results come from nodes; a real kolejka-foreman may put them"), ("folder",)),
        "delete": (_not_here("a result goes with its task: kolejka-client task delete KEY"), ("key",)),
    },
    "blob": {
        "put": (_blob_put, ("file",)),
        "get": (_blob_get, ("key", "path")),
        "delete": (_not_here("a content goes by itself when no task uses it any more"), ("key",)),
    },
}


def _bring(task: Task, folder: Path) -> None:
    """The files of a result, and its record in both languages. Raises Conflict while there is none."""
    found = task.result()
    found.download(folder)
    written = write_result(found.record, {**task.view.labels, DIALECT: KOLEJKA})
    written["files"] = {name: {"path": name} for name in found.files}
    with Saver(folder, force=True).open(KOLEJKA_RECORD) as out:
        out.write(json.dumps(written, indent=2).encode())


def _fetch(grid: Client, sha256: str, saver: Saver, name: str) -> None:
    with saver.open(name) as out:

        def take(response: httpx.Response) -> None:
            out.seek(0)
            out.truncate()
            for chunk in response.iter_bytes():
                out.write(chunk)

        grid.blob(sha256, take)


# ------------------------------------------------------------------------------------------------------------- options


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program)
    for flags in (("-v", "--verbose"), ("-d", "--debug")):
        parser.add_argument(*flags, action="store_true", help="kept for old scripts")
    parser.add_argument("--config-file", help="kept for old scripts: the grid's own configuration is read")
    parser.add_argument("--config", help="kept for old scripts")
    return parser


def _executing(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("task", help="folder with a kolejka_task.json")
    parser.add_argument("result", help="folder for the result")
    parser.add_argument("--consume", action="store_true", help="kept for old scripts: the folder is only read")
    _offer_limits(parser)
    return parser


def _offer_limits(parser: argparse.ArgumentParser) -> None:
    for name in (*_LIMITS, *_UNUSED):
        parser.add_argument(f"--{name}", help="limit, in kolejka's units")


def _limits(options: argparse.Namespace) -> dict[str, object]:
    """The limits that were given, in kolejka's words."""
    named = (name.replace("-", "_") for name in (*_LIMITS, *_UNUSED))
    return {name: value for name in named if (value := getattr(options, name, None)) is not None}


def _run(act: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser) -> int:
    """Do what the options ask; an error is a sentence, and not a traceback."""
    options = parser.parse_args()
    try:
        return act(options)
    except (GridError, OSError) as error:
        printing.complain(str(error))
        return FAILED
    except KeyboardInterrupt:
        return 130


def _with_our_packages() -> dict[str, str]:
    """The environment for a Python of ours that this one starts, also where we are not installed."""
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root}
