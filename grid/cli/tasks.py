"""The commands about tasks: submit, run, list, status, logs, result, explain."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from grid.cli import common, printing
from grid.cli.checking import check_only
from grid.cli.exits import INTERRUPTED, exit_status
from grid.cli.following import copy_log, follow
from grid.client import Client, SubmitOptions
from grid.handle import Result, Task
from tasks.errors import Fault, SpecError
from tasks.units import human_seconds, human_size
from tasks.views import AttemptView, ExplainView, TaskView

T = TypeVar("T")


def submit(
    context: typer.Context,
    folder: common.Folder,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit with the status of the task.")] = False,
    each: Annotated[
        bool, typer.Option("--each", help="Submit every folder in DIR that has a task.json; print their ids.")
    ] = False,
    dry_run: common.DryRun = False,
    name: common.Name = None,
    label: common.Labels = None,
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
    """Submit the task in a folder and print its id."""
    options = _options(context, name, label)
    if dry_run:
        check_only(folder, options, alone=not (each or wait), as_json=as_json)
        return
    if each:
        _submit_each(folder, options, wait=wait, as_json=as_json)
        return
    with Client() as client:
        task = _submit(client, context, folder, name, label)
        if not as_json:
            printing.say(task.id)
            sys.stdout.flush()
        elif not wait:
            printing.say_json(task.view)
        if wait:
            _wait(task, as_json=as_json)


def run(
    context: typer.Context,
    folder: common.Folder,
    result_dir: Annotated[str | None, typer.Argument(metavar="[RESULT_DIR]", help="Folder for the result.")] = None,
    name: common.Name = None,
    label: common.Labels = None,
    force: common.Force = False,
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
    """Submit the task in a folder, show what it prints, and fetch its result.

    Exits with the status of the task: 0 when it succeeded, else its program's exit code (128+n for signal n); 124 when
    a time limit ended it; 125 when it was cancelled, could not be started, or the grid failed.
    """
    with Client() as client:
        task = _submit(client, context, folder, name, label)
        printing.note(f"task {task.id}")
        result = _patiently(task, lambda: follow(task, show=not as_json))
        if result_dir is not None:
            with printing.transfer("downloading") as progress:
                result.download(result_dir, force=force, progress=progress)
        if as_json:
            printing.say_json(result.record)
        printing.note(_ending(result))
        raise typer.Exit(exit_status(result.record))


def list_(
    state: Annotated[str | None, typer.Option(help="Only tasks in this state, such as queued or running.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only tasks that ended with this verdict.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only tasks of this user.")] = None,
    node: Annotated[
        str | None, typer.Option(help="Only tasks on this node.", autocompletion=common.complete_nodes)
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="KEY=VALUE", help="Only tasks with this label.")] = None,
    text: Annotated[str | None, typer.Option(help="Only tasks with this in their name or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show at most.")] = 50,
    as_json: common.AsJson = False,
) -> None:
    """List the newest tasks: id, state, verdict, node, age, name."""
    with Client() as client:
        found = client.list_tasks(
            limit=limit, state=state, verdict=verdict, owner=owner, node=node, label=label, text=text
        )
    if as_json:
        printing.say_json([task.view for task in found])
        return
    now = datetime.now(UTC)
    rows = [_row(task.view, now) for task in found]
    printing.table(("id", "state", "node", "age", "name"), rows)


def _row(view: TaskView, now: datetime) -> tuple[printing.Cell, ...]:
    """People see the verdict in the place of a final state; programs find both, always in the same columns."""
    verdict = printing.verdict_text(view.verdict, view.verdict_class)
    state: tuple[printing.Cell, ...] = (str(view.state), verdict)
    if printing.on_terminal():
        state = (verdict if view.verdict else str(view.state),)
    return (view.id, *state, view.node, printing.since(view.created_at, now), view.name)


def status(task_id: common.TaskId, as_json: common.AsJson = False) -> None:
    """Show how a task is."""
    with Client() as client:
        task = client.find(task_id)
        view = task.view
        tried = task.attempts() if view.attempts > 1 or view.tried_again_at else ()
    if as_json:
        printing.say_json(view)
        return
    printing.facts([*_about(view, datetime.now(UTC)), *(_attempt(one) for one in tried)])


def logs(
    task_id: common.TaskId,
    follow_: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the task has ended.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Show standard error instead of standard output.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Show what a task has printed."""
    stream = "stderr" if stderr else "stdout"
    with Client() as client:
        task = client.find(task_id)
        if as_json:
            text = "".join(_patiently(task, lambda: list(task.logs(follow=follow_, stream=stream))))
            printing.say_json({"id": task.id, "stream": stream, "text": text})
            return
        _patiently(task, lambda: copy_log(task, stream, sys.stdout.buffer, follow=follow_))


def result(
    task_id: common.TaskId,
    result_dir: Annotated[str | None, typer.Argument(metavar="[DIR]", help="Folder to write the files into.")] = None,
    force: common.Force = False,
    as_json: common.AsJson = False,
) -> None:
    """Show the result of a task that has ended; with a folder, fetch its files and result.json into it."""
    with Client() as client:
        found = client.find(task_id).result()
        if result_dir is not None:
            with printing.transfer("downloading") as progress:
                found.download(result_dir, force=force, progress=progress)
    if as_json:
        printing.say_json(found.record)
        return
    _show_result(found)


def explain(task_id: common.TaskId, as_json: common.AsJson = False) -> None:
    """Say why a task is where it is: its position in the queue, and what each node has against it."""
    with Client() as client:
        view = client.find(task_id).explain()
    if as_json:
        printing.say_json(view)
        return
    _show_explanation(view)


def _submit(client: Client, context: typer.Context, folder: str, name: str | None, label: list[str] | None) -> Task:
    labels = common.labels_of(label)
    with printing.transfer("uploading") as progress:
        return client.submit(folder, name=name, labels=labels, limits=common.limits_of(context), progress=progress)


def _wait(task: Task, *, as_json: bool) -> NoReturn:
    """Wait for the end, say it, and exit with the status of the task."""
    result = _patiently(task, lambda: task.wait(None))
    if as_json:
        printing.say_json(result.record)
    else:
        printing.note(_ending(result))
    raise typer.Exit(exit_status(result.record))


def _options(context: typer.Context, name: str | None, label: list[str] | None) -> SubmitOptions:
    return {"name": name, "labels": common.labels_of(label), "limits": common.limits_of(context)}


def _submit_each(folder: str, options: SubmitOptions, *, wait: bool, as_json: bool) -> None:
    """Submit the folders in a folder, in the order of their names."""
    if wait:
        raise typer.BadParameter("--each waits for nothing; leave --wait out")
    folders = sorted(path.parent for path in Path(folder).glob("*/task.json"))
    if not folders:
        raise SpecError([Fault("", f"no folder in {folder} has a task.json")])
    with Client() as client, printing.transfer("uploading") as progress:
        options["progress"] = progress
        made = client.submit_many(folders, **options)
    if as_json:
        printing.say_json([task.view for task in made])
        return
    for task in made:
        printing.say(task.id)


def _ending(found: Result) -> str:
    advice = f" ({found.advice})" if found.advice else ""
    return f"{found.verdict}: {found.reason}{advice}"


def _about(view: TaskView, now: datetime) -> list[tuple[str, printing.Cell]]:
    took = ""
    if view.started_at:
        took = human_seconds(max(0.0, ((view.finished_at or now) - view.started_at).total_seconds()))
    return [
        ("id", view.id),
        ("name", view.name),
        ("owner", view.owner),
        ("state", _state(view)),
        ("verdict", printing.verdict_text(view.verdict, view.verdict_class)),
        ("reason", view.reason),
        ("advice", view.advice),
        ("exit code", "" if view.exit_code is None else str(view.exit_code)),
        ("node", view.node),
        ("attempts", str(view.attempts)),
        ("tried again", printing.moment(view.tried_again_at)),
        ("image", view.image),
        ("labels", " ".join(f"{key}={value}" for key, value in view.labels.items())),
        ("submitted", printing.since(view.created_at, now)),
        ("took", took),
    ]


def _attempt(one: AttemptView) -> tuple[str, printing.Cell]:
    """How one attempt went, and what was decided then."""
    memory = "" if one.memory_bytes is None else f" with {human_size(one.memory_bytes)} of memory"
    ended = f"{one.verdict}: {one.reason}" if one.verdict else str(one.state)
    decision = f"; {one.decision}" if one.decision else ""
    return f"attempt {one.number}", f"on {one.node}{memory}, {ended}{decision}"


def _state(view: TaskView) -> str:
    phase = f" ({view.phase})" if view.phase else ""
    ending = ", cancel requested" if view.cancel_requested and not view.state.final else ""
    return f"{view.state}{phase}{ending}"


def _show_result(found: Result) -> None:
    usage = found.usage
    printing.facts(
        [
            ("id", found.id),
            ("name", found.record.name),
            ("verdict", printing.verdict_text(found.verdict, found.verdict_class)),
            ("reason", found.reason),
            ("advice", found.advice),
            ("exit code", "" if found.exit_code is None else str(found.exit_code)),
            ("node", found.record.node),
            ("wall time", human_seconds(usage.wall_seconds)),
            ("cpu time", human_seconds(usage.cpu_seconds)),
            ("memory peak", printing.size(usage.memory_peak_bytes)),
            ("not enforced", " ".join(found.record.not_enforced)),
            *(("file", f"{path}\t{printing.size(one.size)}") for path, one in found.files.items()),
        ]
    )


def _show_explanation(view: ExplainView) -> None:
    position = (
        "" if view.position is None else f"{view.position} of {view.queued}" + ("" if view.exact else ", or later")
    )
    printing.facts(
        [
            ("task", view.task),
            ("state", str(view.state)),
            ("summary", view.summary),
            ("position", position),
            ("estimate", view.estimate),
            ("can ever run", "" if view.can_ever_run else "no"),
        ]
    )
    rows = [
        (
            f"node {one.node}",
            "fits" if one.fits_now else "not now" if one.fits_ever else "never",
            "; ".join(one.reasons),
        )
        for one in view.nodes
    ]
    if rows:
        printing.table(("node", "fits", "reasons"), rows)


def _patiently(task: Task, action: Callable[[], T]) -> T:
    """What ``action`` gives; Ctrl-C leaves the task running and says how to come back."""
    try:
        return action()
    except KeyboardInterrupt:
        printing.note(f"\ntask {task.id} goes on; come back with:  grid logs -f {task.id}")
        raise typer.Exit(INTERRUPTED) from None
