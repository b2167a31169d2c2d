"""The limits of a session, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

from observer.errors import Failed
from observer.units import parse_bytes, parse_count, parse_seconds, parse_whole

ELSEWHERE = ("network", "storage", "image", "workspace", "gpus", "gpus_offset", "gpu_memory")
"""Limits that whoever starts the container holds; the observer takes them and says in its answer that it does not."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What a session may use; None sets nothing. The names are those of kolejka's task description, and ``cpu_time``.

    ``memory`` and ``swap`` are bytes (``swap`` is in addition to memory), ``time`` seconds since the session was
    opened, ``cpu_time`` seconds of processor time of all its processes together, ``cpus`` whole processors from number
    ``cpus_offset`` of those that the caller has, ``cgroup_depth`` levels of sessions within the session,
    ``cgroup_descendants`` their number, ``perf_*`` events of the processor.
    """

    memory: int | None = None
    swap: int | None = None
    cpus: int | None = None
    cpus_offset: int | None = None
    pids: int | None = None
    time: float | None = None
    cpu_time: float | None = None
    cgroup_depth: int | None = None
    cgroup_descendants: int | None = None
    perf_instructions: int | None = None
    perf_cycles: int | None = None

    @property
    def perf(self) -> dict[str, int]:
        """Those that are events of the processor, by name."""
        given = {"perf_instructions": self.perf_instructions, "perf_cycles": self.perf_cycles}
        return {name: most for name, most in given.items() if most is not None}

    def after(self, earlier: Self) -> Self:
        """What holds when these are set after ``earlier`` ones: those not given stay, but a time is lifted."""
        given = {name: getattr(self, name) for name in NAMES if getattr(self, name) is not None}
        return replace(earlier, **{"time": None, **given})


_PARSERS: dict[str, Callable[[object], int | float]] = {
    "memory": parse_bytes,
    "swap": parse_bytes,
    "cpus": parse_whole,
    "cpus_offset": parse_whole,
    "pids": parse_whole,
    "time": parse_seconds,
    "cpu_time": parse_seconds,
    "cgroup_depth": parse_whole,
    "cgroup_descendants": parse_whole,
    "perf_instructions": parse_count,
    "perf_cycles": parse_count,
}
NAMES = tuple(field.name for field in fields(SessionLimits))


def parse_limits(given: object) -> SessionLimits:
    """The limits of a request. Raises Failed, with the name of the limit that is wrong; unknown names are ignored."""
    if not isinstance(given, Mapping):
        raise Failed("limits: not an object")
    found: dict[str, int | float] = {}
    for name, parse in _PARSERS.items():
        if given.get(name) is not None:
            try:
                found[name] = parse(given[name])
            except ValueError as error:
                raise Failed(f"{name}: {error}") from error
    if found.get("cpus") == 0:
        raise Failed("cpus: at least one")
    return SessionLimits(**found)  # type: ignore[arg-type]  # each parser answers the type of its field


def not_enforced(given: object) -> tuple[str, ...]:
    """Which of the given limits are known and not the observer's."""
    return tuple(name for name in ELSEWHERE if isinstance(given, Mapping) and given.get(name) is not None)
