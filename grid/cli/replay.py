"""The command ``grid replay``: run a task of the grid again on this machine, and compare what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from grid.cli import common, printing
from grid.cli.exits import FAILED
from grid.cli.worker import Directory, Observer, Pull, Quiet, Shell, ending, shell_wanted
from grid.client import Client
from grid.lone import Ways
from grid.replay import Comparison, Row, short
from grid.replay import replay as run_again


def replay(
    task_id: common.TaskId,
    result_dir: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="New folder for the result of the run here.")
    ] = None,
    shell: Shell = False,
    twice: Annotated[
        bool, typer.Option("--twice", help="Run it two times, and compare these with each other too.")
    ] = False,
    observer: Observer = None,
    pull: Pull = True,
    quiet: Quiet = False,
    directory: Directory = None,
    as_json: common.AsJson = False,
) -> None:
    """Run an ended task again on this machine, with its exact inputs, image and limits, and compare.

    Verdict, exit code, image, output files and logs are compared, contents by their sha256. Exits with 0 when all is
    the same, 1 when something differs (with --twice also between the two runs) or the task could not be run here.
    """
    ways = Ways(directory, observer, pull, echo=not (quiet or as_json), shell=shell_wanted(shell))
    with Client() as client:
        found = run_again(client, client.find(task_id), ways, twice=twice, into=result_dir)
    if as_json:
        printing.say_json(_plain(found))
    else:
        _show(found, twice=twice)
    printing.note(ending(found.result))
    for what in found.varying:
        printing.note(f"not deterministic: {what.removeprefix('file ')} differs")
    raise typer.Exit(0 if found.same else FAILED)


def _plain(found: Comparison) -> dict[str, object]:
    rows = [
        {"what": row.what, "grid": row.grid, "here": row.here, "again": row.again, "same": row.same and row.repeats}
        for row in found.rows
    ]
    return {"task": found.task, "same": found.same, "not_deterministic": list(found.varying), "compared": rows}


def _show(found: Comparison, *, twice: bool) -> None:
    headers = ("what", "grid", "here", *(["again"] if twice else []), "")
    printing.table(headers, [_cells(row) for row in found.rows])


def _cells(row: Row) -> list[printing.Cell]:
    again = [] if row.again is None else [short(row.again)]
    alike = row.same and row.repeats
    word = "same" if alike else "differs" if row.repeats else "not deterministic"
    return [row.what, short(row.grid), short(row.here), *again, Text(word, style="green" if alike else "red")]
