"""The command ``grid observe``: run a command under limits on this machine, and tell what it used and how it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from grid.cli import exits, printing
from observer.errors import ObserverError
from observer.running import Ran, run, session_here
from observer.stats import Ended
from observer.units import parse_bytes, parse_seconds
from tasks.limits import Limits
from tasks.outcome import Evidence, Usage
from tasks.states import StopCause
from tasks.units import parse_duration, parse_size
from tasks.verdicts import Judgement, Verdict, judge, other

_STOPPED = {Ended.TIME_LIMIT: StopCause.TIME_LIMIT, Ended.CPU_TIME_LIMIT: StopCause.CPU_TIME_LIMIT}
_EXECUTABLE, _NOT_FOUND = 126, 127


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
    raise typer.Exit(exits.status_of(judgement.verdict, judgement.verdict_class, _code(ran)))


def judged(ran: Ran, limits: Mapping[str, Any], command: list[str]) -> Judgement:
    """The verdict on a command, by the rules for tasks."""
    if ran.ended is Ended.PERF_LIMIT:
        return other(Verdict.CPU_TIME_LIMIT, f"the program was ended after {_events(ran, limits)}")
    memory, pids = _part(ran, "memory"), _part(ran, "pids")
    evidence = Evidence(
        exit_code=_code(ran),
        start_error=ran.error,
        stopped=_STOPPED.get(ran.ended) if ran.ended is not None else None,
        oom_kills=int(memory.get("oom_kills", 0)),
        pids_refused=int(pids.get("failures", 0)),
    )
    known = {name: limits[name] for name in ("time", "cpu_time", "memory", "pids") if name in limits}
    # Not validated: a program needs less than a container, for which these have lower bounds.
    return judge(evidence, usage(ran), Limits.model_construct(**known), command)


def usage(ran: Ran) -> Usage:
    """What it used, in the words of results."""
    cpu, memory, pids = (_part(ran, name) for name in ("cpu", "memory", "pids"))
    peak = memory.get("max_usage")
    return Usage(
        wall_seconds=round(ran.seconds, 6),
        cpu_seconds=parse_seconds(cpu.get("usage", 0)),
        cpu_user_seconds=parse_seconds(cpu.get("user", 0)),
        cpu_system_seconds=parse_seconds(cpu.get("system", 0)),
        memory_peak_bytes=None if peak is None else parse_bytes(peak),
        pids_peak=pids.get("max_usage"),
    )


def summary(ran: Ran, limits: Mapping[str, Any], command: list[str], judgement: Judgement) -> dict[str, object]:
    """The report."""
    return {
        "command": command,
        "exit_code": _code(ran),
        "verdict": judgement.verdict,
        "verdict_class": judgement.verdict_class,
        "reason": judgement.reason,
        "advice": judgement.advice,
        "usage": {**usage(ran).model_dump(exclude={"series"}, exclude_none=True), **_part(ran, "perf")},
        "limits": dict(limits),
        "not_enforced": list(ran.not_enforced),
    }


def _code(ran: Ran) -> int | None:
    if ran.exit_code is None:
        return _EXECUTABLE if "denied" in ran.error or "format" in ran.error else _NOT_FOUND
    return ran.exit_code if ran.exit_code >= 0 else 128 - ran.exit_code


def _events(ran: Ran, limits: Mapping[str, Any]) -> str:
    counted = {f"perf_{name}": number for name, number in _part(ran, "perf").items()}
    reached = [name for name, number in counted.items() if name in limits and number >= limits[name]]
    return ", ".join(f"{counted[name]} {name[5:]}, its limit is {limits[name]}" for name in reached or counted)


def _part(ran: Ran, name: str) -> dict[str, Any]:
    found = ran.stats.get(name)
    return found if isinstance(found, dict) else {}
