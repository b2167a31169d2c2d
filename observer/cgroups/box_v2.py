"""A box of cgroup v2: limits need a parent that holds no process itself."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from observer.cgroups.box import FREEZE_SECONDS, Box, BoxUsage, control, parse_cores, set_limit
from observer.cgroups.files import Files, below, read, write
from observer.cgroups.membership import LEAF
from observer.cgroups.readers import V2Reader

_USED = ("cpu", "cpuset", "io", "memory", "pids")


class BoxV2(Box):
    """One folder in the unified hierarchy, below the group ``parent``, whose processes move to a leaf beside it."""

    def __init__(self, root: Path, parent: str, name: str) -> None:
        self._parent = f"{root}/{parent.strip('/')}".rstrip("/")
        make_room(self._parent, is_root=parent.strip("/") == "")
        self.members = self.killer = f"{self._parent}/{name}"
        os.mkdir(self.members)
        self._reader, self._files = V2Reader(Path(self.members)), Files(Path(self.members))

    def join(self, pid: int) -> None:
        """Into the box, or into its leaf when there are boxes within it."""
        _enter(self.members, pid)

    def leave(self, pid: int) -> None:
        """To the leaf beside the box; to the root itself if the box is there."""
        _enter(self._parent, pid)

    def limit_memory(self, memory: int, swap: int | None) -> None:
        """``memory.max`` and ``memory.swap.max``; the kernel does not refuse a limit below what is in use."""
        set_limit("memory", f"{self.members}/memory.max", str(memory))
        if swap is not None and (swap or len(read("/proc/swaps").splitlines()) > 1):
            set_limit("swap", f"{self.members}/memory.swap.max", str(swap))
        elif swap is not None:
            write(f"{self.members}/memory.swap.max", "0")

    def limit_pids(self, pids: int) -> None:
        """``pids.max``."""
        set_limit("pids", f"{self.members}/pids.max", str(pids))

    def limit_cores(self, cores: tuple[int, ...]) -> None:
        """``cpuset.cpus``."""
        set_limit("cpus", f"{self.members}/cpuset.cpus", ",".join(map(str, cores)))

    def cores(self) -> tuple[int, ...]:
        """``cpuset.cpus.effective`` of the parent; all processors where cpuset is not offered."""
        text = read(f"{self._parent}/cpuset.cpus.effective")
        return parse_cores(text) if text.strip() else tuple(sorted(os.sched_getaffinity(0)))

    def read(self) -> BoxUsage:
        """Of the group's files; this hierarchy does not tell the time of each processor."""
        return BoxUsage(
            self._reader.read(),
            swap_bytes=self._files.number("memory.swap.current"),
            swap_peak_bytes=self._files.number("memory.swap.peak"),
            memory_failures=self._files.value("memory.events", "max"),
        )

    def cpu_seconds(self) -> float:
        """Of ``cpu.stat``."""
        words = read(f"{self.members}/cpu.stat").split()
        return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else 0.0

    def folders(self) -> tuple[str, ...]:
        """The one."""
        return (self.members,)

    def close_files(self) -> None:
        """Of the readers."""
        self._reader.close()
        self._files.close()

    def hold(self, frozen: bool) -> None:
        """``cgroup.freeze``; of boxes within it each has a switch of its own, which thawing resets."""
        control(f"{self.members}/cgroup.freeze", "1" if frozen else "0")
        if not frozen:
            for each in below(self.members):
                write(f"{each}/cgroup.freeze", "0")

    def held(self) -> bool:
        """As ``cgroup.events`` tells it."""
        return "frozen 1" in read(f"{self.members}/cgroup.events")


def make_room(group: str, *, is_root: bool) -> None:
    """Let the groups below ``group`` have limits: its own processes go to a leaf, then the controllers are enabled.

    All controllers in one line, and only when no process is left: enabling cpu or pids beforehand would make the group
    a threaded one, from which memory can never be enabled. Meanwhile the group is frozen, so that none can be forked.
    OSError when that fails; what was moved then stays in the leaf, where it has what it had.
    """
    offered = read(f"{group}/cgroup.controllers").split()
    wanted = [name for name in _USED if name in offered]
    if not set(wanted) - set(read(f"{group}/cgroup.subtree_control").split()):
        return
    line = " ".join(f"+{name}" for name in wanted)
    if is_root:  # it alone may have processes and controllers
        control(f"{group}/cgroup.subtree_control", line)
        return
    if "threaded" in (kind := read(f"{group}/cgroup.type")):
        raise OSError(errno.EOPNOTSUPP, f"the group of the caller is {kind.strip()}, which can have no limits below it")
    os.makedirs(f"{group}/{LEAF}", exist_ok=True)
    _freeze(group)
    try:
        deadline = time.monotonic() + FREEZE_SECONDS
        while members := read(f"{group}/cgroup.procs").split():
            for pid in members:
                write(f"{group}/{LEAF}/cgroup.procs", pid)
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "the processes of the caller's group cannot be moved")
        control(f"{group}/cgroup.subtree_control", line)
    finally:
        write(f"{group}/cgroup.freeze", "0")


def _freeze(group: str) -> None:
    control(f"{group}/cgroup.freeze", "1")
    deadline = time.monotonic() + FREEZE_SECONDS
    while "frozen 1" not in read(f"{group}/cgroup.events") and time.monotonic() < deadline:
        time.sleep(0.0005)


def _enter(group: str, pid: int) -> None:
    try:
        control(f"{group}/cgroup.procs", str(pid))
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EOPNOTSUPP) or not os.path.isdir(f"{group}/{LEAF}"):
            raise
        control(f"{group}/{LEAF}/cgroup.procs", str(pid))
