"""What a session has used, in the words of kolejka's results: times as ``"0.2s"``, bytes as ``"4096b"``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from observer.cgroups.box import BoxUsage


class Ended(StrEnum):
    """Why a session is no more."""

    CLOSED = "closed"
    TIME_LIMIT = "time_limit"
    CPU_TIME_LIMIT = "cpu_time_limit"
    PERF_LIMIT = "perf_limit"
    LEFT = "left"
    """Who opened it has ended, and so have all processes in it."""
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters of a session after ``seconds`` of its life; ``ended`` tells why it is no more (None: it is)."""

    usage: BoxUsage
    seconds: float
    instructions: int | None = None
    cycles: int | None = None
    ended: Ended | None = None

    def after(self, earlier: Stats | None) -> Stats:
        """With the peak of what was seen before, where the kernel keeps none."""
        if earlier is None:
            return self
        now, before = self.usage.group, earlier.usage.group
        peak = max((n for n in (now.pids_peak, now.pids, before.pids_peak, before.pids) if n is not None), default=None)
        return replace(self, usage=replace(self.usage, group=replace(now, pids_peak=peak)))


def to_json(stats: Stats | None) -> dict[str, object]:
    """The answer of ``stats``; of a session that is not known (any more) the frame without figures.

    Beyond kolejka's: ``memory.oom_kills``, and ``ended``.
    """
    frame: dict[str, dict[str, object]] = {name: {} for name in ("cpu", "cpus", "memory", "pids", "perf", "gpus")}
    if stats is None:
        return dict(frame)
    usage, group = stats.usage, stats.usage.group
    frame["cpu"] = {
        "usage": _seconds(group.cpu_seconds),
        "user": _seconds(group.cpu_user_seconds),
        "system": _seconds(group.cpu_system_seconds),
    }
    frame["cpus"] = {str(core): {"usage": _seconds(spent)} for core, spent in enumerate(usage.cores)}
    frame["memory"] = _known(
        usage=_bytes(group.memory_bytes),
        max_usage=_bytes(group.memory_peak_bytes),
        swap=_bytes(usage.swap_bytes),
        max_swap=_bytes(usage.swap_peak_bytes),
        failures=usage.memory_failures,
        oom_kills=group.oom_kills,
    )
    frame["pids"] = _known(usage=group.pids, max_usage=group.pids_peak, failures=group.pids_refused)
    frame["perf"] = _known(instructions=stats.instructions, cycles=stats.cycles)
    ended: dict[str, object] = {} if stats.ended is None else {"ended": str(stats.ended)}
    return {**frame, "time": _seconds(stats.seconds), **ended}


def _known(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _seconds(value: float) -> str:
    return f"{round(value, 6)}s"


def _bytes(value: int | None) -> str | None:
    return None if value is None else f"{value}b"
