"""The counters of a group as the kernel keeps them, for cgroup v1 and v2.

Sources: Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from observer.cgroups.files import Files
from observer.cgroups.leaves import OOM_PHRASE, KillCounter, LeafCounter, OuterCounter
from observer.cgroups.usage import GroupUsage

_REFUSED_PHRASE = "fork rejected by pids controller"
_MEMORY_OWN = ("memory.events.local", "oom")
_PIDS_OWN = ("pids.events.local", "max")
_LOOP_MAJOR = "7:"  # a loop device's bytes reach a real device too, and would be counted twice


class Reader(Protocol):
    """Reads the counters of one group."""

    def read(self) -> GroupUsage:
        """All counters, hierarchical."""
        ...

    def cpu_time(self) -> int | None:
        """The CPU time used so far, in whatever unit the kernel counts; far cheaper than :meth:`read`."""
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


class V1Reader:
    """Reads a group that has one folder per controller (``cpuacct``, ``memory``, ``pids``, ``blkio``)."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        where = [folders.get(name, Path("/nonexistent")) for name in ("cpuacct", "memory", "pids", "blkio")]
        self._cpu, self._memory, self._pids, self._io = map(Files, where)
        self._oom_kills = KillCounter(where[1])
        self._refused = _refused(where[2])

    def read(self) -> GroupUsage:
        """All counters; ``oom_kills`` as :class:`KillCounter` says, ``pids_refused`` as :class:`LeafCounter` does."""
        total, user = self._cpu.number("cpuacct.usage") or 0, self._cpu.number("cpuacct.usage_user") or 0
        read, written = _sum_io(self._io.text("blkio.throttle.io_service_bytes_recursive"))
        memory, memory_peak = (self._memory.number(f"memory.{name}_in_bytes") for name in ("usage", "max_usage"))
        processes, pids_peak = (self._pids.number(f"pids.{name}") for name in ("current", "peak"))
        return GroupUsage(
            cpu_seconds=total / 1e9,
            cpu_user_seconds=min(user, total) / 1e9,
            cpu_system_seconds=max(total - user, 0) / 1e9,
            memory_bytes=memory,
            memory_peak_bytes=memory_peak,
            pids=processes,
            pids_peak=pids_peak,
            pids_refused=None if processes is None else self._refused.read(pids_peak),
            oom_kills=None if memory is None else self._oom_kills.read(memory_peak),
            io_read_bytes=read,
            io_write_bytes=written,
        )

    def cpu_time(self) -> int | None:
        """Nanoseconds of CPU time."""
        return self._cpu.number("cpuacct.usage")

    def close(self) -> None:
        """Let go of open files."""
        for files in (self._cpu, self._memory, self._pids, self._io, self._oom_kills, self._refused):
            files.close()


class V2Reader:
    """Reads a group of the unified hierarchy; its counters are hierarchical and survive the leaves.

    All but one: before Linux 6.11 ``pids.events`` is the leaf's own, as on v1. What happened for the limit of a session
    of the observer is left out, as :class:`OuterCounter` says.
    """

    def __init__(self, folder: Path) -> None:
        self._files = Files(folder)
        self._memory_met = OuterCounter(
            folder,
            name="memory.events.local",
            key="oom",
            limit="memory.max",
            peak="memory.peak",
            phrase=OOM_PHRASE,
        )
        self._pids_met = OuterCounter(
            folder, name="pids.events.local", key="max", limit="pids.max", peak="pids.peak", phrase=_REFUSED_PHRASE
        )
        self._refused = _refused(folder)

    def read(self) -> GroupUsage:
        """All counters; a peak is None on kernels that do not keep it (memory before 5.19, pids before 6.1)."""
        files = self._files
        cpu = dict(line.split() for line in (files.text("cpu.stat") or "").splitlines())
        read, written = _sum_io_v2(files.text("io.stat"))
        memory_peak, pids_peak = files.number("memory.peak"), files.number("pids.peak")
        return GroupUsage(
            cpu_seconds=int(cpu.get("usage_usec", 0)) / 1e6,
            cpu_user_seconds=int(cpu.get("user_usec", 0)) / 1e6,
            cpu_system_seconds=int(cpu.get("system_usec", 0)) / 1e6,
            memory_bytes=files.number("memory.current"),
            memory_peak_bytes=memory_peak,
            pids=files.number("pids.current"),
            pids_peak=pids_peak,
            pids_refused=self._read_refused(pids_peak),
            oom_kills=self._read_kills(memory_peak),
            io_read_bytes=read,
            io_write_bytes=written,
        )

    def cpu_time(self) -> int | None:
        """Microseconds of CPU time."""
        return self._files.value("cpu.stat", "usage_usec")

    def close(self) -> None:
        """Let go of open files."""
        for files in (self._files, self._memory_met, self._pids_met, self._refused):
            files.close()

    def _read_kills(self, peak: int | None) -> int | None:
        # Kills first: the limit that one is for was counted before it.
        kills, own = (self._files.value(*where) for where in (("memory.events", "oom_kill"), _MEMORY_OWN))
        if kills is None or own is None:  # before Linux 5.2 a group does not tell its own from those below
            return kills
        return self._memory_met.share(kills, self._files.value("memory.events", "oom") or 0, own, peak)

    def _read_refused(self, peak: int | None) -> int | None:
        refused, own = (self._files.value(*where) for where in (("pids.events", "max"), _PIDS_OWN))
        if refused is None:
            return None
        if own is None:
            return max(refused, self._refused.read(peak))
        return self._pids_met.share(refused, refused, own, peak)


def _refused(folder: Path) -> LeafCounter:
    return LeafCounter(
        folder, name="pids.events", key="max", limit="pids.max", peak="pids.peak", phrase=_REFUSED_PHRASE
    )


def _sum_io(text: str | None) -> tuple[int | None, int | None]:
    """Bytes read and written in lines ``8:0 Read 4096``."""
    if text is None:
        return None, None
    sums = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in sums and not words[0].startswith(_LOOP_MAJOR):
            sums[words[1]] += int(words[2])
    return sums["Read"], sums["Write"]


def _sum_io_v2(text: str | None) -> tuple[int | None, int | None]:
    """Bytes read and written in lines ``8:0 rbytes=4096 wbytes=0 ...``."""
    if text is None:
        return None, None
    sums = {"rbytes": 0, "wbytes": 0}
    for device, *pairs in (line.split() for line in text.splitlines() if line.strip()):
        for key, _, value in (pair.partition("=") for pair in pairs):
            if key in sums and not device.startswith(_LOOP_MAJOR):
                sums[key] += int(value)
    return sums["rbytes"], sums["wbytes"]
