"""What a group of processes has used, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """Counters of a group and of all groups that are or were below it; None where the kernel does not say.

    ``memory_bytes`` and ``pids`` are of now, ``*_peak*`` the highest so far, everything else is cumulative. Memory
    counts page cache, because the memory limit does. ``pids_refused`` counts forks over a pids limit, ``oom_kills``
    processes killed for want of memory. ``io_*`` counts what reached a device: on v1 that leaves buffered writes out.
    """

    cpu_seconds: float = 0.0
    cpu_user_seconds: float = 0.0
    cpu_system_seconds: float = 0.0
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    pids: int | None = None
    pids_peak: int | None = None
    pids_refused: int | None = None
    oom_kills: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
