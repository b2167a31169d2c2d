"""What ``grid observe`` tells of a command that the observer ran: its verdict by the rules for tasks, and its usage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from observer.running import Ran
from observer.stats import Ended
from observer.units import parse_bytes, parse_seconds
from tasks.limits import Limits
from tasks.outcome import Evidence, Usage
from tasks.states import StopCause
from tasks.verdicts import Judgement, Verdict, judge, other

_STOPPED = {Ended.TIME_LIMIT: StopCause.TIME_LIMIT, Ended.CPU_TIME_LIMIT: StopCause.CPU_TIME_LIMIT}
_EXECUTABLE, _NOT_FOUND = 126, 127


def judged(ran: Ran, limits: Mapping[str, Any], command: list[str]) -> Judgement:
    """The verdict on a command, by the rules for tasks."""
    if ran.ended is Ended.PERF_LIMIT:
        return other(Verdict.CPU_TIME_LIMIT, f"the program was ended after {_events(ran, limits)}")
    memory, pids = _part(ran, "memory"), _part(ran, "pids")
    evidence = Evidence(
        exit_code=exit_code(ran),
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
        "exit_code": exit_code(ran),
        "verdict": judgement.verdict,
        "verdict_class": judgement.verdict_class,
        "reason": judgement.reason,
        "advice": judgement.advice,
        "usage": {**usage(ran).model_dump(exclude={"series"}, exclude_none=True), **_part(ran, "perf")},
        "limits": dict(limits),
        "not_enforced": list(ran.not_enforced),
    }


def exit_code(ran: Ran) -> int | None:
    """The status a shell would tell: 128+n for signal n, 126 or 127 when the command could not be started."""
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
