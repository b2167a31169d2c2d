"""What tasks of one kind really used beside what they asked for, so that the next one asks for what it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.limits import Limits
from tasks.spec import TaskSpec
from tasks.units import format_size, human_seconds, human_size
from tasks.verdicts import Verdict
from tasks.views import SimilarLimit, SimilarView

ENOUGH = 3
"""So many tasks of the same name are worth more than all of the same program."""

# Limits that are measured, with the verdict of a task that ran into one.
_HIT = {
    "memory": Verdict.MEMORY_LIMIT,
    "time": Verdict.TIME_LIMIT,
    "cpu_time": Verdict.CPU_TIME_LIMIT,
    "storage": Verdict.STORAGE_LIMIT,
    "pids": Verdict.PIDS_LIMIT,
}
_SIZES = frozenset({"memory", "storage"})
_ROOM = 1.5
_LEAST = {"memory": 16 * 1024**2, "storage": 16 * 1024**2, "time": 5, "cpu_time": 5, "pids": 16}


@dataclass(frozen=True, slots=True)
class Sample:
    """One task that ended: what it had, and the most that it used, under the names of limits."""

    verdict: str
    limits: Limits
    used: dict[str, float]


def likeness(spec: TaskSpec) -> str:
    """What tasks of one kind have in common, as a short digest: the image and the program; empty without an image."""
    if not spec.image:
        return ""
    program = spec.args[0] if spec.args else ""
    return hashlib.sha256(f"{spec.image}\0{program}".encode()).hexdigest()[:16]


def choose(names: Sequence[tuple[str, str]], name: str, most: int) -> tuple[list[str], str]:
    """Of (id, name), newest first, the ids to learn from, and by what they are similar: ``name`` or ``program``."""
    same = [task_id for task_id, other in names if name and other == name]
    if len(same) >= ENOUGH:
        return same[:most], "name"
    return [task_id for task_id, _ in names[:most]], "program"


def usual(samples: Sequence[Sample], by: str) -> SimilarView:
    """What the samples, newest first, used at most and asked for, limit by limit."""
    found = []
    for name, hit in _HIT.items():
        used = [sample.used[name] for sample in samples if name in sample.used]
        if not used:
            continue
        asked = getattr(samples[0].limits, name)
        hits = sum(sample.verdict == hit for sample in samples)
        most = max(used)
        found.append(
            SimilarLimit(
                limit=name,
                asked=asked,
                most=most,
                hit=hits,
                suggested="" if hits else _suggested(name, most, asked),
                words=_words(name, asked, most, len(used), hits),
            )
        )
    return SimilarView(count=len(samples), by=by, limits=tuple(found))


def _words(name: str, asked: float | None, most: float, count: int, hits: int) -> str:
    begin = "" if asked is None else f"asked {_amount(name, asked)}; "
    tasks = "the last one used" if count == 1 else f"the last {count} used at most"
    end = "" if not hits else f", and {'one' if hits == 1 else hits} of them ran into the limit"
    return f"{begin}{tasks} {_amount(name, most)}{end}"


def _amount(name: str, value: float) -> str:
    if name in _SIZES:
        return human_size(int(value))
    return f"{value:g}" if name == "pids" else human_seconds(value)


def _suggested(name: str, most: float, asked: float | None) -> str:
    """A limit with half as much again, in a round number, as a task may say it; empty where it would save little."""
    wanted = max(most * _ROOM, _LEAST[name])
    step = 1
    while step * 2 <= wanted:
        step *= 2
    # Halves of a power of two are round enough, and never twice what is needed.
    rounded = next(one for one in (step, step + step // 2, step * 2) if one >= wanted)
    if asked is None or asked < 2 * rounded:
        return ""
    if name in _SIZES:
        return format_size(rounded)
    return str(rounded) if name == "pids" else f"{rounded}s"
