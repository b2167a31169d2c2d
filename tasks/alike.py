"""Failures that are the same: of one verdict, by the same limit or exit code; counted, and named in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tasks.errors import Fault, SpecError
from tasks.limits import LIMIT_NAMES
from tasks.units import human_seconds, human_size
from tasks.verdicts import Verdict

EXIT = "exit"
_LIMIT_OF = {
    Verdict.MEMORY_LIMIT: "memory",
    Verdict.TIME_LIMIT: "time",
    Verdict.CPU_TIME_LIMIT: "cpu_time",
    Verdict.PIDS_LIMIT: "pids",
    Verdict.STORAGE_LIMIT: "storage",
    Verdict.OUTPUT_LIMIT: "output",
}
_WORDS: dict[str, Callable[[float], str]] = {
    "memory": lambda value: human_size(int(value)),
    "storage": lambda value: human_size(int(value)),
    "output": lambda value: human_size(int(value)),
    "time": human_seconds,
    "cpu_time": human_seconds,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What is compared of a task that failed; ``limits`` are those it ran under, in bytes, seconds and numbers."""

    verdict: str
    exit_code: int | None
    limits: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Alike:
    """So many failures that are the same: ``words`` for people, ``verdict`` and ``cause`` to find them by."""

    verdict: str
    cause: str
    words: str
    count: int


def group(failures: Iterable[Failure]) -> tuple[Alike, ...]:
    """Those failures that are there more than once, the most frequent first."""
    counted = Counter((one.verdict, _cause(one)) for one in failures)
    return tuple(
        Alike(verdict, f"{cause[0]}={_whole(cause[1])}" if cause else "", _words(verdict, cause), count)
        for (verdict, cause), count in counted.most_common()
        if count > 1
    )


def cause_of(text: str) -> tuple[str, float]:
    """What a cause says, as ``exit=3`` or ``memory=67108864``: a name and a number; raises SpecError."""
    name, _, value = text.partition("=")
    if name == EXIT or name in LIMIT_NAMES:
        try:
            return name, _whole(float(value))
        except (ValueError, OverflowError):
            pass
    raise SpecError([Fault("cause", f'"{text}" is no cause of failures', "write exit=3, or memory=67108864")])


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _cause(failure: Failure) -> tuple[str, float] | None:
    if failure.verdict in (Verdict.EXIT_CODE, Verdict.SIGNAL):
        return None if failure.exit_code is None else (EXIT, failure.exit_code)
    name = _LIMIT_OF.get(Verdict(failure.verdict)) if failure.verdict in set(Verdict) else None
    value = failure.limits.get(name) if name else None
    return (name, float(value)) if name and isinstance(value, int | float) else None


def _words(verdict: str, cause: tuple[str, float] | None) -> str:
    plain = verdict.replace("_", " ")
    if cause is None:
        return plain
    name, value = cause
    if name == EXIT:
        return f"exit code {value:g}" if verdict == Verdict.EXIT_CODE else f"{plain} (exit code {value:g})"
    return f"{plain} at {_WORDS[name](value) if name in _WORDS else f'{value:g}'}"
