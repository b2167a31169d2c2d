"""Telling a container engine's own share apart from the task's.

The engine enters the group before the task does: ``runc init`` sets the container up inside it, waits for "start", and
becomes the task (or docker-init) by ``exec``. Measured on Docker 20.10, runc 1.1: 22 ms of CPU, 4.2 MB and 6 threads,
for a task ``uname`` that itself needs 0.3 ms. So as long as every process of the group is the engine's, all that was
counted is the engine's: the last such reading is the baseline, and is taken off for good once another process is seen.

What remains in the figures: what the engine does between the last reading and ``exec`` (so read every 10 ms or so until
``started``: before ``exec`` it only waits for a while, longer on a busy machine) and docker-init where it is used: 1-3
ms of CPU together, and one process. Peaks cannot be taken off: the kernel's peak is the task's once it is well over the
engine's (then too high by what the engine left, some 0.3 MB); until then the highest reading since the start stands for
it, which can miss a short peak below 5 MB or 8 processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from observer.cgroups.usage import GroupUsage

_ENGINES = ("runc", "crun", "youki")
# A task may have a program of an engine's name; these bounds are all that it can hide by that. The first is for the
# time before the engine has said that the task begins: an emulated machine needs more than a second of CPU until then.
_MOST_CPU_SECONDS = 10.0
_MOST_CPU_SECONDS_ONCE_BEGUN = 0.25
_MOST_MEMORY_BYTES = 64 << 20
# What the engine needs for itself, should the last reading before exec have been too early to see it, or be missing.
_ENGINE_MEMORY_BYTES = 4 << 20
_ENGINE_PIDS = 6
# Its peaks can still rise by so much after that reading.
_SLACK_MEMORY_BYTES = 1 << 20
_SLACK_PIDS = 2


class Harness:
    """Knows which part of a group's counters is the engine's; ``started`` when the task's own program has begun."""

    def __init__(self, *, started: bool = False) -> None:
        self.started = started
        self._begun = False
        self._most_cpu_seconds = _MOST_CPU_SECONDS
        self._baseline = GroupUsage()
        self._memory_seen: int | None = None
        self._pids_seen: int | None = None
        self._settled = self._adopted = started

    def begun(self) -> None:
        """The engine says that the task begins: little more can be its own."""
        self._begun = True

    def remove(self, raw: GroupUsage, processes: Iterable[int]) -> GroupUsage:
        """The task's part of ``raw``; ``processes`` (unused once started) must be listed after ``raw`` was read."""
        if not self.started:
            listed = list(processes)
            programs = [program for program in map(_program, listed) if program]
            if programs and self._plausible(raw) and all(map(_is_engine, programs)):
                self._baseline = raw
                return GroupUsage()
            if (listed and not programs) or not (listed or raw.cpu_seconds):  # in between, or nobody has entered yet
                return GroupUsage()
            self.started = True
        return self._subtract(raw)

    def _plausible(self, raw: GroupUsage) -> bool:
        plausible = raw.cpu_seconds <= self._most_cpu_seconds and (raw.memory_peak_bytes or 0) <= _MOST_MEMORY_BYTES
        if self._begun:
            self._most_cpu_seconds = min(self._most_cpu_seconds, raw.cpu_seconds + _MOST_CPU_SECONDS_ONCE_BEGUN)
        return plausible

    def _subtract(self, raw: GroupUsage) -> GroupUsage:
        base = self._baseline
        # The first reading may be of the moment before exec, with all threads of the engine, and its memory is given
        # back some milliseconds after that.
        if self._settled or raw.pids == 0:
            self._memory_seen = _larger(self._memory_seen, raw.memory_bytes)
        if raw.pids is not None:
            self._pids_seen = max(self._pids_seen or 1, raw.pids if self._settled else 1)
        self._settled = True
        cpu = max(raw.cpu_seconds - base.cpu_seconds, 0.0)
        cpu_user = min(max(raw.cpu_user_seconds - base.cpu_user_seconds, 0.0), cpu)
        return replace(
            raw,
            cpu_seconds=cpu,
            cpu_user_seconds=cpu_user,
            cpu_system_seconds=cpu - cpu_user,
            memory_peak_bytes=self._peak(
                raw.memory_peak_bytes,
                max(base.memory_peak_bytes or 0, _ENGINE_MEMORY_BYTES) + _SLACK_MEMORY_BYTES,
                raw.memory_bytes if self._memory_seen is None else self._memory_seen,
            ),
            pids_peak=self._peak(raw.pids_peak, max(base.pids_peak or 0, _ENGINE_PIDS) + _SLACK_PIDS, self._pids_seen),
            io_read_bytes=_less(raw.io_read_bytes, base.io_read_bytes),
            io_write_bytes=_less(raw.io_write_bytes, base.io_write_bytes),
        )

    def _peak(self, kernel: int | None, engines: int, seen: int | None) -> int | None:
        """The task's peak by the kernel's, where that can be no longer the engine's; of an adopted task all is its."""
        hidden = seen is not None and not self._adopted and (kernel or 0) <= engines
        return seen if kernel is None or hidden else kernel


def _program(pid: int) -> str:
    """The link to a process's program; empty when it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _is_engine(program: str) -> bool:
    """True for an engine, or for the copy that it runs of itself: in memory, or mounted nowhere (the link is ``/``)."""
    if program.startswith("/memfd:"):
        return any(engine in program for engine in _ENGINES)
    return program == "/" or os.path.basename(program).startswith(_ENGINES)


def _less(now: int | None, base: int | None) -> int | None:
    return None if now is None else max(now - (base or 0), 0)


def _larger(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)
