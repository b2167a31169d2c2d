"""The command ``grid observe``: run a command under limits on this machine, and tell what it used and how it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from grid.cli import exits, printing
from tasks.units import parse_duration, parse_size


def observe(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    time: Annotated[str | None, typer.Option(metavar="TIME", help="How long it may run, such as 2s.")] = None,
    cpu_time: Annotated[str | None, typer.Option(metavar="TIME", help="Processor time of all its processes.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory, such as 64M.")] = None,
    swap: Annotated[str | None, typer.Option(metavar="SIZE", help="Swap besides; needs --memory.")] = None,
    pids: Annotated[int | None, typer.Option(min=1, help="Processes and threads.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Whole processors.")] = None,
    instructions: Annotated[int | None, typer.Option(min=1, help="Instructions of the processor.")] = None,
    cycles: Annotated[int | None, typer.Option(min=1, help="Cycles of the processor.")] = None,
    socket: Annotated[Path | None, typer.Option(metavar="PATH", help="Where the observer answers.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report here, and leave standard output to CMD.")
    ] = None,
) -> None:
    """Run a command under limits, and print its usage and verdict as JSON.

    In a container this needs the socket of an observer; root of a machine needs none. Without --report the output of
    the command goes to standard error. The exit status is that of the command (128+n when signal n ended it), 124 when
    a time limit did, 125 when it could not be run.
    """
    words = {"time": time, "cpu_time": cpu_time, "memory": memory, "swap": swap}
    numbers = {"pids": pids, "cpus": cpus, "perf_instructions": instructions, "perf_cycles": cycles}
    try:
        limits = {**_amounts(words), **{name: value for name, value in numbers.items() if value is not None}}
    except ValueError as error:
        printing.complain(str(error))
        raise typer.Exit(exits.BAD_INPUT) from error
    _report(command, limits, socket, report)


def _amounts(words: Mapping[str, str | None]) -> dict[str, Any]:
    parsers = {"time": parse_duration, "cpu_time": parse_duration, "memory": parse_size, "swap": parse_size}
    return {name: parsers[name](text) for name, text in words.items() if text is not None}


def _report(command: list[str], limits: Mapping[str, Any], socket: Path | None, report: Path | None) -> NoReturn:
    # The observer's parts are a sixth of what any other command would load.
    from grid.observing import exit_code, judged, summary
    from observer.errors import ObserverError
    from observer.running import run, session_here

    try:
        with session_here(str(socket) if socket else None) as session:
            ran = run(command, limits, session, sys.stderr.buffer if report is None else None)
    except (ObserverError, OSError) as error:
        printing.complain(str(error))
        raise typer.Exit(exits.NOT_RUN) from error
    judgement = judged(ran, limits, command)
    told = summary(ran, limits, command, judgement)
    if report is None:
        printing.say_json(told)
    else:
        report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    raise typer.Exit(exits.status_of(judgement.verdict, judgement.verdict_class, exit_code(ran)))
