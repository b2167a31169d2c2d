"""What others use of a machine that the grid shares with them: processes that are not the node's, and their memory.

The kernel's count of all work, less that of the node's control groups, of the agent and of the engine. Smoothed, and
told in steps, so that placement does not follow every breath of the machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from nodes.facts import read_meminfo
from observer.cgroups import Layout, cpu_seconds, held_bytes
from tasks.order import Capacity, Foreign

# How fast the average follows, and how long it must have been lower before that is believed.
SMOOTH_SECONDS = 20.0
CALM_SECONDS = 30.0
CPU_STEP = 0.5
MEMORY_STEP = 256 * 1024**2
# Left to the system, as in a node's capacity: it is nobody's.
_RESERVED_SHARE = 0.1
_TICK = os.sysconf("SC_CLK_TCK")
# Busy are user, nice, system, irq, softirq and steal, the time that the host of a virtual machine gave to others.
_BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)
_ENGINE = ("dockerd", "containerd", "containerd-shim", "runc")


@dataclass(frozen=True, slots=True)
class Work:
    """Counters of a machine at a moment: processor seconds since its start, bytes in use now."""

    at: float
    all_cpu_seconds: float
    own_cpu_seconds: float
    all_memory: int
    own_memory: int

    def foreign_since(self, before: Work) -> tuple[float, int]:
        """Cores that others kept busy since ``before``, and the bytes that they hold now; neither is negative.

        A counter of ours that begins anew (our groups were removed) counts from zero.
        """
        seconds = max(self.at - before.at, 1e-6)
        own = self.own_cpu_seconds - before.own_cpu_seconds
        own = self.own_cpu_seconds if own < 0 else own
        cpus = (self.all_cpu_seconds - before.all_cpu_seconds - own) / seconds
        return max(cpus, 0.0), max(self.all_memory - self.own_memory, 0)


class Steady:
    """A smoothed figure in steps, rounded up: it rises soon, and falls only after it was lower for a while."""

    def __init__(self, step: float, smooth_seconds: float = SMOOTH_SECONDS, calm_seconds: float = CALM_SECONDS) -> None:
        self._step = step
        self._smooth_seconds = smooth_seconds
        self._calm_seconds = calm_seconds
        self._average: float | None = None
        self._at = 0.0
        self._high_at = 0.0
        self.value = 0.0

    def add(self, figure: float, now: float) -> float:
        """Take a new figure in, at ``now`` of a monotonic clock; return the steady one."""
        if self._average is None:
            self._average = figure
        else:
            weight = 1 - math.exp(-(now - self._at) / self._smooth_seconds) if self._smooth_seconds else 1.0
            self._average += weight * (figure - self._average)
        self._at = now
        # Half a step of noise around a figure changes nothing.
        wanted = max(0, math.ceil(self._average / self._step - 0.5)) * self._step
        if wanted >= self.value:
            self.value, self._high_at = wanted, now
        elif now - self._high_at >= self._calm_seconds:
            self.value = wanted
        return self.value


class ForeignLoad:
    """Measures from time to time; ``look`` reads the machine. Not for several threads."""

    def __init__(self, look: Callable[[], Work], cores: int, memory_bytes: int, steady: Steadies | None = None) -> None:
        self._look = look
        self._cores = cores
        self._memory_bytes = memory_bytes
        self._steady = steady or Steadies()
        self._before: Work | None = None

    def __call__(self, offered: Capacity) -> Foreign:
        """What others use of what the node offers; nothing at the first call."""
        work = self._look()
        before, self._before = self._before, work
        if before is None:
            return Foreign()
        cpus, memory = work.foreign_since(before)
        cpus = min(self._steady.cpus.add(cpus, work.at), float(self._cores))
        memory = int(self._steady.memory.add(memory, work.at))
        return withheld(offered, Foreign(cpus=cpus, memory=memory), self._cores, self._memory_bytes)


class Steadies:
    """The steady figures of a machine."""

    def __init__(self, smooth_seconds: float = SMOOTH_SECONDS, calm_seconds: float = CALM_SECONDS) -> None:
        self.cpus = Steady(CPU_STEP, smooth_seconds, calm_seconds)
        self.memory = Steady(MEMORY_STEP, smooth_seconds, calm_seconds)


def withheld(offered: Capacity, others: Foreign, cores: int, memory_bytes: int) -> Foreign:
    """The part of what is offered that others' use takes away: what the node does not offer is theirs first."""
    usable = memory_bytes * (1 - _RESERVED_SHARE / 2)
    return Foreign(
        cpus=min(max(offered.cpus - (cores - others.cpus), 0.0), offered.cpus),
        memory=int(min(max(offered.memory - (usable - others.memory), 0), offered.memory)),
    )


class Machine:
    """Reads the machine: all its work on ``cores``, and that of the groups below ``base`` (None: there are none)."""

    def __init__(
        self,
        layout: Layout,
        base: Callable[[], str | None],
        cores: Collection[int],
        clock: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._base = base
        self._cores = frozenset(cores)
        self._clock = clock
        self._engine: dict[str, float] = {}
        self._ended_seconds = 0.0

    def __call__(self) -> Work:
        """The counters now."""
        meminfo = read_meminfo(Path("/proc/meminfo").read_text())
        agent, base = os.times(), self._base()
        groups = (cpu_seconds(self._layout, base) or 0.0) if base else 0.0
        return Work(
            at=self._clock(),
            all_cpu_seconds=busy_seconds(Path("/proc/stat").read_text(), self._cores),
            own_cpu_seconds=groups + sum(agent[:4]) + self._engine_seconds(),
            all_memory=meminfo["MemTotal"] - meminfo.get("MemAvailable", meminfo["MemFree"]),
            own_memory=held_bytes(self._layout, base) if base else 0,
        )

    def _engine_seconds(self) -> float:
        """The engine's own work, that of processes which are gone included as far as it was seen."""
        found: dict[str, float] = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                name = (process / "comm").read_text().rstrip("\n")
                if not name.startswith(_ENGINE):
                    continue
                where = group_of((process / "cgroup").read_text(), self._layout)
                seconds = cpu_seconds(self._layout, where) if where != "/" else None
                if seconds is not None:  # a service of systemd: its group counts the short-lived ones too
                    found[where] = seconds
                else:
                    born, seconds = process_seconds((process / "stat").read_text(errors="replace"))
                    found[f"{process.name}@{born}"] = seconds
            except OSError:  # it has ended meanwhile
                continue
        self._ended_seconds += sum(seconds for name, seconds in self._engine.items() if name not in found)
        self._engine = found
        return self._ended_seconds + sum(found.values())


def total_memory() -> int:
    """The memory of the machine, in bytes."""
    return read_meminfo(Path("/proc/meminfo").read_text())["MemTotal"]


def busy_seconds(text: str, cores: Collection[int]) -> float:
    """The processor time that was used on these cores, by /proc/stat."""
    ticks = 0
    for line in text.splitlines():
        name, *columns = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdecimal() and int(name[3:]) in cores:
            ticks += sum(int(columns[index]) for index in _BUSY_COLUMNS if index < len(columns))
    return ticks / _TICK


def process_seconds(stat: str) -> tuple[int, float]:
    """When a process began (in ticks), and its processor time with that of children that ended, by /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[19]), sum(int(field) for field in fields[11:15]) / _TICK


def group_of(text: str, layout: Layout) -> str:
    """The group that counts a process's time, by /proc/PID/cgroup; ``/`` for none of its own."""
    for line in text.splitlines():
        number, controllers, where = line.split(":", 2)
        if "cpuacct" in controllers.split(",") if layout.version == 1 else number == "0":
            return where
    return "/"
