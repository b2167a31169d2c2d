"""A box of cgroup v1, with the unified hierarchy of a hybrid machine for freezing and ending."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from observer.cgroups.box import Box, BoxUsage, LimitError, control, parse_cores, remove_tree, set_limit
from observer.cgroups.files import Files, below, read, write
from observer.cgroups.layout import Layout
from observer.cgroups.membership import UNIFIED
from observer.cgroups.readers import V1Reader

_ALWAYS = ("memory", "cpuacct", "pids")  # memory first: what a process allocates after its move counts
_KILL_FILE = "cgroup.kill"


class BoxV1(Box):
    """A folder for each of memory, cpuacct, pids, cpuset and a freezer.

    The first hierarchy that a process is moved in costs milliseconds, the others some microseconds each.
    """

    def __init__(self, layout: Layout, groups: Mapping[str, str], name: str) -> None:
        self._layout, self._groups, self._name = layout, groups, name
        self._made: dict[str, str] = {}
        self._both: int | None = None
        try:
            for controller in _ALWAYS:
                if controller in layout.v1:
                    self._make(controller)
            if "cpuset" in layout.v1:
                self._make_cpuset()
            self._make_freezer()
        except OSError:
            self.remove()
            raise
        if not self._made:
            raise OSError(errno.ENODEV, "no control groups are mounted")
        self.members = next(self._made[name] for name in ("cpuacct", "memory", "pids") if name in self._made)
        self.killer = self._made.get(UNIFIED)
        self._reader = V1Reader({controller: Path(path) for controller, path in self._made.items()})
        nowhere = Path("/nonexistent")
        places = (Path(self._made.get(controller, nowhere)) for controller in _ALWAYS)
        self._memory, self._cpu, self._pids = map(Files, places)

    def join(self, pid: int) -> None:
        """Into every hierarchy; out of all again when one refuses."""
        try:
            for folder in self._unique():
                control(f"{folder}/cgroup.procs", str(pid))
        except OSError:
            with contextlib.suppress(OSError):
                self.leave(pid)
            raise

    def leave(self, pid: int) -> None:
        """Back to the parents."""
        for folder in self._unique():
            control(f"{os.path.dirname(folder)}/cgroup.procs", str(pid))

    def limit_memory(self, memory: int, swap: int | None) -> None:
        """``memory.limit_in_bytes`` and, for swap, the limit of both together, which may never be the smaller one."""
        folder = self._made.get("memory", "/nonexistent")
        if swap is not None and not _counts_swap(str(self._layout.v1.get("memory", folder))):
            if swap or len(read("/proc/swaps").splitlines()) > 1:
                raise LimitError("swap: this kernel does not count it (boot with swapaccount=1)")
            swap = None
        memory_file = f"{folder}/memory.limit_in_bytes"
        if swap is None:
            return set_limit("memory", memory_file, str(memory))
        both = f"{folder}/memory.memsw.limit_in_bytes"
        if self._both is not None and memory > self._both:
            set_limit("swap", both, str(memory + swap))
        set_limit("memory", memory_file, str(memory))
        set_limit("swap", both, str(memory + swap))
        self._both = memory + swap
        return None

    def limit_pids(self, pids: int) -> None:
        """``pids.max``."""
        set_limit("pids", f"{self._made.get('pids', '/nonexistent')}/pids.max", str(pids))

    def limit_cores(self, cores: tuple[int, ...]) -> None:
        """``cpuset.cpus``."""
        folder = self._made.get("cpuset", "/nonexistent")
        set_limit("cpus", f"{folder}/cpuset.cpus", ",".join(map(str, cores)))

    def cores(self) -> tuple[int, ...]:
        """``cpuset.cpus`` of the parent."""
        if "cpuset" not in self._layout.v1:
            raise LimitError("cpus: this machine has no control groups for it")
        return parse_cores(read(f"{self._place('cpuset', above=True)}/cpuset.cpus"))

    def read(self) -> BoxUsage:
        """Of the files of each controller; processes killed for want of memory are counted where they were."""
        group = self._reader.read()
        kills = self._memory.value("memory.oom_control", "oom_kill")
        refused = self._pids.value("pids.events", "max")
        if kills is not None:
            group = replace(group, oom_kills=kills + (group.oom_kills or 0))
        if refused is not None:
            group = replace(group, pids_refused=max(refused, group.pids_refused or 0))
        both, both_peak = (self._memory.number(f"memory.memsw.{name}_in_bytes") for name in ("usage", "max_usage"))
        # Without swap it is the limit of both together that is met; recent kernels count neither, but what they killed.
        counts = (*(self._memory.number(f"memory.{name}") for name in ("failcnt", "memsw.failcnt")), kills)
        failures = [count for count in counts if count is not None]
        cores = (self._cpu.text("cpuacct.usage_percpu") or "").split()
        return BoxUsage(
            group,
            cores=tuple(int(nanoseconds) / 1e9 for nanoseconds in cores),
            swap_bytes=_beyond(both, group.memory_bytes),
            swap_peak_bytes=_beyond(both_peak, group.memory_peak_bytes),
            memory_failures=max(failures, default=None),
        )

    def cpu_seconds(self) -> float:
        """``cpuacct.usage``. Raises LimitError where it is not counted."""
        if "cpuacct" not in self._made:
            raise LimitError("cpu_time: this machine has no control groups for it")
        return int(read(f"{self._made['cpuacct']}/cpuacct.usage").strip() or 0) / 1e9

    def folders(self) -> tuple[str, ...]:
        """In every hierarchy, the freezer's last: what is frozen could not be ended without it."""
        return tuple(reversed(self._unique()))

    def close_files(self) -> None:
        """Of the readers, if it came to that."""
        for files in ("_reader", "_memory", "_cpu", "_pids"):
            if hasattr(self, files):
                getattr(self, files).close()

    def hold(self, frozen: bool) -> None:
        """By the unified hierarchy, or the freezer; thawing reaches everything below as well."""
        for controller, name, words in (
            (UNIFIED, "cgroup.freeze", ("0", "1")),
            ("freezer", "freezer.state", ("THAWED", "FROZEN")),
        ):
            if folder := self._made.get(controller):
                control(f"{folder}/{name}", words[frozen])
                for each in () if frozen else below(folder):
                    write(f"{each}/{name}", words[False])
                return
        raise OSError(errno.EOPNOTSUPP, "this machine has no freezer")

    def held(self) -> bool:
        """As the kernel tells it."""
        if folder := self._made.get(UNIFIED):
            return "frozen 1" in read(f"{folder}/cgroup.events")
        return read(f"{self._made['freezer']}/freezer.state") == "FROZEN\n"

    def _make_freezer(self) -> None:
        """The unified hierarchy where it can freeze and kill (Linux 5.14), the freezer else."""
        if self._layout.unified is not None:
            folder = self._make(UNIFIED)
            if os.path.exists(f"{folder}/{_KILL_FILE}"):
                return
            remove_tree(self._made.pop(UNIFIED))
        if "freezer" in self._layout.v1:
            self._make("freezer")

    def _make_cpuset(self) -> None:
        """Nobody can be in a set without processors and memory: those of the group above."""
        folder = self._make("cpuset")
        for name in ("cpuset.mems", "cpuset.cpus"):
            control(f"{folder}/{name}", read(f"{os.path.dirname(folder)}/{name}").strip())

    def _make(self, controller: str) -> str:
        folder = self._place(controller)
        if folder not in self._made.values():
            os.mkdir(folder)
        # Kernels before 5.11 leave it to us that a group counts those below it.
        if controller == "memory" and not _counts_below(str(self._layout.v1[controller])):
            write(f"{folder}/memory.use_hierarchy", "1")
        self._made[controller] = folder
        return folder

    def _place(self, controller: str, *, above: bool = False) -> str:
        root = self._layout.unified if controller == UNIFIED else self._layout.v1[controller]
        parent = f"{root}/{self._groups.get(controller, '/').strip('/')}".rstrip("/")
        return parent if above else f"{parent}/{self._name}"

    def _unique(self) -> list[str]:
        return list(dict.fromkeys(self._made.values()))


@cache
def _counts_swap(root: str) -> bool:
    """Whether this kernel counts memory and swap together."""
    return os.path.exists(f"{root}/memory.memsw.limit_in_bytes")


@cache
def _counts_below(root: str) -> bool:
    """Whether the root's groups count those below them, which all others inherit then."""
    return read(f"{root}/memory.use_hierarchy").strip() == "1"


def _beyond(both: int | None, memory: int | None) -> int | None:
    return None if both is None or memory is None else max(0, both - memory)
